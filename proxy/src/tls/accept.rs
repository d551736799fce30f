//! The server's side of a handshake.

use std::sync::Arc;
use std::time::Duration;

use couplet_config::SpiffeId;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::StartHandshake;

use super::credentials::spiffe_id;
use super::{Failure, HTTP1, HTTP2, MESH, Settings};
use crate::error::Refusal;
use crate::http::Protocol;
use crate::metrics::Metrics;
use crate::stream::Stream;

/// Longest ClientHello, with the heads of its records. Those of browsers with post-quantum key shares have 2 KiB.
const LONGEST_HELLO: usize = 16 * 1024;

/// How long, and for how many bytes, a client that is refused may go on before the connection is closed.
const PARTING: Duration = Duration::from_secs(1);
const MOST_DISCARDED: usize = 64 * 1024;

/// A client that has shown what it had to show.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    /// Who it is, where it has an identity.
    pub(crate) identity: Option<Arc<SpiffeId>>,
    /// What it speaks, where it has said so.
    pub(crate) protocol: Option<Protocol>,
}

/// Takes a handshake from a client, of which some bytes may have been read ahead already.
///
/// # Errors
/// Why it failed, which is counted; the client was told as far as the protocol allows.
pub(crate) async fn accept(
    settings: &Settings,
    stream: Stream,
    deadline: Instant,
    most: usize,
    metrics: &Arc<Metrics>,
) -> Result<Accepted, Failure> {
    let begun = Begun::new(metrics);
    let accepted = if begun.count > most as u64 {
        let text = "more handshakes at the same time than limits.tls_handshakes allows";
        Err(Failure::new(Refusal::Limit, text).into())
    } else {
        let late = |_| Err(Failure::new(Refusal::Timeout, "it took longer than timeouts.header").into());
        timeout_at(deadline, shake(settings, stream)).await.unwrap_or_else(late)
    };
    drop(begun);
    match accepted {
        Ok(accepted) => {
            metrics.tls_accepted.add(1);
            Ok(accepted)
        }
        Err(Broken { failure, stream }) => {
            metrics.tls_refused_inbound(failure.why);
            if let Some(stream) = stream {
                part(*stream).await;
            }
            Err(failure)
        }
    }
}

/// A handshake that failed, and the connection where the client can still be told.
struct Broken {
    failure: Failure,
    stream: Option<Box<Stream>>,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self { failure, stream: None }
    }
}

/// One handshake under way.
struct Begun<'a> {
    metrics: &'a Metrics,
    count: u64,
}

impl<'a> Begun<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        Self { metrics, count: metrics.tls_handshakes.up() }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.metrics.tls_handshakes.down();
    }
}

async fn shake(settings: &Settings, mut stream: Stream) -> Result<Accepted, Broken> {
    let hello = match hello(&mut stream).await {
        Ok(hello) => hello,
        Err(failure) => return Err(Broken { failure, stream: Some(Box::new(stream)) }),
    };
    let mesh = hello.client_hello().alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == MESH));
    let Some(config) = settings.for_client(mesh) else {
        return Err(Failure::new(Refusal::NoCertificate, "this proxy has no certificate").into());
    };
    let accepting = StartHandshake::from_parts(hello, stream).into_stream(Arc::clone(config)).into_fallible();
    let stream = match accepting.await {
        Ok(stream) => stream,
        Err((error, stream)) => {
            return Err(Broken { failure: Failure::of_io(&error), stream: Some(Box::new(stream)) });
        }
    };
    let (_, connection) = stream.get_ref();
    let protocol = match connection.alpn_protocol() {
        Some(HTTP2) => Some(Protocol::Http2),
        Some(HTTP1) => Some(Protocol::Http1),
        _ => None,
    };
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let identity = certificate.and_then(|certificate| spiffe_id(certificate).ok()).map(Arc::new);
    Ok(Accepted { stream: Stream::server(stream), identity, protocol })
}

/// Reads the ClientHello. The library alone looks into it; what it has read is taken off the stream.
async fn hello(stream: &mut Stream) -> Result<rustls::server::Accepted, Failure> {
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        while let Some(mut new) = stream.ahead().get(fed..).filter(|new| !new.is_empty()) {
            fed += acceptor.read_tls(&mut new).map_err(|error| Failure::of_io(&error))?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    stream.skip(fed);
                    return Ok(accepted);
                }
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    let _ = alert.write_all(&mut bytes); // Writing to memory does not fail.
                    let _ = stream.write_all(&bytes).await; // The client is told if it still listens.
                    return Err(Failure::of(&error));
                }
            }
        }
        match stream.read_ahead(LONGEST_HELLO).await {
            Ok(0) if fed >= LONGEST_HELLO => {
                return Err(Failure::new(Refusal::Hello, "the ClientHello is longer than 16 KiB"));
            }
            Ok(0) => return Err(Failure::new(Refusal::Closed, "the peer is gone")),
            Ok(_) => {}
            Err(error) => return Err(Failure::of_io(&error)),
        }
    }
}

/// Lets a client read why it is refused: closed at once, with bytes of it unread, the connection would be reset before.
async fn part(mut stream: Stream) {
    let mut discarded = [0; 4096];
    let discard = async {
        stream.shutdown().await?;
        let mut left = MOST_DISCARDED;
        while left > 0 {
            match stream.read(&mut discarded).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    // It is at its end either way.
    let _ = tokio::time::timeout(PARTING, discard).await;
}

impl Settings {
    /// A sidecar is shown the identity; others, too, where there is nothing else to show.
    fn for_client(&self, mesh: bool) -> Option<&Arc<ServerConfig>> {
        let (first, second) = if mesh { (&self.mesh, &self.server) } else { (&self.server, &self.mesh) };
        first.as_ref().or(second.as_ref())
    }
}
