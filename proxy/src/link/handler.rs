//! One inbound request while it is served: the calls it has open, and what came back from below.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use couplet_telemetry::endpoint::variable_segments;
use couplet_telemetry::names::OTHER;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::report::{Callee, PathDefinition};
use couplet_telemetry::window::CalleeUse;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::carried::{Carried, Keys, Spans};
use super::learn::Watched;
use crate::context::{Below, MAX_BLOCKED, MAX_CALLS, Services, Summary};

/// Callee endpoints that one handling keeps apart; what is beyond still counts in its totals.
const MAX_USES: usize = 128;

/// One inbound request that is being served, or was lately.
pub(crate) struct Handler {
    /// Names the handler to this proxy; the application sees it in `tracestate`.
    pub(crate) id: u64,
    /// The trace that the application was given, to show it; calls are found by its hash.
    pub(crate) trace: u128,
    /// Whether whoever began the trace has it recorded.
    pub(crate) sampled: bool,
    /// The values that the application was given and may pass on.
    pub(crate) keys: Keys,
    /// The spans among them.
    pub(crate) spans: Spans,
    /// What the learner watches of it.
    pub(crate) watched: Option<Watched>,
    /// The path the request came on.
    pub(crate) path: Arc<PathDefinition>,
    /// The own service, as [`Services::hash`] knows it.
    service: u32,
    started: Instant,
    /// The same as in `state`, to be read without it.
    ended: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: bool,
    /// Calls that are open, and since when at least one is.
    open: Busy,
    calls: u32,
    retries: u32,
    busy: u64,
    uses: Vec<Use>,
    depth_below: u32,
    calls_below: u32,
    services: Services,
    below: Below,
    /// Which breaker stopped a call of this handling, or one further down.
    rejected: Option<HeaderValue>,
    /// Whether a call of this handling was aborted by an injected fault.
    aborted: bool,
}

struct Use {
    callee: Arc<Callee>,
    calls: u32,
    blocking: u32,
    failed: bool,
    /// The last call that failed, unless it was made good since.
    failing: Option<Failing>,
    open: Busy,
}

/// A call that failed.
struct Failing {
    at: Instant,
    /// What was asked for, as a hash.
    target: u64,
    /// Where that began, if the callee's proxy knows better than that the callee failed.
    origin: Option<String>,
}

/// What a call is to its handler when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    /// Whether the handling keeps its callee endpoint apart.
    pub(crate) kept: bool,
    /// Whether it is one that failed before, made again.
    pub(crate) retry: bool,
}

/// The union of overlapping intervals, kept in constant memory.
#[derive(Default)]
struct Busy {
    open: u32,
    since: Option<Instant>,
    /// When the last blocking call of the current stretch ended.
    last_end: Option<Instant>,
    total: u64,
}

/// How a call ended, for its handler.
pub(crate) struct CallEnd<'a> {
    pub(crate) callee: &'a Arc<Callee>,
    /// What was asked for, as a hash.
    pub(crate) target: u64,
    pub(crate) retry: bool,
    pub(crate) evidence: Evidence,
    pub(crate) failed: bool,
    /// Nanoseconds.
    pub(crate) duration: u64,
    /// What the callee's proxy said of everything below.
    pub(crate) below: Option<&'a Summary>,
}

/// What a handling comes to.
pub(crate) struct Handled {
    /// Nanoseconds.
    pub(crate) duration: u64,
    pub(crate) blocked: u64,
    pub(crate) busy: u64,
    pub(crate) asynchronous: u32,
    pub(crate) calls: u32,
    pub(crate) callees: u32,
    pub(crate) depth_below: u32,
    pub(crate) calls_below: u32,
    pub(crate) services_below: u32,
    pub(crate) below: Evidence,
    pub(crate) retries: u32,
    /// Where a failure of a call began that was not made good.
    pub(crate) origin: Option<String>,
    pub(crate) uses: Vec<CalleeUse>,
}

impl Handler {
    pub(crate) fn new(
        id: u64,
        trace: u128,
        carried: &Carried,
        path: Arc<PathDefinition>,
        service: u32,
        now: Instant,
    ) -> Self {
        let Carried { keys, spans, .. } = *carried;
        let (ended, state) = (AtomicBool::new(false), Mutex::default());
        Self { id, trace, sampled: false, keys, spans, watched: None, path, service, started: now, ended, state }
    }

    /// Its trace is recorded, as the flags of the request say.
    pub(crate) fn sampled(self, sampled: bool) -> Self {
        Self { sampled, ..self }
    }

    /// The learner watches its values until it ends.
    pub(crate) fn watched(self, watched: Option<Watched>) -> Self {
        Self { watched, ..self }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A call begins that asks for `target`. One that asks for the same as the last that failed, with none of its kind open,
    /// is that one made again.
    pub(crate) fn call_started(&self, callee: &Arc<Callee>, target: u64, now: Instant) -> Started {
        let mut state = self.state.lock();
        if state.ended {
            return Started { kept: true, retry: false };
        }
        state.open.begin(now);
        if let Some(used) = state.uses.iter_mut().find(|used| used.callee.key() == callee.key()) {
            let retry = used.open.open == 0 && used.failing.take_if(|failing| failing.target == target).is_some();
            used.calls += 1;
            used.open.begin(now);
            return Started { kept: true, retry };
        }
        let room = state.uses.len() < MAX_USES;
        if room {
            let mut open = Busy::default();
            open.begin(now);
            let callee = Arc::clone(callee);
            state.uses.push(Use { callee, calls: 1, blocking: 0, failed: false, failing: None, open });
        }
        Started { kept: room, retry: false }
    }

    /// A call ended. Whether it was a blocking one: whether the handler still waits.
    pub(crate) fn call_ended(&self, end: &CallEnd<'_>, now: Instant) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        state.open.end(now);
        if end.retry {
            state.retries += 1;
        } else {
            state.calls += 1;
        }
        state.busy = state.busy.saturating_add(end.duration);
        if let Some(used) = state.uses.iter_mut().find(|used| used.callee.key() == end.callee.key()) {
            used.open.end(now);
            used.blocking += 1;
            used.failed |= end.failed;
            if end.failed {
                let origin = end.below.and_then(|below| below.origin.clone());
                used.failing = Some(Failing { at: now, target: end.target, origin });
            }
        }
        let callee = Services::hash_of(end.callee);
        // A service that calls itself is no change of service.
        let hop = u32::from(callee != self.service);
        let nothing = Summary::default();
        let below = end.below.unwrap_or(&nothing);
        state.depth_below = state.depth_below.max(below.depth.saturating_add(hop));
        state.calls_below = state.calls_below.saturating_add(below.calls).saturating_add(u32::from(!end.retry));
        state.below = state.below.max(below.evidence).max(Below::of(end.evidence));
        state.services.insert(callee);
        state.services.merge(&below.services);
        true
    }

    /// A breaker stopped a call of this handling, or one further down.
    pub(crate) fn reject(&self, by: HeaderValue) {
        self.state.lock().rejected = Some(by);
    }

    /// An injected fault aborted a call of this handling.
    pub(crate) fn abort(&self) {
        self.state.lock().aborted = true;
    }

    /// Which breaker that was, the last time.
    pub(crate) fn rejected(&self) -> Option<HeaderValue> {
        self.state.lock().rejected.clone()
    }

    /// What the caller's proxy is told: everything below that has ended by now.
    pub(crate) fn summary(&self, now: Instant) -> Summary {
        let state = self.state.lock();
        Summary {
            depth: state.depth_below.min(255),
            calls: state.calls_below.min(MAX_CALLS),
            blocked: (state.open.total_at(now) / 1_000).min(MAX_BLOCKED),
            services: state.services.clone(),
            variable: variable_segments(&self.path.endpoint),
            evidence: state.below,
            origin: state.origin(),
        }
    }

    /// The handling ends. Calls that are still open are asynchronous from here on.
    pub(crate) fn end(&self, now: Instant) -> Handled {
        let mut state = self.state.lock();
        state.ended = true;
        self.ended.store(true, Ordering::Release);
        let origin = state.origin();
        let uses = std::mem::take(&mut state.uses);
        // A handling calls few services; comparing each with those before it beats building a set.
        let mut callees = 0;
        for (n, used) in uses.iter().enumerate().filter(|(_, used)| used.blocking > 0) {
            let mut before = uses.iter().take(n).filter(|other| other.blocking > 0);
            callees += u32::from(!before.any(|other| other.callee.service() == used.callee.service()));
        }
        Handled {
            duration: nanos(self.started, now),
            blocked: state.open.total_of_ended(),
            busy: state.busy,
            asynchronous: state.open.open,
            calls: state.calls,
            callees,
            depth_below: state.depth_below,
            calls_below: state.calls_below,
            services_below: state.services.count_without(self.service),
            below: state.below.evidence(),
            retries: state.retries,
            origin,
            uses: uses.into_iter().map(Use::closed).collect(),
        }
    }
}

impl State {
    /// Where the last failure of a call began that was not made good. An injected fault began in no service.
    fn origin(&self) -> Option<String> {
        let failing = self.uses.iter().filter_map(|used| Some((used, used.failing.as_ref()?)));
        let Some((used, last)) = failing.max_by_key(|(_, failing)| failing.at) else {
            return self.aborted.then(|| OTHER.to_owned());
        };
        Some(last.origin.clone().unwrap_or_else(|| used.callee.service().to_owned()))
    }
}

impl Use {
    fn closed(self) -> CalleeUse {
        CalleeUse { blocked: self.open.total_of_ended(), callee: self.callee, calls: self.calls, failed: self.failed }
    }
}

impl Busy {
    fn begin(&mut self, now: Instant) {
        self.open += 1;
        self.since.get_or_insert(now);
    }

    fn end(&mut self, now: Instant) {
        self.open = self.open.saturating_sub(1);
        self.last_end = Some(now);
        if self.open == 0
            && let Some(since) = self.since.take()
        {
            self.total = self.total.saturating_add(nanos(since, now));
            self.last_end = None;
        }
    }

    /// Including the stretch that is still open.
    fn total_at(&self, now: Instant) -> u64 {
        self.total.saturating_add(self.since.map_or(0, |since| nanos(since, now)))
    }

    /// Without calls that are still open: the current stretch counts up to the last call that ended in it.
    fn total_of_ended(&self) -> u64 {
        let stretch = self.since.zip(self.last_end).map_or(0, |(since, last)| nanos(since, last));
        self.total.saturating_add(stretch)
    }
}

/// Nanoseconds from `start` to `end`; 0 if the clock says they are the other way round.
pub(crate) fn nanos(start: Instant, end: Instant) -> u64 {
    u64::try_from(end.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_telemetry::window::overflow;
    use std::time::Duration;

    fn handler(now: Instant) -> Handler {
        Handler::new(1, 1, &Carried::default(), overflow(), Services::hash("shop"), now)
    }

    fn callee(service: &str) -> Arc<Callee> {
        Arc::new(Callee::new(service, "GET /"))
    }

    fn end<'a>(callee: &'a Arc<Callee>, below: Option<&'a Summary>) -> CallEnd<'a> {
        let evidence = Evidence::Exact;
        CallEnd { callee, target: 0, retry: false, evidence, failed: false, duration: 5_000_000, below }
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn overlapping_calls_block_once_and_are_busy_twice() {
        let t = Instant::now();
        let (handler, a, b) = (handler(t), callee("a"), callee("b"));
        handler.call_started(&a, 0, t);
        handler.call_started(&b, 0, t + ms(2));
        assert!(handler.call_ended(&end(&a, None), t + ms(5)));
        assert!(handler.call_ended(&end(&b, None), t + ms(7)));
        let handled = handler.end(t + ms(10));
        assert_eq!((handled.duration, handled.blocked, handled.busy), (10_000_000, 7_000_000, 10_000_000));
        assert_eq!((handled.calls, handled.callees, handled.depth_below, handled.services_below), (2, 2, 1, 2));
    }

    #[test]
    fn a_call_that_outlives_its_handler_is_asynchronous_and_blocks_nothing() {
        let t = Instant::now();
        let (handler, a, b) = (handler(t), callee("a"), callee("b"));
        handler.call_started(&a, 0, t);
        handler.call_started(&b, 0, t + ms(1));
        handler.call_ended(&end(&b, None), t + ms(4));
        let handled = handler.end(t + ms(9));
        assert_eq!((handled.calls, handled.asynchronous, handled.blocked), (1, 1, 4_000_000));
        assert!(!handler.call_ended(&end(&a, None), t + ms(20)));
    }

    #[test]
    fn what_comes_back_from_below_adds_up_hop_by_hop() {
        let t = Instant::now();
        let (handler, a, b) = (handler(t), callee("a"), callee("b"));
        let mut services = Services::default();
        ["b", "c", "shop"].iter().for_each(|name| services.insert(Services::hash(name)));
        let below = Summary { depth: 3, calls: 4, services, ..Summary::default() };
        for callee in [&a, &b] {
            handler.call_started(callee, 0, t);
        }
        handler.call_ended(&end(&a, Some(&below)), t + ms(1));
        handler.call_ended(&end(&b, None), t + ms(2));
        let summary = handler.summary(t + ms(2));
        assert_eq!((summary.depth, summary.calls, summary.blocked), (4, 6, 2_000));
        let handled = handler.end(t + ms(3));
        assert_eq!(handled.services_below, 3, "a, b and c; the own service does not count");
    }

    #[test]
    fn calling_oneself_is_no_hop() {
        let t = Instant::now();
        let (handler, own) = (handler(t), callee("shop"));
        handler.call_started(&own, 0, t);
        handler.call_ended(&end(&own, None), t + ms(1));
        let handled = handler.end(t + ms(1));
        assert_eq!((handled.depth_below, handled.calls_below, handled.services_below), (0, 1, 0));
    }

    #[test]
    fn calls_of_one_callee_endpoint_are_counted_together_within_a_bound() {
        let t = Instant::now();
        let handler = handler(t);
        for n in 0..MAX_USES + 5 {
            let callee = Arc::new(Callee::new("stock", format!("GET /{n}")));
            assert_eq!(handler.call_started(&callee, 0, t).kept, n < MAX_USES);
            handler.call_started(&callee, 0, t);
        }
        let handled = handler.end(t);
        assert_eq!(handled.uses.len(), MAX_USES);
        assert!(handled.uses.iter().all(|used| used.calls == 2));
    }

    fn failed<'a>(callee: &'a Arc<Callee>, target: u64, started: Started, below: Option<&'a Summary>) -> CallEnd<'a> {
        CallEnd { target, retry: started.retry, failed: true, ..end(callee, below) }
    }

    #[test]
    fn a_call_that_is_made_again_after_it_failed_is_no_second_call_and_makes_good() {
        let t = Instant::now();
        let (handler, a) = (handler(t), callee("a"));
        let first = handler.call_started(&a, 7, t);
        handler.call_ended(&failed(&a, 7, first, None), t + ms(1));
        assert_eq!(handler.summary(t + ms(1)).origin.as_deref(), Some("a"));
        let again = handler.call_started(&a, 7, t + ms(2));
        assert!(!first.retry && again.retry);
        handler.call_ended(&CallEnd { retry: true, target: 7, ..end(&a, None) }, t + ms(3));
        let other = handler.call_started(&a, 8, t + ms(4));
        handler.call_ended(&failed(&a, 8, other, None), t + ms(5));
        let third = handler.call_started(&a, 9, t + ms(6));
        assert!(!third.retry, "another item of a loop");
        handler.call_ended(&end(&a, None), t + ms(7));
        let handled = handler.end(t + ms(8));
        assert_eq!((handled.calls, handled.calls_below, handled.retries), (3, 3, 1));
        assert_eq!(handled.origin.as_deref(), Some("a"), "the second item failed for good");
    }

    #[test]
    fn a_failure_is_blamed_on_the_deepest_service_that_failed_by_itself() {
        let t = Instant::now();
        let (handler, a, b) = (handler(t), callee("a"), callee("b"));
        let below = Summary { origin: Some("ledger".to_owned()), evidence: Below::Inferred, ..Summary::default() };
        for (n, callee) in [&a, &b].into_iter().enumerate() {
            let started = handler.call_started(callee, n as u64, t);
            let below = (n == 1).then_some(&below);
            handler.call_ended(&failed(callee, n as u64, started, below), t + ms(n as u64 + 1));
        }
        assert_eq!(handler.summary(t + ms(3)).origin.as_deref(), Some("ledger"));
        let handled = handler.end(t + ms(3));
        assert_eq!((handled.origin.as_deref(), handled.below), (Some("ledger"), Evidence::Inferred));
    }
}
