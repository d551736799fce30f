//! A request for the application: which path it came on, and what the application is told of it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use couplet_config::{CallerNames, RouteTimeouts, SpiffeId};
use couplet_telemetry::names::{CONTEXT_HEADER, REJECT_HEADER, SUMMARY_HEADER};
use couplet_telemetry::outcome::Outcome;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header, request};
use tokio::time::Instant;

use crate::context::{Calling, Summary, Traceparent, foreign, is_tracestate, tracestate_with};
use crate::error::Fault;
use crate::forward::{Exchange, Reply, bridge, refusal, send};
use crate::http::{Fields, Head, Protocol, RequestBody, Verdict, head, is_grpc, without};
use crate::link::{Carried, CarriedOnce, Handler};
use crate::policy::{Concurrency, Patience, allowed};
use crate::record::Handling;
use crate::sidecar::Worker;
use crate::upstream::{Early, Upstream};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const CONTEXT: HeaderName = HeaderName::from_static(CONTEXT_HEADER);
const SUMMARY: HeaderName = HeaderName::from_static(SUMMARY_HEADER);
const REJECT: HeaderName = HeaderName::from_static(REJECT_HEADER);
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");

/// Who calls.
pub(crate) struct Caller {
    pub(crate) ip: IpAddr,
    /// Who it has proved to be, in mutual TLS.
    pub(crate) identity: Option<Arc<SpiffeId>>,
    /// Whether it belongs to the mesh, once that was asked: a connection is served by one configuration.
    trusted: OnceLock<bool>,
}

impl Caller {
    pub(crate) fn new(ip: IpAddr) -> Self {
        Self { ip, identity: None, trusted: OnceLock::new() }
    }
}

/// Where the requests on an inbound connection are delivered.
pub(crate) struct Delivery {
    pub(crate) upstream: Arc<Upstream>,
    /// The connection that was made before the first of them came.
    pub(crate) early: Early,
}

/// Serves one inbound request.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    to: Option<&Delivery>,
    caller: &Caller,
    request: Request<RequestBody>,
) -> Response<Reply<Handling>> {
    let (mut parts, body) = request.into_parts();
    let received = Instant::now();
    let infra = is_infra(&parts.headers);
    let (mut handling, in_flight, summarise) = open(worker, caller, &mut parts, infra, received);
    if is_trusted(worker, caller) {
        handling.explains();
    }
    let grpc = is_grpc(&parts.headers);
    let sidecar = &worker.sidecar;
    let allowed = grpc.then(|| allowed(&parts.headers, &sidecar.metrics)).flatten();
    let patience = Patience::new(&sidecar.config.timeouts, RouteTimeouts::default(), allowed, received);
    let request = Request::from_parts(parts, body);

    let limit = worker.sidecar.config.limits.requests_in_flight as u64;
    let exchange = match to {
        _ if in_flight > limit => Err((Fault::InFlight, 0)),
        Some(_) if !handling.enters(infra) => Err((Fault::Overloaded, 0)),
        Some(Delivery { upstream, early }) => {
            match early.settle(&worker.connector, upstream, Protocol::of(request.version())).await {
                Ok(()) => send(worker, upstream, request, &patience, |_, _| ()).await,
                Err(fault) => Err((fault, 0)),
            }
        }
        None => Err((Fault::Unresolved, 0)),
    };
    time(&worker.recorder.concurrency, &exchange, grpc, infra, received);
    let summary = |handling: &Handling| summarise.then(|| handling.summary(Instant::now())).flatten();
    match exchange {
        Err((fault, _)) => {
            worker.sidecar.metrics.fault(fault);
            handling.failed(fault.answer().outcome);
            let (summary, explained) = (summary(&handling), handling.is_explained());
            let mut response = refusal(fault, &worker.sidecar.config.service, Some(handling), grpc);
            put_summary(response.headers_mut(), summary);
            if fault == Fault::Overloaded {
                ask_for_time(response.headers_mut(), explained.then_some(&worker.sidecar.config.service), grpc);
            }
            response
        }
        Ok(exchange) => {
            let (mut head, body) = exchange.response.into_parts();
            handling.answered(Verdict::of(grpc, head.status, &head.headers));
            put_summary(&mut head.headers, summary(&handling));
            if let Some(rejected) = handling.rejected() {
                head.headers.insert(REJECT, rejected);
            }
            let reply = match exchange.upgrade {
                Some((downstream, upstream)) => {
                    bridge(worker, downstream, upstream, handling);
                    Reply::none()
                }
                None => Reply::upstream(&head, body, handling, exchange.lease, &patience, grpc),
            };
            Response::from_parts(head, reply)
        }
    }
}

/// Tells how long the application took to answer. What failed at once says nothing of that, and the platform asks for what
/// is simple.
fn time(
    concurrency: &Concurrency,
    exchange: &Result<Exchange, (Fault, u32)>,
    grpc: bool,
    infra: bool,
    received: Instant,
) {
    if infra || !concurrency.wants_times() {
        return;
    }
    let counts = match exchange {
        Ok(Exchange { response, .. }) => match Verdict::of(grpc, response.status(), response.headers()) {
            Verdict::Known(outcome) => !outcome.is_failure(),
            Verdict::InTrailers => true,
        },
        Err((fault, _)) => fault.answer().outcome == Outcome::Timeout,
    };
    if counts {
        let now = Instant::now();
        concurrency.answered(now.saturating_duration_since(received), now);
    }
}

/// Says that it is too much for now, and to callers of the mesh (`service` is for those) that nothing has failed.
fn ask_for_time(headers: &mut HeaderMap, service: Option<&String>, grpc: bool) {
    match grpc {
        true => headers.insert("grpc-retry-pushback-ms", HeaderValue::from_static("1000")),
        false => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
    };
    let why = service.map(|service| format!("limit; service=\"{service}\"; reason=limit_concurrency; for=1s"));
    if let Some(why) = why.and_then(|why| HeaderValue::try_from(why).ok()) {
        headers.insert(REJECT, why);
    }
}

/// Opens the handling of a request. Also says how many are in flight now, and whether the caller is a proxy that wants a
/// summary.
fn open(
    worker: &Worker,
    caller: &Caller,
    parts: &mut request::Parts,
    infra: bool,
    now: Instant,
) -> (Handling, u64, bool) {
    let recorder = &worker.recorder;
    if !recorder.enabled {
        let (handling, in_flight) = Handling::silent(recorder);
        return (handling, in_flight, false);
    }
    let mut admission = admit(worker, caller, &head(parts), infra, now);
    admission.apply(&mut parts.headers);
    let (handling, in_flight) = match infra {
        true => Handling::infra(recorder, admission.handler),
        false => Handling::open(recorder, admission.handler),
    };
    (handling, in_flight, admission.summarise)
}

/// Whether the platform asks and not a caller: kubelet's probes, Prometheus' scrapes. Edges would be drawn to nobody.
fn is_infra(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).map_or(&[][..], HeaderValue::as_bytes);
    INFRA.iter().any(|infra| agent.starts_with(infra.as_bytes()))
}

const INFRA: [&str; 2] = ["kube-probe/", "Prometheus/"];

/// What is decided about an inbound request from its head alone.
struct Admission {
    handler: Arc<Handler>,
    /// Set where the request brought none.
    traceparent: Option<HeaderValue>,
    tracestate: Option<HeaderValue>,
    /// Whether the caller is a proxy that wants a summary.
    summarise: bool,
}

fn admit<F: Fields>(worker: &Worker, caller: &Caller, head: &Head<'_, F>, infra: bool, now: Instant) -> Admission {
    let calling = calling(worker, caller, head.fields);
    let path = match infra {
        true => Arc::clone(worker.recorder.local.unlinked()),
        false => worker.recorder.local.path(&head.asked(), calling.as_ref()),
    };
    let headers = &worker.recorder.headers;
    let (mut carried, watched) = match infra {
        true => (Carried::unwatched(head.fields.first(&TRACEPARENT), head.fields.first(&TRACESTATE)), None),
        false => headers.inbound(head.fields),
    };
    count_malformed(worker, &carried, head.fields);
    let brought = carried.traceparent.get();
    let sampled = worker.sidecar.config.headers.sampled;
    let same = || brought.or_else(|| of_b3(head.fields, sampled));
    let trace = same().unwrap_or_else(|| Traceparent::fresh(sampled));
    let id = fastrand::u64(1..);
    let service = worker.sidecar.service;
    if brought.is_none() {
        headers.give(&mut carried, trace.trace, trace.span);
    }
    // A tracestate without the traceparent that it belongs to means nothing.
    let goes_on = brought.is_some() && carried.state;
    let name = TRACESTATE;
    let states = goes_on.then(|| head.fields.values(&name)).into_iter().flatten();
    Admission {
        handler: Arc::new(
            Handler::new(id, trace.trace, &carried, path, service, now).sampled(trace.flags & 1 == 1).watched(watched),
        ),
        traceparent: brought.is_none().then(|| trace.text().value()).flatten(),
        tracestate: tracestate_with(states, id).value(),
        summarise: calling.is_some(),
    }
}

/// Counts trace headers that cannot be read: they name no trace, and are replaced. Nobody sends a summary with a request.
fn count_malformed<F: Fields>(worker: &Worker, carried: &Carried, fields: &F) {
    let metrics = &worker.sidecar.metrics;
    if fields.first(&SUMMARY).is_some() {
        metrics.summaries_untrusted.add(1);
    }
    if carried.traceparent == CarriedOnce::Nonsense {
        metrics.traceparents_malformed.add(1);
    }
    if carried.state && !fields.values(&TRACESTATE).all(is_tracestate) {
        metrics.tracestates_malformed.add(1);
    }
}

/// The traceparent that says the same as the B3 headers of a request, if it has them.
fn of_b3<F: Fields>(fields: &F, sampled: bool) -> Option<Traceparent> {
    let (b3, span) = match fields.first(&B3) {
        Some(b3) => (foreign::b3(b3)?, None),
        None => (foreign::hexadecimal(fields.first(&B3_TRACE)?)?, fields.first(&B3_SPAN).and_then(foreign::span)),
    };
    let sampled = match fields.first(&B3_SAMPLED) {
        Some(b"0" | b"false") => false,
        _ => sampled,
    };
    foreign::traceparent_of(&b3, span, sampled)
}

/// The context of a peer that may be believed; others are counted.
fn calling<'a, F: Fields>(worker: &Worker, caller: &'a Caller, fields: &'a F) -> Option<Calling<'a>> {
    let value = fields.first(&CONTEXT)?;
    let metrics = &worker.sidecar.metrics;
    let trust = &worker.sidecar.config.trust;
    if !is_trusted(worker, caller) {
        metrics.contexts_untrusted.add(1);
        return None;
    }
    let mut calling = Calling::parse(value);
    if calling.is_none() {
        metrics.contexts_malformed.add(1);
        if worker.sidecar.warnings.allow(caller.ip) {
            tracing::warn!(peer = %caller.ip, "a calling context that cannot be read was ignored; the request is taken as a root");
        }
    }
    let identity = caller.identity.as_deref().filter(|id| trust.knows(id));
    if trust.names == CallerNames::Identity
        && let (Some(calling), Some(proved)) = (&mut calling, identity.and_then(SpiffeId::service))
    {
        calling.service = proved;
    }
    calling
}

/// Whether the caller belongs to the mesh, by its identity or where it is.
fn is_trusted(worker: &Worker, caller: &Caller) -> bool {
    let trust = &worker.sidecar.config.trust;
    let ask = || caller.identity.as_deref().is_some_and(|id| trust.knows(id)) || trust.covers(caller.ip);
    *caller.trusted.get_or_init(ask)
}

impl Admission {
    /// What the application gets to see.
    fn apply(&mut self, headers: &mut HeaderMap) {
        // Goes before others come: a last field is taken off without moving those before it.
        without(headers, |name| *name == CONTEXT);
        if let Some(value) = self.traceparent.take() {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(value) = self.tracestate.take() {
            headers.insert(TRACESTATE, value);
        }
    }
}

fn put_summary(headers: &mut HeaderMap, summary: Option<Summary>) {
    if let Some(value) = summary.and_then(|summary| summary.text().value()) {
        headers.insert(SUMMARY, value);
    }
}
