//! The body of a request that may be had back from a connection that sent it in vain: what is read of it is kept, as it
//! passes and up to a limit.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::{Broken, RequestBody};
use crate::metrics::Quota;

/// A body on loan.
pub(crate) struct Lent(Arc<Mutex<Loan>>);

/// What the lender keeps.
pub(crate) struct Lender(Arc<Mutex<Loan>>);

struct Loan {
    /// Gone when it was taken back.
    body: Option<RequestBody>,
    /// A copy of what was handed out: a part of the buffer that it came in would keep all of that alive. Absent when it
    /// was too much, or nobody will want it back.
    read: Option<Vec<u8>>,
    /// Who waits for more of it: told when it is taken back, or its connection would wait for ever.
    waiting: Option<Waker>,
    /// How much may be kept.
    most: usize,
    /// What all of them keep, where that is limited.
    quota: Option<Arc<Quota>>,
}

/// Lends a body, up to `most` bytes of which are kept while the `quota` of all of them allows it.
pub(crate) fn lend(body: RequestBody, most: usize, quota: Option<Arc<Quota>>) -> (Lent, Lender) {
    let loan = Arc::new(Mutex::new(Loan { body: Some(body), read: Some(Vec::new()), waiting: None, most, quota }));
    (Lent(Arc::clone(&loan)), Lender(loan))
}

impl Lender {
    /// Whether the body can still be had back.
    pub(crate) fn is_whole(&self) -> bool {
        let loan = self.0.lock();
        loan.read.is_some() && loan.body.is_some()
    }

    /// The body as it was, unless too much of it was handed out. Whoever still reads what was lent finds it broken.
    pub(crate) fn take_back(self) -> Option<RequestBody> {
        let mut loan = self.0.lock();
        let read = loan.read.as_mut().map(std::mem::take)?;
        loan.release(read.len());
        let (body, waiting) = (loan.body.take()?, loan.waiting.take());
        drop(loan);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        Some(body.again(read))
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.0.lock().forget();
    }
}

impl Loan {
    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, Broken>>) {
        let Some(read) = &mut self.read else { return };
        let data = match frame {
            None => return,
            Some(Ok(frame)) => frame.data_ref(),
            Some(Err(_)) => None,
        };
        match data {
            Some(data)
                if read.len() + data.len() <= self.most
                    && self.quota.as_ref().is_none_or(|quota| quota.take(data.len())) =>
            {
                read.extend_from_slice(data);
            }
            // Too much; or trailers, or the end of the downstream side.
            _ => self.forget(),
        }
    }

    fn forget(&mut self) {
        let kept = self.read.take().map_or(0, |read| read.len());
        self.release(kept);
    }

    fn release(&self, bytes: usize) {
        if let Some(quota) = &self.quota {
            quota.give_back(bytes);
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut loan = self.0.lock();
        // An end would say that this was all of it.
        let Some(body) = &mut loan.body else { return Poll::Ready(Some(Err(Broken::Unwanted))) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            if !loan.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
                loan.waiting = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        loan.keep(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
