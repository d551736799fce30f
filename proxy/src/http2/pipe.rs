//! A body on its way out: as much of it as the other side takes.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

/// Frames handed on in one turn.
const TURN: usize = 16;

/// Sends a body on a stream, frame by frame. Ends with the body; a body that breaks resets the stream.
pub(super) struct Pipe<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// Whether the stream was asked in this turn already whether the other side has reset it.
    asked: bool,
    /// Read from the body, and waiting for the other side to take it; and whether it is the last.
    waiting: Option<(Bytes, bool)>,
}

impl<B> Pipe<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    pub(super) fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self { stream, body, asked: false, waiting: None }
    }

    /// The same in a turn in which the stream was asked already.
    pub(super) fn asked(self) -> Self {
        Self { asked: true, ..self }
    }

    /// Whether the body came to its end; not where the other side wants no more of it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // Asked first: a reset wakes whoever waits for the body, and what then becomes of the body is nobody's failure.
        if !std::mem::take(&mut self.asked) && self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(false);
        }
        for _ in 0..TURN {
            if self.waiting.is_some() {
                while self.stream.capacity() == 0 {
                    match ready!(self.stream.poll_capacity(cx)) {
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return Poll::Ready(false),
                    }
                }
                if let Some((bytes, last)) = self.waiting.take()
                    && let Some(over) = self.send(bytes, last)
                {
                    return Poll::Ready(over);
                }
                continue;
            }
            // The body comes before the room for it: room that is kept for a body that has nothing to send is room that
            // others on the connection do not have.
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.send(Bytes::new(), true).unwrap_or(true)),
                Some(Err(error)) => {
                    self.stream.send_reset(reason(&error));
                    return Poll::Ready(false);
                }
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(bytes) => {
                    let last = self.body.is_end_stream();
                    if bytes.is_empty() {
                        if let Some(over) = self.send(bytes, last) {
                            return Poll::Ready(over);
                        }
                    } else {
                        // A byte is enough to be in the queue; the library asks for the rest once it has it.
                        self.stream.reserve_capacity(1);
                        self.waiting = Some((bytes, last));
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        return Poll::Ready(self.stream.send_trailers(trailers).is_ok());
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands on a piece; how it ended, where that was the end.
    fn send(&mut self, bytes: Bytes, last: bool) -> Option<bool> {
        match self.stream.send_data(bytes, last) {
            Ok(()) => last.then_some(true),
            Err(_) => Some(false),
        }
    }
}

/// The reason to reset a stream for: that of the other side of the proxy, where there is one.
fn reason(error: &(dyn Error + 'static)) -> Reason {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason().unwrap_or(Reason::INTERNAL_ERROR);
        }
        next = error.source();
    }
    Reason::INTERNAL_ERROR
}
