//! The slot in which reports gather at present.

use std::collections::HashMap;

use bytes::Bytes;
use couplet_telemetry::window::WindowLimits;

use super::gathered::Gathered;
use super::report::ALL;
use super::{PackedReport, Rollup, Tier};

/// Bytes that gather at most: a slot that is full is sealed early, and nothing is lost but its length. While one slot is
/// packed the next one gathers.
const FULL: usize = 16 << 20;
/// What a report takes beside its bytes, about.
const OVERHEAD: usize = 64;

/// The reports since the last slot was sealed. They are only put together when it is: until then each is there as it came,
/// packed.
#[derive(Debug)]
pub struct OpenSlot {
    limits: WindowLimits,
    start: u64,
    bytes: usize,
    services: HashMap<String, Vec<Bytes>>,
}

impl OpenSlot {
    /// An empty slot that begins at `start`, milliseconds since the Unix epoch. `limits` hold for every service of it.
    #[must_use]
    pub fn new(limits: WindowLimits, start: u64) -> Self {
        Self { limits, start, bytes: 0, services: HashMap::new() }
    }

    /// Adds a report.
    pub fn absorb(&mut self, PackedReport { report, body }: PackedReport) {
        self.bytes += body.len() + OVERHEAD;
        self.services.entry(report.origin.service).or_default().push(body);
    }

    /// Whether nothing was reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether it is to be sealed at `now`: its time is over, or it is full.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        !self.is_empty() && (self.bytes >= FULL || now >= self.due())
    }

    /// Whether it holds far more than it should, for it could not be sealed when it was full.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.bytes >= 2 * FULL
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
        let put_together = |(service, bodies): (String, Vec<Bytes>)| {
            let mut gathered = Gathered::new(self.limits);
            bodies.into_iter().for_each(|body| {
                let _ = gathered.add(&body, &ALL); // it was written here
            });
            gathered.pack(&service, Tier::Seconds, times)
        };
        services.into_iter().flat_map(put_together).collect()
    }
}
