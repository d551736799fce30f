//! Echo learning: finds headers that an application copies from an inbound request to the calls that it makes for it.
//!
//! While calls cannot be linked, the values of all headers of open requests are watched, as hashes. Where a call repeats a
//! value that exactly one open request has, for nine of ten calls that have the header and for two hundred of them at
//! least, the pair of headers is learned. A value that comes back long after is none that names a request: a tenant, a
//! constant. Where calls are linked, nothing is watched and nothing is spent.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use super::carried::Keys;
use super::known::{Header, is_never_learned};
use crate::http::Fields;

/// Calls that have the header before it is learned; twice as many for each time that it was given up.
const LEARN_CALLS: u64 = 200;
/// Share of these that repeat a value of exactly one open request.
const LEARN_RIGHT: f64 = 0.9;
/// Pairs that are right less often are dropped after twice as many calls.
const STILL_HOPED: f64 = 0.8;
/// A value that so many later requests did not have should not come again.
const FAR: usize = 128;
/// Values beyond that which are remembered, and comparisons that are needed for a verdict.
const REMEMBERED: usize = 64;
/// Share of values that may come again where a header is learned, and where it stays learned.
const MAY_RECUR: f64 = 0.05;
const MAY_STILL_RECUR: f64 = 0.2;
/// Calls of one round of learning. One that promises nothing is followed by a rest of [`REST`] rounds.
const ROUND: u64 = 1_000;
const REST: u64 = 8;
/// Requests without any call that is not linked after which nothing is watched any more.
const IDLE: u64 = 4_096;
/// Names that are watched on either side, pairs of them, values of all open requests, values of one request.
const MAX_NAMES: usize = 64;
const MAX_PAIRS: usize = 128;
const MAX_VALUES: usize = 65_536;
const MAX_WATCHED: usize = 16;
/// Shorter values are words, longer ones documents.
const LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;

/// What is being learned, and what was.
#[derive(Default)]
pub(crate) struct Learner {
    allowed: AtomicBool,
    active: AtomicBool,
    /// Calls that were not linked while nothing was watched.
    misses: AtomicU64,
    /// How many of them wake the learner.
    patience: AtomicU64,
    /// Shared by all workers, but only while there is something to learn.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which stretch of watching this is: requests of an earlier one are not watched any more.
    epoch: u32,
    inbound: Vec<Inbound>,
    outbound: Vec<Outbound>,
    pairs: Vec<Pair>,
    /// By value: how many open requests have it, by header.
    values: HashMap<u64, Vec<(u16, u32)>>,
    judged: u64,
    /// Requests since the last call that was not linked.
    idle: u64,
    refused: u64,
    /// How often a header was given up.
    demoted: HashMap<String, u32>,
    checks: HashMap<Header, Recurrence>,
}

struct Inbound {
    name: String,
    recurrence: Recurrence,
}

struct Outbound {
    name: String,
    calls: u64,
}

/// A header of requests and one of calls that had the same value once.
struct Pair {
    inbound: u16,
    outbound: u16,
    /// Calls with the header before the first that had it.
    before: u64,
    /// Calls whose value exactly one open request had.
    right: u64,
}

/// Whether values come again after a while.
#[derive(Default)]
struct Recurrence {
    recent: VecDeque<u64>,
    compared: u64,
    came_again: u64,
}

/// What is watched of one open request.
#[derive(Debug)]
pub(crate) struct Watched {
    epoch: u32,
    values: Box<[(u64, u16)]>,
}

/// Two headers that were learned to have the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promotion {
    pub(crate) inbound: String,
    pub(crate) outbound: String,
}

impl Promotion {
    pub(crate) fn name(&self) -> String {
        display(&self.inbound, &self.outbound)
    }
}

/// What is being learned, to look at.
#[derive(Debug, Serialize)]
pub(crate) struct Learning {
    active: bool,
    /// Calls of this round.
    calls: u64,
    /// Values of open requests that are watched.
    values: usize,
    /// Names and values for which there was no room.
    refused: u64,
    candidates: Vec<Candidate>,
    /// Headers that were given up, and how often.
    given_up: Vec<(String, u32)>,
}

#[derive(Debug, Serialize)]
struct Candidate {
    header: String,
    calls: u64,
    right: u64,
    /// Share of values that come again after 128 requests; none before enough were compared.
    recurring: Option<f64>,
}

impl Learner {
    pub(crate) fn allow(&self, allowed: bool) {
        self.allowed.store(allowed, Ordering::Relaxed);
        if !allowed && self.active.swap(false, Ordering::Relaxed) {
            self.state.lock().rest();
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// A call was not linked. Whether values are watched already.
    pub(crate) fn missed(&self) -> bool {
        if self.is_active() {
            return true;
        }
        if self.allowed.load(Ordering::Relaxed)
            && self.misses.fetch_add(1, Ordering::Relaxed) >= self.patience.load(Ordering::Relaxed)
        {
            self.active.store(true, Ordering::Relaxed);
        }
        false
    }

    /// A request comes in: its values are watched until it ends. `leaves` names headers that are none of the learner's.
    pub(crate) fn opened<F: Fields>(
        &self,
        fields: &F,
        hash: &dyn Fn(&[u8]) -> u64,
        leaves: &dyn Fn(&str) -> bool,
    ) -> Option<Watched> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.idle += 1;
        if state.idle > IDLE {
            self.rest(state, 0);
            return None;
        }
        let mut values = Vec::new();
        fields.all(|name, value| {
            if values.len() < MAX_WATCHED
                && is_watched(name, value, leaves)
                && let Some(at) = state.inbound(name)
            {
                let value = hash(value.trim_ascii());
                if let Some(inbound) = state.inbound.get_mut(usize::from(at)) {
                    inbound.recurrence.see(value);
                }
                if state.watch(value, at) {
                    values.push((value, at));
                }
            }
        });
        (!values.is_empty()).then(|| Watched { epoch: state.epoch, values: values.into_boxed_slice() })
    }

    /// It has ended.
    pub(crate) fn closed(&self, watched: &Watched) {
        let mut state = self.state.lock();
        if watched.epoch != state.epoch {
            return;
        }
        for (value, at) in &watched.values {
            let Some(holders) = state.values.get_mut(value) else { continue };
            holders.retain_mut(|(holder, open)| {
                *open -= u32::from(holder == at);
                *open > 0
            });
            if holders.is_empty() {
                state.values.remove(value);
            }
        }
    }

    /// A call that nothing links. What it taught, if it was the last that was needed.
    pub(crate) fn called<F: Fields>(
        &self,
        fields: &F,
        hash: &dyn Fn(&[u8]) -> u64,
        leaves: &dyn Fn(&str) -> bool,
    ) -> Option<Promotion> {
        let mut state = self.state.lock();
        let state = &mut *state;
        (state.judged, state.idle) = (state.judged + 1, 0);
        fields.all(|name, value| {
            if is_watched(name, value, leaves)
                && let Some(at) = state.outbound(name)
            {
                state.compare(at, hash(value.trim_ascii()));
            }
        });
        let promotion = state.promotion();
        if promotion.is_none() && state.judged >= ROUND {
            match state.pairs.iter().any(|pair| state.promises(pair)) {
                true => state.judged = 0,
                false => self.rest(state, REST * ROUND),
            }
        }
        promotion
    }

    /// Learned headers are looked at for as long as they count.
    pub(crate) fn check(&self, keys: &Keys) {
        // Whoever has the lock looks at enough of them.
        let Some(mut state) = self.state.try_lock() else { return };
        for key in keys.iter() {
            if let Some(recurrence) = state.checks.get_mut(&key.header) {
                recurrence.see(key.value);
            }
        }
    }

    /// A learned header counts from now on.
    pub(crate) fn watches(&self, header: Header) {
        self.state.lock().checks.entry(header).or_default();
    }

    /// Whether values of a learned header come again.
    pub(crate) fn recurs(&self, header: Header) -> bool {
        let state = self.state.lock();
        state.checks.get(&header).and_then(Recurrence::share).is_some_and(|share| share > MAY_STILL_RECUR)
    }

    /// A learned header does not count any more.
    pub(crate) fn demoted(&self, name: &str, header: Header) {
        let mut state = self.state.lock();
        state.checks.remove(&header);
        if state.demoted.len() < MAX_NAMES || state.demoted.contains_key(name) {
            *state.demoted.entry(name.to_owned()).or_default() += 1;
        }
    }

    pub(crate) fn learning(&self) -> Learning {
        let state = self.state.lock();
        let candidate = |pair: &Pair| Candidate {
            header: state.name(pair),
            calls: state.calls(pair),
            right: pair.right,
            recurring: state.inbound.get(usize::from(pair.inbound)).and_then(|inbound| inbound.recurrence.share()),
        };
        let mut given_up: Vec<_> = state.demoted.iter().map(|(name, times)| (name.clone(), *times)).collect();
        given_up.sort_unstable();
        Learning {
            active: self.is_active(),
            calls: state.judged,
            values: state.values.len(),
            refused: state.refused,
            candidates: state.pairs.iter().map(candidate).collect(),
            given_up,
        }
    }

    fn rest(&self, state: &mut State, patience: u64) {
        self.patience.store(patience, Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
        self.active.store(false, Ordering::Relaxed);
        state.rest();
    }
}

impl State {
    /// Forgets what is watched, and candidates with it; not what was given up.
    fn rest(&mut self) {
        (self.epoch, self.judged, self.idle) = (self.epoch.wrapping_add(1), 0, 0);
        (self.values, self.pairs) = (HashMap::new(), Vec::new());
        (self.inbound, self.outbound) = (Vec::new(), Vec::new());
    }

    fn inbound(&mut self, name: &str) -> Option<u16> {
        let known = self.inbound.iter().position(|inbound| inbound.name == name);
        if known.is_none() && self.inbound.len() >= MAX_NAMES {
            self.refused += 1;
            return None;
        }
        let at = known.unwrap_or_else(|| {
            self.inbound.push(Inbound { name: name.to_owned(), recurrence: Recurrence::default() });
            self.inbound.len() - 1
        });
        u16::try_from(at).ok()
    }

    fn outbound(&mut self, name: &str) -> Option<u16> {
        let known = self.outbound.iter().position(|outbound| outbound.name == name);
        if known.is_none() && self.outbound.len() >= MAX_NAMES {
            self.refused += 1;
            return None;
        }
        let at = known.unwrap_or_else(|| {
            self.outbound.push(Outbound { name: name.to_owned(), calls: 0 });
            self.outbound.len() - 1
        });
        u16::try_from(at).ok()
    }

    fn watch(&mut self, value: u64, at: u16) -> bool {
        if self.values.len() >= MAX_VALUES && !self.values.contains_key(&value) {
            self.refused += 1;
            return false;
        }
        let holders = self.values.entry(value).or_default();
        match holders.iter_mut().find(|(holder, _)| *holder == at) {
            Some((_, open)) => *open += 1,
            None => holders.push((at, 1)),
        }
        true
    }

    /// A call has this value.
    fn compare(&mut self, at: u16, value: u64) {
        let Some(outbound) = self.outbound.get_mut(usize::from(at)) else { return };
        outbound.calls += 1;
        let before = outbound.calls - 1;
        for (holder, open) in self.values.get(&value).into_iter().flatten() {
            let room = self.pairs.len() < MAX_PAIRS;
            let known = self.pairs.iter_mut().find(|pair| pair.inbound == *holder && pair.outbound == at);
            let right = u64::from(*open == 1);
            match known {
                Some(pair) => pair.right += right,
                None if room => self.pairs.push(Pair { inbound: *holder, outbound: at, before, right }),
                None => self.refused += 1,
            }
        }
    }

    /// A pair that has proved itself, taken out of the candidates.
    fn promotion(&mut self) -> Option<Promotion> {
        self.drop_hopeless();
        let proved = |pair: &&Pair| {
            let calls = self.calls(pair);
            let wanted = LEARN_CALLS << self.demoted.get(&self.name(pair)).copied().unwrap_or(0).min(6);
            let inbound = self.inbound.get(usize::from(pair.inbound));
            let recurring = inbound.and_then(|inbound| inbound.recurrence.share());
            calls >= wanted
                && pair.right as f64 >= LEARN_RIGHT * calls as f64
                && recurring.is_some_and(|share| share <= MAY_RECUR)
        };
        let proved: Vec<&Pair> = self.pairs.iter().filter(proved).collect();
        // The same name on both sides says more than two names that happen to have the same value.
        let same = |pair: &Pair| self.names(pair).is_some_and(|(inbound, outbound)| inbound == outbound);
        let pair = proved.iter().find(|pair| same(pair)).or(proved.first())?;
        let (inbound, outbound) = self.names(pair)?;
        let promotion = Promotion { inbound: inbound.to_owned(), outbound: outbound.to_owned() };
        let (from, to) = (pair.inbound, pair.outbound);
        self.pairs.retain(|pair| pair.inbound != from && pair.outbound != to);
        Some(promotion)
    }

    /// A pair that did not prove itself begins anew when it is met again: the service may have begun to pass it on.
    fn drop_hopeless(&mut self) {
        let calls: Vec<u64> = self.pairs.iter().map(|pair| self.calls(pair)).collect();
        let mut calls = calls.into_iter();
        self.pairs.retain(|pair| {
            let calls = calls.next().unwrap_or(0);
            calls < 2 * LEARN_CALLS || pair.right as f64 >= STILL_HOPED * calls as f64
        });
    }

    /// Whether a pair may still prove itself.
    fn promises(&self, pair: &Pair) -> bool {
        pair.right * 2 >= self.calls(pair)
    }

    /// Calls with the header since the pair is known.
    fn calls(&self, pair: &Pair) -> u64 {
        let calls = self.outbound.get(usize::from(pair.outbound)).map_or(0, |outbound| outbound.calls);
        calls.saturating_sub(pair.before)
    }

    fn names(&self, pair: &Pair) -> Option<(&str, &str)> {
        let inbound = self.inbound.get(usize::from(pair.inbound))?;
        let outbound = self.outbound.get(usize::from(pair.outbound))?;
        Some((&inbound.name, &outbound.name))
    }

    fn name(&self, pair: &Pair) -> String {
        self.names(pair).map(|(inbound, outbound)| display(inbound, outbound)).unwrap_or_default()
    }
}

impl Recurrence {
    fn see(&mut self, value: u64) {
        let old = self.recent.len().saturating_sub(FAR);
        if old >= REMEMBERED {
            self.compared += 1;
            self.came_again += u64::from(self.recent.iter().take(old).any(|earlier| *earlier == value));
            self.recent.pop_front();
        }
        self.recent.push_back(value);
        if self.compared >= 1_024 {
            (self.compared, self.came_again) = (self.compared / 2, self.came_again / 2);
        }
    }

    /// None before enough were compared: a few are enough, since what is no id comes again all the time.
    fn share(&self) -> Option<f64> {
        (self.compared >= 8).then(|| self.came_again as f64 / self.compared as f64)
    }
}

/// A header that arrives under one name and leaves under another has both.
pub(super) fn display(inbound: &str, outbound: &str) -> String {
    if inbound == outbound { inbound.to_owned() } else { format!("{inbound} → {outbound}") }
}

fn is_watched(name: &str, value: &[u8], leaves: &dyn Fn(&str) -> bool) -> bool {
    LENGTHS.contains(&value.len()) && !is_never_learned(name) && !leaves(name)
}
