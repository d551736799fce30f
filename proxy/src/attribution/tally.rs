//! What the links of a service add up to: calls per handling, calls of nobody, and what comes before what.

use std::collections::BTreeMap;

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
    /// Handlings, all of whose calls are stated, in which a call to the callee ran beside another call.
    pub together: u64,
    /// Such handlings in which none did.
    pub alone: u64,
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
    late: f64,
    together: u64,
    alone: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Callee {
    calls: f64,
    background: f64,
    outliving: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Endpoint {
    handlings: u64,
    /// Those that are done with: all their calls are decided.
    done: u64,
    late: f64,
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

    /// A call is decided, its best handler, if any, having this share of it; endpoints that may have made it, with what
    /// share, and whether it was over in time.
    pub(super) fn call(&mut self, callee: u32, best: Option<f64>, shares: impl Iterator<Item = (u32, f64, bool)>) {
        let sure = best.is_some_and(|share| share >= self.stated);
        let mut nobody = 1.0;
        let mut outliving = 0.0;
        let mut by: Vec<(u32, f64, f64)> = Vec::new();
        for (endpoint, share, nested) in shares {
            nobody -= share;
            outliving += if nested { 0.0 } else { share };
            match by.iter_mut().find(|(known, ..)| *known == endpoint) {
                Some((_, sum, most)) => (*sum, *most) = (*sum + share, most.max(share)),
                None => by.push((endpoint, share, share)),
            }
        }
        for (endpoint, share, most) in by {
            if self.pairs.len() >= self.most && !self.pairs.contains_key(&(endpoint, callee)) {
                self.refused += 1;
                continue;
            }
            let pair = self.pairs.entry((endpoint, callee)).or_default();
            pair.calls += share;
            pair.late += share * self.unit;
            pair.stated += if sure && most > 0.5 { share } else { 0.0 };
        }
        if let Some(of) = self.callee(callee) {
            of.calls += 1.0;
            // A little doubt about every call must not add up to calls of nobody, which would raise the doubt.
            of.background += if best.is_none() { nobody.max(0.0) } else { 0.0 };
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

    /// Which callees of a handling were called while another call was open.
    fn run_beside(&mut self, endpoint: u32, calls: &[(u32, u64, u64)]) {
        for (n, &(callee, ..)) in calls.iter().enumerate() {
            if calls.iter().take(n).any(|(earlier, ..)| *earlier == callee) {
                continue;
            }
            let own = calls.iter().enumerate().filter(|(_, (of, ..))| *of == callee);
            let mut own =
                own.flat_map(|(at, call)| calls.iter().enumerate().map(move |(n, other)| (at != n, call, other)));
            let together = own.any(|(differ, (_, start, end), (_, from, to))| differ && start < to && from < end);
            if let Some(pair) = self.pairs.get_mut(&(endpoint, callee)) {
                pair.together += u64::from(together);
                pair.alone += u64::from(!together);
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
            together: pair.together,
            alone: pair.alone,
        })
    }

    pub(super) fn background_calls(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.callees.iter().zip(0..).filter(|(of, _)| of.background > 0.0).map(|(of, callee)| (callee, of.background))
    }

    /// A handling of this endpoint is done with.
    pub(super) fn done(&mut self, endpoint: u32) {
        if let Some(of) = self.endpoints.get_mut(&endpoint) {
            of.done += 1;
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

    /// Doubtful calls to a callee go to its endpoints as far as each is confirmed by stated links: an endpoint to which
    /// only doubt ever points does not make the call.
    pub(super) fn expectations(&self) -> Vec<Expectation> {
        let mut doubt: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for ((_, callee), pair) in &self.pairs {
            let (all, confirmed) = doubt.entry(*callee).or_default();
            *all += pair.calls - pair.stated;
            *confirmed += (pair.calls - pair.stated) * pair.confirmed();
        }
        let expectation = |(&(endpoint, callee), pair): (&(u32, u32), &Pair)| {
            let of = self.endpoints.get(&endpoint).copied().unwrap_or_default();
            let (all, confirmed) = doubt.get(&callee).copied().unwrap_or_default();
            let doubtful = pair.calls - pair.stated;
            let calls =
                pair.stated + if confirmed > 0.0 { doubtful * pair.confirmed() * all / confirmed } else { doubtful };
            let corrected = if pair.calls > 0.0 { calls / pair.calls } else { 1.0 };
            let per_handling = if of.late > 0.0 { pair.late * corrected / of.late } else { 0.0 };
            let confidence = if calls > 0.0 { (pair.stated / calls).min(1.0) } else { 0.0 };
            Expectation { endpoint, callee, handlings: of.handlings, calls, per_handling, confidence }
        };
        self.pairs.iter().map(expectation).collect()
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

impl Pair {
    fn confirmed(&self) -> f64 {
        if self.calls > 0.0 { self.stated / self.calls } else { 0.0 }
    }
}
