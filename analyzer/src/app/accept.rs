//! Accepts connections, whatever happens: an accept error passes, a connection too many is closed, a slow head ends.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use crate::board::Board;

/// From the first byte of a connection, or the end of its last request, to the end of the next head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest head.
const HEAD_BYTES: usize = 64 << 10;
/// Most header fields.
const HEAD_FIELDS: usize = 100;
/// After an accept error that does not concern one connection only, descriptors for instance.
const PAUSE: Duration = Duration::from_millis(50);
/// How long open requests may take to end when the analyzer stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves `routes` on `listener` until `stopping` says so, then lets open requests end.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    limit: usize,
    board: Arc<Board>,
    mut stopping: watch::Receiver<()>,
) {
    let room = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.changed() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                    board.counters.connections_refused.add(1);
                    continue;
                };
                let open = Open::new(Arc::clone(&board));
                let connection = converse(stream, routes.clone(), stopping.clone());
                connections.spawn(async move {
                    connection.await;
                    drop((open, permit));
                });
            }
            Err(error) if is_of_one_connection(&error) => board.counters.accept_errors.add(1),
            Err(error) => {
                board.counters.accept_errors.add(1);
                if !failing {
                    tracing::warn!(%error, "connections cannot be accepted; trying again");
                }
                failing = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop((listener, routes));
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("requests that did not end in time were cut off");
    }
}

/// Serves one connection to its end. Its errors are the peer's, and of no use to anybody here.
async fn converse(stream: TcpStream, routes: Router, mut stopping: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| answer(routes.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(mut routes: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    routes.call(request).await
}

/// Whether an accept error says something about the one connection only, which its peer gave up.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Counts a connection as open for as long as it lives.
struct Open(Arc<Board>);

impl Open {
    fn new(board: Arc<Board>) -> Self {
        board.counters.connections.add(1);
        Self(board)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.connections.take();
    }
}
