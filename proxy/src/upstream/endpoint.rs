//! One address of an upstream, as one worker sees it: its connections, and how they fare.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::balance::Health;
use super::connect::{Connector, Http1, Opened};
use super::lease::{Connection, Sender};
use super::making::Making;
use super::shared::{Shared, Stream};
use super::wait::Wait;
use crate::deadline::Downstream;
use crate::error::Fault;
use crate::http::Protocol;
use crate::metrics::Metrics;
use crate::tls::Secure;

/// A connection that has been idle for longer is looked at before it is used again.
const FRESH: Duration = Duration::from_millis(1);

/// How many idle HTTP/1 connections are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Of one endpoint.
    pub(crate) here: usize,
    /// Of the whole proxy: a client that names ever new destinations must not make it hold them all.
    pub(crate) overall: usize,
}

/// An address, and the connections to it.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// How it is spoken to, where not in the clear.
    secure: Option<Arc<Secure>>,
    health: Mutex<Health>,
    outstanding: AtomicUsize,
    /// HTTP/1 connections that nobody uses; the last one was used last.
    idle: Mutex<Vec<Idle>>,
    shared: Shared,
    /// HTTP/2 connections that are being made.
    making: Making,
    metrics: Arc<Metrics>,
}

struct Idle {
    sender: Http1,
    since: Instant,
    until: Instant,
    _counted: Counted,
}

/// One idle connection.
struct Counted(Arc<Metrics>);

impl Counted {
    /// Counts one more, unless there are `most` already.
    fn new(metrics: &Arc<Metrics>, most: usize) -> Option<Self> {
        let counted = Self(Arc::clone(metrics));
        let room = metrics.upstream_idle.up() <= most as u64;
        metrics.upstream_idle_overflow.add(u64::from(!room));
        room.then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.upstream_idle.down();
    }
}

/// One request outstanding.
pub(super) struct Outstanding(Arc<Endpoint>);

impl Endpoint {
    pub(super) fn new(address: SocketAddr, secure: Option<Arc<Secure>>, metrics: &Arc<Metrics>) -> Arc<Self> {
        metrics.endpoints.up();
        Arc::new(Self {
            address,
            secure,
            health: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            idle: Mutex::default(),
            shared: Shared::default(),
            making: Making::default(),
            metrics: Arc::clone(metrics),
        })
    }

    pub(super) fn rests(&self) -> bool {
        self.health.lock().rests()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Outstanding {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(Arc::clone(self))
    }

    /// Connecting went well or not.
    pub(super) fn judge<T>(&self, connected: Result<T, Fault>) -> Result<T, Fault> {
        match &connected {
            Ok(_) => self.health.lock().connected(),
            // That the proxy itself is there says nothing about how well.
            Err(Fault::Loop) => {}
            Err(_) => self.health.lock().failed(Instant::now()),
        }
        connected
    }

    /// A connection for one HTTP/1 exchange: an idle one that still stands, or a new one.
    pub(super) async fn http1(
        &self,
        connector: &Connector,
        wait: &mut Wait<'_>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Connection, Fault> {
        let connection = |sender: Http1, reused| {
            let identity = sender.identity.clone();
            Connection { sender: Sender::Http1(sender), address: self.address, identity, reused }
        };
        if let Some(sender) = self.reuse(now).await {
            connector.metrics.upstream_connections_reused.add(1);
            return Ok(connection(sender, true));
        }
        let counted = wait.connection()?;
        let sender = self.judge(connector.http1(self.address, self.secure.as_deref(), counted, deadline).await)?;
        Ok(connection(sender, false))
    }

    /// The connection that was used last is the likeliest to be still open.
    async fn reuse(&self, now: Instant) -> Option<Http1> {
        loop {
            let Idle { sender, since, until, .. } = self.idle.lock().pop()?;
            if now >= until || sender.is_closed() {
                continue;
            }
            // Its own task sees what has happened on the socket meanwhile: that the other side closed it, or sent bytes
            // that nobody asked for. Either closes it. Yielding lets that task run first.
            if now.saturating_duration_since(since) >= FRESH || !sender.is_ready() {
                tokio::task::yield_now().await;
            }
            // One that is open but not ready still sends a body to an upstream that answered early: not ours to wait for.
            if sender.is_ready() && !sender.is_closed() {
                return Some(sender);
            }
        }
    }

    /// Keeps a connection for the next exchange, for `keep` at most, where there is room.
    pub(super) fn keep(&self, sender: Http1, keep: Duration, room: Room, since: Instant) {
        let mut idle = self.idle.lock();
        if idle.len() < room.here
            && !sender.is_closed()
            && !keep.is_zero()
            && let Some(counted) = Counted::new(&self.metrics, room.overall)
        {
            idle.push(Idle { sender, since, until: since + keep, _counted: counted });
        }
    }

    /// An idle connection was found closed: those that lie beside it are hardly better.
    pub(super) fn forget_idle(&self) {
        self.idle.lock().clear();
    }

    /// A stream on an HTTP/2 connection of `client`: one that has room, or a new one.
    pub(super) async fn http2(
        &self,
        connector: &Connector,
        wait: &mut Wait<'_>,
        client: &Downstream,
        deadline: Instant,
    ) -> Result<Connection, Fault> {
        let connection = |stream: Stream, reused| {
            let identity = stream.identity();
            Connection { sender: Sender::Http2(stream), address: self.address, identity, reused }
        };
        if let Some(stream) = self.shared.join(client) {
            connector.metrics.upstream_connections_reused.add(1);
            return Ok(connection(stream, true));
        }
        wait.begins()?;
        let room = if wait.has_room() { self.shared.room() } else { 0 };
        let place = self.making.place(client, room);
        let turn = timeout_at(deadline, place.turn()).await;
        let _turn = turn.map_err(|_| Fault::ConnectTimeout)?;
        // Whoever was first may have made one meanwhile.
        if let Some(stream) = self.shared.join(client) {
            connector.metrics.upstream_connections_reused.add(1);
            return Ok(connection(stream, true));
        }
        let counted = match wait.connection() {
            Ok(counted) => counted,
            // There may be no more of them: then clients share.
            Err(fault) => {
                let stream = self.shared.share().ok_or(fault)?;
                connector.metrics.upstream_connections_reused.add(1);
                return Ok(connection(stream, true));
            }
        };
        let connected = connector.http2(self.address, self.secure.as_deref(), counted, deadline).await;
        let connected = self.judge(connected)?;
        let stream = self.shared.add(connected, self.is_https(), client).ok_or(Fault::Connect)?;
        Ok(connection(stream, false))
    }

    fn is_https(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.is_https())
    }

    /// Takes over a connection that was made elsewhere.
    pub(super) async fn adopt(&self, connector: &Connector, protocol: Protocol, opened: Opened) {
        self.health.lock().connected();
        match protocol {
            Protocol::Http1 => {
                if let Ok(sender) = connector.speak_http1(opened).await {
                    self.keep(sender, connector.idle_timeout, connector.room, Instant::now());
                }
            }
            Protocol::Http2 => {
                if let Ok(spoken) = connector.speak_http2(opened).await
                    && let Some(stream) = self.shared.add(spoken, self.is_https(), &Downstream::nobody())
                {
                    stream.whole(Instant::now());
                }
            }
        }
    }

    /// Closes a connection that nobody uses, so that there is room for another one. Whether there was one.
    pub(super) fn close_idle(&self) -> bool {
        // The one that was used first is the likeliest to be closed soon anyway.
        let mut idle = self.idle.lock();
        let oldest = (!idle.is_empty()).then(|| idle.remove(0));
        drop(idle);
        oldest.is_some() || self.shared.close_idle()
    }

    /// Closes connections that were idle for too long.
    pub(super) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.idle.lock().retain(|idle| now < idle.until && !idle.sender.is_closed());
        self.shared.sweep(now, idle_timeout);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.metrics.endpoints.down();
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}
