//! The client's side of a handshake with whoever answers at an address: perhaps a sidecar, perhaps not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use couplet_config::{OutboundTls, SpiffeId};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::connect::fault;
use super::credentials::spiffe_id;
use super::{Failure, Tls};
use crate::error::{Fault, Refusal};
use crate::stream::Stream;

/// Bytes as the application sends them, whatever they are: only a sidecar chooses this protocol.
pub(super) const TUNNEL: &[u8] = b"couplet/1";
/// Offered beside it, and chosen by nobody. A server that reads lines would wait for the end of the first one, which a
/// ClientHello need not have; with this it answers at once what it thinks of it.
pub(super) const END_OF_LINE: &[u8] = b"\r\n\r\n";

/// Why there is no mutual TLS.
#[derive(Debug)]
pub(crate) enum Unjoined {
    /// No sidecar answers.
    Stranger(Failure),
    /// A sidecar does, and must not be spoken to: not in the clear either.
    Refused(Fault),
}

impl Tls {
    /// How an address is spoken to that nobody has configured.
    pub(crate) fn towards(&self, address: IpAddr) -> OutboundTls {
        match self.config.identity.is_some() && self.config.covers(address) {
            true => self.config.outbound,
            false => OutboundTls::Off,
        }
    }

    /// Shakes hands on a new connection to `address`. Who answered.
    ///
    /// # Errors
    /// Who did not. A refusal is counted and logged.
    pub(crate) async fn join(
        &self,
        stream: Stream,
        address: SocketAddr,
    ) -> Result<(Stream, Option<Arc<SpiffeId>>), Unjoined> {
        self.shake(stream).await.map_err(|failure| {
            if !failure.identified {
                return Unjoined::Stranger(failure);
            }
            self.metrics.tls_refused_outbound(failure.why);
            if self.warnings.allow(address.ip()) {
                let (reason, text) = (failure.why.as_str(), failure.text);
                tracing::warn!(%address, reason, text, "the sidecar of a destination was refused; nothing is sent to it");
            }
            Unjoined::Refused(fault(failure.why))
        })
    }

    async fn shake(&self, stream: Stream) -> Result<(Stream, Option<Arc<SpiffeId>>), Failure> {
        let settings = self.settings();
        let config = settings.tunnel.as_ref();
        let config = config.ok_or_else(|| Failure::new(Refusal::NoCertificate, "this proxy has no certificate"))?;
        // Between sidecars no name is sent or looked at.
        let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| Failure::of_io(&error))?;
        let (_, connection) = stream.get_ref();
        if connection.alpn_protocol() != Some(TUNNEL) {
            return Err(Failure::new(Refusal::Alpn, "it speaks TLS and is no sidecar"));
        }
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        let identity = certificate.and_then(|certificate| spiffe_id(certificate).ok()).map(Arc::new);
        self.metrics.tls_connected.add(1);
        Ok((Stream::client(stream), identity))
    }
}
