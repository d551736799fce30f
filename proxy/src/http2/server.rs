//! The side that is asked: requests are taken from a connection, and answers written to it.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use http::{HeaderValue, Request, Response, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::guard::Guard;
use super::heads::{Head, Heads};
use super::keepalive::{Heard, Keepalive};
use super::pipe::Pipe;
use super::streams::Streams;
use super::{
    Aside, Body, CONNECTION_WINDOW, ERROR_RESETS, FRAME_BYTES, HEADER_TABLE, PENDING_RESETS, SEND_BUFFER,
    STREAM_WINDOW, STREAMS, others_first,
};
use crate::alarm::Alarm;
use crate::deadline::Progress;
use crate::error::Abuse;
use crate::metrics::Metrics;

/// A request, and what there is to know of its stream besides.
pub(crate) struct Asked {
    pub(crate) request: Request<Body>,
    pub(crate) aside: Aside,
    /// Grows whenever a part of either body passes.
    pub(crate) moved: Arc<AtomicU64>,
}

/// An answer in the making.
pub(crate) type Serving<B> = Pin<Box<dyn Future<Output = Response<B>> + Send>>;

/// Makes the answer to a request.
pub(crate) type Respond<B> = Box<dyn Fn(Asked) -> Serving<B> + Send>;

/// What a connection may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of one head.
    pub(crate) header_bytes: usize,
    /// For how long nothing may move in a stream.
    pub(crate) still: Option<Duration>,
}

/// A connection, from its preface to its end.
pub(crate) struct Server<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    state: State<S>,
    respond: Respond<B>,
    streams: Streams<Stream<B>>,
    heads: Heads,
    heard: Heard,
    stillness: Option<Stillness>,
    metrics: Arc<Metrics>,
}

enum State<S: AsyncRead + AsyncWrite + Unpin> {
    /// The preface is awaited; and whether the connection is to end behind it.
    Handshake(Box<Handshake<Guard<S>, Bytes>>, bool),
    Serving(Box<Connection<Guard<S>, Bytes>>, Option<Keepalive>),
    /// It is over, with this; its requests are let go of.
    Ended(Option<h2::Error>),
}

impl<S, B> Server<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    pub(crate) fn new(
        stream: S,
        respond: Respond<B>,
        limits: Limits,
        progress: Progress,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let now = Instant::now();
        let heard = Heard::new(now);
        let mut builder = Builder::new();
        builder
            .max_concurrent_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .max_send_buffer_size(SEND_BUFFER)
            .header_table_size(HEADER_TABLE)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(Some(ERROR_RESETS));
        let handshake = builder.handshake(Guard::downstream(stream, heard.clone(), progress, metrics, now));
        Self {
            state: State::Handshake(Box::new(handshake), false),
            respond,
            streams: Streams::new(),
            heads: Heads::new(limits.header_bytes),
            heard,
            stillness: limits.still.map(Stillness::new),
            metrics: Arc::clone(metrics),
        }
    }

    /// No further requests are taken; those that are served come to their end.
    pub(crate) fn shut_down(self: Pin<&mut Self>) {
        match &mut self.get_mut().state {
            State::Handshake(_, ends) => *ends = true,
            State::Serving(connection, _) => connection.graceful_shutdown(),
            State::Ended(_) => {}
        }
    }

    /// Takes the requests that are there. Ready where there will be no more: the connection has ended.
    fn take(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Serving(connection, _) = &mut self.state else { return Poll::Pending };
        loop {
            let (request, reply) = match ready!(connection.poll_accept(cx)) {
                Some(Ok(next)) => next,
                ended => {
                    self.state = State::Ended(ended.and_then(Result::err));
                    return Poll::Ready(());
                }
            };
            let (parts, body) = request.into_parts();
            let Some(head) = self.heads.add(&parts.headers) else {
                self.metrics.abuse(Abuse::Heads);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                continue;
            };
            let body = Body::new(body, &parts.headers);
            let (aside, moved) = (Aside::default(), Arc::<AtomicU64>::default());
            let asked =
                Asked { request: Request::from_parts(parts, body), aside: aside.clone(), moved: Arc::clone(&moved) };
            let phase = Phase::Serving((self.respond)(asked));
            self.streams.push(Stream { reply, aside, phase, moved, seen: None, _head: head });
        }
    }

    /// Lets go of what is left, in turns: a client that leaves five hundred requests behind holds up nobody with them.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if !self.streams.dismiss() {
            others_first(cx);
            return Poll::Pending;
        }
        match &mut self.state {
            State::Ended(error) => Poll::Ready(error.take().map_or(Ok(()), Err)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S, B> Future for Server<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    type Output = Result<(), h2::Error>;

    /// One turn: so many frames are read, so many requests go on, and what they wrote goes out.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let State::Ended(_) = this.state {
            return this.end(cx);
        }
        if let State::Handshake(handshake, ends) = &mut this.state {
            let mut connection = ready!(Pin::new(handshake.as_mut()).poll(cx))?;
            if *ends {
                connection.graceful_shutdown();
            }
            let keepalive = connection.ping_pong().map(|pings| Keepalive::new(this.heard.clone(), pings));
            this.state = State::Serving(Box::new(connection), keepalive);
        }
        if let State::Serving(connection, keepalive) = &mut this.state
            && keepalive.as_mut().is_some_and(|keepalive| keepalive.poll(cx, || true).is_ready())
        {
            *keepalive = None;
            connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        if let Some(stillness) = &mut this.stillness {
            let cut = stillness.cut(&mut this.streams, cx);
            this.metrics.streams_timed_out.add(cut);
        }
        if this.take(cx).is_ready() || this.streams.poll(cx) && this.take(cx).is_ready() {
            return this.end(cx);
        }
        Poll::Pending
    }
}

/// Nothing in it is pinned: what is, is in boxes.
impl<S: AsyncRead + AsyncWrite + Unpin, B> Unpin for Server<S, B> {}

/// One request, until its answer is written and its body read.
struct Stream<B> {
    reply: SendResponse<Bytes>,
    aside: Aside,
    phase: Phase<B>,
    moved: Arc<AtomicU64>,
    /// What was seen to have moved, and since when it has not again.
    seen: Option<(u64, Instant)>,
    _head: Head,
}

enum Phase<B> {
    /// The head of the answer is awaited.
    Serving(Serving<B>),
    Sending(Pipe<B>),
    /// The answer is whole, and came before the service had all of the request.
    Uploading,
}

impl<B> Unpin for Stream<B> {}

impl<B> Future for Stream<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Phase::Serving(serving) = &mut this.phase {
            // A client that does not want the answer any more cancels the request. Looked at before anything is done for
            // it: one that cancels in the same breath costs the service nothing, and above all no connection.
            if this.reply.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            let polled = serving.as_mut().poll(cx);
            if let Some(interim) = this.aside.told() {
                // Where it cannot be sent, neither can the answer be, and that will be seen.
                let _ = this.reply.send_informational(interim);
            }
            match polled {
                Poll::Ready(response) => match begin(&mut this.reply, response) {
                    Ok(phase) => this.phase = phase,
                    Err(()) => return Poll::Ready(()),
                },
                Poll::Pending => return Poll::Pending,
            }
        }
        let uploading = this.aside.poll(cx);
        if let Phase::Sending(pipe) = &mut this.phase {
            if !ready!(pipe.poll(cx)) {
                return Poll::Ready(());
            }
            this.phase = Phase::Uploading;
        }
        uploading
    }
}

/// Sends the head of an answer, in a turn in which the stream was asked whether it was reset.
fn begin<B>(reply: &mut SendResponse<Bytes>, response: Response<B>) -> Result<Phase<B>, ()>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    let (mut head, body) = response.into_parts();
    // Of requests alone (RFC 9113, section 8.2.2); the library refuses what else belongs to one connection.
    head.headers.remove(header::TE);
    let ends = body.is_end_stream();
    if let Some(length) = body.size_hint().exact().filter(|_| !ends) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    match reply.send_response(Response::from_parts(head, ()), ends) {
        Ok(_) if ends => Ok(Phase::Uploading),
        Ok(stream) => Ok(Phase::Sending(Pipe::new(stream, body).asked())),
        Err(_) => {
            reply.send_reset(Reason::INTERNAL_ERROR);
            Err(())
        }
    }
}

/// Looks for streams in which nothing moves. No clock is read when something moves: that it has not is seen here, and so
/// a stream lasts between once and twice as long as it may be still.
struct Stillness {
    limit: Duration,
    alarm: Alarm,
}

impl Stillness {
    fn new(limit: Duration) -> Self {
        Self { limit, alarm: Alarm::new(Instant::now() + limit) }
    }

    /// Cuts those that were still for too long: how many.
    fn cut<B>(&mut self, streams: &mut Streams<Stream<B>>, cx: &mut Context<'_>) -> u64
    where
        Stream<B>: Future,
    {
        let mut cut = 0;
        while self.alarm.poll(cx).is_ready() {
            let now = Instant::now();
            let mut next = now + self.limit;
            streams.cut(|stream| {
                let moved = stream.moved.load(Ordering::Relaxed);
                let since = match stream.seen {
                    Some((before, since)) if before == moved => since,
                    _ => now,
                };
                stream.seen = Some((moved, since));
                let over = now >= since + self.limit;
                if over {
                    cut += 1;
                } else {
                    next = next.min(since + self.limit);
                }
                over
            });
            self.alarm.reset(next);
        }
        cut
    }
}
