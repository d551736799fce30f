//! One handling, one record; one call, one record: written when its guard is dropped, however that comes about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use couplet_telemetry::example::Trace;
use couplet_telemetry::names::REJECT_HEADER;
use couplet_telemetry::opaque::{OpaqueStats, Protocol};
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Callee, PathDefinition};
use couplet_telemetry::window::{self, Loss};
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::aggregate::Local;
use crate::context::Summary;
use crate::error::Fault;
use crate::http::{Verdict, status_of};
use crate::link::{CallEnd, Found, Handler, Handlers, Headers, Link};
use crate::metrics::Metrics;
use crate::policy::{Attempt, Concurrency};
use crate::timing::{Timed, Timing};

/// Watches a response body. Dropped when the body is done with, whole or not: what must happen once, happens there.
pub(crate) trait Observer: Unpin {
    /// Some bytes of the body were read.
    fn bytes(&mut self, count: u64);
    /// The trailers were read. What concerns proxies alone is taken off and put on here.
    fn trailers(&mut self, trailers: &mut HeaderMap);
    /// The body is whole, as of now: whoever watches reads no clock for that.
    fn whole(&mut self, now: Instant);
    /// The body broke.
    fn broken(&mut self);
    /// It took too long, and was cut.
    fn expired(&mut self, fault: Fault);
    /// Where the body of the request is counted, if it is.
    fn uploaded(&self) -> Option<Arc<AtomicU64>>;
}

/// Where records go.
pub(crate) struct Recorder {
    pub(crate) local: Arc<Local>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) headers: Arc<Headers>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether there are any: `telemetry.enabled`.
    pub(crate) enabled: bool,
    pub(crate) timing: Arc<Timing>,
    /// How many requests the application may have.
    pub(crate) concurrency: Arc<Concurrency>,
    /// Which of the workers this is.
    pub(crate) worker: usize,
}

impl Recorder {
    /// Who makes a call that begins now: what its headers prove, or else what timing makes likely.
    pub(crate) fn link(&self, found: Found, callee: &Arc<Callee>, now: Instant) -> (Link, Option<Timed>) {
        self.timing.link(self.worker, found, callee, now)
    }
}

/// One request in flight, in either direction.
pub(crate) struct InFlight(Arc<Metrics>);

impl InFlight {
    /// Counts one more; and how many there are now.
    pub(crate) fn new(metrics: &Arc<Metrics>) -> (Self, u64) {
        let now = metrics.requests_in_flight.up();
        (Self(Arc::clone(metrics)), now)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests_in_flight.down();
    }
}

/// An inbound request while it is served.
pub(crate) struct Handling {
    recorder: Arc<Recorder>,
    /// Absent where nothing is recorded.
    handler: Option<Arc<Handler>>,
    /// What the answer's head says; final once the body is whole.
    answered: Option<Verdict>,
    ended: Option<Outcome>,
    /// When the answer was whole.
    whole_at: Option<Instant>,
    /// Nobody's request: a probe of the platform.
    infra: bool,
    /// Whether the caller may be told which breaker is the cause of a failure.
    explains: bool,
    /// Whether the application has it.
    entered: bool,
    _in_flight: InFlight,
}

impl Handling {
    /// Opens a handler: from here on calls can be linked to it. Also says how many requests are now in flight.
    pub(crate) fn open(recorder: &Arc<Recorder>, handler: Arc<Handler>) -> (Self, u64) {
        recorder.handlers.open(&handler);
        recorder.timing.handler_started(recorder.worker, &handler, handler.started());
        Self::begin(recorder, Some(handler), false)
    }

    /// A request of which nothing is recorded, since telemetry is switched off.
    pub(crate) fn silent(recorder: &Arc<Recorder>) -> (Self, u64) {
        Self::begin(recorder, None, false)
    }

    /// A request of the platform: it is carried and counted as such, and joins no chain.
    pub(crate) fn infra(recorder: &Arc<Recorder>, handler: Arc<Handler>) -> (Self, u64) {
        recorder.metrics.infra_requests.add(1);
        Self::begin(recorder, Some(handler), true)
    }

    fn begin(recorder: &Arc<Recorder>, handler: Option<Arc<Handler>>, infra: bool) -> (Self, u64) {
        let (in_flight, now) = InFlight::new(&recorder.metrics);
        let recorder = Arc::clone(recorder);
        (
            Self {
                recorder,
                handler,
                answered: None,
                ended: None,
                whole_at: None,
                infra,
                explains: false,
                entered: false,
                _in_flight: in_flight,
            },
            now,
        )
    }

    /// Whether the application gets it, or has too many already. `infra` as in [`Concurrency::enter`].
    pub(crate) fn enters(&mut self, infra: bool) -> bool {
        self.entered = self.recorder.concurrency.enter(infra);
        self.entered
    }

    /// Whether the caller may be told who is the cause of a failure.
    pub(crate) fn is_explained(&self) -> bool {
        self.explains
    }

    /// The answer's head is on its way.
    pub(crate) fn answered(&mut self, verdict: Verdict) {
        self.answered = Some(verdict);
    }

    /// There will be no answer but the proxy's own.
    pub(crate) fn failed(&mut self, outcome: Outcome) {
        self.ended = Some(outcome);
    }

    /// The caller may be told which breaker is the cause of a failure.
    pub(crate) fn explains(&mut self) {
        self.explains = true;
    }

    /// Which breaker stopped a call of this handling: what the caller is told where the handling failed.
    pub(crate) fn rejected(&self) -> Option<HeaderValue> {
        let failed = matches!(self.answered, Some(Verdict::Known(outcome)) if outcome.is_failure());
        (failed && self.explains).then(|| self.handler.as_ref()?.rejected()).flatten()
    }

    /// What the caller's proxy is told of everything below.
    pub(crate) fn summary(&self, now: Instant) -> Option<Summary> {
        self.handler.as_ref().map(|handler| handler.summary(now))
    }
}

impl Observer for Handling {
    fn bytes(&mut self, _count: u64) {}

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        settle(&mut self.answered, trailers);
        // What the application says of breakers it was told itself; who is the cause, this proxy knows.
        trailers.remove(REJECT_HEADER);
        if let Some(rejected) = self.rejected() {
            trailers.insert(REJECT_HEADER, rejected);
        }
    }

    fn whole(&mut self, now: Instant) {
        self.ended = self.ended.or(self.answered.map(Verdict::at_end));
        self.whole_at = Some(now);
    }

    fn broken(&mut self) {
        self.ended = Some(Outcome::Reset);
    }

    fn expired(&mut self, fault: Fault) {
        self.recorder.metrics.fault(fault);
        self.ended = Some(fault.answer().outcome);
    }

    fn uploaded(&self) -> Option<Arc<AtomicU64>> {
        None
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        if self.entered {
            self.recorder.concurrency.leave();
        }
        let Some(handler) = self.handler.as_ref().filter(|_| !self.infra) else { return };
        let now = self.whole_at.unwrap_or_else(Instant::now);
        let handled = handler.end(now);
        self.recorder.timing.handler_ended(self.recorder.worker, handler, now);
        self.recorder.handlers.ended(handler);
        if let Some(watched) = &handler.watched {
            self.recorder.headers.closed(watched);
        }
        // A guard that goes before its answer was whole: the downstream side went away.
        let outcome = self.ended.unwrap_or(Outcome::Cancelled);
        let handling = window::Handling {
            outcome,
            duration: handled.duration,
            blocked: handled.blocked,
            busy: handled.busy,
            asynchronous: handled.asynchronous,
            calls: handled.calls,
            callees: handled.callees,
            depth_below: handled.depth_below,
            calls_below: handled.calls_below,
            services_below: handled.services_below,
            below: handled.below,
            retries: handled.retries,
            origin: outcome.is_failure().then(|| handled.origin.as_deref().unwrap_or(self.recorder.local.service())),
            // The window says when: no clock is read for it.
            trace: Some(Trace { id: handler.trace, sampled: handler.sampled, at: 0 }),
            uses: &handled.uses,
        };
        self.recorder.local.handling(&handler.path, &handling);
    }
}

/// The trailers say what the head left open.
fn settle(answered: &mut Option<Verdict>, trailers: &HeaderMap) {
    if *answered == Some(Verdict::InTrailers)
        && let Some(outcome) = status_of(trailers)
    {
        *answered = Some(Verdict::Known(outcome));
    }
}

/// An outbound request while it is under way.
pub(crate) struct Call {
    recorder: Arc<Recorder>,
    /// The handler that calls, and how surely.
    link: Link,
    /// What timing knows the call by.
    timed: Option<Timed>,
    /// Absent where nothing is recorded.
    callee: Option<Arc<Callee>>,
    /// What is asked for, as a hash.
    target: u64,
    /// Whether it failed before and is made again.
    retry: bool,
    started: Instant,
    first_byte: Option<Instant>,
    whole_at: Option<Instant>,
    below: Option<Summary>,
    answered: Option<Verdict>,
    ended: Option<Outcome>,
    attempts: u32,
    request_bytes: Option<Arc<AtomicU64>>,
    response_bytes: u64,
    /// Whether an injected fault held it up before.
    delayed: bool,
    /// What the breaker of the destination is told, once this is gone.
    attempt: Option<Attempt>,
    _in_flight: InFlight,
}

impl Call {
    /// Opens a call inside the handler that makes it, or inside none that is known. Also says how many requests are
    /// now in flight.
    pub(crate) fn open(
        recorder: &Arc<Recorder>,
        link: Link,
        callee: Arc<Callee>,
        target: u64,
        now: Instant,
    ) -> (Self, u64) {
        let started = link.handler().map(|handler| handler.call_started(&callee, target, now));
        if started.is_some_and(|started| !started.kept) {
            recorder.local.lose(Loss::Uses);
        }
        let (mut call, in_flight) = Self::begin(recorder, link, Some(callee), now);
        (call.target, call.retry) = (target, started.is_some_and(|started| started.retry));
        (call, in_flight)
    }

    /// A call of which nothing is recorded, since telemetry is switched off.
    pub(crate) fn silent(recorder: &Arc<Recorder>, now: Instant) -> (Self, u64) {
        Self::begin(recorder, Link::unknown(), None, now)
    }

    fn begin(recorder: &Arc<Recorder>, link: Link, callee: Option<Arc<Callee>>, now: Instant) -> (Self, u64) {
        let (in_flight, in_flight_now) = InFlight::new(&recorder.metrics);
        let call = Self {
            recorder: Arc::clone(recorder),
            link,
            timed: None,
            callee,
            target: 0,
            retry: false,
            started: now,
            first_byte: None,
            whole_at: None,
            below: None,
            answered: None,
            ended: None,
            attempts: 0,
            request_bytes: None,
            response_bytes: 0,
            delayed: false,
            attempt: None,
            _in_flight: in_flight,
        };
        (call, in_flight_now)
    }

    /// Timing is told when the call ends.
    pub(crate) fn timed(&mut self, timed: Option<Timed>) {
        self.timed = timed;
    }

    /// An injected fault held it up before it was opened.
    pub(crate) fn delayed(&mut self, delayed: bool) {
        self.delayed = delayed;
    }

    /// The path of the handler that calls.
    pub(crate) fn path(&self) -> &Arc<PathDefinition> {
        self.link.handler().map_or(self.recorder.local.unlinked(), |handler| &handler.path)
    }

    /// How surely that handler is the one.
    pub(crate) fn evidence(&self) -> Evidence {
        self.link.evidence()
    }

    /// Where the body of the request is counted.
    pub(crate) fn counts(&mut self, request_bytes: Option<Arc<AtomicU64>>) {
        self.request_bytes = request_bytes;
    }

    /// How many attempts were made on the wire.
    pub(crate) fn attempted(&mut self, attempts: u32) {
        self.attempts = attempts;
    }

    /// The answer's head has come.
    pub(crate) fn answered(&mut self, verdict: Verdict, below: Option<Summary>, now: Instant) {
        if let (Some(below), Some(callee)) = (&below, &self.callee) {
            self.recorder.local.told(callee, below.variable);
        }
        (self.answered, self.below, self.first_byte) = (Some(verdict), below, Some(now));
    }

    /// There will be no answer.
    pub(crate) fn failed(&mut self, fault: Fault) {
        self.ended = Some(fault.answer().outcome);
        if let Some(attempt) = &mut self.attempt {
            attempt.failed(fault);
        }
    }

    /// From here on the breaker of the destination looks on.
    pub(crate) fn attempts(&mut self, mut attempt: Attempt) {
        attempt.belongs_to(self.link.handler().map_or(0, |handler| handler.trace));
        self.attempt = Some(attempt);
    }

    /// What the breaker of the destination saw of a try that is over.
    pub(crate) fn take_attempt(&mut self) -> Option<Attempt> {
        self.attempt.take()
    }

    /// What the breaker of the destination sees.
    pub(crate) fn attempt(&mut self) -> Option<&mut Attempt> {
        self.attempt.as_mut()
    }

    /// A breaker stopped this call, or one further down: should the handling fail, that is why.
    pub(crate) fn rejected(&self, by: HeaderValue) {
        if let Some(handler) = self.link.handler() {
            handler.reject(by);
        }
    }
}

impl Observer for Call {
    fn bytes(&mut self, count: u64) {
        self.response_bytes += count;
        if let Some(attempt) = &mut self.attempt {
            attempt.streams();
        }
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        settle(&mut self.answered, trailers);
        // Believed of sidecars alone; the application is told nothing that nobody vouches for.
        let rejected = trailers.remove(REJECT_HEADER).filter(|_| self.below.is_some());
        if let Some(attempt) = &mut self.attempt {
            attempt.trailers(trailers, rejected.is_some(), Instant::now());
        }
        if let Some(rejected) = rejected {
            self.rejected(rejected.clone());
            trailers.insert(REJECT_HEADER, rejected);
        }
    }

    fn whole(&mut self, now: Instant) {
        self.whole_at = Some(now);
        // A fault was set before; the text that explains it to the application is not an answer.
        self.ended = self.ended.or(self.answered.map(Verdict::at_end));
        if let Some(attempt) = &mut self.attempt {
            attempt.whole(now);
        }
    }

    fn broken(&mut self) {
        self.ended = Some(Outcome::Reset);
        if let Some(attempt) = &mut self.attempt {
            attempt.broken();
        }
    }

    fn expired(&mut self, fault: Fault) {
        self.recorder.metrics.fault(fault);
        self.failed(fault);
    }

    fn uploaded(&self) -> Option<Arc<AtomicU64>> {
        self.request_bytes.clone()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Some(callee) = &self.callee else { return };
        let now = self.whole_at.unwrap_or_else(Instant::now);
        let outcome = self.ended.unwrap_or(Outcome::Cancelled);
        let duration = crate::link::nanos(self.started, now);
        let end = CallEnd {
            callee,
            target: self.target,
            retry: self.retry,
            evidence: self.evidence(),
            failed: outcome.is_failure(),
            duration,
            below: self.below.as_ref(),
        };
        let blocking = self.link.handler().is_some_and(|handler| handler.call_ended(&end, now));
        let call = window::Call {
            outcome,
            duration,
            first_byte: self.first_byte.map(|at| crate::link::nanos(self.started, at)),
            blocking,
            evidence: self.evidence(),
            attempts: self.attempts,
            request_bytes: self.request_bytes.as_ref().map_or(0, |count| count.load(Ordering::Relaxed)),
            response_bytes: self.response_bytes,
        };
        let recorder = &self.recorder;
        if self.delayed {
            recorder.local.injected(self.path(), callee, true, false);
        }
        let call = match &self.timed {
            Some(timed) => recorder.timing.call_ended(recorder.worker, timed, callee, call, now),
            None => Some(call),
        };
        if let Some(call) = call {
            recorder.local.call(self.path(), callee, &call);
        }
    }
}

/// A connection to a peer that is passed on untouched.
pub(crate) struct Opaque {
    recorder: Arc<Recorder>,
    peer: String,
    protocol: Protocol,
    started: Instant,
    connected: bool,
}

impl Opaque {
    /// The application asks for a connection to `peer`.
    pub(crate) fn asked(recorder: &Arc<Recorder>, peer: String, protocol: Protocol, now: Instant) -> Self {
        Self { recorder: Arc::clone(recorder), peer, protocol, started: now, connected: false }
    }

    pub(crate) fn connected(&mut self) {
        self.connected = true;
        self.add(&OpaqueStats { opened: 1, ..OpaqueStats::default() });
    }

    pub(crate) fn failed(&mut self) {
        self.add(&OpaqueStats { failed: 1, ..OpaqueStats::default() });
    }

    /// So many bytes have passed to the peer and from it.
    pub(crate) fn passed(&mut self, sent: u64, received: u64) {
        if sent + received > 0 {
            self.add(&OpaqueStats { sent, received, ..OpaqueStats::default() });
        }
    }

    pub(crate) fn broken(&mut self) {
        self.add(&OpaqueStats { broken: 1, ..OpaqueStats::default() });
    }

    fn add(&self, change: &OpaqueStats) {
        if self.recorder.enabled {
            self.recorder.local.opaque(&self.peer, self.protocol, change);
        }
    }
}

impl Drop for Opaque {
    fn drop(&mut self) {
        if self.connected {
            let mut ended = OpaqueStats { closed: 1, ..OpaqueStats::default() };
            ended.duration.record(crate::link::nanos(self.started, Instant::now()));
            self.add(&ended);
        }
    }
}
