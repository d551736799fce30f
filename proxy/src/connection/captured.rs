//! Captured connections: what they are, where they go, and those that must not be carried at all.

use std::net::SocketAddr;
use std::sync::Arc;

use couplet_telemetry::names::{CAPTURE_ANSWER, CAPTURE_PROBES};
use couplet_telemetry::opaque::Protocol as Carried;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Purpose, Role, Until, converse, linger, secure};
use crate::capture::{Found, Seen, look};
use crate::detect::Judgement;
use crate::detect::hello::offers;
use crate::drain::{Phase, Watch};
use crate::http::Protocol;
use crate::inbound::{Caller, Delivery};
use crate::original::{self, Arrival};
use crate::record::Opaque;
use crate::sidecar::Worker;
use crate::stream::Stream;
use crate::tls::MESH;
use crate::upstream::Early;
use crate::{opaque, outbound};

/// What a connection is on a listener that takes captured ones; nothing on others.
pub(super) fn arrival(worker: &Worker, role: &Role, stream: &TcpStream) -> Option<Arrival> {
    let inbound = matches!(role, Role::Inbound);
    if !(matches!(role, Role::Captured) || inbound && worker.sidecar.config.capture.inbound) {
        return None;
    }
    // Without an address of its own a socket is no connection any more.
    let Ok(local) = stream.local_addr() else { return Some(Arrival::Loop) };
    Some(original::judge(original::destination(stream), local, &worker.sidecar.listening, inbound))
}

/// A connection that would come back here again and again. That is a mistake in the rules, so it is said aloud.
pub(super) fn refuse_loop(worker: &Worker, stream: Stream, peer: SocketAddr) {
    worker.sidecar.metrics.captured_loops.add(1);
    if worker.sidecar.warnings.allow(peer.ip()) {
        tracing::warn!(%peer, "a connection that would lead back to this proxy was refused; if it is the proxy's own, run the proxy as the user that the rules leave alone, or set capture.mark (couplet intercept check)");
    }
    stream.reset();
}

/// Serves a captured connection.
pub(super) async fn captured(
    worker: Arc<Worker>,
    role: Role,
    destination: SocketAddr,
    mut stream: Stream,
    peer: SocketAddr,
    mut drain: Watch,
) {
    let own = || worker.connector.dialed.as_ref().is_some_and(|dialed| dialed.contains(peer));
    let outbound = matches!(role, Role::Captured);
    if outbound && CAPTURE_PROBES.map(SocketAddr::from).contains(&destination) {
        // Somebody wants to know whether connections are captured; a probe that is gone does not any more.
        let _ = stream.write_all(format!("{CAPTURE_ANSWER}{destination}\n").as_bytes()).await;
        return;
    }
    if outbound && own() {
        return refuse_loop(&worker, stream, peer);
    }
    let Seen { client, server, found } = tokio::select! {
        seen = look(&worker, stream, destination) => seen,
        () = linger(&mut drain, role.ends_at()) => return,
    };
    // It was accepted before the attempt that it answers was over: by now that is known.
    if outbound && own() {
        return refuse_loop(&worker, client, peer);
    }
    let mut caller = Caller { ip: peer.ip().to_canonical(), identity: None };
    let (client, found) = match outbound {
        true => (client, found),
        false => match unveiled(&worker, client, found, &mut caller).await {
            Some(unveiled) => unveiled,
            None => return,
        },
    };
    let (carried, name) = match found {
        Found::Http(protocol) => {
            let purpose = match outbound {
                true => Purpose::Captured(Arc::new(outbound::Captured::new(destination, server))),
                false => {
                    let upstream = worker.delivered(destination, Instant::now());
                    let delivery = Delivery { upstream, early: Early::new(server) };
                    Purpose::Inbound(Some(Arc::new(delivery)), Arc::new(caller))
                }
            };
            let until = Until { began: Instant::now(), ends_at: role.ends_at(), drain };
            return converse(worker, purpose, protocol, client, peer, until).await;
        }
        Found::Opaque(carried, name) => (Some(carried), name),
        Found::Ended => (None, None),
        Found::Dead(_) => {
            if outbound {
                let peer = outbound::peer_name(&worker, None, destination);
                Opaque::asked(&worker.recorder, peer, Carried::Tcp, Instant::now()).failed();
            }
            return opaque::refuse(&worker.sidecar.metrics, client);
        }
        Found::Gone => return,
    };
    let Some(server) = server else { return };
    // Who calls over an inbound connection, its own proxy says.
    let edge = carried.filter(|_| outbound).map(|carried| {
        let peer = outbound::peer_name(&worker, name.as_deref(), destination);
        Opaque::asked(&worker.recorder, peer, carried, Instant::now())
    });
    tokio::select! {
        () = opaque::relay(&worker, client, server, edge) => {}
        // Nobody can tell such a connection to come to its end.
        () = drain.reached(Phase::Closing) => {}
    }
}

/// Takes the handshake of a captured inbound connection that is meant for this proxy, and refuses clear text where there
/// may be none. TLS that is meant for the application stays as it is. Nothing where the connection is at its end.
async fn unveiled(worker: &Worker, client: Stream, found: Found, caller: &mut Caller) -> Option<(Stream, Found)> {
    let tls = &worker.sidecar.tls;
    if !tls.accepts() || matches!(found, Found::Ended | Found::Dead(_) | Found::Gone) {
        return Some((client, found));
    }
    let ours = matches!(found, Found::Opaque(Carried::Tls, _)) && (tls.serves() || offers(client.ahead(), MESH));
    let judgement = if ours { Judgement::Tls } else { Judgement::Opaque };
    let deadline = Instant::now() + worker.sidecar.config.timeouts.header;
    let (stream, protocol) = secure(worker, client, judgement, caller, deadline).await?;
    Some((stream, if ours { Found::Http(protocol.unwrap_or(Protocol::Http1)) } else { found }))
}
