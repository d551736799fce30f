//! The connections of the admin listener. Whoever opens many, or says nothing on them, must not keep the platform from
//! asking, nor cost the proxy its memory.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tower::Service as _;

use crate::metrics::Metrics;
use crate::sidecar::InForce;

/// A connection ends after this long, at the end of the answer that is under way then.
const LONGEST: Duration = Duration::from_secs(60);
/// How long that answer may still take.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long accepting rests after an error.
const REST: Duration = Duration::from_millis(50);
/// Longest head of a request.
const HEAD: usize = 16 * 1024;

/// Serves until the proxy is gone.
pub(super) async fn accept(in_force: Arc<InForce>, routes: Router, listener: TcpListener) {
    loop {
        let accepted = listener.accept().await;
        let sidecar = in_force.sidecar();
        let (limits, metrics) = (&sidecar.config.limits, &sidecar.metrics);
        match accepted {
            Ok((stream, peer)) => {
                let open = Open::new(metrics);
                if open.count > limits.admin_connections as u64 {
                    metrics.admin_refused.add(1);
                    continue;
                }
                let (routes, header) = (routes.clone(), sidecar.config.timeouts.header);
                tokio::spawn(async move {
                    let _open = open;
                    serve(routes, header, stream, peer).await;
                });
            }
            Err(error) => {
                metrics.accept_errors.add(1);
                tracing::warn!(%error, "a connection to the admin listener could not be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Serves one connection. `header` is the time for the head of a request, from the answer before on.
async fn serve(routes: Router, header: Duration, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true); // A socket that refuses still works.
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        routes.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header).max_buf_size(HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // How it ends concerns nobody but the client.
    if tokio::time::timeout(LONGEST, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(FAREWELL, connection).await;
    }
}

/// One connection that is open.
struct Open {
    metrics: Arc<Metrics>,
    count: u64,
}

impl Open {
    fn new(metrics: &Arc<Metrics>) -> Self {
        Self { count: metrics.admin_connections.up(), metrics: Arc::clone(metrics) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.admin_connections.down();
    }
}
