//! The state machine of a breaker. It is pure: what time it is and how a call ended are told to it, and it says what to do
//! and whether it changed its state.

use std::time::Duration;

use couplet_config::BreakerSettings;
use tokio::time::Instant;

use super::window::{Counts, Window};
use crate::policy::classify::Class;

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stands {
    /// Calls pass.
    Closed,
    /// Calls are stopped.
    Open,
    /// A few calls are let through to see how they fare.
    HalfOpen,
    /// Calls pass again, more and more of them.
    Ramp,
    /// Somebody wants calls to be stopped.
    ForcedOpen,
    /// Somebody wants calls to pass.
    ForcedClosed,
}

impl Stands {
    /// The word in logs, metrics and headers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Stands::Closed => "closed",
            Stands::Open => "open",
            Stands::HalfOpen => "half_open",
            Stands::Ramp => "ramp",
            Stands::ForcedOpen => "forced_open",
            Stands::ForcedClosed => "forced_closed",
        }
    }
}

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Connections in a row that could not be made.
    ConnectFailures,
    /// Too large a share of calls failed.
    FailureRate,
    /// Too large a share of calls was slow.
    SlowCallRate,
    /// Failures in a row.
    Consecutive,
    /// The time for which calls are stopped is over.
    Waited,
    /// A call that was let through to see how it fares failed.
    ProbeFailed,
    /// It did not answer in time.
    ProbeTimeout,
    /// So many were let through, and none of them says how the destination fares.
    ProbesUndecided,
    /// Enough of them succeeded.
    ProbesSucceeded,
    /// All calls pass again.
    RampEnded,
    /// Somebody wants it so.
    Forced,
    /// Nobody wants it any more, or the time for which it was wanted is over.
    Released,
}

impl Reason {
    /// The word in logs, metrics and headers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::ConnectFailures => "connect_failures",
            Reason::FailureRate => "failure_rate",
            Reason::SlowCallRate => "slow_call_rate",
            Reason::Consecutive => "consecutive_failures",
            Reason::Waited => "waited",
            Reason::ProbeFailed => "probe_failed",
            Reason::ProbeTimeout => "probe_timeout",
            Reason::ProbesUndecided => "probes_undecided",
            Reason::ProbesSucceeded => "probes_succeeded",
            Reason::RampEnded => "ramp_ended",
            Reason::Forced => "forced",
            Reason::Released => "released",
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// It passes.
    Pass { epoch: u64 },
    /// It passes, and how it fares decides what becomes of the others.
    Probe { epoch: u64, number: u32 },
    /// It is stopped.
    Reject(Rejection),
}

/// Why a call is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) state: Stands,
    /// Why calls are being stopped since.
    pub(crate) reason: Reason,
    /// When it is worth trying again; zero where that depends on calls that are under way.
    pub(crate) retry_in: Duration,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) class: Class,
    /// It took longer than what is slow.
    pub(crate) slow: bool,
    /// The destination asks not to be called for so long.
    pub(crate) retry_after: Option<Duration>,
}

/// A change of state, and what it was decided on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    pub(crate) from: Stands,
    pub(crate) to: Stands,
    pub(crate) reason: Reason,
    /// The new epoch.
    pub(crate) epoch: u64,
    /// Calls within the window.
    pub(crate) counts: Counts,
    /// Failures in a row.
    pub(crate) consecutive: u32,
    /// For how long calls are stopped.
    pub(crate) open_for: Option<Duration>,
    /// How many times calls have been stopped without a longer time in between when they passed.
    pub(crate) attempt: u32,
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    /// Counts changes of state. What comes of a call that was let through before the last one decides nothing any more.
    epoch: u64,
    /// How many times calls have been stopped, less what has decayed since.
    attempt: u32,
    random: fastrand::Rng,
}

#[derive(Debug)]
enum State {
    Closed { traffic: Traffic, since: Instant },
    Open { until: Instant, reason: Reason },
    HalfOpen { round: Round, reason: Reason },
    Ramp { traffic: Traffic, since: Instant, until: Instant },
    Forced { open: bool, until: Instant },
}

/// What is known of calls that pass.
#[derive(Debug)]
struct Traffic {
    window: Window,
    /// Failures in a row, and when the first of them was.
    run: Option<(u32, Instant)>,
    /// Connections in a row that could not be made.
    refused: u32,
    /// Until when the destination asks not to be called.
    retry_at: Option<Instant>,
}

/// The calls that are let through to see how they fare.
#[derive(Debug, Default)]
struct Round {
    started: u32,
    succeeded: u32,
    /// Those under way. At most `max_concurrent`.
    under_way: Vec<Probe>,
}

#[derive(Debug)]
struct Probe {
    number: u32,
    /// When it has failed, unless it answers.
    deadline: Instant,
    /// When it has succeeded, unless it breaks off before: it answers, and nobody knows for how long.
    succeeds: Option<Instant>,
}

/// For how long an answer has to come before that is enough of a probe. It may last for hours; but destinations that break
/// off must not pass.
pub(crate) const LASTING: Duration = Duration::from_secs(1);

impl Machine {
    pub(super) fn new(settings: &BreakerSettings, seed: u64, now: Instant) -> Self {
        let state = State::Closed { traffic: Traffic::new(settings, now), since: now };
        Self { state, epoch: 1, attempt: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// Where it stands.
    pub(super) fn stands(&self) -> Stands {
        match self.state {
            State::Closed { .. } => Stands::Closed,
            State::Open { .. } => Stands::Open,
            State::HalfOpen { .. } => Stands::HalfOpen,
            State::Ramp { .. } => Stands::Ramp,
            State::Forced { open: true, .. } => Stands::ForcedOpen,
            State::Forced { open: false, .. } => Stands::ForcedClosed,
        }
    }

    /// Counts changes of state.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Until when the state lasts, where that depends on time alone.
    pub(super) fn until(&self) -> Option<Instant> {
        match self.state {
            State::Open { until, .. } | State::Ramp { until, .. } | State::Forced { until, .. } => Some(until),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Calls within the window, and failures in a row.
    pub(super) fn observed(&mut self, now: Instant) -> (Counts, u32) {
        match &mut self.state {
            State::Closed { traffic, .. } | State::Ramp { traffic, .. } => {
                (traffic.window.sum(now), traffic.run.map_or(0, |(length, _)| length))
            }
            _ => (Counts::default(), 0),
        }
    }

    /// Other rules are in force. What is known of calls is kept, but for those of a window of another length.
    pub(super) fn configure(&mut self, before: &BreakerSettings, settings: &BreakerSettings, now: Instant) {
        if before.window == settings.window {
            return;
        }
        if let State::Closed { traffic, .. } | State::Ramp { traffic, .. } = &mut self.state {
            *traffic = Traffic::new(settings, now);
        }
    }

    /// A call wants to pass.
    pub(super) fn ask(&mut self, settings: &BreakerSettings, now: Instant) -> (Permit, Option<Change>) {
        let change = self.tick(settings, now).or_else(|| self.try_again(now));
        let epoch = self.epoch;
        let rejection = |state, reason, until: Option<Instant>| {
            let retry_in = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            Permit::Reject(Rejection { state, reason, retry_in })
        };
        let permit = match &mut self.state {
            State::Closed { .. } | State::Forced { open: false, .. } => Permit::Pass { epoch },
            State::Forced { until, .. } => rejection(Stands::ForcedOpen, Reason::Forced, Some(*until)),
            State::Open { until, reason } => rejection(Stands::Open, *reason, Some(*until)),
            State::HalfOpen { round, reason } => {
                let under_way = u32::try_from(round.under_way.len()).unwrap_or(u32::MAX);
                if round.started < settings.half_open.probes && under_way < settings.half_open.max_concurrent {
                    round.started += 1;
                    let deadline = now + settings.half_open.probe_timeout;
                    round.under_way.push(Probe { number: round.started, deadline, succeeds: None });
                    Permit::Probe { epoch, number: round.started }
                } else {
                    rejection(Stands::HalfOpen, *reason, None)
                }
            }
            State::Ramp { since, until, .. } => {
                let share = now.duration_since(*since).as_secs_f64() / until.duration_since(*since).as_secs_f64();
                if self.random.f64() < share {
                    Permit::Pass { epoch }
                } else {
                    rejection(Stands::Ramp, Reason::ProbesSucceeded, None)
                }
            }
        };
        (permit, change)
    }

    /// A call that was let through answers, and does not say for how long.
    pub(super) fn answers(&mut self, permit: Permit, now: Instant) {
        let (Permit::Probe { epoch, number }, State::HalfOpen { round, .. }) = (permit, &mut self.state) else {
            return;
        };
        if epoch == self.epoch
            && let Some(probe) = round.under_way.iter_mut().find(|probe| probe.number == number && now < probe.deadline)
        {
            probe.succeeds.get_or_insert(now + LASTING);
        }
    }

    /// A call that was let through has ended. Says whether it still decides anything.
    pub(super) fn ended(
        &mut self,
        settings: &BreakerSettings,
        permit: Permit,
        ended: Ended,
        now: Instant,
    ) -> (bool, Option<Change>) {
        // A probe whose time is over has failed, whatever it says now.
        if let Some(change) = self.tick(settings, now) {
            return (false, Some(change));
        }
        match permit {
            Permit::Pass { epoch } | Permit::Probe { epoch, .. } if epoch != self.epoch => (false, None),
            Permit::Reject(_) => (false, None),
            Permit::Pass { .. } => (true, self.passed(settings, ended, now)),
            Permit::Probe { number, .. } => self.probed(settings, number, ended, now),
        }
    }

    /// What time alone changes.
    pub(super) fn tick(&mut self, settings: &BreakerSettings, now: Instant) -> Option<Change> {
        match &mut self.state {
            State::Forced { until, .. } if *until <= now => Some(self.close(settings, Reason::Released, now)),
            State::Ramp { until, .. } if *until <= now => Some(self.close(settings, Reason::RampEnded, now)),
            State::HalfOpen { round, .. } => {
                if round.under_way.iter().any(|probe| probe.succeeds.is_none() && probe.deadline <= now) {
                    return Some(self.open(settings, Reason::ProbeTimeout, Counts::default(), 0, now));
                }
                let before = round.under_way.len();
                round.under_way.retain(|probe| probe.succeeds.is_none_or(|at| now < at));
                let lasting = before - round.under_way.len();
                round.succeeded = round.succeeded.saturating_add(u32::try_from(lasting).unwrap_or(u32::MAX));
                if lasting > 0 { self.concluded(settings, now) } else { None }
            }
            _ => None,
        }
    }

    /// Somebody wants calls to be stopped, or to pass, for so long.
    pub(super) fn force(&mut self, open: bool, lasts: Duration, now: Instant) -> Change {
        self.change(State::Forced { open, until: now + lasts }, Reason::Forced)
    }

    /// Nobody wants that any more.
    pub(super) fn release(&mut self, settings: &BreakerSettings, now: Instant) -> Option<Change> {
        matches!(self.state, State::Forced { .. }).then(|| self.close(settings, Reason::Released, now))
    }

    /// Calls have been stopped for long enough: the next ones are let through to see how they fare.
    fn try_again(&mut self, now: Instant) -> Option<Change> {
        match self.state {
            State::Open { until, reason } if until <= now => {
                Some(self.change(State::HalfOpen { round: Round::default(), reason }, Reason::Waited))
            }
            _ => None,
        }
    }

    fn passed(&mut self, settings: &BreakerSettings, ended: Ended, now: Instant) -> Option<Change> {
        let (State::Closed { traffic, since } | State::Ramp { traffic, since, .. }) = &mut self.state else {
            return None;
        };
        traffic.add(ended, now);
        let since = *since;
        let counts = traffic.window.sum(now);
        let run = traffic.run;
        let reason = trips(settings, &counts, run, traffic.refused, now)?;
        let healthy = now.saturating_duration_since(since).as_nanos() / settings.open.decay_after.as_nanos().max(1);
        self.attempt = self.attempt.saturating_sub(u32::try_from(healthy).unwrap_or(u32::MAX));
        Some(self.open(settings, reason, counts, run.map_or(0, |(length, _)| length), now))
    }

    fn probed(
        &mut self,
        settings: &BreakerSettings,
        number: u32,
        ended: Ended,
        now: Instant,
    ) -> (bool, Option<Change>) {
        let State::HalfOpen { round, .. } = &mut self.state else { return (false, None) };
        let Some(index) = round.under_way.iter().position(|probe| probe.number == number) else {
            // It lasted, and that was enough of it.
            return (false, None);
        };
        round.under_way.swap_remove(index);
        match ended.class {
            Class::Success if !ended.slow => round.succeeded += 1,
            Class::Success | Class::Failure | Class::Throttled | Class::Local => {
                let retry_at = ended.retry_after.map(|after| now + after);
                let change = self.open_until(settings, Reason::ProbeFailed, Counts::default(), 0, retry_at, now);
                return (true, Some(change));
            }
            Class::Propagated | Class::Ignored => {}
        }
        (true, self.concluded(settings, now))
    }

    /// Whether the probes so far are enough to know.
    fn concluded(&mut self, settings: &BreakerSettings, now: Instant) -> Option<Change> {
        let State::HalfOpen { round, .. } = &mut self.state else { return None };
        if round.succeeded >= settings.half_open.successes_needed {
            if settings.ramp.is_zero() {
                return Some(self.close(settings, Reason::ProbesSucceeded, now));
            }
            let state = State::Ramp { traffic: Traffic::new(settings, now), since: now, until: now + settings.ramp };
            return Some(self.change(state, Reason::ProbesSucceeded));
        }
        if round.started >= settings.half_open.probes && round.under_way.is_empty() {
            // Another round, after no longer a wait than before: nothing was learned.
            self.attempt = self.attempt.saturating_sub(1);
            return Some(self.open(settings, Reason::ProbesUndecided, Counts::default(), 0, now));
        }
        None
    }

    fn close(&mut self, settings: &BreakerSettings, reason: Reason, now: Instant) -> Change {
        self.change(State::Closed { traffic: Traffic::new(settings, now), since: now }, reason)
    }

    fn open(
        &mut self,
        settings: &BreakerSettings,
        reason: Reason,
        counts: Counts,
        consecutive: u32,
        now: Instant,
    ) -> Change {
        let retry_at = match &self.state {
            State::Closed { traffic, .. } | State::Ramp { traffic, .. } => traffic.retry_at,
            _ => None,
        };
        self.open_until(settings, reason, counts, consecutive, retry_at, now)
    }

    fn open_until(
        &mut self,
        settings: &BreakerSettings,
        reason: Reason,
        counts: Counts,
        consecutive: u32,
        retry_at: Option<Instant>,
        now: Instant,
    ) -> Change {
        self.attempt = self.attempt.saturating_add(1);
        let times = &settings.open;
        let grown = times.base.as_secs_f64() * times.factor.powf(f64::from(self.attempt - 1));
        let jitter = 1.0 + times.jitter * (2.0 * self.random.f64() - 1.0);
        let open_for = Duration::from_secs_f64(grown.min(times.max.as_secs_f64()) * jitter);
        let asked = retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let open_for = open_for.max(asked.min(times.honor_retry_after_max));
        let change = self.change(State::Open { until: now + open_for, reason }, reason);
        Change { counts, consecutive, open_for: Some(open_for), ..change }
    }

    fn change(&mut self, state: State, reason: Reason) -> Change {
        let from = self.stands();
        self.state = state;
        self.epoch += 1;
        Change {
            from,
            to: self.stands(),
            reason,
            epoch: self.epoch,
            counts: Counts::default(),
            consecutive: 0,
            open_for: None,
            attempt: self.attempt,
        }
    }
}

impl Traffic {
    fn new(settings: &BreakerSettings, now: Instant) -> Self {
        Self { window: Window::new(settings.window, now), run: None, refused: 0, retry_at: None }
    }

    fn add(&mut self, ended: Ended, now: Instant) {
        let mut counts = Counts { total: 1, slow: u32::from(ended.slow), ..Counts::default() };
        match ended.class {
            Class::Success => (self.run, self.refused) = (None, 0),
            Class::Failure => {
                counts.failed = 1;
                self.refused = 0;
                let (length, first) = self.run.unwrap_or((0, now));
                self.run = Some((length.saturating_add(1), first));
            }
            Class::Throttled => {
                counts.throttled = 1;
                self.refused = 0;
            }
            Class::Local => {
                counts.local = 1;
                self.refused = self.refused.saturating_add(1);
            }
            Class::Propagated | Class::Ignored => return,
        }
        if let Some(after) = ended.retry_after {
            self.retry_at = self.retry_at.max(Some(now + after));
        }
        self.window.add(&counts, now);
    }
}

/// Whether calls are to be stopped; the first rule that says so.
fn trips(
    settings: &BreakerSettings,
    counts: &Counts,
    run: Option<(u32, Instant)>,
    refused: u32,
    now: Instant,
) -> Option<Reason> {
    if settings.connect_failures.is_some_and(|limit| refused >= limit) {
        return Some(Reason::ConnectFailures);
    }
    let enough = counts.total >= settings.min_requests;
    if enough && settings.failure_rate.is_some_and(|limit| counts.failure_rate() >= limit) {
        return Some(Reason::FailureRate);
    }
    if enough && settings.slow_call.duration.is_some() && counts.slow_rate() >= settings.slow_call.rate {
        return Some(Reason::SlowCallRate);
    }
    let (length, first) = run?;
    if length < settings.consecutive_failures? {
        return None;
    }
    // Where there are many calls, runs of failures happen by chance: n in a row at the rate r·(1−p)·pⁿ.
    let half = settings.failure_rate.unwrap_or(USUAL_RATE) / 2.0;
    let plausible = !enough || counts.failure_rate() >= half;
    let lasted = now.saturating_duration_since(first) >= settings.consecutive_min_span;
    let bulk = u64::from(length) * 2 >= u64::from(counts.total);
    (plausible && (lasted || bulk)).then_some(Reason::Consecutive)
}

/// The rate of which a run needs half, where no rate is configured.
const USUAL_RATE: f64 = 0.5;

#[cfg(test)]
mod tests;
