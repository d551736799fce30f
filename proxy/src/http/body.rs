//! The body of a request on its way up: passed on frame by frame, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a request on its way up, counted.
pub(crate) struct RequestBody {
    body: Incoming,
    /// Absent where there is nothing to count: no allocation for a request without a body.
    count: Option<Arc<AtomicU64>>,
}

impl RequestBody {
    /// The body, and where its bytes are counted.
    pub(crate) fn new(body: Incoming) -> (Self, Option<Arc<AtomicU64>>) {
        let count = (!body.is_end_stream()).then(Arc::default);
        (Self { body, count: count.clone() }, count)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(count), Some(Ok(frame))) = (&self.count, &frame)
            && let Some(data) = frame.data_ref()
        {
            count.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
