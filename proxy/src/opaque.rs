//! Captured connections that carry no requests: bytes, both ways, untouched. Half-closed ones stay half-closed, resets
//! are passed on as resets, and a side that does not read holds up the other.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, timeout};

use crate::error::Fault;
use crate::metrics::Metrics;
use crate::record::Opaque;
use crate::sidecar::Worker;
use crate::stream::Stream;
use crate::upstream::Dial;

/// Read and not yet written, per direction.
const BUFFER: usize = 16 * 1024;

/// Passes bytes between `client` and its destination until both are done, one of them breaks, or nothing has passed for
/// too long. `edge` is where they are counted, if they are.
pub(crate) async fn relay(worker: &Arc<Worker>, client: Stream, to: (SocketAddr, Dial), mut edge: Option<Opaque>) {
    let metrics = &worker.sidecar.metrics;
    let (destination, server) = to;
    let server = match server.await {
        Ok(opened) => opened.stream,
        Err(fault) => {
            if let Some(edge) = &mut edge {
                edge.failed();
            }
            return refuse(worker, client, destination, fault);
        }
    };
    let _open = Open::new(metrics);
    if let Some(edge) = &mut edge {
        edge.connected();
    }
    let passed = Passed::default();
    let (mut client, mut server) = (Watched { stream: client, passed: &passed }, server);
    let whole = {
        let mut copying = pin!(copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER));
        let (every, idle) = (worker.sidecar.config.telemetry.window, worker.sidecar.config.capture.idle);
        let mut active = Instant::now();
        loop {
            let ended = timeout(every, copying.as_mut()).await;
            // Bytes count in the window in which they pass: some connections last for weeks.
            let some = passed.tell(edge.as_mut());
            match ended {
                Ok(Ok(_)) => break true,
                Ok(Err(_)) => break false,
                Err(_) if some => active = Instant::now(),
                Err(_) if idle.is_some_and(|idle| active.elapsed() >= idle) => {
                    metrics.opaque_idle.add(1);
                    break false;
                }
                Err(_) => {}
            }
        }
    };
    if !whole {
        if let Some(edge) = &mut edge {
            edge.broken();
        }
        client.stream.reset();
        server.reset();
    }
}

/// Closes a connection so that its client sees that nobody is there.
pub(crate) fn refuse(worker: &Worker, client: Stream, destination: SocketAddr, fault: Fault) {
    worker.sidecar.metrics.captured_reset.add(1);
    if fault == Fault::ClearText && worker.sidecar.warnings.allow(destination.ip()) {
        tracing::warn!(%destination, "a connection was reset: no sidecar answers at its destination, and `tls.outbound` is `strict`");
    }
    client.reset();
}

/// One connection that is passed on.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.opaque_connections.up();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.opaque_connections.down();
    }
}

/// Bytes that passed since it was last told.
#[derive(Default)]
struct Passed {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Passed {
    /// Counts what has passed; whether anything has.
    fn tell(&self, edge: Option<&mut Opaque>) -> bool {
        let (sent, received) = (self.sent.swap(0, Ordering::Relaxed), self.received.swap(0, Ordering::Relaxed));
        if let Some(edge) = edge {
            edge.passed(sent, received);
        }
        sent + received > 0
    }
}

/// The client's side, with its bytes counted.
struct Watched<'a> {
    stream: Stream,
    passed: &'a Passed,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.passed.sent.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &polled {
            self.passed.received.fetch_add(*count as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
