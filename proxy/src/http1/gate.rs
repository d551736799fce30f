//! Between a socket and the codec that reads from it: only what passed is handed on.
//!
//! Of requests, a malformed one ends the connection: the codec sees the end of the stream once it has finished what
//! came before, and the gate writes the answer when the codec closes. Of responses, a malformed one is an error of
//! the connection, so that whoever waits for the answer learns of it, and a body that was cut stays visibly cut.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use couplet_telemetry::names::ERROR_HEADER;
use http::Response;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::head::{Asked, Method};
use super::interim::{Heard, Interims};
use super::stream::Stream;
use super::trailers::{Ending, Trailers};
use super::{Bounds, Violation};
use crate::deadline::Progress;

/// How much of a head is read at once when it did not come whole.
const PIECE: usize = 4096;
/// Bytes after an upgrade that are held until the answer is known. More than that waits in the kernel.
const MAX_HELD: usize = 16 * 1024;
/// After an answer of its own the gate reads on for so long, lest the client's unread bytes reset the connection
/// before the client has seen the answer.
const MAX_DISCARDED: usize = 256 * 1024;

/// A stream of which only well-formed messages are read.
pub(crate) struct Gate<S> {
    stream: S,
    passing: Stream,
    /// Bytes that were read and not handed on; the first `clear` of them may be.
    kept: BytesMut,
    clear: usize,
    side: Side,
    ending: Ending,
    /// An interim answer, begun: what is left to write of it before anything else.
    leading: Bytes,
    /// Whether the codec wrote nothing since all that it had was written.
    fresh: bool,
    closing: Closing,
}

enum Side {
    /// Of a downstream connection.
    Requests { progress: Progress, verdict: Verdict },
    /// Of an upstream connection.
    Responses { expected: Expected },
}

/// How far an answer of the gate's own has come.
enum Closing {
    /// There is none.
    Silent,
    /// What is left to write of it.
    Answer(Bytes),
    /// The client may still be sending; so many bytes of that were thrown away.
    Discard(usize),
}

/// What the gate of a downstream connection and the side that serves its requests tell one another.
#[derive(Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Judged>>, Trailers, Interims);

#[derive(Default)]
struct Judged {
    answered: u64,
    switched: bool,
    waiting: Option<Waker>,
    violation: Option<Violation>,
}

impl Verdict {
    /// Where to leave the trailers of an answer.
    pub(crate) fn trailers(&self) -> &Trailers {
        &self.1
    }

    /// Where to leave interim answers.
    pub(crate) fn interims(&self) -> &Interims {
        &self.2
    }

    /// The head of the next answer is known: whether it makes the connection something else than HTTP/1.
    pub(crate) fn answered(&self, switched: bool) {
        self.2.answered();
        let mut judged = self.0.lock();
        judged.answered += 1;
        judged.switched |= switched;
        if let Some(waiting) = judged.waiting.take() {
            waiting.wake();
        }
    }

    /// Why the connection was ended, if it was.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.0.lock().violation
    }

    /// Whether so many answers are known, and the last one's verdict; if not, whoever waits is woken then.
    fn of(&self, begun: u64, cx: &Context<'_>) -> Option<bool> {
        let mut judged = self.0.lock();
        if judged.answered >= begun {
            return Some(judged.switched);
        }
        judged.waiting = Some(cx.waker().clone());
        None
    }
}

/// What the gate of an upstream connection and the side that sends requests on it tell one another.
#[derive(Clone, Default)]
pub(crate) struct Expected(Arc<Mutex<Awaited>>, Trailers);

#[derive(Default)]
struct Awaited {
    asked: Option<Asked>,
    violation: Option<Violation>,
    heard: Heard,
}

impl Expected {
    /// A request with this method is about to be sent. An answer that nobody announced is refused.
    pub(crate) fn expect(&self, method: &http::Method, upgrade: bool) {
        let method = Method::of(method.as_str().as_bytes());
        let mut awaited = self.0.lock();
        awaited.asked = Some(Asked { method, upgrade });
        awaited.heard = Heard::default();
        drop(awaited);
        self.1.forget();
    }

    /// The next interim answer, before the answer itself. Where there is none, whoever asks is woken by it.
    pub(crate) fn interim(&self, cx: &Context<'_>) -> Option<Response<()>> {
        self.0.lock().heard.next(cx)
    }

    /// Where to leave the trailers of a request.
    pub(crate) fn trailers(&self) -> &Trailers {
        &self.1
    }

    /// What was wrong with an answer, if anything was: the connection is of no use any more.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.0.lock().violation
    }
}

impl<S> Gate<S> {
    /// The gate of a downstream connection. It tells `progress` when bytes come in.
    pub(crate) fn requests(stream: S, bounds: Bounds, progress: Progress, verdict: Verdict) -> Self {
        let ending = Ending::new(verdict.trailers().clone());
        Self::new(stream, Stream::requests(bounds), Side::Requests { progress, verdict }, ending)
    }

    /// The gate of an upstream connection.
    pub(crate) fn responses(stream: S, bounds: Bounds, expected: Expected) -> Self {
        let ending = Ending::new(expected.trailers().clone());
        Self::new(stream, Stream::responses(bounds), Side::Responses { expected }, ending)
    }

    fn new(stream: S, passing: Stream, side: Side, ending: Ending) -> Self {
        Self {
            stream,
            passing,
            kept: BytesMut::new(),
            clear: 0,
            side,
            ending,
            leading: Bytes::new(),
            fresh: true,
            closing: Closing::Silent,
        }
    }

    /// Takes in what the other side has said meanwhile.
    fn listen(&mut self, cx: &Context<'_>) {
        match &self.side {
            Side::Requests { verdict, .. } if self.passing.is_held() => {
                if let Some(switched) = verdict.of(self.passing.begun(), cx) {
                    self.passing.answered(switched);
                }
            }
            Side::Responses { expected } => {
                if let Some(asked) = expected.0.lock().asked.take() {
                    self.passing.ask(asked);
                }
            }
            Side::Requests { .. } => {}
        }
    }

    /// Hands on what is kept and may pass; whether there was any.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.clear == 0 && !self.kept.is_empty() {
            self.clear = self.passing.pass(&self.kept);
            self.tell();
        }
        let count = self.clear.min(buf.remaining());
        if let Some(bytes) = self.kept.get(..count) {
            buf.put_slice(bytes);
        }
        self.kept.advance(count);
        self.clear -= count;
        count > 0
    }

    /// Hands on interim answers, past the codec.
    fn tell(&mut self) {
        if let Side::Responses { expected } = &self.side {
            let told = self.passing.told();
            if !told.is_empty() {
                let mut awaited = expected.0.lock();
                told.into_iter().for_each(|answer| awaited.heard.push(answer));
            }
        }
    }

    fn arrived(&self) {
        if let Side::Requests { progress, .. } = &self.side {
            progress.bytes(Instant::now());
        }
    }

    fn tell_of_partial_head(&self) {
        if let Side::Requests { progress, .. } = &self.side
            && !self.kept.is_empty()
            && !self.passing.is_held()
        {
            progress.partial(Instant::now());
        }
    }

    /// What the codec sees in place of what was refused.
    fn refuse(&mut self, violation: Violation, within: bool, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.kept = BytesMut::new();
        match &self.side {
            Side::Requests { progress, verdict } => {
                verdict.0.lock().violation = Some(violation);
                if within {
                    // The codec is in the middle of this message and answers it.
                    return Poll::Ready(Ok(()));
                }
                // Seen earlier, the end of the stream would look like a client that went away, and cancel an answer.
                ready!(progress.finished(self.passing.begun(), cx));
                if matches!(self.closing, Closing::Silent) {
                    self.closing = Closing::Answer(answer(violation));
                }
                Poll::Ready(Ok(()))
            }
            Side::Responses { expected } => {
                expected.0.lock().violation = Some(violation);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation.word())))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Reads into the codec's own buffer, where nothing is kept from before. Ready once something came of it, or the
    /// stream ended.
    fn read_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.arrived();
        let passed = self.passing.pass(new);
        self.tell();
        self.kept.extend_from_slice(new.get(passed..).unwrap_or_default());
        buf.set_filled(before + passed);
        Poll::Ready(Ok(passed > 0))
    }

    /// Reads more of what is kept already. Ready with whether the stream ended.
    fn read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        self.arrived();
        self.kept.extend_from_slice(piece.filled());
        Poll::Ready(Ok(piece.filled().is_empty()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.listen(cx);
            if buf.remaining() == 0 || this.hand_on(buf) {
                return Poll::Ready(Ok(()));
            }
            if let Some((violation, within)) = this.passing.refused() {
                return this.refuse(violation, within, cx);
            }
            if this.passing.is_held() && this.kept.len() >= MAX_HELD {
                return Poll::Pending;
            }
            this.tell_of_partial_head();
            if this.kept.is_empty() {
                if ready!(this.read_through(cx, buf))? {
                    return Poll::Ready(Ok(()));
                }
            } else if ready!(this.read_more(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Gate<S> {
    /// Writes interim answers, where nothing of the codec's is under way; `fresh`: and nothing was since the last time.
    fn write_leading(&mut self, fresh: bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.leading.is_empty()
            && let Side::Requests { verdict, .. } = &self.side
            && let Some(leading) = verdict.interims().take(fresh)
        {
            self.leading = leading;
        }
        while !self.leading.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.leading))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.leading.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what must stand before anything else from the codec.
    fn write_ending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ending.ready.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.ending.ready))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ending.ready.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.fresh {
            ready!(this.write_leading(true, cx))?;
            this.fresh = false;
        }
        if !this.ending.is_idle() {
            this.ending.settle();
            ready!(this.write_ending(cx))?;
            if let Some(taken) = this.ending.take(bufs) {
                return Poll::Ready(Ok(taken));
            }
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ending.is_idle() {
            this.ending.finish();
            ready!(this.write_ending(cx))?;
        }
        // The codec has written all that it had. Before whatever it writes next stands what cannot be written now.
        let fresh = std::mem::replace(&mut this.fresh, true);
        ready!(this.write_leading(fresh, cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.closing {
                Closing::Silent => return Pin::new(&mut this.stream).poll_shutdown(cx),
                Closing::Answer(left) if left.is_empty() => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                    // From here on the deadline of a head holds.
                    this.arrived();
                    this.closing = Closing::Discard(0);
                }
                Closing::Answer(left) => {
                    let written = ready!(Pin::new(&mut this.stream).poll_write(cx, left))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    left.advance(written);
                }
                Closing::Discard(count) => {
                    let mut piece = [0; PIECE];
                    let mut piece = ReadBuf::new(&mut piece);
                    let ended = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece)).is_err();
                    *count += piece.filled().len();
                    if ended || piece.filled().is_empty() || *count >= MAX_DISCARDED {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

/// The whole answer to a request that is none.
fn answer(violation: Violation) -> Bytes {
    let (status, word) = (violation.status(), violation.word());
    let text = format!("couplet: malformed: the request was refused ({word})\n");
    let head = format!(
        "HTTP/1.1 {status}\r\n{ERROR_HEADER}: malformed\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    Bytes::from(head + &text)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    /// A client that takes so many bytes for now.
    #[derive(Default)]
    struct Slow {
        takes: usize,
        taken: Vec<u8>,
    }

    impl AsyncRead for Slow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let count = self.takes.min(buf.len());
            self.takes -= count;
            self.taken.extend_from_slice(&buf[..count]);
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_interim_answer_is_whole_before_its_answer_however_slowly_its_client_reads() {
        let mut interim = Response::new(());
        *interim.status_mut() = StatusCode::PROCESSING;
        let told = "HTTP/1.1 102 Processing\r\n\r\n";
        // What the client takes of it before the answer is there, and whether the codec had its last answer under way.
        for (takes, busy) in [(0, false), (0, true), (5, false), (5, true), (told.len(), false), (told.len(), true)] {
            let (bounds, verdict) = (Bounds { bytes: 1_000, fields: 10 }, Verdict::default());
            let slow = Slow { takes: usize::MAX, taken: Vec::new() };
            let mut gate = Gate::requests(slow, bounds, Progress::new(Instant::now()), verdict.clone());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut gate).poll_write(&mut cx, b"before ").is_ready());
            if !busy {
                assert!(Pin::new(&mut gate).poll_flush(&mut cx).is_ready());
            }
            verdict.interims().tell(&interim);
            gate.stream.takes = takes;
            assert_eq!(Pin::new(&mut gate).poll_flush(&mut cx).is_ready(), takes == told.len());
            verdict.answered(false);
            gate.stream.takes = usize::MAX;
            assert!(Pin::new(&mut gate).poll_write(&mut cx, b"answer").is_ready());
            let taken = String::from_utf8(gate.stream.taken).unwrap();
            assert_eq!(taken, format!("before {told}answer"), "{takes} {busy}");
        }
    }
}
