//! One downstream connection: requests are read from it, answers written to it, and it does not outstay its limits.

mod captured;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::deadline::{Due, Limits, Progress};
use crate::detect::{ENOUGH, Judgement, judge};
use crate::drain::{Ending, Phase, Watch};
use crate::error::{Abuse, Refusal};
use crate::forward::{Reply, refusal};
use crate::http::{Protocol, RequestBody, check_request, is_grpc, without};
use crate::http1::{Bounds, Gate, Verdict};
use crate::http2::{self, Aside, Asked, Server, Serving};
use crate::inbound::{Caller, Delivery};
use crate::original::Arrival;
use crate::record::Observer;
use crate::sidecar::Worker;
use crate::stream::Stream;
use crate::tls::{self, Accepted};
use crate::upstream::{Early, Upstream};
use crate::{inbound, outbound};
use captured::{arrival, captured, refuse_loop};

/// What a listener's connections are for.
#[derive(Clone)]
pub(crate) enum Role {
    /// Requests for the application.
    Inbound,
    /// Requests of the application to one destination.
    Outbound(Arc<Upstream>),
    /// Requests of the application that name their destination.
    Explicit,
    /// Connections of the application that the kernel brought here.
    Captured,
}

impl Role {
    /// From when on the connections of this role are closed.
    pub(crate) fn ends_at(&self) -> Phase {
        match self {
            Role::Inbound => Phase::Draining,
            // While requests are served the application may have to call out.
            Role::Outbound(_) | Role::Explicit | Role::Captured => Phase::Closing,
        }
    }
}

/// Serves a connection until it ends, is idle for too long, or the proxy drains.
pub(crate) async fn serve(worker: Arc<Worker>, role: Role, stream: TcpStream, peer: SocketAddr, drain: Watch) {
    let _ = stream.set_nodelay(true); // A socket that refuses still works.
    match arrival(&worker, &role, &stream) {
        None => uncaptured(worker, role, stream.into(), peer, drain).await,
        // The port of inbound requests is asked for by name as well.
        Some(Arrival::Direct) if matches!(role, Role::Inbound) && worker.app.is_some() => {
            uncaptured(worker, role, stream.into(), peer, drain).await;
        }
        Some(Arrival::Captured(destination)) => {
            let metrics = &worker.sidecar.metrics;
            match role {
                Role::Inbound => metrics.captured_inbound.add(1),
                _ => metrics.captured_outbound.add(1),
            }
            captured(worker, role, destination, stream.into(), peer, drain).await;
        }
        Some(Arrival::Direct | Arrival::Loop) => refuse_loop(&worker, stream.into(), peer),
    }
}

/// Serves a connection that its client addressed to this proxy.
async fn uncaptured(worker: Arc<Worker>, role: Role, mut stream: Stream, peer: SocketAddr, mut drain: Watch) {
    let began = Instant::now();
    let deadline = began + worker.sidecar.config.timeouts.header;
    let detected = tokio::select! {
        detected = tokio::time::timeout_at(deadline, detect(&mut stream)) => detected,
        () = linger(&mut drain, role.ends_at()) => return,
    };
    let judgement = match detected {
        Ok(Ok(judgement)) => judgement,
        Ok(Err(_)) => return, // The client is gone.
        Err(_) => return worker.sidecar.metrics.connections_timed_out.add(1),
    };
    let mut caller = Caller::new(peer.ip().to_canonical());
    let mut protocol = match judgement {
        Judgement::Http2 => Protocol::Http2,
        // The codec refuses what it does not understand, and says so.
        _ => Protocol::Http1,
    };
    if matches!(role, Role::Inbound) && worker.sidecar.tls.accepts() {
        let secured = tokio::select! {
            secured = secure(&worker, stream, judgement, &mut caller, deadline) => secured,
            () = drain.reached(role.ends_at()) => return,
        };
        let Some((secured, within)) = secured else { return };
        stream = secured;
        protocol = match within {
            Within::Clear => protocol,
            Within::Http(said) => said,
            // A client that does not say what it speaks shows it.
            Within::Unsaid => match tokio::time::timeout_at(deadline, detect(&mut stream)).await {
                Ok(Ok(Judgement::Http2)) => Protocol::Http2,
                Ok(Ok(_)) => Protocol::Http1,
                _ => return,
            },
        };
    }
    let until = Until { began, ends_at: role.ends_at(), drain };
    let purpose = match role {
        Role::Inbound => {
            let delivery = |upstream| Arc::new(Delivery { upstream: Arc::clone(upstream), early: Early::new(None) });
            Purpose::Inbound(worker.app.as_ref().map(delivery), Arc::new(caller))
        }
        Role::Outbound(upstream) => Purpose::Outbound(upstream),
        Role::Explicit => Purpose::Explicit,
        // Connections on that listener are captured or refused.
        Role::Captured => return,
    };
    converse(worker, purpose, protocol, stream, peer, until).await;
}

/// What is done with the requests of a connection.
enum Purpose {
    Inbound(Option<Arc<Delivery>>, Arc<Caller>),
    Outbound(Arc<Upstream>),
    Explicit,
    Captured(Arc<outbound::Captured>),
}

/// When a connection ends that does not end by itself.
struct Until {
    began: Instant,
    ends_at: Phase,
    drain: Watch,
}

/// Carries the requests of a connection.
async fn converse(
    worker: Arc<Worker>,
    purpose: Purpose,
    protocol: Protocol,
    stream: Stream,
    peer: SocketAddr,
    Until { began, ends_at, drain }: Until,
) {
    let conversation =
        Conversation { worker: &worker, progress: Progress::new(began), ends_at, drain, peer: peer.ip() };
    match purpose {
        Purpose::Inbound(delivery, caller) => {
            let worker = Arc::clone(&worker);
            let respond = move |request| {
                let (worker, delivery, caller) = (Arc::clone(&worker), delivery.clone(), Arc::clone(&caller));
                async move { inbound::serve(&worker, delivery.as_deref(), &caller, request).await }
            };
            conversation.hold(protocol, stream, respond).await;
        }
        Purpose::Captured(captured) => {
            let worker = Arc::clone(&worker);
            let respond = move |request| {
                let (worker, captured) = (Arc::clone(&worker), Arc::clone(&captured));
                async move { outbound::serve_captured(&worker, &captured, request).await }
            };
            conversation.hold(protocol, stream, respond).await;
        }
        Purpose::Outbound(upstream) => {
            let worker = Arc::clone(&worker);
            let respond = move |request| {
                let (worker, upstream) = (Arc::clone(&worker), Arc::clone(&upstream));
                async move { outbound::serve(&worker, &upstream, request).await }
            };
            conversation.hold(protocol, stream, respond).await;
        }
        Purpose::Explicit => {
            let worker = Arc::clone(&worker);
            let respond = move |request| {
                let worker = Arc::clone(&worker);
                async move { outbound::serve_explicit(&worker, request).await }
            };
            conversation.hold(protocol, stream, respond).await;
        }
    }
}

/// What the client speaks. Reads ahead for as long as that cannot be told; a segment may end anywhere.
async fn detect(stream: &mut Stream) -> io::Result<Judgement> {
    loop {
        let judgement = judge(stream.ahead());
        if judgement != Judgement::More || stream.read_ahead(ENOUGH).await? == 0 {
            return Ok(judgement);
        }
    }
}

/// What a client speaks once it is known who it is.
enum Within {
    /// What it spoke before: there was no handshake.
    Clear,
    Http(Protocol),
    /// It has not said.
    Unsaid,
}

/// Takes the handshake of a client that begins one, and lets others pass where they may be in the clear. Nothing where
/// the connection is at its end.
async fn secure(
    worker: &Worker,
    stream: Stream,
    judgement: Judgement,
    caller: &mut Caller,
    deadline: Instant,
) -> Option<(Stream, Within)> {
    let sidecar = &worker.sidecar;
    if judgement != Judgement::Tls {
        if sidecar.tls.takes_clear_text(caller.ip, stream.local_ip()) {
            return Some((stream, Within::Clear));
        }
        sidecar.metrics.tls_refused_inbound(Refusal::ClearText);
        if sidecar.warnings.allow(caller.ip) {
            tracing::warn!(peer = %caller.ip, "a caller in the clear was refused: `tls.inbound` is `strict`");
        }
        return None;
    }
    let most = sidecar.config.limits.tls_handshakes;
    match tls::accept(&sidecar.tls.settings(), stream, deadline, most, &sidecar.metrics).await {
        Ok(Accepted { stream, identity, protocol }) => {
            caller.identity = identity;
            Some((stream, protocol.map_or(Within::Unsaid, Within::Http)))
        }
        Err(failure) => {
            if sidecar.warnings.allow(caller.ip) {
                let (reason, text) = (failure.why.as_str(), failure.text);
                tracing::warn!(peer = %caller.ip, reason, text, "the TLS handshake of a caller failed");
            }
            None
        }
    }
}

/// Waits until a connection that has sent nothing yet is to end, and until its first byte could have come.
async fn linger(drain: &mut Watch, ends_at: Phase) {
    let mut known = None;
    loop {
        let patience = known.map_or(Duration::MAX, Ending::patience);
        match tokio::time::timeout(patience, drain.ending(ends_at, known)).await {
            Ok(Ending::Closing) | Err(_) => return,
            Ok(ending) => known = Some(ending),
        }
    }
}

/// How a peer hears that its connection is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// `connection: close` in the next answer: that of HTTP/1.
    WithAnAnswer,
    /// GOAWAY; the streams that are open go on.
    AtOnce,
}

/// A connection, from its first request to its last.
struct Conversation<'a> {
    worker: &'a Arc<Worker>,
    progress: Progress,
    ends_at: Phase,
    drain: Watch,
    peer: IpAddr,
}

impl Conversation<'_> {
    async fn hold<F, O>(
        self,
        protocol: Protocol,
        stream: Stream,
        respond: impl Fn(Request<RequestBody>) -> F + Send + 'static,
    ) where
        F: Future<Output = Response<Reply<O>>> + Send + 'static,
        O: Observer + Send + 'static,
    {
        match protocol {
            Protocol::Http1 => self.http1(stream, respond).await,
            Protocol::Http2 => self.http2(stream, respond).await,
        }
    }

    async fn http1<F, O>(mut self, stream: Stream, respond: impl Fn(Request<RequestBody>) -> F)
    where
        F: Future<Output = Response<Reply<O>>>,
        O: Observer + 'static,
    {
        let limits = &self.worker.sidecar.config.limits;
        let bounds = Bounds { bytes: limits.header_bytes.as_usize(), fields: limits.header_fields };
        let (progress, verdict) = (self.progress.clone(), Verdict::default());
        let io = TokioIo::new(Gate::requests(stream, bounds, progress.clone(), verdict.clone()));
        let service = service_fn(|request: Request<Incoming>| {
            let turn = progress.turn();
            let connect = request.method() == Method::CONNECT;
            let (chunks, head) = (request.version() == Version::HTTP_11, request.method() == Method::HEAD);
            verdict.trailers().forget();
            // The codec keeps room for what is made here as long as the connection lives: 11 KB, if it were not apart.
            let aside = chunks.then(Aside::default);
            let mut response = Box::pin(respond(counted(request, &progress, aside.clone())));
            let verdict = verdict.clone();
            async move {
                let mut response = poll_fn(|cx| {
                    let polled = response.as_mut().poll(cx);
                    if let Some(interim) = aside.as_ref().and_then(Aside::told) {
                        verdict.interims().tell(&interim);
                    }
                    polled
                })
                .await;
                let status = response.status();
                let switches = status == StatusCode::SWITCHING_PROTOCOLS || connect && status.is_success();
                verdict.answered(switches);
                if !switches && turn.is_the_last() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response.body_mut().hold(turn);
                if chunks {
                    response.body_mut().trails(verdict.trailers());
                    if let Some((name, value)) = about_no_content(head, &mut response) {
                        verdict.trailers().leave_in_head(name, &value);
                    }
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .preserve_header_case(true)
            .auto_date_header(false)
            .max_headers(limits.header_fields)
            .max_header_size(limits.header_bytes.as_usize())
            .serve_connection(io, service)
            .with_upgrades();
        let ended =
            self.drive(pin!(connection), http1::UpgradeableConnection::graceful_shutdown, Farewell::WithAnAnswer).await;
        let metrics = &self.worker.sidecar.metrics;
        let why = match (verdict.violation(), ended) {
            (Some(violation), _) => {
                metrics.malformed_request(violation);
                violation.word()
            }
            // What the codec finds beyond that, such as a target that is no URI.
            (None, Some(Err(error))) if error.is_parse() => "codec",
            _ => return,
        };
        metrics.connections_malformed.add(1);
        if self.worker.sidecar.warnings.allow(self.peer) {
            tracing::debug!(peer = %self.peer, why, "a malformed request was refused");
        }
    }

    async fn http2<F, O>(mut self, stream: Stream, respond: impl Fn(Request<RequestBody>) -> F + Send + 'static)
    where
        F: Future<Output = Response<Reply<O>>> + Send + 'static,
        O: Observer + Send + 'static,
    {
        let sidecar = &self.worker.sidecar;
        let (metrics, progress) = (Arc::clone(&sidecar.metrics), self.progress.clone());
        let max_fields = sidecar.config.limits.header_fields;
        let respond = move |Asked { request, aside, moved }: Asked| {
            let turn = progress.stream(&moved);
            let (parts, body) = request.into_parts();
            let response = match check_request(&parts, max_fields) {
                Ok(()) => {
                    let body = RequestBody::new(body.into(), progress.moving_in(&moved), Some(aside));
                    // Large, and from here on it stays where it is.
                    Ok(Box::pin(respond(Request::from_parts(parts, body))))
                }
                Err((fault, why)) => {
                    metrics.fault(fault);
                    Err(refusal(fault, why, None, is_grpc(&parts.headers)))
                }
            };
            let serving: Serving<Reply<O>> = Box::pin(async move {
                let mut response = match response {
                    Ok(response) => response.await,
                    Err(refusal) => refusal,
                };
                response.body_mut().hold(turn);
                response
            });
            serving
        };
        let limits = http2::Limits {
            header_bytes: sidecar.config.limits.header_bytes.as_usize(),
            still: sidecar.config.timeouts.stream_idle,
        };
        let connection = Server::new(stream, Box::new(respond), limits, self.progress.clone(), &sidecar.metrics);
        let ended = self.drive(pin!(connection), Server::shut_down, Farewell::AtOnce).await;
        if let Some(Err(error)) = ended {
            let reason = Some(error).filter(h2::Error::is_library).and_then(|error| error.reason());
            match reason {
                Some(h2::Reason::ENHANCE_YOUR_CALM) => self.worker.sidecar.metrics.abuse(Abuse::Calm),
                Some(_) => self.worker.sidecar.metrics.connections_malformed.add(1),
                None => {}
            }
        }
    }

    /// Drives a connection to its end. Nothing where it was cut.
    async fn drive<C: Future>(
        &mut self,
        mut connection: Pin<&mut C>,
        shut_down: impl Fn(Pin<&mut C>),
        farewell: Farewell,
    ) -> Option<C::Output> {
        let timeouts = &self.worker.sidecar.config.timeouts;
        // Streams of HTTP/2 look at their own stillness.
        let still = timeouts.stream_idle.filter(|_| farewell == Farewell::WithAnAnswer);
        let limits = Limits { head: timeouts.header, idle: timeouts.idle, stream: still };
        // The time for a head began with the connection, however long it took to see what it speaks.
        let first = match self.progress.due(Instant::now(), limits) {
            Due::Later(at) => at,
            Due::Idle | Due::Head | Due::Stream => Instant::now(),
        };
        let first = limits.stream.map_or(first, |stream| first.min(Instant::now() + stream));
        let mut timer = Alarm::new(first);
        let (mut ending, mut closing) = (None, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => return Some(ended),
                why = self.drain.ending(self.ends_at, ending), if ending < Some(Ending::Closing) => {
                    ending = Some(why);
                    let now = Instant::now();
                    self.progress.end(now + why.patience());
                    timer.reset(now);
                    if farewell == Farewell::AtOnce || why == Ending::Closing {
                        shut_down(connection.as_mut());
                    }
                }
                () = poll_fn(|cx| timer.poll(cx)) => match self.progress.due(Instant::now(), limits) {
                    Due::Later(at) => timer.reset(at),
                    // A peer that does not take part in closing the connection is not waited for.
                    Due::Idle if closing => return None,
                    Due::Idle => {
                        closing = true;
                        timer.reset(Instant::now() + limits.head);
                        shut_down(connection.as_mut());
                    }
                    Due::Head => {
                        self.worker.sidecar.metrics.connections_timed_out.add(1);
                        return None;
                    }
                    Due::Stream => {
                        self.worker.sidecar.metrics.streams_timed_out.add(1);
                        return None;
                    }
                },
            }
        }
    }
}

/// Takes off a field that says how content would be framed which this answer does not have. RFC 9110, section 8.6, and
/// RFC 9112, section 6.1, allow it; the codec would leave it out.
fn about_no_content<B>(head: bool, response: &mut Response<B>) -> Option<(&'static str, HeaderValue)> {
    let unmodified = response.status() == StatusCode::NOT_MODIFIED;
    if !head && !unmodified {
        return None;
    }
    let headers = response.headers_mut();
    let (name, text) = match headers.contains_key(TRANSFER_ENCODING) {
        true => (TRANSFER_ENCODING, "Transfer-Encoding"),
        false => (CONTENT_LENGTH, "Content-Length"),
    };
    // An answer to HEAD keeps its length by itself.
    if head && name == CONTENT_LENGTH {
        return None;
    }
    let value = headers.get(&name).cloned()?;
    without(headers, |other| *other == name);
    Some((text, value))
}

/// A request whose body is counted, and moves the deadline of its connection as it passes.
fn counted(request: Request<Incoming>, progress: &Progress, aside: Option<Aside>) -> Request<RequestBody> {
    request.map(|body| RequestBody::new(body.into(), progress.moving(), aside))
}
