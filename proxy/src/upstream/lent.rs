//! A request's body that can be had back from a connection that sent it in vain.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use crate::http::{Broken, RequestBody};

/// How much of a body is kept until the answer's head comes: a small request can be sent again although it was sent.
const KEPT: usize = 4 * 1024;

/// A body on loan. Lent to HTTP/2 connections: there a request that was refused is gone with the stream it was on.
pub(super) struct Lent(Arc<Mutex<Loan>>);

/// What the lender keeps.
pub(super) struct Lender(Arc<Mutex<Loan>>);

struct Loan {
    /// Gone when it was taken back.
    body: Option<RequestBody>,
    /// A copy of what was handed out: a part of the buffer that it came in would keep all of that alive. Absent when it
    /// was too much, or nobody will want it back.
    read: Option<Vec<u8>>,
}

/// Lends a body.
pub(super) fn lend(body: RequestBody) -> (Lent, Lender) {
    let loan = Arc::new(Mutex::new(Loan { body: Some(body), read: Some(Vec::new()) }));
    (Lent(Arc::clone(&loan)), Lender(loan))
}

impl Lender {
    /// The body as it was, unless too much of it was handed out.
    pub(super) fn take_back(self) -> Option<RequestBody> {
        let mut loan = self.0.lock();
        let read = loan.read.take()?;
        Some(loan.body.take()?.again(read))
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.0.lock().read = None;
    }
}

impl Loan {
    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, Broken>>) {
        let Some(read) = &mut self.read else { return };
        match frame {
            None => {}
            Some(Ok(frame)) if frame.data_ref().is_some_and(|data| read.len() + data.len() <= KEPT) => {
                read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            }
            // Too much; or trailers, or the end of the downstream side.
            Some(_) => self.read = None,
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut loan = self.0.lock();
        let Some(body) = &mut loan.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        loan.keep(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
