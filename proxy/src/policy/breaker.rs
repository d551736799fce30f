//! One breaker: the state machine behind a lock, what it rejects or would have rejected, and what it says when it changes
//! its state.

mod causes;
mod durations;
mod machine;
mod window;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use couplet_config::{BreakerMode, BreakerSettings};
use couplet_telemetry::breaker::{BreakerCounts, BreakerReport, Cause, Count, Observed, Transition};
use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use causes::{Failed, What};
pub(crate) use machine::{Change, Ended, LASTING, Permit, Reason, Rejection, Stands};
pub(crate) use window::Counts;

use super::classify::Class;
use super::limit::Limit;
use super::neighbour::Neighbour;
use super::times::nanos;
use super::transition::Transitions;
use crate::error::Fault;
use causes::Causes;
use durations::Durations;
use machine::Machine;

/// The breaker of the calls to one destination.
pub(crate) struct Breaker {
    /// Whose calls.
    pub(crate) from: Arc<str>,
    /// To whom.
    pub(crate) to: Arc<str>,
    /// Of which class; none where it is for all that are of none.
    pub(crate) class: Option<Arc<str>>,
    /// What can be said without the lock: the epoch while calls simply pass, [`OFF`] where there is no breaker, else zero.
    passing: AtomicU64,
    /// Calls under way.
    pub(crate) in_flight: Limit,
    /// The destination itself.
    pub(crate) neighbour: Arc<Neighbour>,
    inner: Mutex<Inner>,
    transitions: Arc<Transitions>,
}

struct Inner {
    settings: BreakerSettings,
    machine: Machine,
    /// What it did since the proxy began.
    counts: BreakerCounts,
    /// What of that was reported, and where it stood then.
    reported: (BreakerCounts, Stands),
    /// Changes that were not reported yet; the last so many.
    changes: VecDeque<Arc<Transition>>,
    causes: Causes,
    durations: Durations,
    /// Up to when the time is counted in which calls are stopped; none while they pass.
    stopped_since: Option<Instant>,
    forced: Option<Forced>,
    random: fastrand::Rng,
}

/// Who wants a state that the breaker did not find by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forced {
    pub(crate) by: String,
    pub(crate) why: String,
    pub(crate) open: bool,
}

/// Why a call is stopped, for whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) from: Arc<str>,
    pub(crate) to: Arc<str>,
    pub(crate) class: Option<Arc<str>>,
    pub(crate) why: Why,
}

/// What stops a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The breaker.
    Breaker(Rejection),
    /// `max_in_flight`.
    InFlight,
    /// `max_connections`.
    Connections,
    /// `max_pending`.
    Pending,
}

impl Refused {
    /// A call that a limit of its destination stops, if that is what it failed for.
    pub(crate) fn by_limit(breaker: &Breaker, fault: Fault) -> Option<Self> {
        let why = match fault {
            Fault::DestinationInFlight => Why::InFlight,
            Fault::DestinationConnections => Why::Connections,
            Fault::DestinationPending => Why::Pending,
            _ => return None,
        };
        Some(Self::new(breaker, why))
    }

    pub(crate) fn new(breaker: &Breaker, why: Why) -> Self {
        let (from, to) = (Arc::clone(&breaker.from), Arc::clone(&breaker.to));
        Self { from, to, class: breaker.class.clone(), why }
    }

    /// When it is worth trying again; zero where that depends on calls that are under way.
    pub(crate) fn retry_in(&self) -> Duration {
        match self.why {
            Why::Breaker(rejection) => rejection.retry_in,
            Why::InFlight | Why::Connections | Why::Pending => Duration::ZERO,
        }
    }

    /// What the call failed for.
    pub(crate) fn fault(&self) -> Fault {
        match self.why {
            Why::Breaker(_) => Fault::BreakerOpen,
            Why::InFlight => Fault::DestinationInFlight,
            Why::Connections => Fault::DestinationConnections,
            Why::Pending => Fault::DestinationPending,
        }
    }
}

/// As it stands in the header that explains it: `open; edge="shop>stock"; reason=failure_rate; for=10s`.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.retry_in().as_secs_f64().ceil();
        let (state, reason) = match self.why {
            Why::Breaker(Rejection { state, reason, .. }) => (state.as_str(), reason.as_str()),
            Why::InFlight => ("limit", "limit_in_flight"),
            Why::Connections => ("limit", "limit_connections"),
            Why::Pending => ("limit", "limit_pending"),
        };
        write!(f, "{state}; edge=\"{}>{}\"", self.from, self.to)?;
        if let Some(class) = &self.class {
            write!(f, "; class=\"{class}\"")?;
        }
        write!(f, "; reason={reason}; for={seconds}s")
    }
}

/// What a call has to hold, in order to say how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// It counts.
    Counts(Permit),
    /// It would have been stopped: it counts for nothing but itself.
    Shadow,
    /// Nobody counts.
    Off,
}

/// Where a breaker stands, for people.
pub(crate) struct View {
    pub(crate) settings: BreakerSettings,
    pub(crate) stands: Stands,
    pub(crate) epoch: u64,
    /// How long the state still lasts, where that depends on time alone.
    pub(crate) remaining: Option<Duration>,
    pub(crate) counts: Counts,
    pub(crate) consecutive: u32,
    pub(crate) done: BreakerCounts,
    pub(crate) causes: Vec<Cause>,
    pub(crate) forced: Option<Forced>,
}

impl Breaker {
    pub(crate) fn new(
        from: Arc<str>,
        (to, class): (Arc<str>, Option<Arc<str>>),
        settings: BreakerSettings,
        neighbour: Arc<Neighbour>,
        transitions: Arc<Transitions>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let machine = Machine::new(&settings, seed, now);
        let in_flight = Limit::new(settings.max_in_flight, settings.mode);
        let inner = Inner {
            durations: Durations::new(settings.window, now),
            settings,
            machine,
            counts: BreakerCounts::default(),
            reported: (BreakerCounts::default(), Stands::Closed),
            changes: VecDeque::new(),
            causes: Causes::default(),
            stopped_since: None,
            forced: None,
            random: fastrand::Rng::with_seed(seed),
        };
        let passing = AtomicU64::new(inner.passing());
        Self { from, to, class, passing, in_flight, neighbour, inner: Mutex::new(inner), transitions }
    }

    /// Other rules are in force.
    pub(crate) fn configure(&self, settings: &BreakerSettings, now: Instant) {
        if self.class.is_none() {
            self.neighbour.configure(settings);
        }
        self.in_flight.configure(settings.max_in_flight, settings.mode);
        self.locked(now, |inner| {
            if inner.settings != *settings {
                let before = std::mem::replace(&mut inner.settings, settings.clone());
                inner.machine.configure(&before, settings, now);
                inner.durations = Durations::new(settings.window, now);
            }
            ((), None)
        });
    }

    /// A call wants to pass.
    ///
    /// # Errors
    /// Why it is stopped.
    pub(crate) fn ask(&self, now: Instant) -> Result<Ticket, Rejection> {
        match self.passing.load(Ordering::Acquire) {
            0 => {}
            OFF => return Ok(Ticket::Off),
            epoch => return Ok(Ticket::Counts(Permit::Pass { epoch })),
        }
        self.locked(now, |inner| {
            let (permit, change) = inner.machine.ask(&inner.settings, now);
            let answer = match permit {
                Permit::Reject(rejection) if inner.enforces(rejection) => {
                    inner.counts.add(Count::Rejected, 1);
                    Err(rejection)
                }
                Permit::Reject(_) => Ok(Ticket::Shadow),
                Permit::Probe { .. } => {
                    inner.counts.add(Count::Probes, 1);
                    Ok(Ticket::Counts(permit))
                }
                Permit::Pass { .. } => Ok(Ticket::Counts(permit)),
            };
            (answer, change)
        })
    }

    /// A call has been answered for `took`, and its answer does not say how long it is.
    pub(crate) fn answers(&self, ticket: Ticket, took: Duration, now: Instant) {
        let Ticket::Counts(permit @ Permit::Probe { .. }) = ticket else { return };
        self.locked(now, |inner| {
            // One that is slow is no success, however long it lasts.
            if inner.settings.slow_call.duration.is_none_or(|slow| took < slow) {
                inner.machine.answers(permit, now);
            }
            ((), None)
        });
    }

    /// A call has ended, after `took`.
    pub(crate) fn ended(&self, ticket: Ticket, class: Class, took: Duration, said: Failed, now: Instant) {
        if ticket == Ticket::Off {
            return;
        }
        self.locked(now, |inner| {
            let settings = &inner.settings;
            let slow = settings.slow_call.duration.is_some_and(|slow| took >= slow);
            let counted = match class {
                Class::Propagated if settings.count_propagated => Class::Failure,
                class => class,
            };
            let Ticket::Counts(permit) = ticket else {
                inner.shadow(counted, slow, took);
                return ((), None);
            };
            inner.counts.add(class.count(), 1);
            if !matches!(counted, Class::Ignored | Class::Propagated) {
                inner.durations.add(took, now);
            }
            if matches!(counted, Class::Failure | Class::Throttled | Class::Local) {
                inner.causes.add(&said, now);
            }
            let retry_after = said.retry_after;
            let (decides, change) =
                inner.machine.ended(&inner.settings, permit, Ended { class: counted, slow, retry_after }, now);
            inner.counts.add(Count::Stale, u64::from(!decides));
            ((), change)
        });
    }

    /// What time alone changes. Called now and then, so that what is shown is true where nobody calls.
    pub(crate) fn tick(&self, now: Instant) {
        self.locked(now, |inner| ((), inner.machine.tick(&inner.settings, now)));
    }

    /// Somebody wants calls to be stopped, or to pass.
    pub(crate) fn force(&self, forced: Forced, lasts: Duration, now: Instant) {
        self.locked(now, |inner| {
            let change = inner.machine.force(forced.open, lasts, now);
            inner.forced = Some(forced);
            ((), Some(change))
        });
    }

    /// Nobody wants that any more. Says whether somebody did.
    pub(crate) fn release(&self, now: Instant) -> bool {
        self.locked(now, |inner| {
            let change = inner.machine.release(&inner.settings, now);
            (change.is_some(), change)
        })
    }

    /// Where it stands.
    pub(crate) fn view(&self, now: Instant) -> View {
        self.tick(now);
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let (counts, consecutive) = inner.machine.observed(now);
        inner.count_time(now);
        View {
            settings: inner.settings.clone(),
            stands: inner.machine.stands(),
            epoch: inner.machine.epoch(),
            remaining: inner.machine.until().map(|until| until.saturating_duration_since(now)),
            counts,
            consecutive,
            done: inner.counts,
            causes: inner.causes.within(inner.settings.window, now),
            forced: inner.forced.clone(),
        }
    }

    /// What it did since the last report; nothing where that is nothing.
    pub(crate) fn report(&self, now: Instant) -> Option<BreakerReport> {
        self.tick(now);
        let mut inner = self.inner.lock();
        inner.count_time(now);
        let (counts, stands) = (inner.counts, inner.machine.stands());
        let (before, stood) = std::mem::replace(&mut inner.reported, (counts, stands));
        let transitions: Vec<_> = inner.changes.drain(..).map(|change| (*change).clone()).collect();
        let news = counts != before || stands != stood || !transitions.is_empty();
        news.then(|| BreakerReport {
            to: self.to.to_string(),
            class: self.class.as_deref().map(str::to_owned),
            state: stands.as_str().to_owned(),
            mode: inner.settings.mode.as_str().to_owned(),
            peak: self.in_flight.peak(),
            counts: counts.since(&before),
            transitions,
        })
    }

    /// Does something under the lock; says what changed once the lock is free again.
    fn locked<T>(&self, now: Instant, act: impl FnOnce(&mut Inner) -> (T, Option<Change>)) -> T {
        let (answer, transition) = {
            let mut inner = self.inner.lock();
            let (answer, change) = act(&mut inner);
            let transition = change.map(|change| self.changed(&mut inner, change, now));
            if let Some(transition) = &transition {
                inner.remember(transition);
            }
            self.passing.store(inner.passing(), Ordering::Release);
            (answer, transition)
        };
        if let Some(transition) = transition {
            self.transitions.add(transition);
        }
        answer
    }

    fn changed(&self, inner: &mut Inner, change: Change, now: Instant) -> Arc<Transition> {
        let stops = |stands| matches!(stands, Stands::Open | Stands::HalfOpen | Stands::ForcedOpen);
        match (stops(change.from), stops(change.to)) {
            (false, true) => {
                inner.counts.add(Count::Opened, 1);
                inner.stopped_since = Some(now);
            }
            (true, false) => {
                inner.count_time(now);
                inner.stopped_since = None;
            }
            _ => {}
        }
        let forced = inner.forced.clone();
        if !matches!(change.to, Stands::ForcedOpen | Stands::ForcedClosed) {
            inner.forced = None;
        }
        let counts = &change.counts;
        Arc::new(Transition {
            ts: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            number: self.transitions.next(),
            edge: match &self.class {
                None => format!("{}→{}", self.from, self.to),
                Some(class) => format!("{}→{} ({class})", self.from, self.to),
            },
            breaker: "edge".to_owned(),
            epoch: change.epoch,
            from: change.from.as_str().to_owned(),
            to: change.to.as_str().to_owned(),
            mode: inner.settings.mode.as_str().to_owned(),
            stops: inner.settings.mode == BreakerMode::Enforce || change.to == Stands::ForcedOpen,
            reason: change.reason.as_str().to_owned(),
            rule: rule(&inner.settings, change.reason),
            observed: Observed {
                total: counts.total,
                failed: counts.failed,
                throttled: counts.throttled,
                no_connection: counts.local,
                slow: counts.slow,
                consecutive: change.consecutive,
                rate: counts.failure_rate(),
                in_flight: self.in_flight.get(),
                p99_ms: inner.durations.p99().map(|time| time.as_secs_f64() * 1_000.0),
            },
            causes: inner.causes.within(inner.settings.window, now),
            open_for_ms: change.open_for.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            attempt: change.attempt,
            by: forced.as_ref().map(|forced| forced.by.clone()),
            why: forced.map(|forced| forced.why),
            config: format!("xxh3:{:016x}", xxh3_64(&serde_json::to_vec(&inner.settings).unwrap_or_default())),
        })
    }
}

impl Inner {
    /// What can be said without the lock, until something changes.
    fn passing(&self) -> u64 {
        match (self.settings.mode, self.machine.stands()) {
            (BreakerMode::Off, _) if self.forced.is_none() => OFF,
            (_, Stands::Closed) => self.machine.epoch(),
            _ => 0,
        }
    }

    /// Whether a call that the state machine stops really is stopped. What somebody wants is done in every mode.
    fn enforces(&mut self, rejection: Rejection) -> bool {
        let percent = self.settings.enforce_percent;
        match (rejection.state, self.settings.mode) {
            (Stands::ForcedOpen, _) => true,
            (_, BreakerMode::Off | BreakerMode::Observe) => false,
            (_, BreakerMode::Enforce) => percent >= 100 || self.random.u32(..100) < percent,
        }
    }

    /// A call that would have been stopped has ended.
    fn shadow(&mut self, class: Class, slow: bool, took: Duration) {
        let count = match class {
            Class::Failure | Class::Throttled | Class::Local => Count::ShadowFailed,
            Class::Success if slow => Count::ShadowSlow,
            Class::Success => Count::ShadowSucceeded,
            Class::Propagated | Class::Ignored => Count::ShadowUnknown,
        };
        self.counts.add(count, 1);
        self.counts.add(Count::ShadowTime, nanos(took));
    }

    /// Counts the time in which calls were stopped, up to now.
    fn count_time(&mut self, now: Instant) {
        if let Some(since) = &mut self.stopped_since {
            let passed = now.saturating_duration_since(*since);
            *since = now.max(*since);
            self.counts.add(Count::Stopped, nanos(passed));
        }
    }

    /// Keeps a change for the next report.
    fn remember(&mut self, transition: &Arc<Transition>) {
        if self.changes.len() >= UNREPORTED {
            self.changes.pop_front();
        }
        self.changes.push_back(Arc::clone(transition));
    }
}

/// Changes of one breaker that wait for a report at most. They are on `/breakers` whether they were reported or not.
const UNREPORTED: usize = 16;

/// No epoch: there is no breaker.
const OFF: u64 = u64::MAX;

/// The rule behind a change, with its numbers.
fn rule(settings: &BreakerSettings, reason: Reason) -> Option<String> {
    let seconds = settings.window.as_secs_f64();
    let at_least = settings.min_requests;
    match reason {
        Reason::ConnectFailures => {
            settings.connect_failures.map(|limit| format!("{limit} connections in a row could not be made"))
        }
        Reason::FailureRate => {
            let limit = settings.failure_rate?;
            Some(format!("failures/total >= {limit} over {seconds} s, at least {at_least} calls"))
        }
        Reason::SlowCallRate => {
            let (limit, slow) = (settings.slow_call.rate, settings.slow_call.duration?.as_secs_f64());
            Some(format!("slow/total >= {limit} over {seconds} s, slow from {slow} s, at least {at_least} calls"))
        }
        Reason::Consecutive => settings.consecutive_failures.map(|limit| format!("{limit} failures in a row")),
        Reason::ProbesSucceeded => Some(format!("{} probes succeeded", settings.half_open.successes_needed)),
        Reason::ProbeTimeout => {
            Some(format!("a probe did not answer within {} s", settings.half_open.probe_timeout.as_secs_f64()))
        }
        _ => None,
    }
}
