//! Captured connections: what they are, where they go, and those that must not be carried at all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use couplet_telemetry::names::{CAPTURE_ANSWER, CAPTURE_PROBES};
use couplet_telemetry::opaque::Protocol as Carried;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Purpose, Role, Until, Within, converse, linger, secure};
use crate::capture::{Found, Seen, Side, look};
use crate::detect::Judgement;
use crate::drain::{Phase, Watch};
use crate::inbound::{Caller, Delivery};
use crate::original::{self, Arrival};
use crate::record::Opaque;
use crate::sidecar::Worker;
use crate::stream::Stream;
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
    let own = || worker.connector.dialed.as_ref().is_some_and(|dialed| dialed.contains(peer, destination));
    let outbound = matches!(role, Role::Captured);
    if outbound && CAPTURE_PROBES.map(SocketAddr::from).contains(&destination) {
        // Somebody wants to know whether connections are captured; a probe that is gone does not any more.
        let _ = stream.write_all(format!("{CAPTURE_ANSWER}{destination}\n").as_bytes()).await;
        return;
    }
    if outbound && own() {
        return refuse_loop(&worker, stream, peer);
    }
    let side = match outbound {
        true => Side::Outbound,
        false => Side::Inbound { hello: patience(&worker, peer.ip(), stream.local_ip()) },
    };
    let seen = tokio::select! {
        seen = look(&worker, stream, destination, side) => seen,
        () = linger(&mut drain, role.ends_at()) => return,
    };
    // It was accepted before the attempt that it answers was over: by now that is known.
    if outbound && own() {
        return refuse_loop(&worker, seen.client, peer);
    }
    let mut caller = Caller::new(peer.ip().to_canonical());
    let seen = match outbound {
        true => Some(seen),
        false => tokio::select! {
            seen = unveiled(&worker, seen, destination, &mut caller) => seen,
            () = linger(&mut drain, role.ends_at()) => return,
        },
    };
    let Some(Seen { client, server, found }) = seen else { return };
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
        Found::Dead(fault) => {
            if outbound {
                let peer = outbound::peer_name(&worker, None, destination);
                Opaque::asked(&worker.recorder, peer, Carried::Tcp, Instant::now()).failed();
            }
            return opaque::refuse(&worker, client, destination, fault);
        }
        Found::Gone | Found::Ours => return,
    };
    let Some(server) = server else { return };
    // Who calls over an inbound connection, its own proxy says.
    let edge = carried.filter(|_| outbound).map(|carried| {
        let peer = outbound::peer_name(&worker, name.as_deref(), destination);
        Opaque::asked(&worker.recorder, peer, carried, Instant::now())
    });
    tokio::select! {
        () = opaque::relay(&worker, client, (destination, server), edge) => {}
        // Nobody can tell such a connection to come to its end.
        () = drain.reached(Phase::Closing) => {}
    }
}

/// For how long the ClientHello of a sidecar is waited for where the application has spoken first: a sidecar sends it at
/// once, others wait for that word.
fn patience(worker: &Worker, peer: IpAddr, own: Option<IpAddr>) -> Option<Duration> {
    let tls = &worker.sidecar.tls;
    if !tls.meets_sidecars() {
        return None;
    }
    match tls.takes_clear_text(peer.to_canonical(), own) {
        false => Some(ONLY_A_SIDECAR),
        true if Some(peer.to_canonical()) == own || peer.is_loopback() => None,
        true => tls.covers(peer).then_some(PERHAPS_A_SIDECAR),
    }
}

const PERHAPS_A_SIDECAR: Duration = Duration::from_millis(30);
const ONLY_A_SIDECAR: Duration = Duration::from_secs(1);

/// Takes the handshake of a captured inbound connection that is meant for this proxy, and looks what is inside; refuses
/// clear text where there may be none. TLS that is meant for the application stays as it is. Nothing where the connection
/// is at its end.
async fn unveiled(worker: &Arc<Worker>, seen: Seen, destination: SocketAddr, caller: &mut Caller) -> Option<Seen> {
    if !worker.sidecar.tls.accepts() || matches!(seen.found, Found::Ended | Found::Dead(_) | Found::Gone) {
        return Some(seen);
    }
    let Seen { client, server, found } = seen;
    let judgement = if found == Found::Ours { Judgement::Tls } else { Judgement::Opaque };
    let deadline = Instant::now() + worker.sidecar.config.timeouts.header;
    let (client, within) = secure(worker, client, judgement, caller, deadline).await?;
    match within {
        Within::Clear => Some(Seen { client, server, found }),
        Within::Http(protocol) => Some(Seen { client, server, found: Found::Http(protocol) }),
        Within::Unsaid => Some(look(worker, client, destination, Side::Within(server)).await),
    }
}
