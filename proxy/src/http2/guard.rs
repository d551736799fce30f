//! Between a socket and the library: frames are counted before it gets them, and it gets as many as one turn allows.
//!
//! The library reads and writes for as long as the socket lets it. A client that sends faster than its requests are
//! served would keep the worker to itself: who does much does it in many turns, and others have theirs in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::keepalive::Heard;
use super::{Frames, others_first};
use crate::deadline::Progress;
use crate::metrics::Metrics;

/// Written in one turn.
const WRITTEN: usize = 64 * 1024;

/// A stream of HTTP/2 whose incoming frames are looked at before the library gets them: a peer that sends more
/// frames without a use than [`Frames`] allows is cut off, and that is counted.
pub(crate) struct Guard<S> {
    stream: S,
    frames: Frames,
    /// Read, and for the next turn.
    held: BytesMut,
    /// Written in this turn.
    written: usize,
    heard: Heard,
    /// Told since when a frame that must end in time has been incomplete.
    progress: Option<Progress>,
    metrics: Arc<Metrics>,
}

impl<S> Guard<S> {
    /// The side of a server: the client's preface comes first. Its first frame must end in time.
    pub(super) fn downstream(
        stream: S,
        heard: Heard,
        progress: Progress,
        metrics: &Arc<Metrics>,
        now: Instant,
    ) -> Self {
        Self::new(stream, Frames::after_preface(now), heard, Some(progress), metrics)
    }

    /// The side of a client.
    pub(super) fn upstream(stream: S, heard: Heard, metrics: &Arc<Metrics>, now: Instant) -> Self {
        Self::new(stream, Frames::new(now), heard, None, metrics)
    }

    fn new(stream: S, frames: Frames, heard: Heard, progress: Option<Progress>, metrics: &Arc<Metrics>) -> Self {
        Self { stream, frames, held: BytesMut::new(), written: 0, heard, progress, metrics: Arc::clone(metrics) }
    }

    /// How many of these bytes may be handed on in this turn.
    fn check(&mut self, read: &[u8], now: Instant) -> io::Result<usize> {
        let checked = self.frames.read(read, now).map_err(|abuse| {
            self.metrics.abuse(abuse);
            io::Error::other(abuse.as_str())
        })?;
        if let Some(progress) = &self.progress {
            progress.frames(self.frames.incomplete());
        }
        Ok(checked)
    }

    /// Counts what was written. The turn is over where that is enough.
    fn wrote(&mut self, count: usize) {
        self.frames.wrote(count);
        self.written += count;
    }

    /// Whether so much was written that somebody else should have a turn; asked once, it is theirs.
    fn yields(&mut self, cx: &mut Context<'_>) -> bool {
        let enough = self.written >= WRITTEN;
        if enough {
            self.written = 0;
            others_first(cx);
        }
        enough
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Others have their turn, and this one another where there is more to read: whoever has said all that there was to
    /// say is not woken for nothing.
    fn end_turn(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            let read = buf.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                return Poll::Ready(Ok(())); // The end.
            }
            self.heard.at(Instant::now());
            self.held.extend_from_slice(read);
            buf.set_filled(before);
        }
        others_first(cx);
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.frames.take_turn() {
            return this.end_turn(cx, buf);
        }
        if !this.held.is_empty() {
            let held = std::mem::take(&mut this.held);
            let room = held.get(..held.len().min(buf.remaining())).unwrap_or_default();
            let count = this.check(room, Instant::now())?;
            buf.put_slice(room.get(..count).unwrap_or_default());
            this.held = held;
            this.held.advance(count);
            if this.held.is_empty() {
                this.held = BytesMut::new(); // A connection lives long; its memory should not.
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if Pin::new(&mut this.stream).poll_read(cx, buf)?.is_pending() {
            this.frames.rest();
            return Poll::Pending;
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            let now = Instant::now();
            this.heard.at(now);
            let count = this.check(read, now)?;
            this.held.extend_from_slice(read.get(count..).unwrap_or_default());
            buf.set_filled(before + count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.yields(cx) {
            return Poll::Pending;
        }
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.yields(cx) {
            return Poll::Pending;
        }
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.wrote(written);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::task::Waker;

    use super::*;
    use crate::woke::Woke;

    /// A socket that always has these frames for whoever reads, and takes whatever is written.
    struct Endless {
        frame: &'static [u8],
        at: usize,
    }

    impl AsyncRead for Endless {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            while buf.remaining() > 0 {
                buf.put_slice(&[self.frame[self.at % self.frame.len()]]);
                self.at += 1;
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn guard(frame: &'static [u8]) -> Guard<Endless> {
        let now = Instant::now();
        Guard::upstream(Endless { frame, at: 0 }, Heard::new(now), &Arc::default(), now)
    }

    #[test]
    fn a_peer_that_always_has_more_to_say_is_read_in_turns_and_nothing_is_lost() {
        // The head of a response that is all of it, and a piece of a body, of a byte.
        let frames: [(&[u8], usize); 2] =
            [(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88], 16), (&[0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'], 64)];
        for (frame, each_turn) in frames {
            let mut guard = guard(frame);
            let woke = Arc::<Woke>::default();
            let waker = Waker::from(Arc::clone(&woke));
            let (mut all, mut turn) = (Vec::new(), 0);
            for turns in 1..=20 {
                loop {
                    let mut piece = [0; 8_192];
                    let mut buf = ReadBuf::new(&mut piece);
                    match Pin::new(&mut guard).poll_read(&mut Context::from_waker(&waker), &mut buf) {
                        Poll::Ready(read) => read.unwrap(),
                        Poll::Pending => break,
                    }
                    assert!(!buf.filled().is_empty(), "that would be the end");
                    all.extend_from_slice(buf.filled());
                }
                assert_eq!(all.len() - turn, each_turn * frame.len());
                assert_eq!(woke.0.load(Ordering::SeqCst), turns, "its next turn comes");
                turn = all.len();
            }
            assert!(all.chunks(frame.len()).all(|piece| piece == frame));
        }
    }

    /// A socket that has these bytes, and is at its end or not.
    struct Said {
        left: Vec<u8>,
        over: bool,
    }

    impl AsyncRead for Said {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let all = std::mem::take(&mut self.left);
            buf.put_slice(&all);
            if all.is_empty() && !self.over { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }

    #[test]
    fn a_peer_that_has_said_all_there_was_to_say_has_no_turn_for_nothing() {
        let now = Instant::now();
        let said = Said { left: Vec::new(), over: false };
        let mut guard = Guard::upstream(said, Heard::new(now), &Arc::default(), now);
        let head = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
        let woke = Arc::<Woke>::default();
        let waker = Waker::from(Arc::clone(&woke));
        let read = |guard: &mut Guard<Said>| {
            let (mut piece, mut all) = ([0; 8_192], 0);
            let mut buf = ReadBuf::new(&mut piece);
            while Pin::new(&mut *guard).poll_read(&mut Context::from_waker(&waker), &mut buf).is_ready() {
                all += buf.filled().len();
                if buf.filled().is_empty() {
                    return None;
                }
                buf.clear();
            }
            Some((all / head.len(), woke.0.load(Ordering::SeqCst)))
        };
        guard.stream.left = head.repeat(16);
        assert_eq!(read(&mut guard), Some((16, 0)), "a turn, and nothing behind it");
        guard.stream.left = head.repeat(17);
        assert_eq!(read(&mut guard), Some((16, 1)), "there is more");
        assert_eq!(read(&mut guard), Some((1, 1)));
        guard.stream = Said { left: head.repeat(16), over: true };
        assert_eq!(read(&mut guard), None, "the end is no turn");
    }

    #[test]
    fn a_peer_that_takes_everything_is_written_to_in_turns() {
        let mut guard = guard(&[0]);
        let woke = Arc::<Woke>::default();
        let waker = Waker::from(Arc::clone(&woke));
        let mut written = 0;
        for turns in 1..=10 {
            while let Poll::Ready(count) =
                Pin::new(&mut guard).poll_write(&mut Context::from_waker(&waker), &[0; 10_000])
            {
                written += count.unwrap();
            }
            assert_eq!((written, woke.0.load(Ordering::SeqCst)), (turns * 70_000, turns));
        }
    }
}
