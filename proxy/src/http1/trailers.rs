//! Lines on their way out that the codec would leave out; it gets to see none of them. Trailers: it writes only those
//! that a head announced, and behind an answer only where its request asked for any. They are written into the end that
//! it gives a chunked body. And a field of a head that tells of content which is not sent, written into the end of that
//! head.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;

/// How the codec ends a chunked body: the last chunk, and no trailers.
const END: &[u8] = b"0\r\n\r\n";
/// Taken from the codec at once while its end is awaited.
const PIECE: usize = 16 * 1024;

/// Of one connection: where whoever passes a message on leaves its trailers, or a field of a head without content.
#[derive(Clone, Default)]
pub(crate) struct Trailers(Arc<Left>);

#[derive(Default)]
struct Left {
    /// Whether there are any: looked at for every write.
    any: AtomicBool,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    /// Whether they belong into a head.
    head: bool,
}

impl Trailers {
    /// Behind the chunked body that the codec is about to end.
    pub(crate) fn leave(&self, trailers: &HeaderMap) {
        self.put(false, trailers.iter().map(|(name, value)| (name.as_str(), value)));
    }

    /// In the head that the codec is about to write, and behind which it writes nothing.
    pub(crate) fn leave_in_head(&self, name: &str, value: &HeaderValue) {
        self.put(true, std::iter::once((name, value)));
    }

    fn put<'a>(&self, head: bool, fields: impl Iterator<Item = (&'a str, &'a HeaderValue)>) {
        let mut lines = self.0.lines.lock();
        lines.head = head;
        lines.text.clear();
        for (name, value) in fields {
            lines.text.extend_from_slice(name.as_bytes());
            lines.text.extend_from_slice(b": ");
            lines.text.extend_from_slice(value.as_bytes());
            lines.text.extend_from_slice(b"\r\n");
        }
        self.0.any.store(!lines.text.is_empty(), Ordering::Relaxed);
    }

    /// The next message begins: what was left for the one before has come too late.
    pub(crate) fn forget(&self) {
        self.0.any.store(false, Ordering::Relaxed);
    }

    fn any(&self) -> bool {
        self.0.any.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Lines> {
        self.0.any.swap(false, Ordering::Relaxed).then(|| std::mem::take(&mut *self.0.lines.lock()))
    }
}

/// The end of what the codec writes, held back while there are trailers: it flushes once it has ended the body.
pub(super) struct Ending {
    trailers: Trailers,
    /// The last bytes from the codec, which may be its end.
    held: BytesMut,
    /// To be written before anything else.
    pub(super) ready: BytesMut,
}

impl Ending {
    pub(super) fn new(trailers: Trailers) -> Self {
        Self { trailers, held: BytesMut::new(), ready: BytesMut::new() }
    }

    /// Whether the codec may write by itself.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.held.is_empty() && !self.trailers.any()
    }

    /// Takes bytes from the codec, as many as it says. None where they need not pass here.
    pub(super) fn take(&mut self, pieces: &[IoSlice<'_>]) -> Option<usize> {
        if !self.trailers.any() {
            return None;
        }
        let before = self.held.len();
        for piece in pieces {
            let room = PIECE.saturating_sub(self.held.len() - before);
            self.held.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        }
        let taken = self.held.len() - before;
        let passed = self.held.len().saturating_sub(END.len());
        self.ready.unsplit(self.held.split_to(passed));
        Some(taken)
    }

    /// The codec has written all that it has: puts the lines into its end.
    pub(super) fn finish(&mut self) {
        let trailers = self.trailers.take();
        let lines =
            trailers.filter(|lines| if lines.head { self.held.ends_with(b"\r\n\r\n") } else { self.held == END });
        if let Some(lines) = lines {
            // Before the empty line.
            let end = self.held.split_off(self.held.len() - 2);
            self.ready.put_slice(&self.held);
            self.ready.put_slice(&lines.text);
            self.held = end;
        }
        self.ready.put_slice(&self.held);
        self.held.clear();
    }

    /// Gives up on the trailers that were forgotten meanwhile.
    pub(super) fn settle(&mut self) {
        if !self.trailers.any() {
            self.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), "1".parse().unwrap())])
    }

    /// What is written for a body whose last bytes come from the codec in these pieces.
    fn written(pieces: &[&str]) -> String {
        let left = Trailers::default();
        let mut ending = Ending::new(left.clone());
        assert!(ending.is_idle());
        left.leave(&trailers());
        for piece in pieces {
            assert_eq!(ending.take(&[IoSlice::new(piece.as_bytes())]), Some(piece.len()));
        }
        ending.finish();
        let text = String::from_utf8(ending.ready.split().to_vec()).unwrap();
        assert!(ending.is_idle());
        text
    }

    #[test]
    fn trailers_stand_in_the_end_of_a_body_however_it_comes() {
        let whole = "3\r\none\r\n0\r\n\r\n";
        for cut in 1..whole.len() {
            assert_eq!(written(&[&whole[..cut], &whole[cut..]]), "3\r\none\r\n0\r\nx-sum: 1\r\n\r\n");
        }
    }

    #[test]
    fn content_that_looks_like_an_end_is_content() {
        assert_eq!(written(&["5\r\n0\r\n\r\n\r\n", "0\r\n\r\n"]), "5\r\n0\r\n\r\n\r\n0\r\nx-sum: 1\r\n\r\n");
        assert_eq!(written(&["no end"]), "no end");
    }

    #[test]
    fn a_field_stands_at_the_end_of_a_head() {
        let left = Trailers::default();
        let mut ending = Ending::new(left.clone());
        left.leave_in_head("content-length", &HeaderValue::from_static("5"));
        ending.take(&[IoSlice::new(b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n")]);
        ending.finish();
        assert_eq!(ending.ready, "HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 5\r\n\r\n");
    }

    #[test]
    fn trailers_that_come_too_late_are_left_out() {
        let left = Trailers::default();
        let mut ending = Ending::new(left.clone());
        left.leave(&trailers());
        assert_eq!(ending.take(&[IoSlice::new(b"ne\r\n0\r\n\r\n")]), Some(9));
        left.forget();
        ending.settle();
        assert_eq!((ending.take(&[IoSlice::new(b"HTTP/1.1")]), &ending.ready[..]), (None, &b"ne\r\n0\r\n\r\n"[..]));
    }

    #[test]
    fn long_writes_are_taken_in_pieces() {
        let left = Trailers::default();
        let mut ending = Ending::new(left.clone());
        left.leave(&trailers());
        assert_eq!(ending.take(&[IoSlice::new(&[b'x'; PIECE]), IoSlice::new(b"0\r\n\r\n")]), Some(PIECE));
        assert_eq!(ending.ready.len(), PIECE - END.len());
    }
}
