//! All breakers of a proxy, by destination. They outlive a configuration: what was learned of a neighbour is not forgotten
//! for a change of a timeout.

use std::collections::HashMap;
use std::sync::Arc;

use couplet_config::Breakers as Settings;
use couplet_telemetry::breaker::BreakerReport;
use couplet_telemetry::names::OTHER;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::neighbour::Neighbour;
use super::transition::Transitions;
use crate::metrics::Counter;

/// The breakers of one proxy.
pub(crate) struct Breakers {
    /// The service whose calls they are for.
    service: Arc<str>,
    known: Mutex<HashMap<Arc<str>, Arc<Breaker>>>,
    pub(crate) transitions: Arc<Transitions>,
    /// Destinations that have none, since there are too many.
    pub(crate) overflow: Counter,
}

impl Breakers {
    pub(crate) fn new(service: &str) -> Self {
        Self {
            service: Arc::from(service),
            known: Mutex::default(),
            transitions: Arc::default(),
            overflow: Counter::default(),
        }
    }

    /// The breaker of calls to `destination`. Destinations beyond the limit have none, and neither has what stands for
    /// all of them: one that fails would stop the others.
    pub(crate) fn of(&self, destination: &str, settings: &Settings, now: Instant) -> Option<Arc<Breaker>> {
        if destination == OTHER {
            return None;
        }
        let mut known = self.known.lock();
        if let Some(breaker) = known.get(destination) {
            return Some(Arc::clone(breaker));
        }
        if known.len() >= MAX_BREAKERS {
            // Nobody calls those any more that only this list still knows.
            known.retain(|_, breaker| Arc::strong_count(breaker) > 1);
        }
        if known.len() >= MAX_BREAKERS {
            self.overflow.add(1);
            return None;
        }
        let name: Arc<str> = Arc::from(destination);
        let settings = settings.of(destination);
        let breaker = Arc::new(Breaker::new(
            Arc::clone(&self.service),
            Arc::clone(&name),
            settings.clone(),
            Arc::new(Neighbour::new(settings)),
            Arc::clone(&self.transitions),
            fastrand::u64(..),
            now,
        ));
        known.insert(name, Arc::clone(&breaker));
        Some(breaker)
    }

    /// Other rules are in force.
    pub(crate) fn configure(&self, settings: &Settings, now: Instant) {
        self.all().iter().for_each(|breaker| breaker.configure(settings.of(&breaker.to), now));
    }

    /// What they did since the last report.
    pub(crate) fn reports(&self, now: Instant) -> Vec<BreakerReport> {
        self.all().iter().filter_map(|breaker| breaker.report(now)).collect()
    }

    /// All of them, by destination.
    pub(crate) fn all(&self) -> Vec<Arc<Breaker>> {
        let mut all: Vec<Arc<Breaker>> = self.known.lock().values().cloned().collect();
        all.sort_by(|one, other| one.to.cmp(&other.to));
        all
    }

    /// The one of calls to `destination`, if there is one.
    pub(crate) fn known(&self, destination: &str) -> Option<Arc<Breaker>> {
        self.known.lock().get(destination).cloned()
    }
}

/// Destinations with a breaker of their own: less than 4 KiB each.
const MAX_BREAKERS: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::breaker::{Failed, What};
    use super::super::classify::Class;
    use super::*;

    /// Resident memory of this process, in bytes. None where tests share a process: it would be that of all of them.
    fn resident() -> Option<usize> {
        std::env::var_os("NEXTEST")?;
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        Some(status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096)
    }

    /// So many breakers, each with as much evidence as there can be of one that stays closed: four in ten calls fail, at
    /// different endpoints and in different ways, and they take from 0.5 ms to 8 s.
    fn busy(count: usize) -> (Breakers, Vec<Arc<Breaker>>) {
        let (breakers, settings, start) = (Breakers::new("shop"), Settings::default(), Instant::now());
        let many = (0..count).map(|n| breakers.of(&format!("destination-{n}"), &settings, start).unwrap());
        let many: Vec<_> = many.collect();
        for breaker in &many {
            for n in 0..1_000_u64 {
                let now = start + Duration::from_millis(n * 30);
                let ticket = breaker.ask(now).unwrap();
                let class = if n % 5 < 2 { Class::Failure } else { Class::Success };
                let endpoint = SocketAddr::from(([10, 0, 0, (n % 4) as u8], 80));
                let what = Some(What::Http(500 + (n % 3) as u16));
                let failed = Failed { what, endpoint: Some(endpoint), trace: u128::from(n), retry_after: None };
                breaker.ended(ticket, class, Duration::from_micros(500 << (n % 15)), failed, now);
            }
        }
        (breakers, many)
    }

    #[test]
    fn a_thousand_destinations_that_fail_in_many_ways_take_less_than_4_kib_each() {
        // The code itself is resident by then.
        let few = busy(10);
        let before = resident();
        let (breakers, many) = busy(1_000);
        let Some((before, after)) = before.zip(resident()) else { return };
        let each = after.saturating_sub(before) / many.len();
        assert!(each > 500, "{each} bytes: nothing was measured");
        assert!(each < 4 << 10, "{each} bytes");
        drop((few, breakers));
    }
}
