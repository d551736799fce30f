//! Making connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use couplet_config::Target;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Connection;
use crate::error::Fault;
use crate::metrics::Metrics;

/// How connections are made and kept; the same for all upstreams of a worker.
pub(crate) struct Connector {
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) idle_connections: usize,
    pub(crate) header_bytes: usize,
    pub(crate) header_fields: usize,
    /// Addresses of the proxy itself that a request must not be sent to: it would come back.
    pub(crate) own: Vec<SocketAddr>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Connector {
    pub(super) async fn connect(&self, target: &Target) -> Result<Connection, Fault> {
        let stream = dial(self, target).await?;
        let address = stream.peer_addr().map_err(|_| Fault::Connect)?;
        let handshake = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(self.header_fields)
            .max_header_size(self.header_bytes)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_| Fault::Reset)?;
        // Its errors reach whoever waits for an answer on it; nobody else needs them.
        tokio::spawn(connection.with_upgrades());
        Ok(Connection { sender, address, reused: false })
    }
}

/// Opens a TCP connection to the first address of `target` that answers, all within the connect timeout.
pub(crate) async fn dial(connector: &Connector, target: &Target) -> Result<TcpStream, Fault> {
    let attempt = tokio::time::timeout(connector.connect_timeout, dial_any(connector, target));
    let stream = attempt.await.map_err(|_| Fault::ConnectTimeout)??;
    connector.metrics.upstream_connections_opened.add(1);
    // Requests are written whole; waiting for more would only delay them. A socket that refuses still works.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn dial_any(connector: &Connector, target: &Target) -> Result<TcpStream, Fault> {
    let mut fault = Fault::Unresolved;
    for address in addresses(target).await? {
        if connector.own.iter().any(|own| is_same(*own, address)) {
            return Err(Fault::Loop);
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(_) => fault = Fault::Connect,
        }
    }
    Err(fault)
}

async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(ip) = target.host.parse() {
        return Ok(vec![SocketAddr::new(ip, target.port)]);
    }
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    found.map(Iterator::collect).map_err(|_| Fault::Unresolved)
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
