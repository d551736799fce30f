//! What a service is known to do: which event follows which inside a handler, and after how long.

use std::collections::HashMap;

use super::density::{Density, Gap, UNKNOWN};
use super::hash::{Spread, mix};

/// The callee number that stands for the end of the handler.
pub(super) const END: u32 = u32::MAX;

/// The latest event of a handler, as the next one may follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// The request came.
    Start,
    /// A call of this callee started.
    CallStart(u32),
    /// A call of this callee ended.
    CallEnd(u32),
}

impl Last {
    fn key(self) -> u64 {
        match self {
            Self::Start => 1,
            Self::CallStart(callee) => 2 | u64::from(callee) << 2,
            Self::CallEnd(callee) => 3 | u64::from(callee) << 2,
        }
    }
}

/// What is known inside a handler when its next event comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) endpoint: u32,
    pub(super) last: Last,
    /// Mixes everything called so far.
    pub(super) history: u64,
    /// Since the latest event.
    pub(super) gap: Gap,
}

/// Counts of what came next.
#[derive(Debug, Clone, Default)]
struct Next {
    total: f64,
    by: Vec<(u32, f64)>,
}

impl Next {
    fn add(&mut self, event: u32, weight: f64) {
        self.total += weight;
        match self.by.iter_mut().find(|(known, _)| *known == event) {
            Some((_, seen)) => *seen += weight,
            None => self.by.push((event, weight)),
        }
    }

    fn of(&self, event: u32) -> f64 {
        self.by.iter().find(|(known, _)| *known == event).map_or(0.0, |(_, seen)| *seen)
    }
}

/// Densities and counts learned so far, each observation fading as later ones come.
#[derive(Debug)]
pub(super) struct Model {
    gaps: HashMap<u64, Density, Spread>,
    next: HashMap<u64, Next, Spread>,
    most: usize,
    /// Weight of an observation made now; grows, so that earlier ones fade beside it.
    pub(super) unit: f64,
    growth: f64,
    /// Observations that found no room.
    pub(super) refused: u64,
}

/// Observations' worth of trust in the coarser statistic, where a finer one is thin.
const TRUST_GAP: f64 = 8.0;
const TRUST_HISTORY: f64 = 3.0;
const TRUST_LAST: f64 = 1.0;
const TRUST_ENDPOINT: f64 = 0.5;
/// Share of an event that was never seen.
const RARE: f64 = 0.01;
/// Taken off every count, so that a handler does not vouch for itself.
const DISCOUNT: f64 = 0.75;
/// The unit at which everything is scaled back.
const LARGEST_UNIT: f64 = 1e6;
/// Weight, in observations, under which a statistic is dropped when everything is scaled back.
const FADED: f64 = 0.02;

impl Model {
    /// Keeps at most `most` densities and `4 × most` counts; an observation is worth half after `half_life` handlers.
    pub(super) fn new(most: usize, half_life: f64) -> Self {
        Self {
            gaps: HashMap::default(),
            next: HashMap::default(),
            most,
            unit: 1.0,
            growth: 0.5f64.powf(-1.0 / half_life.max(1.0)),
            refused: 0,
        }
    }

    /// Statistics that are kept.
    pub(super) fn len(&self) -> usize {
        self.gaps.len() + self.next.len()
    }

    /// One more handler has passed: what was seen before counts a little less.
    pub(super) fn age(&mut self) {
        self.unit *= self.growth;
        if self.unit > LARGEST_UNIT {
            let by = 1.0 / self.unit;
            self.unit = 1.0;
            self.gaps.retain(|_, density| {
                density.scale(by);
                density.total > FADED
            });
            self.next.retain(|_, next| {
                next.total *= by;
                next.by.iter_mut().for_each(|(_, seen)| *seen *= by);
                next.by.retain(|(_, seen)| *seen > FADED);
                next.total > FADED
            });
        }
    }

    /// Takes in that `event` came at this moment.
    pub(super) fn observe(&mut self, moment: Moment, event: u32, weight: f64) {
        let weight = weight * self.unit;
        for key in gap_keys(moment, event) {
            if let Some(density) = room(&mut self.gaps, key, self.most, &mut self.refused, Density::new) {
                density.add(moment.gap, weight);
            }
        }
        for key in next_keys(moment) {
            if let Some(next) = room(&mut self.next, key, 4 * self.most, &mut self.refused, Next::default) {
                next.add(event, weight);
            }
        }
    }

    /// Logarithm of how likely it is that `event` comes at this moment, per tick of time.
    pub(super) fn log_likelihood(&self, moment: Moment, event: u32) -> f64 {
        (self.gap(moment, event) * self.probability(moment, event) / super::density::WIDTH).ln() - moment.gap.stretch
    }

    fn gap(&self, moment: Moment, event: u32) -> f64 {
        let [coarse, fine] = gap_keys(moment, event);
        let base = self.gaps.get(&coarse).map_or(UNKNOWN, |density| density.share(moment.gap, self.unit));
        let Some(density) = self.gaps.get(&fine) else { return base };
        let trust = TRUST_GAP * self.unit;
        let own = density.share(moment.gap, self.unit);
        (own * density.total + base * trust) / (density.total + trust)
    }

    fn probability(&self, moment: Moment, event: u32) -> f64 {
        let [endpoint, last, history] = next_keys(moment);
        let mut share = RARE;
        for (key, trust) in [(endpoint, TRUST_ENDPOINT), (last, TRUST_LAST), (history, TRUST_HISTORY)] {
            if let Some(next) = self.next.get(&key) {
                let discount = DISCOUNT * self.unit;
                let spread = trust * self.unit + discount * next.by.len() as f64;
                let seen = (next.of(event) - discount).max(0.0);
                share = (seen + share * spread) / (next.total + trust * self.unit);
            }
        }
        share
    }
}

fn gap_keys(moment: Moment, event: u32) -> [u64; 2] {
    let coarse = mix(moment.last.key(), u64::from(event));
    [coarse, mix(coarse, u64::from(moment.endpoint) + 1)]
}

fn next_keys(moment: Moment) -> [u64; 3] {
    let endpoint = mix(u64::from(moment.endpoint), 7);
    let last = mix(endpoint, moment.last.key());
    [endpoint, last, mix(last, moment.history)]
}

fn room<'a, T>(
    map: &'a mut HashMap<u64, T, Spread>,
    key: u64,
    most: usize,
    refused: &mut u64,
    empty: impl FnOnce() -> T,
) -> Option<&'a mut T> {
    if map.len() >= most && !map.contains_key(&key) {
        *refused += 1;
        return None;
    }
    Some(map.entry(key).or_insert_with(empty))
}
