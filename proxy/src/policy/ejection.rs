//! Ejection: which endpoints of a destination are passed over since they fail, while others serve. Known to all workers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use couplet_config::{BreakerMode, BreakerSettings, Ejection};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::classify::Class;

/// The endpoints of one destination.
pub(crate) struct Endpoints {
    /// How many there are. Of one alone nothing is ever ejected, so nothing is noted of it.
    count: AtomicUsize,
    /// Endpoints of which anything bad is known. While there are none, no call takes the lock.
    noted: AtomicUsize,
    inner: Mutex<Inner>,
}

struct Inner {
    settings: Ejection,
    mode: BreakerMode,
    known: HashMap<SocketAddr, Known>,
    counts: EjectionCounts,
}

/// What is known of one endpoint.
#[derive(Debug, Clone, Copy)]
struct Known {
    failures: u32,
    connect_failures: u32,
    /// Times that it was ejected, less what has decayed since.
    times: u32,
    /// Until when it is, or was.
    until: Option<Instant>,
    /// When something was last heard of it.
    heard: Instant,
}

/// What became of endpoints that fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EjectionCounts {
    /// Ejected.
    pub(crate) ejected: u64,
    /// Would have been, but breakers only observe.
    pub(crate) would_eject: u64,
    /// Not ejected, since too many are.
    pub(crate) refused_percent: u64,
    /// Not ejected, since it is the last one.
    pub(crate) refused_last: u64,
    /// Not noted, since too many are.
    pub(crate) overflow: u64,
}

impl EjectionCounts {
    /// All of them, by the word in metrics.
    pub(crate) fn each(self) -> [(&'static str, u64); 5] {
        [
            ("ejected", self.ejected),
            ("would_eject", self.would_eject),
            ("refused_max_ejection_percent", self.refused_percent),
            ("refused_last", self.refused_last),
            ("overflow", self.overflow),
        ]
    }
}

/// One endpoint, for people.
pub(crate) struct Noted {
    pub(crate) address: SocketAddr,
    pub(crate) failures: u32,
    pub(crate) connect_failures: u32,
    pub(crate) times: u32,
    /// For how long it is still ejected, or would be.
    pub(crate) remaining: Option<Duration>,
}

impl Endpoints {
    pub(crate) fn new(settings: &BreakerSettings) -> Self {
        let inner = Inner {
            settings: settings.ejection.clone(),
            mode: settings.mode,
            known: HashMap::new(),
            counts: EjectionCounts::default(),
        };
        Self { count: AtomicUsize::new(0), noted: AtomicUsize::new(0), inner: Mutex::new(inner) }
    }

    /// Other rules are in force.
    pub(crate) fn configure(&self, settings: &BreakerSettings) {
        let mut inner = self.inner.lock();
        (inner.settings, inner.mode) = (settings.ejection.clone(), settings.mode);
    }

    /// The destination has so many endpoints now.
    pub(crate) fn are(&self, count: usize) {
        // Nearly always the same: a line that all workers read is not to be written for nothing.
        if self.count.load(Ordering::Relaxed) != count {
            self.count.store(count, Ordering::Relaxed);
        }
    }

    /// A call to an endpoint has ended.
    pub(crate) fn ended(&self, address: SocketAddr, class: Class, now: Instant) {
        match class {
            Class::Success if self.noted.load(Ordering::Relaxed) > 0 => self.note(address, now, |known| {
                (known.failures, known.connect_failures) = (0, 0);
            }),
            Class::Failure => self.note(address, now, |known| known.failures = known.failures.saturating_add(1)),
            _ => {}
        }
    }

    /// There was no connection to an endpoint.
    pub(crate) fn unreachable(&self, address: SocketAddr, now: Instant) {
        self.note(address, now, |known| known.connect_failures = known.connect_failures.saturating_add(1));
    }

    /// Which of its endpoints are passed over now; none nearly always, and then for the price of a look.
    pub(crate) fn ejected(&self, now: Instant) -> Vec<SocketAddr> {
        if self.noted.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let inner = self.inner.lock();
        match inner.mode {
            BreakerMode::Enforce => inner.ejected(now).collect(),
            BreakerMode::Off | BreakerMode::Observe => Vec::new(),
        }
    }

    /// What is known of endpoints that failed of late, and what became of them.
    pub(crate) fn view(&self, now: Instant) -> (Vec<Noted>, EjectionCounts) {
        let inner = self.inner.lock();
        let noted = |(address, known): (&SocketAddr, &Known)| Noted {
            address: *address,
            failures: known.failures,
            connect_failures: known.connect_failures,
            times: known.times,
            remaining: known.until.filter(|until| now < *until).map(|until| until - now),
        };
        let mut all: Vec<_> = inner.known.iter().map(noted).collect();
        all.sort_by_key(|noted| noted.address);
        (all, inner.counts)
    }

    fn note(&self, address: SocketAddr, now: Instant, change: impl FnOnce(&mut Known)) {
        let count = self.count.load(Ordering::Relaxed);
        if count < 2 {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.mode == BreakerMode::Off {
            return;
        }
        inner.note(address, count, now, change);
        self.noted.store(inner.known.len(), Ordering::Relaxed);
    }
}

impl Inner {
    fn ejected(&self, now: Instant) -> impl Iterator<Item = SocketAddr> {
        let ejected = move |(_, known): &(&SocketAddr, &Known)| known.until.is_some_and(|until| now < until);
        self.known.iter().filter(ejected).map(|(address, _)| *address)
    }

    fn note(&mut self, address: SocketAddr, count: usize, now: Instant, change: impl FnOnce(&mut Known)) {
        if !self.known.contains_key(&address) && self.known.len() >= MAX_NOTED {
            // Those that are long well, or gone, make room.
            let longest = self.settings.max;
            self.known.retain(|_, known| now.saturating_duration_since(known.heard) < longest);
            if self.known.len() >= MAX_NOTED {
                self.counts.overflow += 1;
                return;
            }
        }
        let unknown = Known { failures: 0, connect_failures: 0, times: 0, until: None, heard: now };
        let known = self.known.entry(address).or_insert(unknown);
        known.heard = now;
        if known.until.is_some_and(|until| now < until) {
            // It was asked before it was ejected, or although it would have been: that decides nothing.
            return;
        }
        change(known);
        let reaches = |limit: Option<u32>, n: u32| limit.is_some_and(|limit| n >= limit);
        let fails = reaches(self.settings.consecutive_failures, known.failures)
            || reaches(self.settings.connect_failures, known.connect_failures);
        if fails {
            self.eject(address, count, now);
        } else if known.failures == 0 && known.connect_failures == 0 && known.is_forgiven(&self.settings, now) {
            self.known.remove(&address);
        }
    }

    /// Ejects an endpoint, unless that leaves too few.
    fn eject(&mut self, address: SocketAddr, count: usize, now: Instant) {
        let already = self.ejected(now).count();
        let Some(known) = self.known.get_mut(&address) else { return };
        // Either way it counts anew.
        (known.failures, known.connect_failures) = (0, 0);
        let most = count * self.settings.max_ejection_percent as usize / 100;
        if already + 1 >= count && !self.settings.allow_last {
            self.counts.refused_last += 1;
            return;
        }
        if already >= most {
            self.counts.refused_percent += 1;
            return;
        }
        let well = known.until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        let forgiven = well.as_nanos() / self.settings.base.as_nanos().max(1);
        known.times = known.times.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)).saturating_add(1);
        let factor = 2_u32.saturating_pow((known.times - 1).min(20));
        let time = self.settings.base.saturating_mul(factor).min(self.settings.max);
        known.until = Some(now + time);
        let (times, seconds) = (known.times, time.as_secs_f64());
        match self.mode {
            BreakerMode::Enforce => {
                self.counts.ejected += 1;
                tracing::warn!(endpoint = %address, times, seconds, "an endpoint that fails is passed over");
            }
            _ => {
                self.counts.would_eject += 1;
                tracing::info!(endpoint = %address, times, seconds, "an endpoint that fails would be passed over");
            }
        }
    }
}

impl Known {
    /// Whether all times that it was ejected have decayed.
    fn is_forgiven(&self, settings: &Ejection, now: Instant) -> bool {
        let Some(until) = self.until else { return true };
        now.saturating_duration_since(until) >= settings.base.saturating_mul(self.times)
    }
}

/// Endpoints of one destination of which anything is noted.
const MAX_NOTED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 80))
    }

    fn endpoints(count: usize, change: impl FnOnce(&mut BreakerSettings)) -> Endpoints {
        let mut settings = BreakerSettings { mode: BreakerMode::Enforce, ..BreakerSettings::default() };
        change(&mut settings);
        let endpoints = Endpoints::new(&settings);
        endpoints.are(count);
        endpoints
    }

    fn fails(endpoints: &Endpoints, n: u8, times: u32, now: Instant) {
        (0..times).for_each(|_| endpoints.ended(address(n), Class::Failure, now));
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_failures_in_a_row_eject_and_time_brings_back_longer_each_time() {
        let (endpoints, mut now) = (endpoints(2, |_| ()), Instant::now());
        fails(&endpoints, 1, 4, now);
        endpoints.ended(address(1), Class::Success, now);
        fails(&endpoints, 1, 4, now);
        assert!(endpoints.ejected(now).is_empty(), "they were not in a row");
        fails(&endpoints, 1, 1, now);
        for time in [10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(endpoints.ejected(now + seconds(time) - Duration::from_millis(1)), [address(1)], "{time}");
            now += seconds(time);
            assert!(endpoints.ejected(now).is_empty(), "{time}");
            fails(&endpoints, 1, 5, now);
        }
    }

    #[test]
    fn time_in_good_health_is_forgiven_step_by_step() {
        let (endpoints, start) = (endpoints(2, |_| ()), Instant::now());
        fails(&endpoints, 1, 5, start);
        let now = start + seconds(10);
        fails(&endpoints, 1, 5, now);
        // Twice in a row; after ten seconds in good health it counts as once.
        let now = now + seconds(20 + 10);
        fails(&endpoints, 1, 5, now);
        assert!(endpoints.ejected(now + seconds(21)).is_empty());
        assert!(!endpoints.ejected(now + seconds(19)).is_empty());
        let now = now + seconds(20 + 100);
        endpoints.ended(address(1), Class::Success, now);
        assert!(endpoints.view(now).0.is_empty(), "nothing bad is known of it");
    }

    #[test]
    fn connections_that_cannot_be_made_are_found_out_sooner() {
        let (endpoints, now) = (endpoints(2, |_| ()), Instant::now());
        (0..3).for_each(|_| endpoints.unreachable(address(1), now));
        assert_eq!(endpoints.ejected(now), [address(1)]);
    }

    #[test]
    fn no_more_than_the_share_and_never_the_last() {
        let now = Instant::now();
        let of = |count: usize, change: fn(&mut BreakerSettings)| {
            let endpoints = endpoints(count, change);
            (0..count).for_each(|n| fails(&endpoints, n as u8, 5, now));
            let counts = endpoints.view(now).1;
            (endpoints.ejected(now).len(), counts.refused_percent, counts.refused_last)
        };
        assert_eq!(of(1, |_| ()), (0, 0, 0), "where there is one alone nothing is noted");
        assert_eq!(of(2, |_| ()), (1, 0, 1));
        assert_eq!(of(3, |_| ()), (1, 2, 0), "half of three, rounded down");
        assert_eq!(of(10, |_| ()), (5, 5, 0));
        let all = |settings: &mut BreakerSettings| settings.ejection.max_ejection_percent = 100;
        assert_eq!(of(4, all), (3, 0, 1));
        let even_the_last = |settings: &mut BreakerSettings| {
            (settings.ejection.max_ejection_percent, settings.ejection.allow_last) = (100, true);
        };
        assert_eq!(of(4, even_the_last), (4, 0, 0));
    }

    #[test]
    fn observing_passes_over_nobody_and_counts_who_would_have_been() {
        let (endpoints, now) = (endpoints(2, |settings| settings.mode = BreakerMode::Observe), Instant::now());
        fails(&endpoints, 1, 50, now);
        assert!(endpoints.ejected(now).is_empty());
        let (noted, counts) = endpoints.view(now);
        assert_eq!((counts.would_eject, counts.ejected), (1, 0), "what it still does decides nothing");
        assert_eq!(noted[0].remaining, Some(seconds(10)));
    }

    #[test]
    fn what_says_nothing_of_an_endpoint_is_noted_nowhere() {
        let (endpoints, now) = (endpoints(2, |_| ()), Instant::now());
        for class in [Class::Success, Class::Ignored, Class::Propagated, Class::Throttled, Class::Local] {
            (0..100).for_each(|_| endpoints.ended(address(1), class, now));
        }
        assert!(endpoints.view(now).0.is_empty());
    }

    #[test]
    fn of_more_endpoints_than_are_noted_those_that_are_gone_make_room() {
        let (endpoints, now) = (endpoints(10_000, |_| ()), Instant::now());
        let many = |from: u16| (from..).take(MAX_NOTED + 1).map(|n| SocketAddr::from(([10, 0, 0, 1], n)));
        many(1).for_each(|address| endpoints.ended(address, Class::Failure, now));
        assert_eq!((endpoints.view(now).0.len(), endpoints.view(now).1.overflow), (MAX_NOTED, 1));
        let later = now + seconds(300);
        many(1_000).take(9).for_each(|address| endpoints.ended(address, Class::Failure, later));
        assert_eq!((endpoints.view(later).0.len(), endpoints.view(later).1.overflow), (9, 1));
    }
}
