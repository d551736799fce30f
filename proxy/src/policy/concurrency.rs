//! How many requests the application has to serve at the same time. What is beyond the limit is rejected at once, so that
//! the others are still served; nothing waits here. Known to all workers, and without a lock that anybody waits for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use couplet_config::{BreakerMode, Concurrency as Settings, ConcurrencyLimit};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::gradient::{Gradient, Seen};
use super::limit::Limit;
use super::times::{Times, nanos};

/// The limit of requests to the application.
pub(crate) struct Concurrency {
    pub(crate) in_flight: Limit,
    /// Whether times are of use.
    adaptive: AtomicBool,
    /// Times to an answer in the present window, the most requests in it, and from when to when it lasts: nanoseconds since
    /// `start`.
    times: Times,
    peak: AtomicU64,
    begins: AtomicU64,
    ends: AtomicU64,
    start: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    settings: Settings,
    gradient: Gradient,
    /// What an answer took in the last window.
    time: Option<Duration>,
}

/// Where the limit stands, for people.
pub(crate) struct Stands {
    /// None where there is none.
    pub(crate) limit: Option<u32>,
    /// What an answer takes without load, and what it took in the last window, seconds; where that is known.
    pub(crate) baseline: Option<f64>,
    pub(crate) time: Option<f64>,
}

impl Concurrency {
    pub(crate) fn new(settings: &Settings, now: Instant) -> Self {
        let gradient = Gradient::new(&settings.adaptive);
        let (limit, window) = (limit(settings, &gradient), settings.adaptive.window);
        Self {
            in_flight: Limit::new(limit, settings.mode),
            adaptive: AtomicBool::new(is_adaptive(settings)),
            times: Times::default(),
            peak: AtomicU64::new(0),
            begins: AtomicU64::new(0),
            ends: AtomicU64::new(nanos(window)),
            start: now,
            inner: Mutex::new(Inner { settings: settings.clone(), gradient, time: None }),
        }
    }

    /// Another limit is in force. What was learned of the application stays.
    pub(crate) fn configure(&self, settings: &Settings) {
        let mut inner = self.inner.lock();
        if inner.settings.adaptive.initial != settings.adaptive.initial {
            inner.gradient = Gradient::new(&settings.adaptive);
        }
        inner.gradient.configure(&settings.adaptive);
        inner.settings = settings.clone();
        self.in_flight.configure(limit(settings, &inner.gradient), settings.mode);
        self.adaptive.store(is_adaptive(settings), Ordering::Relaxed);
    }

    /// Whether the application gets one request more, which has to [`leave`](Self::leave) in the end. The platform's own
    /// are let in a little beyond the limit: an application that is busy is not to be taken for a dead one.
    pub(crate) fn enter(&self, infra: bool) -> bool {
        let Some(now) = self.in_flight.enter_beyond(if infra { RESERVE } else { 0 }) else {
            self.in_flight.rejected.add(1);
            return false;
        };
        self.in_flight.reached(now);
        if now > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
        true
    }

    /// A request is done with, however it ended.
    pub(crate) fn leave(&self) {
        self.in_flight.leave();
    }

    /// Whether anybody wants to know how long answers take.
    pub(crate) fn wants_times(&self) -> bool {
        self.adaptive.load(Ordering::Relaxed)
    }

    /// An answer has begun, or was waited for in vain, for `took`.
    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        let at = nanos(now.saturating_duration_since(self.start));
        if at.saturating_sub(nanos(took)) < self.begins.load(Ordering::Relaxed) {
            // It waited for those that another limit let in.
            return;
        }
        let count = self.times.add(took);
        if count < ENOUGH || at < self.ends.load(Ordering::Relaxed) {
            return;
        }
        // Whoever is second has nothing to do.
        let Some(mut inner) = self.inner.try_lock() else { return };
        if at < self.ends.load(Ordering::Relaxed) {
            return;
        }
        let inner = &mut *inner;
        let peak = self.peak.swap(self.in_flight.get(), Ordering::Relaxed);
        let Some(time) = self.times.take_median() else { return };
        inner.time = Some(time);
        let enforced = inner.settings.mode == BreakerMode::Enforce;
        inner.gradient.window(&inner.settings.adaptive, Seen { time, peak, enforced });
        self.in_flight.configure(limit(&inner.settings, &inner.gradient), inner.settings.mode);
        // With half of the limit the others have to be gone first.
        let begins = if inner.gradient.is_halved() { at.saturating_add(nanos(time)) } else { at };
        self.begins.store(begins, Ordering::Relaxed);
        self.ends.store(begins.saturating_add(nanos(inner.settings.adaptive.window)), Ordering::Relaxed);
    }

    /// Where it stands.
    pub(crate) fn stands(&self) -> Stands {
        let inner = self.inner.lock();
        let adaptive = is_adaptive(&inner.settings);
        Stands {
            limit: limit(&inner.settings, &inner.gradient),
            baseline: inner.gradient.baseline().filter(|_| adaptive),
            time: inner.time.filter(|_| adaptive).map(|time| time.as_secs_f64()),
        }
    }
}

fn is_adaptive(settings: &Settings) -> bool {
    settings.mode != BreakerMode::Off && settings.limit == ConcurrencyLimit::Adaptive
}

fn limit(settings: &Settings, gradient: &Gradient) -> Option<u32> {
    match (settings.mode, settings.limit) {
        (BreakerMode::Off, _) => None,
        (_, ConcurrencyLimit::Fixed(most)) => Some(most),
        (_, ConcurrencyLimit::Adaptive) => Some(gradient.limit(&settings.adaptive)),
    }
}

/// Requests of the platform beyond the limit. Who calls itself the platform is not known, so they are few.
const RESERVE: u64 = 4;
/// Answers before a window says anything.
const ENOUGH: u32 = 20;

#[cfg(test)]
mod tests;
