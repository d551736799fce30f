//! Interim answers (1xx, RFC 9110, section 15.2) past a codec that knows none but 100: read where they come in, and written
//! where nothing else is under way.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;

use super::Bounds;
use super::fields::{Lines, fields};

/// Reads an interim answer's head that has passed. None of 100: the codec says by itself that a body is wanted.
pub(super) fn read(head: &[u8], bounds: Bounds) -> Option<Response<()>> {
    let mut lines = Lines::new(head);
    let line = lines.next()?.ok()?;
    let status = StatusCode::from_bytes(line.get(9..12)?).ok().filter(|status| *status != StatusCode::CONTINUE)?;
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    for field in fields(lines, bounds) {
        let field = field.ok()?;
        let (name, value) = (HeaderName::from_bytes(field.name).ok()?, HeaderValue::from_bytes(field.value).ok()?);
        answer.headers_mut().append(name, value);
    }
    Some(answer)
}

/// Those that came from an upstream, on their way to whoever waits for the answer behind them.
#[derive(Default)]
pub(super) struct Heard {
    answers: VecDeque<Response<()>>,
    waiting: Option<Waker>,
}

impl Heard {
    pub(super) fn push(&mut self, answer: Response<()>) {
        self.answers.push_back(answer);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// The next one. Where there is none, whoever asks is woken by it.
    pub(super) fn next(&mut self, cx: &Context<'_>) -> Option<Response<()>> {
        let next = self.answers.pop_front();
        if next.is_none() && !self.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
            self.waiting = Some(cx.waker().clone());
        }
        next
    }
}

/// Those for a client, on their way to its connection. Told and asked for in the connection's own task.
#[derive(Clone, Default)]
pub(crate) struct Interims(Arc<Left>);

#[derive(Default)]
struct Left {
    /// Whether there are any: looked at for every write.
    any: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    bytes: BytesMut,
    /// The codec has the head of the answer that they come before.
    answered: bool,
}

impl Interims {
    /// One more, of the request that is being answered.
    pub(crate) fn tell(&self, answer: &Response<()>) {
        let mut inner = self.0.inner.lock();
        inner.answered = false;
        let status = answer.status();
        // Writing to memory does not fail.
        let _ =
            write!(inner.bytes, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
        for (name, value) in answer.headers() {
            inner.bytes.extend_from_slice(name.as_ref());
            inner.bytes.extend_from_slice(b": ");
            inner.bytes.extend_from_slice(value.as_bytes());
            inner.bytes.extend_from_slice(b"\r\n");
        }
        inner.bytes.extend_from_slice(b"\r\n");
        self.0.any.store(true, Ordering::Release);
    }

    /// The codec is about to get the head of the answer.
    pub(super) fn answered(&self) {
        if self.0.any.load(Ordering::Acquire) {
            self.0.inner.lock().answered = true;
        }
    }

    /// What is to be written now that the codec has nothing under way. Nothing where the answer itself went ahead: it went
    /// together with what was left of the one before, and where that ended nobody here can tell.
    pub(super) fn take(&self, fresh: bool) -> Option<Bytes> {
        if !self.0.any.swap(false, Ordering::AcqRel) {
            return None;
        }
        let Inner { bytes, answered } = std::mem::take(&mut *self.0.inner.lock());
        (fresh || !answered).then(|| bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1_000, fields: 10 };

    #[test]
    fn what_is_read_is_what_is_written_and_100_is_left_to_the_codec() {
        let head = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>\r\nX-Empty:\r\n\r\n";
        let answer = read(head, BOUNDS).unwrap();
        let interims = Interims::default();
        interims.tell(&answer);
        let written = interims.take(true).unwrap();
        assert_eq!(
            written,
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>\r\nx-empty: \r\n\r\n"
        );
        assert!(interims.take(true).is_none());
        assert_eq!(read(b"HTTP/1.1 199\r\n\r\n", BOUNDS).unwrap().status(), 199);
        assert!(read(b"HTTP/1.1 100 Continue\r\n\r\n", BOUNDS).is_none());
    }

    #[test]
    fn one_that_its_answer_went_ahead_of_is_left_out() {
        let answer = read(b"HTTP/1.1 103 Early Hints\r\n\r\n", BOUNDS).unwrap();
        for (answered, fresh, written) in
            [(false, false, true), (false, true, true), (true, true, true), (true, false, false)]
        {
            let interims = Interims::default();
            interims.answered();
            interims.tell(&answer);
            if answered {
                interims.answered();
            }
            assert_eq!(interims.take(fresh).is_some(), written, "{answered} {fresh}");
            assert!(interims.take(true).is_none());
        }
    }
}
