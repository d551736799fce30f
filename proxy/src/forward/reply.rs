//! The body of an answer on its way down: passed on frame by frame, watched by whoever must know when it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use couplet_telemetry::names::ERROR_HEADER;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::deadline::Turn;
use crate::error::Fault;
use crate::record::Observer;
use crate::upstream::Lease;

/// The body of an answer: the upstream's, or a short text of the proxy's own.
pub(crate) struct Reply<O> {
    content: Content,
    /// Who watches the body; gone once it has heard how the body ended.
    observer: Option<O>,
    /// Kept while the body lasts: what to do when it is done with stands in their `Drop`.
    held: Held,
}

enum Content {
    Upstream(Incoming),
    Own(Option<Bytes>),
}

/// What lasts as long as an answer's body.
#[derive(Default)]
pub(crate) struct Held {
    /// The upstream connection; goes back to its pool when the body is whole.
    pub(crate) lease: Option<Lease>,
    /// The downstream connection's turn: it is idle again afterwards.
    pub(crate) turn: Option<Turn>,
}

impl<O: Observer> Body for Reply<O> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let body = match &mut this.content {
            Content::Upstream(body) => body,
            Content::Own(text) => {
                let text = text.take();
                this.whole();
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(observer), Some(bytes)) = (&mut this.observer, frame.data_ref()) {
                    observer.bytes(bytes.len() as u64);
                }
                // hyper does not poll again after the last frame of a body of known length.
                if body.is_end_stream() {
                    this.whole();
                }
            }
            Some(Err(_)) => {
                if let Some(mut observer) = this.observer.take() {
                    observer.broken();
                }
            }
            None => this.whole(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Upstream(body) => body.is_end_stream(),
            Content::Own(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Upstream(body) => body.size_hint(),
            Content::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

impl<O: Observer> Reply<O> {
    /// The upstream's body. An empty one is whole at once: nobody polls it.
    pub(crate) fn upstream(body: Incoming, observer: O, lease: Lease) -> Self {
        let empty = body.is_end_stream();
        let held = Held { lease: Some(lease), turn: None };
        let mut reply = Self { content: Content::Upstream(body), observer: Some(observer), held };
        if empty {
            reply.whole();
        }
        reply
    }

    /// No body: the connection is becoming something else, and its observer with it.
    pub(crate) fn none() -> Self {
        Self { content: Content::Own(None), observer: None, held: Held::default() }
    }

    /// Ends the turn of the downstream connection when this body is done with.
    pub(crate) fn hold(&mut self, turn: Turn) {
        self.held.turn = Some(turn);
    }

    fn whole(&mut self) {
        if let Some(mut observer) = self.observer.take() {
            observer.whole();
        }
        if let Some(lease) = self.held.lease.take() {
            lease.give_back();
        }
    }
}

/// The answer of the proxy itself, with the reason as a header and a sentence as the body.
pub(crate) fn refusal<O: Observer>(fault: Fault, detail: &str, observer: Option<O>) -> Response<Reply<O>> {
    let answer = fault.answer();
    let text = if detail.is_empty() {
        format!("couplet: {}: {}\n", answer.reason, answer.text)
    } else {
        format!("couplet: {}: {} ({detail})\n", answer.reason, answer.text)
    };
    let content = Content::Own(Some(Bytes::from(text)));
    let mut response = Response::new(Reply { content, observer, held: Held::default() });
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(ERROR_HEADER, HeaderValue::from_static(answer.reason));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
