//! What a service is known to do: which event follows which inside a handler, and after how long.

use std::collections::HashMap;

use super::density::{Density, Gap, UNKNOWN, WIDTH};
use super::hash::{Spread, mix};

/// The callee number that stands for the end of the handler.
pub(super) const END: u32 = u32::MAX;

/// The latest event of a handler, as the next one may follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last(u32);

impl Last {
    /// The request came.
    pub(super) const START: Self = Self(0);

    /// A call of this callee started.
    pub(super) fn call_start(callee: u32) -> Self {
        Self(callee.wrapping_mul(2).wrapping_add(1))
    }

    /// A call of this callee ended.
    pub(super) fn call_end(callee: u32) -> Self {
        Self(callee.wrapping_mul(2).wrapping_add(2))
    }
}

/// What is known inside a handler when its next event comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) endpoint: u32,
    pub(super) last: Last,
    /// Mixes everything called so far.
    pub(super) history: u64,
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
        match self.by.iter().position(|(known, _)| *known == event) {
            Some(at) => {
                if let Some((_, seen)) = self.by.get_mut(at) {
                    *seen += weight;
                }
            }
            None if self.by.len() < MOST_NEXT => self.by.push((event, weight)),
            // It is as rare as one that was never seen.
            None => {}
        }
    }

    fn of(&self, event: u32) -> f64 {
        self.by.iter().find(|(known, _)| *known == event).map_or(0.0, |(_, seen)| *seen)
    }
}

/// Densities and counts learned so far, each observation fading as later ones come.
#[derive(Debug, Clone)]
pub(super) struct Model {
    gaps: HashMap<u64, Density, Spread>,
    next: HashMap<u64, Next, Spread>,
    most: usize,
    /// Weight of an observation made now; grows, so that earlier ones fade beside it.
    unit: f64,
    growth: f64,
    /// Weight of all observations.
    observed: f64,
    /// Observations that found no room.
    pub(super) refused: u64,
}

/// Different events that are told apart after any one moment.
const MOST_NEXT: usize = 64;
/// Observations' worth of trust in the coarser statistic, where a finer one is thin.
const TRUST_GAP: f64 = 8.0;
const TRUST_HISTORY: f64 = 3.0;
const TRUST_LAST: f64 = 1.0;
const TRUST_ENDPOINT: f64 = 0.5;
/// Share under which an event is a surprise.
const SURPRISING: f64 = 0.02;
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
            observed: 0.0,
            refused: 0,
        }
    }

    /// Statistics that are kept.
    pub(super) fn len(&self) -> usize {
        self.gaps.len() + self.next.len()
    }

    /// Observations in all, in units of one made now.
    pub(super) fn observed(&self) -> f64 {
        self.observed / self.unit
    }

    /// One more handler has passed: what was seen before counts a little less.
    pub(super) fn age(&mut self) {
        self.unit *= self.growth;
        if self.unit > LARGEST_UNIT {
            let by = 1.0 / self.unit;
            self.unit = 1.0;
            self.observed *= by;
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

    /// Takes in that `event` came at this moment, this long after the latest event.
    pub(super) fn observe(&mut self, moment: Moment, gap: Gap, event: u32, weight: f64) {
        let weight = weight * self.unit;
        self.observed += weight;
        for key in gap_keys(moment, event) {
            if let Some(density) = room(&mut self.gaps, key, self.most, &mut self.refused, Density::new) {
                density.add(gap, weight);
            }
        }
        for key in next_keys(moment) {
            if let Some(next) = room(&mut self.next, key, 4 * self.most, &mut self.refused, Next::default) {
                next.add(event, weight);
            }
        }
    }

    /// Logarithm of how likely it is that a gap before `event` falls into a bin, per unit of logarithmic time.
    pub(super) fn log_gap(&self, moment: Moment, event: u32, bin: usize) -> f64 {
        let [coarse, fine] = gap_keys(moment, event);
        let base = self.gaps.get(&coarse).map_or(UNKNOWN, |density| density.share(bin, self.unit));
        let share = self.gaps.get(&fine).map_or(base, |density| {
            let trust = TRUST_GAP * self.unit;
            (density.share(bin, self.unit) * density.total + base * trust) / (density.total + trust)
        });
        (share / WIDTH).ln()
    }

    /// Logarithm of how likely it is that `event` comes next.
    pub(super) fn log_next(&self, moment: Moment, event: u32) -> f64 {
        self.next(moment, event).ln()
    }

    /// Whether `event` is one of those that hardly ever come next, and how likely it is that one of those does.
    pub(super) fn surprise(&self, moment: Moment, event: u32) -> (bool, f64) {
        let [endpoint, last, history] = next_keys(moment);
        let finest = [history, last, endpoint].into_iter().find_map(|key| self.next.get(&key));
        let known = finest.map_or(&[][..], |next| &next.by).iter().map(|(known, _)| self.next(moment, *known));
        let usual: f64 = known.filter(|share| *share >= SURPRISING).sum();
        (self.next(moment, event) < SURPRISING, (1.0 - usual).clamp(0.0, 1.0))
    }

    /// How likely it is that `event` comes next.
    fn next(&self, moment: Moment, event: u32) -> f64 {
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

/// Names what densities of gaps are kept for: what came last and comes next, without and with the endpoint.
pub(super) fn gap_keys(moment: Moment, event: u32) -> [u64; 2] {
    let coarse = mix(u64::from(moment.last.0), u64::from(event));
    [coarse, mix(coarse, u64::from(moment.endpoint) + 1)]
}

fn next_keys(moment: Moment) -> [u64; 3] {
    let endpoint = mix(u64::from(moment.endpoint), 7);
    let last = mix(endpoint, u64::from(moment.last.0));
    [endpoint, last, mix(last, moment.history)]
}

impl Moment {
    /// Names the moment together with what comes next.
    pub(super) fn key(self, event: u32) -> u64 {
        let place = u64::from(self.endpoint) << 32 | u64::from(self.last.0);
        mix(self.history ^ place.wrapping_mul(0xd6e8_feb8_6659_fd93), u64::from(event))
    }
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
