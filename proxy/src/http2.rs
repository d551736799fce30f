//! What stands between HTTP/2 and its library: limits that the library does not have.

mod frames;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub(crate) use frames::Frames;

use crate::deadline::Progress;
use crate::metrics::Metrics;

/// Requests at the same time on one connection. More than most servers allow: an application may hold long streams open,
/// and one that it cannot open waits without a sign. Each costs some 16 KiB, so that a connection stays below 8 MiB.
pub(crate) const STREAMS: u32 = 512;
/// Bytes of one body that may be under way unread: covers 1 ms at 2 Gbit/s, and a slow reader holds back its sender
/// after so much.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// The same over all bodies of a connection, and so what a connection may cost in memory. The library lets half as
/// many bytes go into the bookkeeping of small data frames that nobody has read yet, 256 for each: with 4 MiB a stream
/// of small messages fills its own window before that.
pub(crate) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// The smallest that the protocol allows, and what every library uses.
pub(crate) const FRAME_BYTES: u32 = 16 * 1024;
/// What is written ahead of one stream's peer.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;
/// The header table: the protocol's own default.
pub(crate) const HEADER_TABLE: u32 = 4_096;
/// Streams that the peer reset before they were accepted, and streams that had to be reset for the peer's errors
/// (rapid reset, made-you-reset): more close the connection.
pub(crate) const PENDING_RESETS: usize = 64;
/// See [`PENDING_RESETS`].
pub(crate) const ERROR_RESETS: usize = 128;
/// A dead peer is noticed after this and [`PING_TIMEOUT`]; gRPC servers punish whoever asks more often than every
/// five minutes.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(330);
/// How long a ping's answer may take.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A stream of HTTP/2 whose incoming frames are looked at before the library gets them: a peer that sends more
/// frames without a use than [`Frames`] allows is cut off, and that is counted.
pub(crate) struct Guard<S> {
    stream: S,
    frames: Frames,
    /// Told since when a frame that must end in time has been incomplete.
    progress: Option<Progress>,
    metrics: Arc<Metrics>,
}

impl<S> Guard<S> {
    /// The side of a server: the client's preface comes first. Its first frame must end in time.
    pub(crate) fn downstream(stream: S, progress: Progress, metrics: &Arc<Metrics>, now: Instant) -> Self {
        let frames = Frames::after_preface(now);
        Self { stream, frames, progress: Some(progress), metrics: Arc::clone(metrics) }
    }

    /// The side of a client.
    pub(crate) fn upstream(stream: S, metrics: &Arc<Metrics>, now: Instant) -> Self {
        Self { stream, frames: Frames::new(now), progress: None, metrics: Arc::clone(metrics) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.frames.take_turn() {
            // Whoever waits for the frames that came gets to read them before the next ones are handed on.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            if let Err(abuse) = this.frames.read(read, Instant::now()) {
                this.metrics.abuse(abuse);
                return Poll::Ready(Err(io::Error::other(abuse.as_str())));
            }
            if let Some(progress) = &this.progress {
                progress.frames(this.frames.incomplete());
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = std::task::ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.frames.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = std::task::ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.frames.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
