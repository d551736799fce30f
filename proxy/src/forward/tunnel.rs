//! Connections that have become something else: upgraded ones (WebSocket and others) and CONNECT. Bytes, both ways.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::Instant;

use crate::error::Fault;
use crate::metrics::Metrics;
use crate::record::Observer;
use crate::sidecar::Worker;
use crate::stream::Stream;
use crate::upstream::{Connector, Upstream};

/// Looks at a tunnel for each time that it may stay idle.
const LOOKS: u32 = 4;

/// Passes bytes between two upgraded ends until both are done. What `observer` watches ends with them.
pub(crate) fn bridge<O>(worker: &Worker, downstream: OnUpgrade, upstream: OnUpgrade, mut observer: O)
where
    O: Observer + Send + 'static,
{
    let limit = Limit::of(worker);
    tokio::spawn(async move {
        match (downstream.await, upstream.await) {
            (Ok(downstream), Ok(upstream)) => {
                let copied = limit.copy(TokioIo::new(downstream), TokioIo::new(upstream)).await;
                end(&mut observer, &copied);
            }
            _ => observer.broken(),
        }
    });
}

/// Opens the connection that a CONNECT asks for, before it is answered; `patience` is for how long that may take.
///
/// # Errors
/// Why there is none.
pub(crate) async fn connect_through(
    connector: &Connector,
    upstream: &Upstream,
    patience: Duration,
) -> Result<Stream, Fault> {
    upstream.dial(connector, patience).await
}

/// Passes bytes between a CONNECT's downstream end and `upstream`.
pub(crate) fn relay<O>(worker: &Worker, downstream: OnUpgrade, upstream: Stream, mut observer: O)
where
    O: Observer + Send + 'static,
{
    let limit = Limit::of(worker);
    tokio::spawn(async move {
        match downstream.await {
            Ok(downstream) => end(&mut observer, &limit.copy(TokioIo::new(downstream), upstream).await),
            Err(_) => observer.broken(),
        }
    });
}

fn end<O: Observer>(observer: &mut O, copied: &io::Result<(u64, u64)>) {
    match copied {
        Ok((_, received)) => {
            observer.bytes(*received);
            observer.whole(Instant::now());
        }
        Err(_) => observer.broken(),
    }
}

/// How long a tunnel may stay as it is.
struct Limit {
    idle: Option<Duration>,
    metrics: Arc<Metrics>,
}

impl Limit {
    fn of(worker: &Worker) -> Self {
        let sidecar = &worker.sidecar;
        Self { idle: sidecar.config.timeouts.stream_idle, metrics: Arc::clone(&sidecar.metrics) }
    }

    /// Passes bytes both ways until both ends are done, or nothing has passed for too long; how many, up and down.
    async fn copy<D, U>(&self, downstream: D, mut upstream: U) -> io::Result<(u64, u64)>
    where
        D: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let passed = AtomicU64::new(0);
        let mut downstream = Watched { stream: downstream, passed: &passed };
        let mut copying = pin!(copy_bidirectional(&mut downstream, &mut upstream));
        let Some(idle) = self.idle else { return copying.await };
        let (mut seen, mut still) = (0, 0);
        while still < LOOKS {
            if let Ok(done) = tokio::time::timeout(idle / LOOKS, copying.as_mut()).await {
                return done;
            }
            let now = passed.load(Ordering::Relaxed);
            still = if now == seen { still + 1 } else { 0 };
            seen = now;
        }
        self.metrics.streams_timed_out.add(1);
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// A stream that counts what passes on it, both ways.
struct Watched<'a, S> {
    stream: S,
    passed: &'a AtomicU64,
}

impl<S> Watched<'_, S> {
    fn count(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.count(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.count(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
