//! A request of the application: who is called, which handler calls, and what the other side is told of it.

mod captured;
mod explicit;
mod injected;
mod retry;

use std::sync::Arc;

use couplet_config::RouteTimeouts;
use couplet_telemetry::names::{CONTEXT_HEADER, REJECT_HEADER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

pub(crate) use captured::{Captured, peer_name, serve as serve_captured};
pub(crate) use explicit::serve as serve_explicit;
pub(crate) use injected::serve;
use retry::{retry, send_again};

use crate::context::{Calling, Summary, tracestate_without};
use crate::error::Fault;
use crate::forward::{Exchange, Reply, bridge, refusal, send};
use crate::http::{Fields, Head, RequestBody, Verdict, head, is_grpc, without};
use crate::link::Found;
use crate::policy::{Attempt, Patience, Refused, Way, allowed};
use crate::record::Call;
use crate::sidecar::Worker;
use crate::upstream::{Lease, Upstream};

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const CONTEXT: HeaderName = HeaderName::from_static(CONTEXT_HEADER);
const REJECT: HeaderName = HeaderName::from_static(REJECT_HEADER);

/// Sends one outbound request to `upstream`; it came at `received`, and `delayed` tells whether an injected fault has held
/// it up since.
async fn deliver(
    worker: &Arc<Worker>,
    upstream: &Arc<Upstream>,
    request: Request<RequestBody>,
    received: Instant,
    delayed: bool,
) -> Response<Reply<Call>> {
    let (mut parts, body) = request.into_parts();
    // The clock is read once, where nothing has happened since.
    let now = if delayed { Instant::now() } else { received };
    let (mut call, in_flight) = open(worker, upstream, &head(&parts), now);
    call.delayed(delayed);
    undress(&mut parts.headers);
    let grpc = is_grpc(&parts.headers);
    let way = worker.sidecar.routes.of(&upstream.name, parts.uri.path());
    let patience = patience(worker, way, &parts.headers, grpc, received);
    if let Err(refused) = attempt(upstream, way, &mut call, &parts.headers, now) {
        return reject(worker, &refused, call, grpc);
    }
    call.counts(body.count());
    let request = Request::from_parts(parts, body);

    let context = worker.recorder.enabled.then(|| context(worker, &call)).flatten();
    let wanted = context.is_some() && !upstream.is_ordinary() && upstream.peer.wants_context();
    let trust = &worker.sidecar.config.trust;
    let trusted = |lease: &Lease| {
        let known = lease.connection.identity.as_deref().is_some_and(|id| trust.knows(id));
        known || trust.covers(lease.connection.address.ip())
    };
    // Where it was sent, for whoever wants to know which endpoint did not answer.
    let reached = Mutex::new(None);
    let dress = |headers: &mut HeaderMap, lease: &Lease| {
        *reached.lock() = Some(lease.connection.address);
        match &context {
            Some(context) if wanted && trusted(lease) => drop(headers.insert(CONTEXT, context.clone())),
            _ => drop(headers.remove(CONTEXT)),
        }
    };
    let exchange = if in_flight > worker.sidecar.config.limits.requests_in_flight as u64 {
        Err((Fault::InFlight, 0))
    } else if let Some(again) = way.and_then(|way| Some((way, retry(way, &request)?))) {
        // Apart: few calls are on such routes, and all would have room for it.
        Box::pin(send_again(worker, upstream, request, &patience, again, &mut call, dress)).await
    } else {
        send(worker, upstream, request, &patience, dress).await
    };
    match exchange {
        Ok(exchange) => {
            let asked = wanted && trusted(&exchange.lease);
            answer(worker, upstream, exchange, call, asked, &patience, grpc)
        }
        Err((fault, attempts)) => {
            call.attempted(attempts);
            if let (Some(attempt), Some(endpoint)) = (call.attempt(), reached.into_inner()) {
                attempt.reached(endpoint);
            }
            refuse(worker, fault, upstream, call, grpc)
        }
    }
}

/// Hands an answer back to the application.
fn answer(
    worker: &Worker,
    upstream: &Upstream,
    exchange: Exchange,
    mut call: Call,
    asked: bool,
    patience: &Patience,
    grpc: bool,
) -> Response<Reply<Call>> {
    let (mut head, body) = exchange.response.into_parts();
    let below = summary(worker, exchange.summary.as_ref(), asked);
    if asked {
        upstream.peer.answered(below.is_some());
    }
    call.attempted(exchange.attempts);
    let now = Instant::now();
    // Believed of sidecars alone: their answers carry a summary.
    let rejected = exchange.rejected.filter(|_| below.is_some());
    if let Some(attempt) = call.attempt() {
        let endpoint = exchange.lease.connection.address;
        attempt.answered(head.status, &head.headers, endpoint, rejected.is_some(), now);
    }
    if let Some(rejected) = rejected {
        call.rejected(rejected.clone());
        head.headers.insert(REJECT, rejected);
    }
    call.answered(Verdict::of(grpc, head.status, &head.headers), below, now);
    let reply = match exchange.upgrade {
        Some((downstream, upstream)) => {
            bridge(worker, downstream, upstream, call);
            Reply::none()
        }
        None => Reply::upstream(&head, body, call, exchange.lease, patience, grpc),
    };
    Response::from_parts(head, reply)
}

/// Answers in the destination's stead.
fn refuse(worker: &Worker, fault: Fault, to: &Upstream, mut call: Call, grpc: bool) -> Response<Reply<Call>> {
    if let Some(refused) = to.breaker.as_ref().and_then(|breaker| Refused::by_limit(breaker, fault)) {
        return reject(worker, &refused, call, grpc);
    }
    worker.sidecar.metrics.fault(fault);
    call.failed(fault);
    refusal(fault, &to.name, Some(call), grpc)
}

/// How long a call that came at `received` may take.
fn patience(worker: &Worker, way: Option<&Arc<Way>>, headers: &HeaderMap, grpc: bool, received: Instant) -> Patience {
    let sidecar = &worker.sidecar;
    let allowed = grpc.then(|| allowed(headers, &sidecar.metrics)).flatten();
    let own = way.map_or_else(RouteTimeouts::default, |way| way.route.timeouts);
    Patience::new(&sidecar.config.timeouts, own, allowed, received)
}

/// Asks the breaker of the destination, or of the class of the call, which then looks on.
fn attempt(
    upstream: &Upstream,
    way: Option<&Arc<Way>>,
    call: &mut Call,
    headers: &HeaderMap,
    now: Instant,
) -> Result<(), Refused> {
    if let Some(breaker) = way.and_then(|way| way.breaker.as_ref()).or(upstream.breaker.as_ref()) {
        call.attempts(Attempt::ask(breaker, is_grpc(headers), headers, now)?);
    }
    Ok(())
}

/// Answers in the stead of a destination that is not to be called now, and says who decided that and why.
fn reject(worker: &Worker, refused: &Refused, mut call: Call, grpc: bool) -> Response<Reply<Call>> {
    let fault = refused.fault();
    worker.sidecar.metrics.fault(fault);
    call.failed(fault);
    let retry_in = refused.retry_in();
    let why = HeaderValue::from_str(&refused.to_string()).ok();
    if let Some(why) = &why {
        call.rejected(why.clone());
    }
    let mut response = refusal(fault, &refused.to, Some(call), grpc);
    let headers = response.headers_mut();
    match grpc {
        true => {
            // Not below the millisecond, or clients come back at once.
            let pushback = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX).max(1);
            headers.insert("grpc-retry-pushback-ms", HeaderValue::from(pushback));
        }
        false => {
            let seconds = retry_in.as_secs_f64().ceil().max(1.0) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
    if let Some(why) = why {
        headers.insert(REJECT, why);
    }
    response
}

/// Opens the call, inside the handler that makes it as far as that is known.
fn open<F: Fields>(worker: &Worker, upstream: &Upstream, head: &Head<'_, F>, now: Instant) -> (Call, u64) {
    if !worker.recorder.enabled {
        return Call::silent(&worker.recorder, now);
    }
    let callee = worker.recorder.local.callee(&upstream.name, &head.asked());
    let (link, timed) = worker.recorder.link(found(worker, head.fields), &callee, now);
    worker.recorder.headers.called_by(head.fields.first(&header::USER_AGENT), link.evidence());
    let mut target = Xxh3::new();
    target.update(head.method.as_bytes());
    target.update(head.target.as_bytes());
    let (mut call, in_flight) = Call::open(&worker.recorder, link, callee, target.digest(), now);
    call.timed(timed);
    (call, in_flight)
}

/// What the headers of a request prove.
fn found<F: Fields>(worker: &Worker, fields: &F) -> Found {
    let headers = &worker.recorder.headers;
    let carried = headers.outbound(fields);
    let found = worker.recorder.handlers.find(&carried);
    headers.found(&carried, &found, fields);
    found
}

/// Takes off the id of the handler: it concerns nobody else.
fn undress(headers: &mut HeaderMap) {
    let states = headers.get_all(TRACESTATE);
    let Some(rest) = tracestate_without(|| states.iter().map(HeaderValue::as_bytes)) else { return };
    match HeaderValue::try_from(rest) {
        Ok(value) if !value.is_empty() => drop(headers.insert(TRACESTATE, value)),
        _ => without(headers, |name| name == TRACESTATE),
    }
}

/// What the callee's proxy is told.
fn context(worker: &Worker, call: &Call) -> Option<HeaderValue> {
    let path = call.path();
    let calling = Calling {
        path: path.id,
        root: path.root,
        depth: path.depth,
        call: fastrand::u64(1..),
        evidence: path.evidence.max(call.evidence()),
        service: &worker.sidecar.config.service,
    };
    calling.text().value()
}

/// What the callee's proxy says, where it may be believed: it was asked, so its address or identity is a trusted one.
fn summary(worker: &Worker, value: Option<&HeaderValue>, asked: bool) -> Option<Summary> {
    let value = value?;
    let metrics = &worker.sidecar.metrics;
    if !asked {
        metrics.summaries_untrusted.add(1);
        return None;
    }
    let summary = Summary::parse(value.as_bytes());
    if summary.is_none() {
        metrics.summaries_malformed.add(1);
    }
    summary
}
