//! Clients and services that speak HTTP/2 stream by stream, so that a test can say when what happens.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A service that speaks HTTP/2 and leaves every request to the test.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    requests: mpsc::Receiver<Asked>,
}

/// One request, as the service got it.
pub(crate) struct Asked {
    pub(crate) head: http::request::Parts,
    pub(crate) body: RecvStream,
    pub(crate) answer: SendResponse<Bytes>,
}

pub(crate) async fn origin() -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::channel(1_000);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                // Whoever asked may be gone already, and its connection with it.
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, answer))) = connection.accept().await {
                    let (head, body) = request.into_parts();
                    if sender.send(Asked { head, body, answer }).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Origin { address, requests }
}

/// A service that answers every request with what `respond` says of its head.
pub(crate) async fn answering(respond: impl Fn(&http::request::Parts, Asking) + Send + 'static) -> SocketAddr {
    let mut origin = origin().await;
    let address = origin.address;
    tokio::spawn(async move {
        while let Some(asked) = origin.requests.recv().await {
            respond(&asked.head, Asking { body: asked.body, answer: asked.answer });
        }
    });
    address
}

/// What is left of a request when its head is known.
pub(crate) struct Asking {
    pub(crate) body: RecvStream,
    pub(crate) answer: SendResponse<Bytes>,
}

impl Origin {
    pub(crate) async fn next(&mut self) -> Asked {
        self.requests.recv().await.unwrap()
    }
}

impl Asked {
    /// Sends the head of an answer; the body follows.
    pub(crate) fn begin(&mut self, status: u16, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.answer.send_response(head(status, fields), false).unwrap()
    }

    /// Sends a whole answer.
    pub(crate) fn reply(&mut self, status: u16, fields: &[(&str, &str)], body: &'static str) {
        self.begin(status, fields).send_data(Bytes::from(body), true).unwrap();
    }
}

pub(crate) fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

pub(crate) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    head(200, fields).headers().clone()
}

/// A client on one connection.
pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://service.test{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// A body to its end, and the trailers behind it.
pub(crate) async fn read(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

/// Sends all of `bytes` as the other side takes them.
pub(crate) async fn send_all(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let granted = match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(granted) => granted?,
            None => return Ok(()),
        };
        stream.send_data(bytes.split_to(granted.min(bytes.len())), false)?;
    }
    Ok(())
}
