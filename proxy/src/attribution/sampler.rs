//! Draws likely ways to hand out the calls of a batch to its handlers, all at once.
//!
//! One way to hand them out is judged by everything each handler then did, in order: what came next and after how
//! long, up to its end. Gibbs steps move single calls; exchanges trade calls, or all that follows, between two
//! handlers, because where a handler makes one call of a kind no single move leads from one likely way to another.
//! How often a call is found with a handler over many draws is the probability that the handler made it: doubt
//! about one call includes the doubt about all those around it.

#![expect(clippy::indexing_slicing, reason = "positions in a batch are made with the batch and never leave it")]

use super::batch::{Batch, Call, SLACK};
use super::density::Gap;
use super::hash::mix;
use super::model::{END, Last, Model, Moment};

/// Draws over one batch.
pub(super) struct Sampler<'a> {
    batch: &'a Batch,
    model: &'a Model,
    background: &'a [f64],
    outlives: &'a [f64],
    /// Calls of each handler in order of their start, and how likely that is.
    held: Vec<Vec<u32>>,
    score: Vec<f64>,
    /// Owner of each call: a position among its candidates; none is the background.
    pub(super) owner: Vec<Option<usize>>,
    random: u64,
    /// How far differences in likelihood are believed: 1 is fully.
    pub(super) trust: f64,
    scratch: [Vec<u32>; 4],
    gains: Vec<f64>,
    /// Steps in a row in which nothing else was thinkable, by call.
    calm: Vec<u8>,
    sweeps: usize,
}

impl<'a> Sampler<'a> {
    /// Starts from the owners that the batch gives. `background` and `outlives` are by callee: logarithm of the rate
    /// of calls that no handler makes, per tick; and share of calls that go on when their handler has ended.
    pub(super) fn new(
        batch: &'a Batch,
        model: &'a Model,
        background: &'a [f64],
        outlives: &'a [f64],
        seed: u64,
    ) -> Self {
        let mut held = vec![Vec::new(); batch.handlers.len()];
        let mut owner = Vec::with_capacity(batch.calls.len());
        for (n, call) in batch.calls.iter().enumerate() {
            let at = call.candidates.iter().position(|&handler| Some(handler) == call.owner);
            if let Some(&handler) = at.and_then(|at| call.candidates.get(at))
                && let Some(list) = held.get_mut(handler as usize)
            {
                list.push(n as u32);
            }
            owner.push(at);
        }
        let mut sampler = Self {
            batch,
            model,
            background,
            outlives,
            score: Vec::new(),
            held,
            owner,
            random: mix(seed, 11) | 1,
            trust: 1.0,
            scratch: Default::default(),
            gains: Vec::new(),
            calm: vec![0; batch.calls.len()],
            sweeps: 0,
        };
        sampler.score = (0..sampler.held.len()).map(|h| sampler.judge(h, &sampler.held[h])).collect();
        sampler
    }

    /// Moves every call once; those about which there has been no doubt for a while only now and then.
    pub(super) fn sweep(&mut self) {
        self.sweeps += 1;
        for n in 0..self.batch.calls.len() {
            if self.calm[n] >= CALM && !(self.sweeps + n).is_multiple_of(CALM_EVERY) {
                continue;
            }
            let call = &self.batch.calls[n];
            if call.settled || call.candidates.is_empty() {
                continue;
            }
            self.step(n, call);
            if call.candidates.len() > 1 {
                for _ in 0..call.candidates.len().min(EXCHANGES) {
                    self.exchange(n, call, false);
                }
                self.exchange(n, call, true);
            }
        }
    }

    /// Draws the owner of one call, all others staying as they are.
    fn step(&mut self, n: usize, call: &Call) {
        let mut gains = std::mem::take(&mut self.gains);
        let mut list = std::mem::take(&mut self.scratch[0]);
        gains.clear();
        let mut without = 0.0;
        for (at, &handler) in call.candidates.iter().enumerate() {
            let handler = handler as usize;
            if self.owner[n] == Some(at) {
                list.clear();
                list.extend(self.held[handler].iter().filter(|&&held| held != n as u32));
                let gain =
                    self.judge_from(handler, &self.held[handler], n as u32) - self.judge_from(handler, &list, n as u32);
                without = self.score[handler] - gain;
                gains.push(gain);
            } else {
                inserted(&mut list, &self.held[handler], n as u32);
                gains.push(
                    self.judge_from(handler, &list, n as u32) - self.judge_from(handler, &self.held[handler], n as u32),
                );
            }
        }
        gains.push(self.background.get(call.callee as usize).copied().unwrap_or(UNSEEN_BACKGROUND));
        gains.iter_mut().for_each(|gain| *gain *= self.trust);
        let drawn = self.draw(&gains);
        let most = gains.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let others = gains.iter().filter(|&&gain| gain > most - DOUBT).count() > 1;
        gains.iter_mut().for_each(|gain| *gain /= self.trust);
        let same = Some(drawn) == self.owner[n];
        self.calm[n] = if same && !others { self.calm[n].saturating_add(1) } else { 0 };
        let drawn = (drawn < call.candidates.len()).then_some(drawn);
        if drawn != self.owner[n] {
            if let Some(from) = self.owner[n] {
                let handler = call.candidates[from] as usize;
                self.held[handler].retain(|&held| held != n as u32);
                self.score[handler] = without;
            }
            if let Some(to) = drawn {
                let handler = call.candidates[to] as usize;
                self.score[handler] += gains[to];
                inserted(&mut list, &self.held[handler], n as u32);
                std::mem::swap(&mut self.held[handler], &mut list);
            }
            self.owner[n] = drawn;
        }
        self.gains = gains;
        self.scratch[0] = list;
    }

    /// Offers an exchange between the owner of a call and another candidate: of this call and one of the same callee,
    /// or of everything from this call on.
    fn exchange(&mut self, n: usize, call: &Call, rest: bool) {
        let Some(from) = self.owner[n] else { return };
        let to = self.below(call.candidates.len());
        if to == from {
            return;
        }
        let (a, b) = (call.candidates[from] as usize, call.candidates[to] as usize);
        let [list, mut mine, mut theirs, mut moved] = std::mem::take(&mut self.scratch);
        mine.clear();
        theirs.clear();
        moved.clear();
        let mut odds = 0.0;
        if rest {
            let split = |held: &Vec<u32>, keep: &mut Vec<u32>, go: &mut Vec<u32>| {
                for &held in held {
                    if held < n as u32 { keep.push(held) } else { go.push(held) }
                }
            };
            split(&self.held[a], &mut mine, &mut moved);
            let first = moved.len();
            split(&self.held[b], &mut theirs, &mut moved);
            theirs.extend(&moved[..first]);
            mine.extend(&moved[first..]);
        } else {
            let same = |&&held: &&u32| self.batch.calls[held as usize].callee == call.callee;
            let count = self.held[b].iter().filter(same).count();
            if count > 0 {
                let pick = self.below(count);
                let other = self.held[b].iter().filter(same).nth(pick).copied().unwrap_or_default();
                moved.extend([n as u32, other]);
                odds = (count as f64).ln() - (self.held[a].iter().filter(same).count() as f64).ln();
                mine.extend(self.held[a].iter().filter(|&&held| held != n as u32));
                theirs.extend(self.held[b].iter().filter(|&&held| held != other));
                mine.push(other);
                theirs.push(n as u32);
                mine.sort_unstable();
                theirs.sort_unstable();
            }
        }
        let can = !moved.is_empty()
            && moved.iter().all(|&held| {
                let call = &self.batch.calls[held as usize];
                let has = |h: usize| call.candidates.contains(&(h as u32));
                !call.settled && has(a) && has(b)
            });
        if can {
            let scores = [self.judge(a, &mine), self.judge(b, &theirs)];
            let gain = (scores[0] + scores[1] - self.score[a] - self.score[b]) * self.trust + odds;
            if gain >= 0.0 || self.uniform() < gain.exp() {
                for (handler, list) in [(a, &mine), (b, &theirs)] {
                    for &held in list {
                        let call = &self.batch.calls[held as usize];
                        self.calm[held as usize] = 0;
                        self.owner[held as usize] = call.candidates.iter().position(|&c| c as usize == handler);
                    }
                }
                [self.score[a], self.score[b]] = scores;
                std::mem::swap(&mut self.held[a], &mut mine);
                std::mem::swap(&mut self.held[b], &mut theirs);
            }
        }
        self.scratch = [list, mine, theirs, moved];
    }

    /// Logarithm of how likely it is that a handler makes exactly these calls.
    fn judge(&self, handler: usize, calls: &[u32]) -> f64 {
        self.judge_from(handler, calls, 0)
    }

    /// As [`Self::judge`], of the calls from this one on.
    fn judge_from(&self, handler: usize, calls: &[u32], from: u32) -> f64 {
        let mut sum = 0.0;
        for &n in &calls[calls.partition_point(|&n| n < from)..] {
            let call = &self.batch.calls[n as usize];
            let share = self.outlives.get(call.callee as usize).copied().unwrap_or(UNSEEN_OUTLIVING);
            sum += if call.nested(&self.batch.handlers[handler]) { 1.0 - share } else { share }.ln();
        }
        follow_from(self.batch, handler, calls, from, |moment, event| sum += self.model.log_likelihood(moment, event));
        sum
    }

    /// Calls that a handler holds now.
    pub(super) fn held(&self, handler: usize) -> &[u32] {
        &self.held[handler]
    }

    fn draw(&mut self, logs: &[f64]) -> usize {
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logs.iter().map(|log| (log - most).exp()).sum();
        let mut left = self.uniform() * total;
        for (at, log) in logs.iter().enumerate() {
            left -= (log - most).exp();
            if left < 0.0 {
                return at;
            }
        }
        logs.len() - 1
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

/// What is assumed of a callee that was never called before: logarithm of its calls of nobody per tick, and share of
/// calls that outlive their handler.
const UNSEEN_BACKGROUND: f64 = -25.0;
const UNSEEN_OUTLIVING: f64 = 0.005;
/// Exchanges offered per call and sweep.
const EXCHANGES: usize = 3;
/// Steps without doubt after which a call is only looked at every so many sweeps.
const CALM: u8 = 3;
const CALM_EVERY: usize = 4;
/// Logarithm of the odds beyond which another owner is not thinkable.
const DOUBT: f64 = 7.0;

fn inserted(list: &mut Vec<u32>, held: &[u32], n: u32) {
    list.clear();
    let at = held.partition_point(|&held| held < n);
    list.extend(&held[..at]);
    list.push(n);
    list.extend(&held[at..]);
}

/// Walks through what a handler does when it makes these calls, in order of their start: each call and the end.
pub(super) fn follow(batch: &Batch, handler: usize, calls: &[u32], visit: impl FnMut(Moment, u32)) {
    follow_from(batch, handler, calls, 0, visit);
}

/// As [`follow`], but visits only calls from this one on.
fn follow_from(batch: &Batch, handler: usize, calls: &[u32], from: u32, mut visit: impl FnMut(Moment, u32)) {
    let of = &batch.handlers[handler];
    let mut path = Path::new(of.start);
    for &n in calls {
        let call = &batch.calls[n as usize];
        if n >= from {
            visit(path.moment(of.endpoint, call.start), call.callee);
        }
        path.take(call);
    }
    if let Some(end) = of.end {
        visit(path.moment(of.endpoint, end), END);
    }
}

/// What a handler has done so far.
pub(super) struct Path {
    since: u64,
    last: Last,
    history: u64,
    /// Calls whose end has not been passed: when and whose.
    open: [(u64, u32); OPEN],
    opened: usize,
}

impl Path {
    pub(super) fn new(start: u64) -> Self {
        Self { since: start, last: Last::Start, history: 0, open: [(0, 0); OPEN], opened: 0 }
    }

    /// The moment at which something happens now. Time must not run back.
    pub(super) fn moment(&mut self, endpoint: u32, at: u64) -> Moment {
        let mut n = 0;
        while n < self.opened {
            let (end, callee) = self.open[n];
            if end <= at.saturating_add(SLACK) {
                if end >= self.since {
                    (self.since, self.last) = (end, Last::CallEnd(callee));
                }
                self.opened -= 1;
                self.open[n] = self.open[self.opened];
            } else {
                n += 1;
            }
        }
        Moment { endpoint, last: self.last, history: self.history, gap: Gap::new(at.saturating_sub(self.since)) }
    }

    /// Makes a call, at the moment that was just asked for.
    pub(super) fn take(&mut self, call: &Call) {
        // The end of an earlier call is passed, whether or not anyone asked.
        self.moment(0, call.start);
        if call.start >= self.since {
            (self.since, self.last) = (call.start, Last::CallStart(call.callee));
        }
        if let Some(end) = call.end {
            let at = self.opened.min(OPEN - 1);
            self.open[at] = (end, call.callee);
            self.opened = at + 1;
        }
        // A sum does not depend on the order of calls that run side by side.
        self.history = self.history.wrapping_add(mix(u64::from(call.callee), 5));
    }
}

/// Calls that are open side by side in one handler, as far as the end of each is looked for.
const OPEN: usize = 12;
