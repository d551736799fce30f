//! Where requests go: a named destination, its idle connections, and whether a sidecar answers there.

mod connect;
mod peer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use couplet_config::Target;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use connect::{Connector, dial};
pub(crate) use peer::Peer;

use crate::error::Fault;
use crate::http::RequestBody;

/// One worker's view of a destination.
pub(crate) struct Upstream {
    /// The name under which calls to it are recorded.
    pub(crate) name: String,
    pub(crate) target: Target,
    /// Whether a sidecar answers there.
    pub(crate) peer: Peer,
    idle: Mutex<Vec<Idle>>,
    used: Mutex<Instant>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection to an upstream.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// Where it leads.
    pub(crate) address: SocketAddr,
    /// Whether it was used before.
    pub(crate) reused: bool,
}

/// A connection that is in use; goes back to its pool when the exchange on it is whole.
pub(crate) struct Lease {
    upstream: Arc<Upstream>,
    pub(crate) connection: Connection,
    keep: usize,
}

impl Upstream {
    pub(crate) fn new(name: impl Into<String>, target: Target, now: Instant) -> Self {
        Self { name: name.into(), target, peer: Peer::default(), idle: Mutex::default(), used: Mutex::new(now) }
    }

    /// A connection: an idle one that still stands, or a new one.
    ///
    /// # Errors
    /// Where there is none to be had.
    pub(crate) async fn lease(self: &Arc<Self>, connector: &Connector) -> Result<Lease, Fault> {
        *self.used.lock() = Instant::now();
        let connection = match self.reuse(connector).await {
            Some(connection) => connection,
            None => connector.connect(&self.target).await?,
        };
        Ok(Lease { upstream: Arc::clone(self), connection, keep: connector.idle_connections })
    }

    /// The connection that was used last is the likeliest to be still open.
    async fn reuse(&self, connector: &Connector) -> Option<Connection> {
        loop {
            let idle = self.idle.lock().pop()?;
            let mut connection = idle.connection;
            let fresh = idle.since.elapsed() < connector.idle_timeout;
            // Its exchange is whole; ready() waits at most for the connection's own task to notice that.
            if fresh && !connection.sender.is_closed() && connection.sender.ready().await.is_ok() {
                connector.metrics.upstream_connections_reused.add(1);
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    /// Closes connections that were idle for too long.
    pub(crate) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.idle.lock().retain(|idle| {
            now.saturating_duration_since(idle.since) < idle_timeout && !idle.connection.sender.is_closed()
        });
    }

    /// How long nobody asked for it.
    pub(crate) fn unused_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.used.lock())
    }
}

impl Lease {
    /// Puts the connection back, unless there are enough idle ones or it is closed.
    pub(crate) fn give_back(self) {
        let mut idle = self.upstream.idle.lock();
        if idle.len() < self.keep && !self.connection.sender.is_closed() {
            idle.push(Idle { connection: self.connection, since: Instant::now() });
        }
    }
}
