//! The service that everything is asked of in the end. It answers at once.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::program::Core;

/// Size of an answer, where the path does not say another one.
const SMALL: usize = 32;

/// Whom a service calls, once that is known.
type Callee = Arc<Mutex<Option<SocketAddr>>>;

/// A service that runs until it is dropped. `/bytes/N` asks for so many bytes; `/call` has it call another service before
/// it answers, as one that passes on the headers of a trace.
pub(crate) struct Backend {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    /// Where it calls.
    callee: Callee,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// # Errors
    /// Where it cannot listen.
    pub(crate) fn start(core: Core) -> io::Result<Self> {
        let listen = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            Ok::<_, io::Error>((listener.local_addr()?, listener))
        };
        let ((http1, first), (http2, second)) = (listen()?, listen()?);
        let callee: Callee = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let called = Arc::clone(&callee);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            core.take();
            runtime.block_on(async {
                tokio::select! {
                    _ = accept(first, |stream| serve_http1(stream, Arc::clone(&called))) => {}
                    _ = accept(second, serve_http2) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { http1, http2, callee, stop: Some(stop), thread: Some(thread) })
    }

    /// From now on `/call` calls there.
    pub(crate) fn calls(&self, callee: SocketAddr) {
        *self.callee.lock().unwrap_or_else(PoisonError::into_inner) = Some(callee);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept<F>(listener: std::net::TcpListener, serve: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream));
    }
}

async fn serve_http1(mut stream: TcpStream, callee: Callee) {
    let (mut seen, mut answer, mut called) = (Vec::with_capacity(16 * 1024), Vec::new(), None);
    while let Ok(1..) = stream.read_buf(&mut seen).await {
        while let Some((used, close)) = answered(&seen, &mut answer) {
            if seen.starts_with(b"GET /call ") && call(&seen, &mut called, &callee).await.is_none() {
                return;
            }
            seen.drain(..used);
            if stream.write_all(&answer).await.is_err() || close {
                return;
            }
        }
    }
}

/// Calls `callee` on the connection of the calls before, with the trace of the request that was `seen`.
async fn call(seen: &[u8], called: &mut Option<TcpStream>, callee: &Callee) -> Option<()> {
    let head = std::str::from_utf8(seen).ok()?;
    let (trace, state) = (field(head, "traceparent")?, field(head, "tracestate")?);
    let request = format!("GET /called HTTP/1.1\r\nhost: stock\r\ntraceparent: {trace}\r\ntracestate: {state}\r\n\r\n");
    let mut stream = match called.take() {
        Some(stream) => stream,
        None => {
            let callee = *callee.lock().unwrap_or_else(PoisonError::into_inner);
            TcpStream::connect(callee?).await.ok()?
        }
    };
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while !answer.windows(4 + SMALL).any(|window| window.starts_with(b"\r\n\r\n")) {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    *called = Some(stream);
    answer.starts_with(b"HTTP/1.1 200 ").then_some(())
}

/// The answer to the first request, once it is there whole: how many bytes it has, and whether it is the last one.
fn answered(seen: &[u8], answer: &mut Vec<u8>) -> Option<(usize, bool)> {
    let end = seen.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(seen.get(..end)?).ok()?;
    let length = field(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if seen.len() < end + length {
        return None;
    }
    let close = field(head, "connection").is_some_and(|connection| connection.eq_ignore_ascii_case("close"));
    let size = size(head.split(' ').nth(1).unwrap_or_default());
    answer.clear();
    answer.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: backend\r\n");
    if close {
        answer.extend_from_slice(b"connection: close\r\n");
    }
    answer.extend_from_slice(format!("content-length: {size}\r\n\r\n").as_bytes());
    answer.resize(answer.len() + size, b'y');
    Some((end + length, close))
}

/// The value of a field of a head.
pub(super) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").find_map(|line| {
        let (before, value) = line.split_once(':')?;
        before.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn size(path: &str) -> usize {
    let named = path.strip_prefix("/bytes/").and_then(|rest| rest.split('/').next());
    named.and_then(|size| size.parse().ok()).unwrap_or(SMALL)
}

async fn serve_http2(stream: TcpStream) {
    let Ok(mut connection) =
        h2::server::Builder::new().max_concurrent_streams(1_000).handshake::<_, Bytes>(stream).await
    else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let size = size(request.uri().path());
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            let response = http::Response::builder().header("content-type", "application/json");
            let Ok(response) = response.header("content-length", size).body(()) else { return };
            if let Ok(mut send) = respond.send_response(response, false) {
                let _ = send.send_data(Bytes::from(vec![b'y'; size]), true);
            }
        });
    }
}
