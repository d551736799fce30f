//! All breakers of a proxy, by destination and class of calls. They outlive a configuration: what was learned of a neighbour is not forgotten
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
    known: Mutex<Known>,
    pub(crate) transitions: Arc<Transitions>,
    /// Destinations that have none, since there are too many.
    pub(crate) overflow: Counter,
}

#[derive(Default)]
struct Known {
    /// For the calls that are of no class.
    destinations: HashMap<Arc<str>, Arc<Breaker>>,
    /// By destination and class.
    classes: HashMap<(Arc<str>, Arc<str>), Arc<Breaker>>,
}

impl Known {
    /// Whether there is room for one more.
    fn has_room(&mut self) -> bool {
        if self.len() >= MAX_BREAKERS {
            // Nobody calls those any more that only this list still knows.
            self.destinations.retain(|_, breaker| Arc::strong_count(breaker) > 1);
            self.classes.retain(|_, breaker| Arc::strong_count(breaker) > 1);
        }
        self.len() < MAX_BREAKERS
    }

    fn len(&self) -> usize {
        self.destinations.len() + self.classes.len()
    }
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
        if let Some(breaker) = known.destinations.get(destination) {
            return Some(Arc::clone(breaker));
        }
        if !known.has_room() {
            self.overflow.add(1);
            return None;
        }
        let name: Arc<str> = Arc::from(destination);
        let settings = settings.of(destination, None);
        let breaker = Arc::new(Breaker::new(
            Arc::clone(&self.service),
            (Arc::clone(&name), None),
            settings.clone(),
            Arc::new(Neighbour::new(settings)),
            Arc::clone(&self.transitions),
            fastrand::u64(..),
            now,
        ));
        known.destinations.insert(name, Arc::clone(&breaker));
        Some(breaker)
    }

    /// The breaker of calls of `class` to `destination`, which has the one of all others as well. None beyond the limit:
    /// they are of no class then.
    pub(crate) fn of_class(
        &self,
        destination: &str,
        class: &str,
        settings: &Settings,
        now: Instant,
    ) -> Option<Arc<Breaker>> {
        let all = self.of(destination, settings, now)?;
        let key: (Arc<str>, Arc<str>) = (Arc::clone(&all.to), Arc::from(class));
        let mut known = self.known.lock();
        if let Some(breaker) = known.classes.get(&key) {
            return Some(Arc::clone(breaker));
        }
        if !known.has_room() {
            self.overflow.add(1);
            return None;
        }
        let breaker = Arc::new(Breaker::new(
            Arc::clone(&self.service),
            (Arc::clone(&key.0), Some(Arc::clone(&key.1))),
            settings.of(destination, Some(class)).clone(),
            Arc::clone(&all.neighbour),
            Arc::clone(&self.transitions),
            fastrand::u64(..),
            now,
        ));
        known.classes.insert(key, Arc::clone(&breaker));
        Some(breaker)
    }

    /// Other rules are in force.
    pub(crate) fn configure(&self, settings: &Settings, now: Instant) {
        let settings = |breaker: &Breaker| settings.of(&breaker.to, breaker.class.as_deref());
        self.all().iter().for_each(|breaker| breaker.configure(settings(breaker), now));
    }

    /// What they did since the last report.
    pub(crate) fn reports(&self, now: Instant) -> Vec<BreakerReport> {
        self.all().iter().filter_map(|breaker| breaker.report(now)).collect()
    }

    /// All of them, by destination and class.
    pub(crate) fn all(&self) -> Vec<Arc<Breaker>> {
        let known = self.known.lock();
        let mut all: Vec<Arc<Breaker>> = known.destinations.values().chain(known.classes.values()).cloned().collect();
        drop(known);
        all.sort_by(|one, other| (&one.to, &one.class).cmp(&(&other.to, &other.class)));
        all
    }

    /// The one of calls to `destination`, of a class or of none, if there is one.
    pub(crate) fn known(&self, destination: &str, class: Option<&str>) -> Option<Arc<Breaker>> {
        let known = self.known.lock();
        match class {
            None => known.destinations.get(destination).cloned(),
            Some(class) => known.classes.get(&(Arc::from(destination), Arc::from(class))).cloned(),
        }
    }
}

/// Destinations and classes of calls with a breaker of their own: less than 4 KiB each.
const MAX_BREAKERS: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::SocketAddr;
    use std::time::Duration;

    use couplet_telemetry::breaker::Count;

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
    /// different endpoints and in different ways, and they take from 0.5 ms to 8 s. Of the endpoints as much is known.
    fn busy(count: usize) -> (Breakers, Vec<Arc<Breaker>>) {
        let (breakers, settings, start) = (Breakers::new("shop"), Settings::default(), Instant::now());
        let many = (0..count).map(|n| breakers.of(&format!("destination-{n}"), &settings, start).unwrap());
        let many: Vec<_> = many.collect();
        for breaker in &many {
            breaker.neighbour.endpoints.are(4);
            for n in 0..1_000_u64 {
                let now = start + Duration::from_millis(n * 30);
                let ticket = breaker.ask(now).unwrap();
                let class = if n % 5 < 2 { Class::Failure } else { Class::Success };
                let endpoint = SocketAddr::from(([10, 0, 0, (n % 4) as u8], 80));
                let what = Some(What::Http(500 + (n % 3) as u16));
                let failed = Failed { what, endpoint: Some(endpoint), trace: u128::from(n), retry_after: None };
                breaker.ended(ticket, class, Duration::from_micros(500 << (n % 15)), failed, now);
            }
            for n in 0..4 {
                breaker.neighbour.endpoints.ended(SocketAddr::from(([10, 0, 0, n], 80)), Class::Failure, start);
            }
        }
        (breakers, many)
    }

    #[test]
    fn a_thousand_destinations_that_fail_in_many_ways_take_less_than_4_kib_each() {
        // Another thousand before, which stay: the code is resident by then, and so is all that the allocator keeps at hand
        // of what was used for a moment.
        let others = busy(1_000);
        let before = resident();
        let (breakers, many) = busy(1_000);
        let Some((before, after)) = before.zip(resident()) else { return };
        let each = after.saturating_sub(before) / many.len();
        let _ = writeln!(std::io::stderr(), "{each} bytes for each of {} destinations", many.len());
        assert!(each > 500, "{each} bytes: nothing was measured");
        assert!(each < 4 << 10, "{each} bytes");
        let noted = |breaker: &Arc<Breaker>| breaker.neighbour.endpoints.view(Instant::now()).0.len();
        assert!(
            many.iter()
                .all(|breaker| noted(breaker) == 4 && breaker.view(Instant::now()).done.get(Count::Failure) == 400)
        );
        drop((others, breakers));
    }
}
