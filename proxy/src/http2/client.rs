//! The side that asks: requests are written to a connection, and answers read from it.

use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::guard::Guard;
use super::keepalive::{Heard, Keepalive};
use super::pipe::Pipe;
use super::{Aside, Body, CONNECTION_WINDOW, ERROR_RESETS, FRAME_BYTES, HEADER_TABLE, SEND_BUFFER, STREAM_WINDOW};
use crate::error::Abuse;
use crate::metrics::Metrics;

/// Streams on one connection until the server has said how many it takes.
const INITIAL_STREAMS: usize = 100;
/// Streams that we have reset are remembered for a while: their last frames are still under way.
const RESET_STREAMS: usize = 256;
const RESET_STREAM_DURATION: Duration = Duration::from_secs(10);

/// A connection to a server. The last one that is dropped ends it.
pub(crate) struct Client {
    /// Of everybody: one for each request would be made and dropped under the library's lock.
    sender: Mutex<SendRequest<Bytes>>,
    standing: Arc<Standing>,
}

/// What is known of a connection.
struct Standing {
    /// How many streams the server takes.
    limit: AtomicUsize,
    /// How many there are.
    streams: AtomicUsize,
    over: AtomicBool,
}

/// Speaks HTTP/2 to a server. Heads of answers may have so many bytes.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn speak<S>(stream: S, header_bytes: usize, metrics: &Arc<Metrics>) -> Result<Client, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let now = Instant::now();
    let heard = Heard::new(now);
    let (sender, mut connection) = Builder::new()
        .initial_max_send_streams(INITIAL_STREAMS)
        .enable_push(false)
        .max_concurrent_streams(0) // Those that the server opens: pushes, which are off.
        // Fixed windows: adaptive ones cost pings, which some servers punish, and have no bound of their own.
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .header_table_size(HEADER_TABLE)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .reset_stream_duration(RESET_STREAM_DURATION)
        .max_pending_accept_reset_streams(1) // Of pushes.
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .handshake::<_, Bytes>(Guard::upstream(stream, heard.clone(), metrics, now))
        .await?;
    let standing = Arc::new(Standing {
        limit: AtomicUsize::new(INITIAL_STREAMS),
        streams: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let (told, metrics) = (Arc::clone(&standing), Arc::clone(metrics));
    let mut keepalive = connection.ping_pong().map(|pings| Keepalive::new(heard, pings));
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        let ended = std::future::poll_fn(|cx| {
            // Nobody waits for a server that is idle.
            let busy = || told.streams.load(Ordering::Relaxed) > 0;
            if keepalive.as_mut().is_some_and(|keepalive| keepalive.poll(cx, busy).is_ready()) {
                return Poll::Ready(Ok(()));
            }
            let polled = connection.as_mut().poll(cx);
            // Woken for every request: the limit is that of the last settings before it.
            told.limit.store(connection.max_concurrent_send_streams(), Ordering::Relaxed);
            polled
        })
        .await;
        told.over.store(true, Ordering::Relaxed);
        // Its errors reach whoever waits for an answer on it. That the library has had enough is counted besides.
        if ended.is_err_and(|error| error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM)) {
            metrics.abuse(Abuse::Calm);
        }
    });
    Ok(Client { sender: Mutex::new(sender), standing })
}

impl Client {
    pub(crate) fn is_over(&self) -> bool {
        self.standing.over.load(Ordering::Relaxed)
    }

    /// How many streams there are.
    pub(crate) fn streams(&self) -> usize {
        self.standing.streams.load(Ordering::Relaxed)
    }

    /// Whether the server takes another stream.
    pub(crate) fn has_room(&self) -> bool {
        self.streams() < self.standing.limit.load(Ordering::Relaxed).max(1)
    }

    /// One more stream, not begun yet. None where the server takes no further requests on this connection.
    pub(crate) fn open(&self) -> Option<Outgoing> {
        if let Poll::Ready(Err(_)) = self.sender.lock().poll_ready(&mut Context::from_waker(Waker::noop())) {
            return None;
        }
        self.standing.streams.fetch_add(1, Ordering::Relaxed);
        Some(Outgoing { standing: Arc::clone(&self.standing) })
    }

    /// Hands a request to the library.
    fn begin<B>(&self, head: Request<()>, body: Option<B>) -> Result<(ResponseFuture, Option<Upload<B>>), Unheard> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut sender = self.sender.lock();
        if body.is_none()
            && let Poll::Ready(ready) = sender.poll_ready(&mut cx)
        {
            ready.map_err(Unheard::Unsent)?;
            let (answer, _) = sender.send_request(head, true).map_err(Unheard::Broken)?;
            return Ok((answer, None));
        }
        // It waits until the server takes the stream that was begun with it last; another one has begun none.
        let mut sender = sender.clone();
        if let Poll::Ready(Err(error)) = sender.poll_ready(&mut cx) {
            return Err(Unheard::Unsent(error));
        }
        let (answer, stream) = sender.send_request(head, body.is_none()).map_err(Unheard::Broken)?;
        Ok((answer, body.map(|body| Upload { waiting: Some((sender, stream, body)), pipe: None })))
    }
}

/// Takes an interim answer, and says whether it is in order.
pub(crate) type Interim<'a> = dyn FnMut(Response<()>) -> bool + Send + 'a;

/// A stream, begun or about to be. It counts until it is dropped.
pub(crate) struct Outgoing {
    standing: Arc<Standing>,
}

/// Why there is no answer.
pub(crate) enum Unheard {
    /// The request was never sent.
    Unsent(h2::Error),
    /// It may have been heard.
    Broken(h2::Error),
    /// An interim answer was not in order.
    Malformed,
}

impl Outgoing {
    /// Sends a request on `client` and waits for the head of its answer. Each interim answer before it goes to `interim`.
    /// Where the answer is there before all of the body is sent, `aside` carries on the rest.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn send<B>(
        &mut self,
        client: &Client,
        head: Request<()>,
        body: Option<B>,
        aside: &Aside,
        interim: &mut Interim<'_>,
    ) -> Result<Response<Body>, Unheard>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Error + 'static,
    {
        let (answer, upload) = client.begin(head, body)?;
        let mut exchange = Exchange { answer, upload, interim };
        let response = std::future::poll_fn(|cx| exchange.poll(cx)).await?;
        if let Some(mut upload) = exchange.upload {
            aside.carry(async move { std::future::poll_fn(|cx| upload.poll(cx)).await });
        }
        let (parts, body) = response.into_parts();
        let body = Body::new(body, &parts.headers);
        Ok(Response::from_parts(parts, body))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.standing.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is sent and not answered.
struct Exchange<'a, B> {
    answer: ResponseFuture,
    upload: Option<Upload<B>>,
    interim: &'a mut Interim<'a>,
}

impl<B> Exchange<'_, B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<h2::RecvStream>, Unheard>> {
        if let Some(upload) = &mut self.upload
            && upload.poll(cx).is_ready()
        {
            self.upload = None;
        }
        match ready!(self.answer.poll_informational(cx)) {
            None => Pin::new(&mut self.answer).poll(cx).map_err(Unheard::Broken),
            Some(Err(error)) => Poll::Ready(Err(Unheard::Broken(error))),
            Some(Ok(interim)) => {
                if !(self.interim)(interim) {
                    return Poll::Ready(Err(Unheard::Malformed));
                }
                // It is passed on before the next one is looked for.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// The body of a request. It waits until the server takes the stream: what is sent before lies in memory.
struct Upload<B> {
    waiting: Option<(SendRequest<Bytes>, SendStream<Bytes>, B)>,
    pipe: Option<Pipe<B>>,
}

impl<B> Upload<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((mut sender, stream, body)) = self.waiting.take() {
            if sender.poll_ready(cx).is_pending() {
                self.waiting = Some((sender, stream, body));
                return Poll::Pending;
            }
            self.pipe = Some(Pipe::new(stream, body));
        }
        match &mut self.pipe {
            Some(pipe) => pipe.poll(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<()> {
        Request::get("http://stock/").version(http::Version::HTTP_2).body(()).unwrap()
    }

    async fn ask(client: &Client) -> Result<Response<Body>, Unheard> {
        let mut outgoing = client.open().unwrap();
        outgoing.send(client, request(), None::<String>, &Aside::default(), &mut |_| true).await
    }

    #[tokio::test]
    async fn requests_beyond_what_the_server_takes_wait_until_it_does() {
        let (own, others) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let mut server = h2::server::Builder::new();
            let mut connection = server.max_concurrent_streams(1).handshake::<_, Bytes>(others).await.unwrap();
            while let Some(asked) = connection.accept().await {
                asked.unwrap().1.send_response(Response::new(()), true).unwrap();
            }
        });
        let client = speak(own, 1024, &Arc::default()).await.unwrap();
        assert!(ask(&client).await.is_ok());
        let open = client.open();
        assert!(!client.has_room(), "it is known what the server takes");
        drop(open);
        let answers = tokio::join!(ask(&client), ask(&client), ask(&client));
        assert!(answers.0.is_ok() && answers.1.is_ok() && answers.2.is_ok());
        assert_eq!(client.streams(), 0);
    }
}
