//! The slot in which reports gather at present.

use std::collections::HashMap;

use couplet_telemetry::report::Report;
use couplet_telemetry::window::WindowLimits;

use super::rollup::Gathered;
use super::{Rollup, Tier};

/// Paths and calls that gather at most: a slot that is full is sealed early, and nothing is lost but its length. Each takes
/// more than a kilobyte until it is packed, and while one slot is packed the next one gathers.
const ENTRIES: usize = 25_000;

/// The reports since the last slot was sealed.
#[derive(Debug)]
pub struct OpenSlot {
    limits: WindowLimits,
    start: u64,
    entries: usize,
    services: HashMap<String, Gathered>,
}

impl OpenSlot {
    /// An empty slot that begins at `start`, milliseconds since the Unix epoch. `limits` hold for every service of it.
    #[must_use]
    pub fn new(limits: WindowLimits, start: u64) -> Self {
        Self { limits, start, entries: 0, services: HashMap::new() }
    }

    /// Adds a report.
    pub fn absorb(&mut self, report: Report) {
        let limits = self.limits;
        let known = self.services.get_mut(&report.origin.service);
        let gathered = match known {
            Some(gathered) => gathered,
            None => self.services.entry(report.origin.service.clone()).or_insert_with(|| Gathered::new(limits)),
        };
        let before = gathered.len();
        gathered.absorb(report);
        self.entries = self.entries + gathered.len() - before;
    }

    /// Whether nothing was reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether it is to be sealed at `now`: its time is over, or it is full.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        !self.is_empty() && (self.entries >= ENTRIES || now >= self.due())
    }

    /// Whether it holds far more than it should, for it could not be sealed when it was full.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.entries >= 2 * ENTRIES
    }

    /// When its time is over.
    #[must_use]
    pub fn due(&self) -> u64 {
        Tier::Seconds.start_of(self.start).saturating_add(Tier::Seconds.length())
    }

    /// Takes what has gathered; a new slot begins at `now`. A clock that was set back makes a slot of no length.
    #[must_use]
    pub fn replace(&mut self, now: u64) -> Self {
        std::mem::replace(self, Self::new(self.limits, now))
    }

    /// Moves the beginning of a slot that is still empty.
    pub fn begin(&mut self, now: u64) {
        if self.is_empty() {
            self.start = now;
        }
    }

    /// Seals it: rollups that end at its time's end, or at `now` where it is full before.
    #[must_use]
    pub fn seal(self, now: u64) -> Vec<Rollup> {
        let times = (self.start, now.min(self.due()).max(self.start));
        let mut services: Vec<_> = self.services.into_iter().collect();
        services.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        services.into_iter().flat_map(|(service, gathered)| gathered.pack(&service, Tier::Seconds, times)).collect()
    }
}
