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
        let breaker = Arc::new(Breaker::new(
            Arc::clone(&self.service),
            Arc::clone(&name),
            settings.of(destination).clone(),
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

/// Destinations with a breaker of their own: some 4 KiB each.
const MAX_BREAKERS: usize = 1_024;
