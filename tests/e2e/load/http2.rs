//! Frames of HTTP/2, byte by byte, and a plain service that speaks it.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::figures;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// The name that nobody but bystanders asks for.
pub(crate) const BYSTANDER: &str = "service.test";

/// `GET / HTTP/2` of `http://a`, as one header block.
pub(crate) const GET: &[u8] = b"\x82\x86\x84\x01\x01a";
/// The same as `POST`.
pub(crate) const POST: &[u8] = b"\x83\x86\x84\x01\x01a";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The n-th stream of a client.
pub(crate) fn nth(n: u32) -> u32 {
    2 * n + 1
}

/// Runs `work` on a thread of its own, with a runtime of its own, for as long as the test runs.
pub(crate) fn apart<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work());
    });
}

/// A service that reads what it is sent and answers `ok`, over whatever it is asked and with the limits of its library.
/// Each connection is served by a thread of its own: what one of them costs the service, others do not wait for.
pub(crate) fn origin() -> SocketAddr {
    let (sender, address) = std::sync::mpsc::channel();
    apart(|| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        sender.send(listener.local_addr().unwrap()).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let stream = stream.into_std().unwrap();
            apart(|| async move {
                let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                let mut first = [0];
                if !matches!(stream.peek(&mut first).await, Ok(1)) {
                    return;
                }
                let (io, answer) = (TokioIo::new(stream), service_fn(answer));
                // Only the preface of HTTP/2 begins so.
                let _ = if first == *b"P" {
                    // It takes heads as large as the proxy does. One that does not refuses them, and after a thousand of
                    // them its library ends the connection, and with it what others have on it.
                    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    server.max_header_list_size(1 << 17).serve_connection(io, answer).await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await
                };
            });
        }
    });
    address.recv().unwrap()
}

/// What it does for attackers, it does where nobody else wants to run, as they do: a machine with few processors would
/// otherwise show what they cost the service and not what the proxy does.
async fn answer(request: http::Request<Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
    if request.uri().host() != Some(BYSTANDER) {
        figures::give_way();
    }
    let _ = request.into_body().collect().await;
    Ok(http::Response::new(Full::from("ok")))
}
