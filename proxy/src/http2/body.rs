//! A body as it comes in.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

/// The bytes of one stream, and the trailers behind them. What was read makes room for as much to come.
pub(crate) struct Body {
    stream: RecvStream,
    /// What the head says of its length.
    length: Option<u64>,
    /// Whether all of the data was read.
    read: bool,
    /// Whether that was all, as it was seen behind the last frame: the library is asked once for each.
    ended: Option<bool>,
}

impl Body {
    /// The body behind a head with these fields.
    pub(super) fn new(stream: RecvStream, fields: &HeaderMap) -> Self {
        let length = fields.get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok());
        let length = if stream.is_end_stream() { Some(0) } else { length };
        Self { stream, length, read: false, ended: None }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.ended == Some(true) {
            return Poll::Ready(None);
        }
        if !self.read {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // A stream that is over meanwhile needs no room.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    self.length = self.length.map(|length| length.saturating_sub(bytes.len() as u64));
                    self.ended = Some(self.stream.is_end_stream());
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => return Poll::Ready(broken(error)),
                None => (self.read, self.ended) = (true, None),
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(broken(error)),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.ended.unwrap_or_else(|| self.stream.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Whoever answers early asks with this reason not to be sent the rest (RFC 9113, section 8.1): no fault.
fn broken(error: h2::Error) -> Option<Result<Frame<Bytes>, h2::Error>> {
    (error.reason() != Some(Reason::NO_ERROR)).then_some(Err(error))
}
