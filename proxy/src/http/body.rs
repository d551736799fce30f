//! Bodies on their way, passed on frame by frame: that of a request, counted, and what bodies in both directions need.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::{Expectation, Lender, Lent, Waiting, clean_trailers, lend};
use crate::deadline::{Downstream, Moving};
use crate::http1::Trailers;
use crate::http2::{self, Aside};
use crate::metrics::Quota;

/// Data frames of HTTP/2 below this size are put together with what is there already behind them.
const SMALL: usize = 256;
/// What is put together at most: the size of a frame.
const TOGETHER: usize = 16 * 1024;

type Read = Option<Result<Frame<Bytes>, Failed>>;

/// Why a body that comes in breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// Not transparent: the library's error has the reason, and is looked for among the sources.
    #[error("the stream broke off")]
    Http2(#[from] h2::Error),
}

/// A body as its codec reads it.
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(http2::Body),
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::Http1(body)
    }
}

impl From<http2::Body> for Incoming {
    fn from(body: http2::Body) -> Self {
        Self::Http2(body)
    }
}

impl Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        match self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Failed::Http1),
            Self::Http2(body) => body.poll_frame(cx).map_err(Failed::Http2),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A body as it comes in, in frames that are fit to go on.
///
/// Small frames of HTTP/2 that came together go on as one: whoever sends many of them would otherwise exhaust what
/// the next server bears on a connection, and others have their streams on it.
pub(crate) struct Frames {
    body: Incoming,
    /// Read behind small frames, and next in turn.
    next: Read,
}

impl Frames {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, next: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        let first = match self.next.take() {
            Some(next) => Some(next),
            None => std::task::ready!(self.body.poll_frame(cx)),
        };
        let first = match first {
            Some(Ok(first)) if matches!(self.body, Incoming::Http2(_)) && is_small(&first) => first,
            other => return Poll::Ready(other.map(|frame| frame.map(cleaned))),
        };
        if self.body.is_end_stream() {
            return Poll::Ready(Some(Ok(first)));
        }
        let mut gathered: Option<BytesMut> = None;
        while gathered.as_ref().map_or(0, BytesMut::len) < TOGETHER {
            match self.body.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if is_small(&frame) => {
                    let gathered = gathered.get_or_insert_with(|| copy(&first));
                    gathered.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
                Poll::Ready(Some(other)) => {
                    self.next = Some(other);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Ok(gathered.map_or(first, |gathered| Frame::data(gathered.freeze())))))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.next.is_none() { self.body.size_hint() } else { SizeHint::default() }
    }
}

fn is_small(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(|data| data.len() < SMALL)
}

fn copy(frame: &Frame<Bytes>) -> BytesMut {
    frame.data_ref().map_or_else(BytesMut::new, |data| BytesMut::from(data.as_ref()))
}

/// A frame as it may pass.
fn cleaned(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        clean_trailers(trailers);
    }
    frame
}

/// Why the body of a request breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// What comes in breaks off, or cannot be read.
    #[error(transparent)]
    Downstream(#[from] Failed),
    /// The client waits to be asked for it, and nobody asks any more.
    #[error("the body is of no use any more")]
    Unwanted,
}

/// Where the body of a request is read from.
enum Source {
    /// The connection that it comes on.
    Downstream(Frames),
    /// Another one, on loan: what is read is kept, and counted there.
    Lent(Lent),
}

/// The body of a request on its way up, counted.
pub(crate) struct RequestBody {
    source: Source,
    /// Whether there is any of it.
    bodied: bool,
    /// Absent where there is nothing to count: no allocation for a request without a body.
    count: Option<Arc<AtomicU64>>,
    /// Whether its length may be told: HTTP/1 is framed by it. In HTTP/2 the library would add a `content-length`
    /// that nobody sent.
    sized: bool,
    /// What was read before and is to be read once more.
    again: Option<Bytes>,
    /// Set while the client waits to be asked for it.
    waiting: Option<Waiting>,
    /// Told of every frame.
    moving: Moving,
    /// Where its trailers go, where that is not into the body.
    trailers: Option<Trailers>,
    /// What whoever answers it does beside.
    aside: Option<Aside>,
}

impl RequestBody {
    /// The body of a request that came on the connection of `moving`.
    pub(crate) fn new(body: Incoming, moving: Moving, aside: Option<Aside>) -> Self {
        let count = (!body.is_end_stream()).then(Arc::default);
        let sized = matches!(body, Incoming::Http1(_));
        let (source, bodied) = (Source::Downstream(Frames::new(body)), count.is_some());
        Self { source, bodied, count, sized, again: None, waiting: None, moving, trailers: None, aside }
    }

    /// The same body, of which up to `most` bytes are kept as they pass, so that it can be had back.
    pub(crate) fn keep(self, most: usize, quota: &Arc<Quota>) -> (Self, Lender) {
        let (bodied, sized, moving) = (self.bodied, self.sized, self.moving.clone());
        let (lent, lender) = lend(self, most, Some(Arc::clone(quota)));
        let source = Source::Lent(lent);
        let kept = Self {
            source,
            bodied,
            count: None,
            sized,
            again: None,
            waiting: None,
            moving,
            trailers: None,
            aside: None,
        };
        (kept, lender)
    }

    /// The same body, of a stream that does this beside.
    pub(crate) fn beside(self, aside: Aside) -> Self {
        Self { aside: Some(aside), ..self }
    }

    /// Takes what its stream does beside: that may come to hold this body, and must not be held by it.
    pub(crate) fn take_aside(&mut self) -> Aside {
        self.aside.take().unwrap_or_default()
    }

    /// The connection that it comes on.
    pub(crate) fn client(&self) -> Downstream {
        self.moving.connection()
    }

    /// Where its bytes are counted, if there can be any.
    pub(crate) fn count(&self) -> Option<Arc<AtomicU64>> {
        self.count.clone()
    }

    /// From here on trailers are left there.
    pub(crate) fn trails(&mut self, trailers: &Trailers) {
        // A request without a body needs no look at either.
        self.trailers = self.bodied.then(|| trailers.clone());
    }

    /// From here on the body waits until it is known whether it is wanted.
    pub(crate) fn wait(&mut self) -> Expectation {
        let (waiting, expectation) = Waiting::new();
        self.waiting = Some(waiting);
        expectation
    }

    /// The same body from its beginning; `read` is what was read of it so far.
    pub(crate) fn again(mut self, read: Vec<u8>) -> Self {
        // What is still to be read once more stays, where nobody has begun to.
        if !read.is_empty() {
            self.again = Some(Bytes::from(read));
        }
        self
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(waiting) = &mut self.waiting {
            if !std::task::ready!(waiting.poll(cx)) {
                return Poll::Ready(Some(Err(Broken::Unwanted)));
            }
            self.waiting = None;
        }
        if let Some(again) = self.again.take() {
            return Poll::Ready(Some(Ok(Frame::data(again))));
        }
        let frame = match &mut self.source {
            Source::Downstream(frames) => {
                let frame = std::task::ready!(frames.poll(cx));
                self.moving.on();
                frame.map(|frame| frame.map_err(Broken::from))
            }
            Source::Lent(lent) => std::task::ready!(Pin::new(lent).poll_frame(cx)),
        };
        if let (Some(count), Some(Ok(frame))) = (&self.count, &frame)
            && let Some(data) = frame.data_ref()
        {
            count.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if let (Some(Ok(frame)), Some(trailers)) = (&frame, &self.trailers)
            && let Some(fields) = frame.trailers_ref()
        {
            trailers.leave(fields);
            return Poll::Ready(None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_none()
            && match &self.source {
                Source::Downstream(frames) => frames.is_end_stream(),
                Source::Lent(lent) => lent.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match &self.source {
            Source::Downstream(frames) if self.sized => frames.size_hint(),
            Source::Lent(lent) if self.sized => lent.size_hint(),
            _ => return SizeHint::default(),
        };
        let again = self.again.as_ref().map_or(0, |again| again.len() as u64);
        rest.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + again))
    }
}
