//! The client's side of a handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use couplet_config::{Outbound, SpiffeId, TlsMode};
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::credentials::spiffe_id;
use super::{Failure, HTTP1, HTTP2, MESH, Tls};
use crate::error::{Fault, Refusal};
use crate::http::Protocol;
use crate::stream::Stream;

/// How one destination is spoken to, where not in the clear.
pub(crate) enum Secure {
    /// As the configuration says.
    Configured(Configured),
    /// As it is found out to be.
    Learned,
}

/// How the destination of an outbound listener is spoken to.
pub(crate) struct Configured {
    tls: Arc<Tls>,
    /// Which of the outbound listeners it belongs to.
    index: usize,
    mesh: bool,
    /// The name under which the destination is known here.
    upstream: String,
    /// What its certificate must say, in TLS with an ordinary server.
    name: ServerName<'static>,
}

impl Secure {
    /// How the outbound listener with this index speaks to its destination. None is: in the clear.
    pub(crate) fn new(tls: &Arc<Tls>, index: usize, outbound: &Outbound) -> Option<Self> {
        let config = outbound.tls.as_ref()?;
        let name = outbound.server_name().and_then(|name| ServerName::try_from(name.to_owned()).ok());
        Some(Self::Configured(Configured {
            tls: Arc::clone(tls),
            index,
            mesh: config.mode == TlsMode::Mesh,
            upstream: outbound.name.clone(),
            // Between sidecars no name is sent or looked at. A name that is none is no certificate's.
            name: name.unwrap_or_else(|| ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())),
        }))
    }

    /// Whether the destination is an ordinary server, to which a request says that it came over TLS.
    pub(crate) fn is_https(&self) -> bool {
        matches!(self, Self::Configured(configured) if !configured.mesh)
    }
}

impl Configured {
    /// Shakes hands on a new connection to `address`. Who answered, where that has an identity.
    ///
    /// # Errors
    /// Why no request can be sent on it; counted and logged.
    pub(crate) async fn connect(
        &self,
        stream: Stream,
        address: SocketAddr,
        protocol: Protocol,
        deadline: Instant,
    ) -> Result<(Stream, Option<Arc<SpiffeId>>), Fault> {
        let connected = match timeout_at(deadline, self.shake(stream, protocol)).await {
            Ok(connected) => connected,
            Err(_) => Err(Failure::new(Refusal::Timeout, "it took longer than timeouts.connect")),
        };
        connected.map_err(|Failure { why, text, .. }| {
            self.tls.metrics.tls_refused_outbound(why);
            if self.tls.warnings.allow(address.ip()) {
                let (upstream, reason) = (&self.upstream, why.as_str());
                tracing::warn!(upstream, %address, reason, text, "the TLS handshake with a destination failed");
            }
            fault(why)
        })
    }

    async fn shake(&self, stream: Stream, protocol: Protocol) -> Result<(Stream, Option<Arc<SpiffeId>>), Failure> {
        let settings = self.tls.settings();
        let config = settings.clients.get(self.index).and_then(Option::as_ref);
        let config = config.ok_or_else(|| Failure::new(Refusal::NoCertificate, "this proxy has no certificate"))?;
        let protocol = match protocol {
            Protocol::Http1 => HTTP1,
            Protocol::Http2 => HTTP2,
        };
        let mut offered = vec![protocol.to_vec()];
        offered.extend(self.mesh.then(|| MESH.to_vec()));
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.with_alpn(offered).connect(self.name.clone(), stream).await;
        let stream = stream.map_err(|error| Failure::of_io(&error))?;
        let (_, connection) = stream.get_ref();
        match connection.alpn_protocol() {
            Some(chosen) if chosen == protocol => {}
            // HTTP/1 is what is spoken where nobody says anything (RFC 7301 leaves that open, RFC 9113 does not).
            None if protocol == HTTP1 => {}
            _ => return Err(Failure::new(Refusal::Alpn, "the destination does not speak HTTP/2 over TLS (ALPN)")),
        }
        let certificate = connection.peer_certificates().and_then(|chain| chain.first()).filter(|_| self.mesh);
        let identity = certificate.and_then(|certificate| spiffe_id(certificate).ok()).map(Arc::new);
        self.tls.metrics.tls_connected.add(1);
        Ok((Stream::client(stream), identity))
    }
}

/// What the application is told.
pub(super) fn fault(why: Refusal) -> Fault {
    match why {
        Refusal::Timeout => Fault::ConnectTimeout,
        Refusal::Alpn => Fault::Alpn,
        Refusal::Alert => Fault::TlsRefused,
        Refusal::Expired
        | Refusal::NotYetValid
        | Refusal::Issuer
        | Refusal::Name
        | Refusal::TrustDomain
        | Refusal::NoIdentity
        | Refusal::Identity
        | Refusal::Certificate => Fault::Identity,
        _ => Fault::Tls,
    }
}
