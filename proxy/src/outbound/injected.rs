//! What calls meet where somebody injects faults on purpose: they are held up, or answered here and not sent.
//!
//! It happens before anything else is known of the call: what is held up is no call yet, so that the time is nobody's
//! latency but the caller's; what is aborted never becomes one, so that no breaker hears of it and no callee is blamed.

use std::sync::Arc;

use couplet_telemetry::names::FAULT_HEADER;
use http::{HeaderName, HeaderValue, Request, Response, request};
use tokio::time::Instant;

use super::{deliver, found};
use crate::error::Fault;
use crate::forward::{Reply, refusal};
use crate::http::{RequestBody, head, is_grpc};
use crate::link::Found;
use crate::policy::Abort;
use crate::record::{Call, InFlight};
use crate::sidecar::Worker;
use crate::upstream::Upstream;

const FAULT: HeaderName = HeaderName::from_static(FAULT_HEADER);

/// Serves one outbound request to `upstream`.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    upstream: &Arc<Upstream>,
    request: Request<RequestBody>,
) -> Response<Reply<Call>> {
    let received = Instant::now();
    let (mut request, mut answer, mut held_up) = (request, None, false);
    if worker.sidecar.injections.any() {
        let (parts, body) = request.into_parts();
        // Apart, or every request would have room for it.
        match Box::pin(meet(worker, upstream, &parts)).await {
            Injected::Aborted(response) => return *response,
            Injected::Passed { told, delayed } => (answer, held_up) = (told, delayed),
        }
        request = Request::from_parts(parts, body);
    }
    let response = deliver(worker, upstream, request, received, held_up).await;
    with(response, answer)
}

/// What became of a request that faults were looked for.
pub(super) enum Injected {
    /// It goes on, and its answer says what it met.
    Passed {
        told: Option<HeaderValue>,
        delayed: bool,
    },
    Aborted(Box<Response<Reply<Call>>>),
}

/// Does to a request what it meets.
pub(super) async fn meet(worker: &Arc<Worker>, upstream: &Upstream, parts: &request::Parts) -> Injected {
    let (injections, metrics) = (&worker.sidecar.injections, &worker.sidecar.metrics);
    let grpc = is_grpc(&parts.headers);
    let mut met = injections.meet(&upstream.name, &parts.method, parts.uri.path(), grpc, Instant::now(), fastrand::f64);
    // One that is held up is in flight like others: the limit and the drain see it.
    let (in_flight, count) = InFlight::new(metrics);
    let room = count <= worker.sidecar.config.limits.requests_in_flight as u64;
    let delayed = injections.hold(&mut met, room).await;
    drop(in_flight);
    let told = injections.told(&met);
    match injections.abort(&met) {
        None => Injected::Passed { told, delayed },
        Some(abort) => {
            record(worker, upstream, parts, delayed);
            metrics.fault(Fault::Injected);
            Injected::Aborted(Box::new(with(answer(abort, upstream, grpc), told)))
        }
    }
}

/// Says in an answer what its request met.
pub(super) fn with(mut response: Response<Reply<Call>>, told: Option<HeaderValue>) -> Response<Reply<Call>> {
    if let Some(told) = told {
        response.headers_mut().insert(FAULT, told);
    }
    response
}

/// Counts a request that was aborted. It is no call; the handling that wanted to make it is told why it may fail.
fn record(worker: &Worker, upstream: &Upstream, parts: &request::Parts, delayed: bool) {
    let recorder = &worker.recorder;
    if !recorder.enabled {
        return;
    }
    let callee = recorder.local.callee(&upstream.name, &head(parts).asked());
    let handler = match found(worker, &parts.headers) {
        Found::One(handler, _) => Some(handler),
        Found::Several(_) | Found::None => None,
    };
    let path = handler.as_ref().map_or(recorder.local.unlinked(), |handler| &handler.path);
    recorder.local.injected(path, &callee, delayed, true);
    if let Some(handler) = &handler {
        handler.abort();
    }
}

fn answer(abort: Abort, upstream: &Upstream, grpc: bool) -> Response<Reply<Call>> {
    let mut response = refusal(Fault::Injected, &upstream.name, None, grpc);
    match abort {
        Abort::Http(status) => *response.status_mut() = status,
        Abort::Grpc(code) => drop(response.headers_mut().insert("grpc-status", HeaderValue::from(u16::from(code)))),
    }
    response
}
