//! One downstream connection: requests are read from it, answers written to it, and it does not outstay its limits.

use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::deadline::{Due, Limits, Progress};
use crate::drain::{Phase, Watch};
use crate::forward::Reply;
use crate::record::Observer;
use crate::sidecar::Worker;
use crate::upstream::Upstream;
use crate::{inbound, outbound};

/// What a listener's connections are for.
#[derive(Clone)]
pub(crate) enum Role {
    /// Requests for the application.
    Inbound,
    /// Requests of the application to one destination.
    Outbound(Arc<Upstream>),
    /// Requests of the application that name their destination.
    Explicit,
}

impl Role {
    /// From when on the connections of this role are closed.
    pub(crate) fn ends_at(&self) -> Phase {
        match self {
            Role::Inbound => Phase::Draining,
            // While requests are served the application may have to call out.
            Role::Outbound(_) | Role::Explicit => Phase::Closing,
        }
    }
}

/// Serves a connection until it ends, is idle for too long, or the proxy drains.
pub(crate) async fn serve(worker: Arc<Worker>, role: Role, stream: TcpStream, peer: SocketAddr, drain: Watch) {
    let _ = stream.set_nodelay(true); // A socket that refuses still works.
    let progress = Progress::new(Instant::now());
    let io = TokioIo::new(Watched { stream, progress: progress.clone() });
    let ends_at = role.ends_at();
    match role {
        Role::Inbound => {
            let respond = |request| {
                let worker = Arc::clone(&worker);
                async move { inbound::serve(&worker, peer.ip().to_canonical(), request).await }
            };
            run(&worker, io, &progress, ends_at, drain, peer.ip(), respond).await;
        }
        Role::Outbound(upstream) => {
            let respond = |request| {
                let (worker, upstream) = (Arc::clone(&worker), Arc::clone(&upstream));
                async move { outbound::serve(&worker, &upstream, request).await }
            };
            run(&worker, io, &progress, ends_at, drain, peer.ip(), respond).await;
        }
        Role::Explicit => {
            let respond = |request| {
                let worker = Arc::clone(&worker);
                async move { outbound::serve_explicit(&worker, request).await }
            };
            run(&worker, io, &progress, ends_at, drain, peer.ip(), respond).await;
        }
    }
}

async fn run<F, O>(
    worker: &Arc<Worker>,
    io: TokioIo<Watched>,
    progress: &Progress,
    ends_at: Phase,
    mut drain: Watch,
    peer: IpAddr,
    respond: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Response<Reply<O>>>,
    O: Observer + 'static,
{
    let service = service_fn(|request| {
        let turn = progress.turn();
        let response = respond(request);
        async move {
            let mut response = response.await;
            response.body_mut().hold(turn);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let config = &worker.sidecar.config;
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(config.limits.header_fields)
        .max_header_size(config.limits.header_bytes.as_usize())
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let limits = Limits { head: config.timeouts.header, idle: config.timeouts.idle };
    let mut timer = pin!(sleep_until(Instant::now() + limits.head));
    let mut draining = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = drain.reached(ends_at), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = timer.as_mut() => match progress.due(Instant::now(), limits) {
                Due::Later(at) => timer.as_mut().reset(at),
                Due::Idle => {
                    timer.as_mut().reset(Instant::now() + limits.head);
                    connection.as_mut().graceful_shutdown();
                }
                Due::Head => {
                    worker.sidecar.metrics.connections_timed_out.add(1);
                    return;
                }
            },
        }
    };
    if let Err(error) = ended
        && error.is_parse()
    {
        worker.sidecar.metrics.connections_malformed.add(1);
        if worker.sidecar.warnings.allow(peer) {
            tracing::debug!(%peer, %error, "a request that is not HTTP/1 was refused");
        }
    }
}

/// A stream that tells when bytes come in.
struct Watched {
    stream: TcpStream,
    progress: Progress,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.bytes(Instant::now());
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
