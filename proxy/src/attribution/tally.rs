//! What the links of a service add up to: calls per handling, calls of nobody, and what comes before what.

use std::collections::{BTreeMap, BTreeSet};

use couplet_telemetry::expected::{ExpectedStats, Share, shared};

use super::batch::Believed;
use super::least_squares::Seconds;

/// Calls that the handlings of one endpoint make to one callee.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expectation {
    /// Endpoint of the handlings.
    pub endpoint: u32,
    /// Endpoint that is called.
    pub callee: u32,
    /// Handlings since the start.
    pub handlings: u64,
    /// Calls since the start, the doubtful ones by their probability.
    pub calls: f64,
    /// Calls per handling of late, the past counting half after the half-life.
    pub per_handling: f64,
    /// Share of the calls whose link is stated, 0 to 1: how sure it is that the pair exists at all.
    pub confidence: f64,
    /// Whether the endpoint is said to make such calls.
    pub told: bool,
}

/// What was counted of the calls that the handlings of one endpoint make to one callee, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counted {
    /// Endpoint of the handlings.
    pub endpoint: u32,
    /// Endpoint that is called.
    pub callee: u32,
    /// Handlings of the endpoint that are done with.
    pub handlings: u64,
    /// Calls that are nearly certain.
    pub stated: f64,
    /// The others, by their probability.
    pub doubtful: f64,
    /// Those of the nearly certain ones that are so even if what was learned is believed only half as far.
    pub firm: f64,
    /// Handlings, all of whose calls are stated, in which a call to the callee ran beside another call.
    pub together: u64,
    /// Such handlings in which none did.
    pub alone: u64,
    /// Other callees that had answered before the callee was first called, summed over both.
    pub earlier: u64,
    /// Whether what handlings of the endpoint do is what was to be expected.
    pub fits: bool,
}

/// How two callees of an endpoint stand to one another, over handlings in which every link is stated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Order {
    /// The first ended before the second started.
    pub before: u64,
    /// The second ended before the first started.
    pub after: u64,
    /// Both were open at a time.
    pub overlap: u64,
}

impl Order {
    /// Whether the two are called one after the other: none of at least 20 handlings but one in fifty had both open.
    pub fn sequential(&self) -> bool {
        let all = self.before + self.after + self.overlap;
        all >= 20 && self.overlap * 50 <= all
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    calls: f64,
    stated: f64,
    firm: f64,
    late: f64,
    together: u64,
    alone: u64,
    earlier: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Callee {
    calls: f64,
    /// Calls of nobody: nearly certain ones, and others.
    background: f64,
    unowned: f64,
    outliving: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Endpoint {
    handlings: u64,
    /// Those that are done with: all their calls are decided.
    done: u64,
    late: f64,
    /// What happened in handlings of late, how much of it was surprising, and how much of it should have been.
    events: f64,
    surprising: f64,
    predicted: f64,
}

/// How calls of each callee stand to handlers at all.
#[derive(Debug, Default, Clone)]
pub(super) struct Odds {
    of: Vec<OddsOf>,
}

#[derive(Debug, Clone, Copy)]
struct OddsOf {
    /// Logarithm of the calls that no handler makes, per tick.
    background: f64,
    /// Share of calls that go on when their handler has ended; its logarithm, and that of the others.
    outliving: f64,
    late: f64,
    nested: f64,
}

/// The same of a callee that was never called before.
const UNSEEN: OddsOf = OddsOf { background: -25.0, outliving: 0.005, late: -5.298, nested: -0.005 };

impl Odds {
    fn of(&self, callee: u32) -> &OddsOf {
        self.of.get(callee as usize).unwrap_or(&UNSEEN)
    }

    /// Logarithm of how many calls to a callee are made by no handler, per tick.
    pub(super) fn background(&self, callee: u32) -> f64 {
        self.of(callee).background
    }

    /// Share of the calls to a callee that outlive their handler; none if it was never called.
    pub(super) fn outliving(&self, callee: u32) -> Option<f64> {
        self.of.get(callee as usize).map(|of| of.outliving)
    }

    /// Logarithm of how likely it is that a call to a callee is, or is not, over when its handler ends.
    #[inline]
    pub(super) fn ending(&self, callee: u32, nested: bool) -> f64 {
        let of = self.of(callee);
        if nested { of.nested } else { of.late }
    }
}

#[derive(Debug)]
pub(super) struct Tally {
    most: usize,
    stated: f64,
    callees: Vec<Callee>,
    endpoints: BTreeMap<u32, Endpoint>,
    pairs: BTreeMap<(u32, u32), Pair>,
    orders: BTreeMap<(u32, u32, u32), Order>,
    seconds: Seconds,
    /// Weight of a call now; grows, so that earlier ones fade beside it.
    unit: f64,
    growth: f64,
    /// Calls that were not counted in a pair or order, for want of room.
    pub(super) refused: u64,
}

/// Events over which the fit of an endpoint is looked at, at most and at least; the share of surprises beyond those that
/// should be from which it is poor.
const LATE_EVENTS: f64 = 2_000.0;
const FEWEST_EVENTS: f64 = 100.0;
const MISFIT: f64 = 0.1;
/// Calls of one handling of which the order is looked at.
const ORDERED: usize = 16;
/// The unit at which everything is scaled back.
const LARGEST_UNIT: f64 = 1e6;
/// What is assumed of a callee before anything was seen: calls of nobody, as a share and as a number; calls that
/// outlive their handler, and out of how many.
const BACKGROUND: (f64, f64) = (1e-6, 1e-4);
const OUTLIVING: (f64, f64) = (0.05, 10.0);
/// Nanoseconds in a tick, the unit of time of rates and densities.
const TICK: f64 = 1_000.0;

impl Tally {
    pub(super) fn new(most: usize, stated: f64, half_life: f64) -> Self {
        Self {
            most,
            stated,
            callees: Vec::new(),
            endpoints: BTreeMap::new(),
            pairs: BTreeMap::new(),
            orders: BTreeMap::new(),
            seconds: Seconds::new(most),
            unit: 1.0,
            growth: 0.5f64.powf(-1.0 / half_life.max(1.0)),
            refused: 0,
        }
    }

    pub(super) fn handler_started(&mut self, endpoint: u32, at: u64) {
        if self.endpoints.len() >= self.most && !self.endpoints.contains_key(&endpoint) {
            self.refused += 1;
            return;
        }
        let of = self.endpoints.entry(endpoint).or_default();
        of.handlings += 1;
        of.late += self.unit;
        self.seconds.handling(endpoint, at);
    }

    pub(super) fn call_started(&mut self, callee: u32, at: u64) {
        self.seconds.call(callee, at);
    }

    /// A call is decided: how sure its endpoint is, or that nobody made it; the shares that handlers of endpoints may have
    /// in it, and whether it was over in time.
    pub(super) fn call(
        &mut self,
        callee: u32,
        sure: &Believed,
        nobody: Option<f64>,
        shares: impl Iterator<Item = (u32, f64, bool)>,
    ) {
        let stated = |share: f32| nobody.is_none() && f64::from(share) >= self.stated;
        let (certain, firm) = (stated(sure.full), stated(sure.half));
        let mut unowned = 1.0;
        let mut outliving = 0.0;
        let mut by: Vec<(u32, f64)> = Vec::new();
        for (endpoint, share, nested) in shares {
            unowned -= share;
            outliving += if nested { 0.0 } else { share };
            match by.iter_mut().find(|(known, ..)| *known == endpoint) {
                Some((_, sum)) => *sum += share,
                None => by.push((endpoint, share)),
            }
        }
        for (endpoint, share) in by {
            if self.pairs.len() >= self.most && !self.pairs.contains_key(&(endpoint, callee)) {
                self.refused += 1;
                continue;
            }
            let pair = self.pairs.entry((endpoint, callee)).or_default();
            pair.calls += share;
            pair.late += share * self.unit;
            let most = share > 0.5;
            pair.stated += if certain && most { share } else { 0.0 };
            pair.firm += if firm && most { share } else { 0.0 };
        }
        let stated = self.stated;
        if let Some(of) = self.callee(callee) {
            of.calls += 1.0;
            // A little doubt about every call must not add up to calls of nobody, which would raise the doubt.
            let unowned = unowned.max(0.0);
            match nobody {
                Some(nobody) if nobody >= stated => of.background += unowned,
                Some(_) => of.unowned += unowned,
                None => {}
            }
            of.outliving += outliving;
        }
    }

    fn callee(&mut self, callee: u32) -> Option<&mut Callee> {
        if self.callees.len() <= callee as usize && (callee as usize) < self.most {
            self.callees.resize(callee as usize + 1, Callee::default());
        }
        self.callees.get_mut(callee as usize)
    }

    /// A handling is done with, all of its links stated: callee, start and end of each call, in order of start.
    pub(super) fn handling(&mut self, endpoint: u32, calls: &[(u32, u64, u64)]) {
        let calls = calls.get(..ORDERED.min(calls.len())).unwrap_or(calls);
        self.run_beside(endpoint, calls);
        for (n, &(first, _, end)) in calls.iter().enumerate() {
            for &(second, start, _) in calls.iter().skip(n + 1).filter(|(second, ..)| *second != first) {
                let key = (endpoint, first.min(second), first.max(second));
                if self.orders.len() >= 4 * self.most && !self.orders.contains_key(&key) {
                    self.refused += 1;
                    continue;
                }
                let order = self.orders.entry(key).or_default();
                match (end <= start, first < second) {
                    (false, _) => order.overlap += 1,
                    (true, true) => order.before += 1,
                    (true, false) => order.after += 1,
                }
            }
        }
    }

    /// Which callees of a handling were called while another call was open, and which after how many others.
    fn run_beside(&mut self, endpoint: u32, calls: &[(u32, u64, u64)]) {
        for (n, &(callee, first, _)) in calls.iter().enumerate() {
            if calls.iter().take(n).any(|(earlier, ..)| *earlier == callee) {
                continue;
            }
            let own = calls.iter().enumerate().filter(|(_, (of, ..))| *of == callee);
            let mut own =
                own.flat_map(|(at, call)| calls.iter().enumerate().map(move |(n, other)| (at != n, call, other)));
            let together = own.any(|(differ, (_, start, end), (_, from, to))| differ && start < to && from < end);
            let earlier = calls.iter().filter(|(of, _, end)| *of != callee && *end <= first);
            let earlier: BTreeSet<u32> = earlier.map(|(of, ..)| *of).collect();
            if let Some(pair) = self.pairs.get_mut(&(endpoint, callee)) {
                pair.together += u64::from(together);
                pair.alone += u64::from(!together);
                pair.earlier += earlier.len() as u64;
            }
        }
    }

    pub(super) fn counted(&self) -> impl Iterator<Item = Counted> + '_ {
        self.pairs.iter().map(|(&(endpoint, callee), pair)| Counted {
            endpoint,
            callee,
            handlings: self.endpoints.get(&endpoint).map_or(0, |of| of.done),
            stated: pair.stated,
            doubtful: (pair.calls - pair.stated).max(0.0),
            firm: pair.firm,
            together: pair.together,
            alone: pair.alone,
            earlier: pair.earlier,
            fits: self.endpoints.get(&endpoint).is_none_or(Endpoint::fits),
        })
    }

    pub(super) fn background_calls(&self) -> impl Iterator<Item = (u32, f64, f64)> + '_ {
        let callees = self.callees.iter().zip(0..).filter(|(of, _)| of.background + of.unowned > 0.0);
        callees.map(|(of, callee)| (callee, of.background, of.unowned))
    }

    /// A handling of this endpoint is done with.
    pub(super) fn done(&mut self, endpoint: u32) {
        if let Some(of) = self.endpoints.get_mut(&endpoint) {
            of.done += 1;
        }
    }

    /// Something happened in a handling of this endpoint, surprisingly or not; how likely it was that something surprising
    /// would.
    pub(super) fn happened(&mut self, endpoint: u32, surprising: bool, predicted: f64) {
        let Some(of) = self.endpoints.get_mut(&endpoint) else { return };
        of.events += 1.0;
        of.surprising += f64::from(u8::from(surprising));
        of.predicted += predicted;
        if of.events > LATE_EVENTS {
            (of.events, of.surprising, of.predicted) = (of.events / 2.0, of.surprising / 2.0, of.predicted / 2.0);
        }
    }

    /// One more handler has passed.
    pub(super) fn age(&mut self) {
        self.unit *= self.growth;
        if self.unit > LARGEST_UNIT {
            let by = 1.0 / self.unit;
            self.unit = 1.0;
            self.pairs.values_mut().for_each(|pair| pair.late *= by);
            self.endpoints.values_mut().for_each(|endpoint| endpoint.late *= by);
        }
    }

    /// What was seen of each callee, for weighing; `elapsed` nanoseconds have passed in all.
    pub(super) fn odds(&self, elapsed: u64, odds: &mut Odds) {
        let ticks = (elapsed as f64 / TICK).max(1.0);
        odds.of.clear();
        odds.of.extend(self.callees.iter().map(|of| {
            let outliving = (of.outliving + OUTLIVING.0) / (of.calls + OUTLIVING.1);
            OddsOf {
                background: ((of.background + BACKGROUND.0 * of.calls + BACKGROUND.1) / ticks).ln(),
                outliving,
                late: outliving.ln(),
                nested: (1.0 - outliving).ln(),
            }
        }));
    }

    pub(super) fn background(&self, callee: u32) -> Option<f64> {
        let of = self.callees.get(callee as usize)?;
        (of.calls > 0.0).then(|| of.background / of.calls)
    }

    pub(super) fn order(&self, endpoint: u32, first: u32, second: u32) -> Order {
        let order = self.orders.get(&(endpoint, first.min(second), first.max(second))).copied().unwrap_or_default();
        if first < second { order } else { Order { before: order.after, after: order.before, ..order } }
    }

    /// Doubtful calls to a callee go to its endpoints, or to nobody, as far as each is confirmed by stated links.
    pub(super) fn expectations(&self) -> Vec<Expectation> {
        let mut alike: BTreeMap<u32, Vec<(Option<u32>, ExpectedStats)>> = BTreeMap::new();
        for ((endpoint, callee), pair) in &self.pairs {
            let (stated, doubtful) = (thousandths(pair.stated), thousandths(pair.calls - pair.stated));
            let stats = ExpectedStats { stated, doubtful, firm: thousandths(pair.firm), ..ExpectedStats::default() };
            alike.entry(*callee).or_default().push((Some(*endpoint), stats));
        }
        for (callee, certain, doubtful) in self.background_calls() {
            let (stated, doubtful) = (thousandths(certain), thousandths(doubtful));
            let stats = ExpectedStats { stated, doubtful, firm: stated, ..ExpectedStats::default() };
            alike.entry(callee).or_default().push((None, stats));
        }
        let mut all = Vec::new();
        for (callee, pairs) in alike {
            let stats: Vec<ExpectedStats> = pairs.iter().map(|(_, stats)| *stats).collect();
            for ((endpoint, stats), share) in pairs.iter().zip(shared(&stats)) {
                all.extend(endpoint.and_then(|endpoint| self.expectation((endpoint, callee), stats, &share)));
            }
        }
        all.sort_unstable_by_key(|expectation: &Expectation| (expectation.endpoint, expectation.callee));
        all
    }

    fn expectation(&self, key: (u32, u32), stats: &ExpectedStats, share: &Share) -> Option<Expectation> {
        let pair = self.pairs.get(&key)?;
        let of = self.endpoints.get(&key.0).copied().unwrap_or_default();
        let corrected = if pair.calls > 0.0 { share.calls / pair.calls } else { 1.0 };
        Some(Expectation {
            endpoint: key.0,
            callee: key.1,
            handlings: of.handlings,
            calls: share.calls,
            per_handling: if of.late > 0.0 { pair.late * corrected / of.late } else { 0.0 },
            confidence: if share.calls > 0.0 { (pair.stated / share.calls).min(1.0) } else { 0.0 },
            told: share.is_told(of.handlings, stats.firm as f64 / 1_000.0),
        })
    }

    pub(super) fn cross_check(&self) -> Vec<((u32, u32), f64)> {
        self.seconds.solve().map(|solution| solution.pairs.into_iter().collect()).unwrap_or_default()
    }

    /// Half the sum of differences to the cross-check, over all calls. The cross-check looks back a bounded time, as
    /// what is counted of late does, so the two are compared per handling and weighed by the handlings of late.
    pub(super) fn disagreement(&self) -> Option<f64> {
        let solved = self.seconds.solve()?;
        let expected = self.expectations();
        let expected: BTreeMap<_, _> = expected.iter().map(|e| ((e.endpoint, e.callee), e.per_handling)).collect();
        let (mut apart, mut calls) = (0.0, 0.0);
        let unsolved = expected.keys().filter(|key| !solved.pairs.contains_key(key) && !solved.leaves_out(**key));
        for key in solved.pairs.keys().chain(unsolved) {
            let of = |map: &BTreeMap<(u32, u32), f64>| map.get(key).copied().unwrap_or(0.0);
            let late = self.endpoints.get(&key.0).map_or(0.0, |endpoint| endpoint.late);
            apart += (of(&solved.pairs) - of(&expected)).abs() / 2.0 * late;
            calls += of(&expected) * late;
        }
        (calls > 0.0).then(|| apart / calls)
    }
}

impl Endpoint {
    /// Whether surprises are about as frequent as they should be.
    fn fits(&self) -> bool {
        self.events < FEWEST_EVENTS || self.surprising - self.predicted <= MISFIT * self.events
    }
}

/// Calls in thousandths: whole numbers add up to the same in any order.
pub(crate) fn thousandths(calls: f64) -> u64 {
    (calls * 1_000.0) as u64
}
