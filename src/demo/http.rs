//! The demo's HTTP client: requests without a body, over connections that are kept for the next request.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// One address that is called, with the connections to it that are idle.
///
/// There are as many connections in use as callers at the same time, and callers are bounded by the load generator.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
}

type Connection = SendRequest<Empty<Bytes>>;

/// A response that arrived whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Bytes,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody took the connection: nothing was sent.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// The connection broke, or what came over it was not a response.
    #[error("the exchange with {0} broke: {1}")]
    Broken(SocketAddr, Box<dyn std::error::Error + Send + Sync>),
    /// The response took too long.
    #[error("no response from {0} within {1:?}")]
    Late(SocketAddr, Duration),
}

impl Upstream {
    /// The server at `address`; no connection is made yet.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// Sends one request and waits for the whole response, no longer than `patience`.
    ///
    /// # Errors
    /// See [`CallError`]. A response with any status is no error.
    pub(crate) async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: HeaderMap,
        patience: Duration,
    ) -> Result<Reply, CallError> {
        let exchange = self.exchange(method, path, headers);
        tokio::time::timeout(patience, exchange).await.map_err(|_| CallError::Late(self.address, patience))?
    }

    async fn exchange(&self, method: &Method, path: &str, headers: HeaderMap) -> Result<Reply, CallError> {
        let mut request = Request::builder().method(method).uri(path).body(Empty::new()).map_err(|e| self.broken(e))?;
        *request.headers_mut() = headers;
        if let Ok(host) = self.address.to_string().parse() {
            request.headers_mut().insert(header::HOST, host);
        }
        // A kept connection may have been closed meanwhile. What was not sent over it is sent over the next one.
        while let Some(mut connection) = self.take() {
            match connection.try_send_request(request).await {
                Ok(response) => return self.receive(connection, response).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(error.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.send_request(request).await.map_err(|e| self.broken(e))?;
        self.receive(connection, response).await
    }

    async fn receive(
        &self,
        connection: Connection,
        response: http::Response<hyper::body::Incoming>,
    ) -> Result<Reply, CallError> {
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|e| self.broken(e))?.to_bytes();
        self.keep(connection);
        Ok(Reply { status, body })
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let stream = TcpStream::connect(self.address).await.map_err(|e| CallError::Connect(self.address, e))?;
        stream.set_nodelay(true).map_err(|e| CallError::Connect(self.address, e))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e))?;
        // It ends by itself when the sender is dropped or the other side closes; its error reaches the sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request; after a rush, what is too much is closed.
    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
        CallError::Broken(self.address, error.into())
    }
}

/// Connections that are kept for later: more than a service usually needs at the same time.
const MAX_IDLE: usize = 8;

/// The largest body that is read: far more than the analyzer's document for a demo system.
const MAX_BODY: usize = 64 << 20;
