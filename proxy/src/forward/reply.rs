//! The body of an answer on its way down: passed on frame by frame, watched by whoever must know when it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use couplet_telemetry::names::ERROR_HEADER;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::timer::Timer;
use crate::deadline::Turn;
use crate::error::Fault;
use crate::http::{Failed, Frames, Incoming, message};
use crate::http1::Trailers;
use crate::policy::Patience;
use crate::record::Observer;
use crate::upstream::Lease;

/// The body of an answer: the upstream's, or a short text of the proxy's own.
pub(crate) struct Reply<O> {
    content: Content,
    /// Who watches the body; gone once it has heard how the body ended.
    observer: Option<O>,
    /// Whether a gRPC client waits for trailers.
    grpc: bool,
    /// An empty body whose head says so. Were it told that there is no body, the codec would move that field.
    empty: bool,
    /// How long it may still take, where that is limited.
    timer: Option<Box<Timer>>,
    /// Kept while the body lasts: what to do when it is done with stands in their `Drop`.
    held: Held,
}

enum Content {
    Upstream(Frames),
    Own(Option<Bytes>),
}

/// What lasts as long as an answer's body.
#[derive(Default)]
pub(crate) struct Held {
    /// The upstream connection; goes back to its pool when the body is whole.
    pub(crate) lease: Option<Lease>,
    /// The downstream connection's turn: it is idle again afterwards.
    pub(crate) turn: Option<Turn>,
    /// Where trailers go, where that is not into the body.
    trailers: Option<Trailers>,
}

impl<O: Observer> Body for Reply<O> {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        let this = self.get_mut();
        if let Some(timer) = &mut this.timer
            && let Poll::Ready(fault) = timer.over(cx)
        {
            return Poll::Ready(Some(this.expire(fault)));
        }
        let body = match &mut this.content {
            Content::Upstream(body) => body,
            Content::Own(text) => {
                let text = text.take();
                this.whole();
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
        };
        if let Some(lease) = &this.held.lease {
            lease.handed_on();
        }
        let Poll::Ready(mut frame) = body.poll(cx) else {
            let still = this.timer.as_mut().map_or(Poll::Pending, |timer| timer.still(cx));
            return still.map(|fault| Some(this.expire(fault)));
        };
        if let Some(timer) = &mut this.timer {
            timer.moved();
        }
        if let Some(turn) = &this.held.turn {
            turn.moved();
        }
        match &mut frame {
            Some(Ok(frame)) => {
                if let (Some(observer), Some(bytes)) = (&mut this.observer, frame.data_ref()) {
                    observer.bytes(bytes.len() as u64);
                }
                if let (Some(observer), Some(trailers)) = (&mut this.observer, frame.trailers_mut()) {
                    observer.trailers(trailers);
                }
                // hyper does not poll again after trailers, or after the last frame of a body of known length.
                let trailing = this.held.trailers.as_ref().zip(frame.trailers_ref());
                let left = trailing.map(|(trailers, fields)| trailers.leave(fields)).is_some();
                if frame.is_trailers() || body.is_end_stream() {
                    this.whole();
                }
                if left {
                    return Poll::Ready(None);
                }
            }
            Some(Err(error)) => {
                if let Some(mut observer) = this.observer.take() {
                    observer.broken();
                }
                if this.grpc && !is_reset_by_peer(error) {
                    // A reset would reach the application as INTERNAL; that the service is gone may be retried.
                    this.content = Content::Own(None);
                    return Poll::Ready(Some(Ok(Frame::trailers(status_trailers(Fault::Reset, "")))));
                }
            }
            None => this.whole(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Upstream(body) => !self.empty && body.is_end_stream(),
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
    /// The body behind `head`, of a gRPC answer or another one. An empty one is whole at once: nobody polls it.
    pub(crate) fn upstream(
        head: &Parts,
        body: Incoming,
        observer: O,
        lease: Lease,
        patience: &Patience,
        grpc: bool,
    ) -> Self {
        let body = Frames::new(body);
        let whole = body.is_end_stream();
        let held = Held { lease: Some(lease), ..Held::default() };
        let length = head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
        let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let empty = whole && length && !bodiless && head.version != Version::HTTP_2;
        let timer = if whole { None } else { Timer::new(patience, observer.uploaded()) };
        let mut reply = Self { content: Content::Upstream(body), observer: Some(observer), grpc, empty, timer, held };
        if whole {
            reply.whole();
        }
        reply
    }

    /// No body: the connection is becoming something else, and its observer with it.
    pub(crate) fn none() -> Self {
        Self {
            content: Content::Own(None),
            observer: None,
            grpc: false,
            empty: false,
            timer: None,
            held: Held::default(),
        }
    }

    /// Ends the turn of the downstream connection when this body is done with.
    pub(crate) fn hold(&mut self, turn: Turn) {
        self.held.turn = Some(turn);
    }

    /// From here on trailers are left there: the body is one of HTTP/1.1.
    pub(crate) fn trails(&mut self, trailers: &Trailers) {
        self.held.trailers = Some(trailers.clone());
    }

    /// Ends the body before its end: it took too long. The stream to the upstream is reset with what held it.
    fn expire(&mut self, fault: Fault) -> Result<Frame<Bytes>, Failed> {
        if let Some(mut observer) = self.observer.take() {
            observer.expired(fault);
        }
        self.timer = None;
        self.held.lease = None;
        self.content = Content::Own(None);
        match self.grpc {
            true => Ok(Frame::trailers(status_trailers(fault, ""))),
            // Over HTTP/2 a reset of the stream with this reason; over HTTP/1 the end of the connection.
            false => Err(Failed::Http2(h2::Reason::CANCEL.into())),
        }
    }

    fn whole(&mut self) {
        if self.observer.is_none() && self.held.lease.is_none() {
            return;
        }
        // One look at the clock for all who want to know when.
        let now = Instant::now();
        if let Some(mut observer) = self.observer.take() {
            observer.whole(now);
        }
        if let Some(lease) = self.held.lease.take() {
            lease.give_back(now);
        }
    }
}

/// The answer of the proxy itself, with the reason as a header and a sentence as the body. A gRPC client gets it as a
/// status in the head, and no body.
pub(crate) fn refusal<O: Observer>(fault: Fault, detail: &str, observer: Option<O>, grpc: bool) -> Response<Reply<O>> {
    let answer = fault.answer();
    let text = sentence(fault, detail);
    let content = Content::Own((!grpc).then(|| Bytes::from(text + "\n")));
    let mut reply = Reply { content, observer, grpc: false, empty: false, timer: None, held: Held::default() };
    if grpc {
        reply.whole();
        let mut response = Response::new(reply);
        *response.status_mut() = StatusCode::OK;
        *response.headers_mut() = status_trailers(fault, detail);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        return response;
    }
    let mut response = Response::new(reply);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(ERROR_HEADER, HeaderValue::from_static(answer.reason));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// What a gRPC client is told of a fault.
fn status_trailers(fault: Fault, detail: &str) -> HeaderMap {
    let answer = fault.answer();
    let mut trailers = HeaderMap::with_capacity(4);
    trailers.insert("grpc-status", HeaderValue::from(u16::from(answer.grpc)));
    trailers.insert("grpc-message", message(&sentence(fault, detail)));
    trailers.insert(ERROR_HEADER, HeaderValue::from_static(answer.reason));
    trailers
}

fn sentence(fault: Fault, detail: &str) -> String {
    let answer = fault.answer();
    if detail.is_empty() {
        format!("couplet: {}: {}", answer.reason, answer.text)
    } else {
        format!("couplet: {}: {} ({detail})", answer.reason, answer.text)
    }
}

/// Whether the upstream itself ended the stream early and said why: the application is told the same.
fn is_reset_by_peer(error: &Failed) -> bool {
    matches!(error, Failed::Http2(error) if error.is_reset() && error.is_remote())
}
