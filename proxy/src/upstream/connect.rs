//! Making connections.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use couplet_config::SpiffeId;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::time::{Instant, timeout_at};

use super::endpoint::Room;
use crate::error::Fault;
use crate::http::{Protocol, RequestBody};
use crate::http1::{Bounds, Expected, Gate, Violation};
use crate::http2::{self, Interim};
use crate::mesh::Mesh;
use crate::metrics::Metrics;
use crate::original::Dialed;
use crate::policy::Counted;
use crate::stream::{Stream, connect};
use crate::tls::{Secure, Tls};

/// Finds out that the host of an upstream is gone while an answer is waited for.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3);

/// How connections are made and kept; the same for all upstreams of a worker.
pub(crate) struct Connector {
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) room: Room,
    pub(crate) header_bytes: usize,
    pub(crate) header_fields: usize,
    /// Addresses of the proxy itself that a request must not be sent to: it would come back.
    pub(crate) own: Vec<SocketAddr>,
    /// Mark of the packets, where they need one.
    pub(crate) mark: Option<u32>,
    /// The connections that were made, where others are captured.
    pub(crate) dialed: Option<Arc<Dialed>>,
    pub(crate) tls: Arc<Tls>,
    /// Where sidecars were found.
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A connection that stands, and who is on its other side, where that has shown an identity.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) identity: Option<Arc<SpiffeId>>,
}

/// In the clear nobody shows one.
impl From<Stream> for Opened {
    fn from(stream: Stream) -> Self {
        Self { stream, identity: None }
    }
}

impl Opened {
    /// The connection counts for as long as it stands.
    pub(super) fn counted(mut self, counted: Option<Counted>) -> Self {
        if let Some(counted) = counted {
            self.stream.keep(counted);
        }
        self
    }
}

impl Connector {
    /// Opens a TCP connection.
    ///
    /// # Errors
    /// Where it leads back to this proxy, is refused, or is not there by `deadline`.
    pub(crate) async fn dial(&self, address: SocketAddr, deadline: Instant) -> Result<Stream, Fault> {
        if self.own.iter().any(|own| is_same(*own, address)) {
            return Err(Fault::Loop);
        }
        let attempt = timeout_at(deadline, connect(address, self.mark)).await;
        let stream = attempt.map_err(|_| Fault::ConnectTimeout)?.map_err(|_| Fault::Connect)?;
        // Before anything else: it may have come back already.
        let own = stream.local_addr().ok();
        let open = self.dialed.as_ref().zip(own).map(|(dialed, own)| dialed.remember(own, address));
        self.metrics.upstream_connections_opened.add(1);
        // Requests are written whole; waiting for more would only delay them. A socket that refuses still works.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
        let mut stream = Stream::from(stream);
        if let Some(open) = open {
            stream.keep(open);
        }
        Ok(stream)
    }

    /// Opens a connection, in the clear or not.
    async fn open(
        &self,
        address: SocketAddr,
        secure: Option<&Secure>,
        protocol: Protocol,
        deadline: Instant,
    ) -> Result<Opened, Fault> {
        match secure {
            None => Ok(self.dial(address, deadline).await?.into()),
            Some(Secure::Configured(secure)) => {
                let stream = self.dial(address, deadline).await?;
                let (stream, identity) = secure.connect(stream, address, protocol, deadline).await?;
                Ok(Opened { stream, identity })
            }
            Some(Secure::Learned) => {
                let opened = self.learned(address, deadline).await;
                if opened.as_ref().is_err_and(|fault| *fault == Fault::ClearText) && self.tls.warns_of(address.ip()) {
                    tracing::warn!(%address, "no sidecar answers at a destination, and it may not be spoken to in the clear: `tls.outbound` is `strict`");
                }
                opened
            }
        }
    }

    /// A connection that speaks HTTP/1.
    pub(super) async fn http1(
        &self,
        address: SocketAddr,
        secure: Option<&Secure>,
        counted: Option<Counted>,
        deadline: Instant,
    ) -> Result<Http1, Fault> {
        let opened = self.open(address, secure, Protocol::Http1, deadline).await?;
        self.speak_http1(opened.counted(counted)).await
    }

    /// Speaks HTTP/1 on a connection.
    pub(super) async fn speak_http1(&self, Opened { stream, identity }: Opened) -> Result<Http1, Fault> {
        let expected = Expected::default();
        let bounds = Bounds { bytes: self.header_bytes, fields: self.header_fields };
        let stream = Gate::responses(stream, bounds, expected.clone());
        let handshake = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(self.header_fields)
            .max_header_size(self.header_bytes)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_| Fault::Connect)?;
        let (metrics, told) = (Arc::clone(&self.metrics), expected.clone());
        tokio::spawn(async move {
            // Its errors reach whoever waits for an answer on it; nobody else needs them.
            let _ = connection.with_upgrades().await;
            if let Some(violation) = told.violation() {
                metrics.malformed_response(violation);
            }
        });
        Ok(Http1 { sender, expected, identity })
    }

    /// A connection that speaks HTTP/2.
    pub(super) async fn http2(
        &self,
        address: SocketAddr,
        secure: Option<&Secure>,
        counted: Option<Counted>,
        deadline: Instant,
    ) -> Result<Http2, Fault> {
        let opened = self.open(address, secure, Protocol::Http2, deadline).await?;
        self.speak_http2(opened.counted(counted)).await
    }

    /// Speaks HTTP/2 on a connection.
    pub(super) async fn speak_http2(&self, Opened { stream, identity }: Opened) -> Result<Http2, Fault> {
        let client = http2::speak(stream, self.header_bytes, &self.metrics).await.map_err(|_| Fault::Connect)?;
        Ok(Http2 { client, identity })
    }
}

/// A connection that speaks HTTP/2.
pub(super) struct Http2 {
    pub(super) client: http2::Client,
    /// Who answered, where that has an identity.
    pub(super) identity: Option<Arc<SpiffeId>>,
}

/// A connection that speaks HTTP/1, and what is expected on it.
pub(super) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    expected: Expected,
    /// Who answered, where that has an identity.
    pub(super) identity: Option<Arc<SpiffeId>>,
}

impl Http1 {
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request, and expects its answer and no other. Interim answers before it go to `interim`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn send(
        &mut self,
        mut request: Request<RequestBody>,
        interim: &mut Interim<'_>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        request.body_mut().trails(self.expected.trailers());
        self.expected.expect(request.method(), request.headers().contains_key(header::UPGRADE));
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            if let Some(told) = self.expected.interim(cx) {
                // One that is not in order is left out.
                let _ = interim(told);
                // It is passed on before the next one is looked for.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// What was wrong with the answer, if anything was.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.expected.violation()
    }
}

/// Whether a connection to `address` would reach a listener on `own`.
fn is_same(own: SocketAddr, address: SocketAddr) -> bool {
    let (own_ip, ip) = (own.ip().to_canonical(), address.ip().to_canonical());
    let everywhere = own_ip.is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
    own.port() == address.port() && (own_ip == ip || everywhere || own_ip.is_loopback() && ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_recognised_by_every_address_that_leads_to_it() {
        let same = |own: &str, address: &str| is_same(own.parse().unwrap(), address.parse().unwrap());
        assert!(same("127.0.0.1:15408", "127.0.0.1:15408"));
        assert!(same("127.0.0.1:15408", "[::ffff:127.0.0.1]:15408"));
        assert!(same("0.0.0.0:15408", "127.0.0.7:15408"));
        assert!(same("127.0.0.1:15408", "0.0.0.0:15408"));
        assert!(!same("127.0.0.1:15408", "127.0.0.1:15409"));
        assert!(!same("127.0.0.1:15408", "10.0.0.1:15408"));
    }
}
