//! Draws likely ways to hand out the calls of a batch to its handlers, all at once.
//!
//! One way to hand them out is judged by everything each handler then did, in order: what came next and after how
//! long, up to its end. Gibbs steps move single calls; exchanges trade a call for a later one of the same callee, a few
//! calls in a row, or all that follows, between two handlers, because where a handler makes one call of a kind no single
//! move leads from one likely way to another. How likely a call is with a handler, on average over many draws of
//! everything else, is the probability that the handler made it: doubt about one call includes the doubt about all
//! those around it.
//!
//! Most of what is asked in one sweep was asked in the sweep before, so what was found is kept until what a handler
//! holds changes.

#![expect(clippy::indexing_slicing, reason = "positions in a batch are made with the batch and never leave it")]

use std::ops::Range;

use super::batch::{Batch, Call, OPEN_END};
use super::hash::mix;
use super::memo::Memo;
use super::model::{END, Model};
use super::path::Path;
use super::random::{below, uniform};
use super::tally::Odds;

/// Draws over one batch.
pub(super) struct Sampler<'a> {
    batch: &'a Batch,
    judge: Judge<'a>,
    /// Calls of each handler in order of their start.
    held: Vec<Vec<u32>>,
    /// Names what each handler holds; another name whenever that changes.
    version: Vec<u32>,
    versions: u32,
    /// What each call adds to the likelihood of the handler that holds it, and what the end of each handler adds.
    terms: Vec<f64>,
    ends: Vec<f64>,
    /// The handler of each call; none is the background.
    pub(super) owner: Vec<Option<u32>>,
    /// What is known of each candidate of each call.
    weighed: Vec<Weighed>,
    /// By call and candidate, the background last: how likely it was that the call belonged there, summed over steps.
    shares: Vec<f32>,
    random: u64,
    /// How far differences in likelihood are believed: 1 is fully.
    trust: f64,
    /// Places of the candidates of the call at hand that the moment does not rule out.
    thinkable: Vec<u32>,
    weights: Vec<f64>,
    mine: Hand,
    theirs: Hand,
    both: Vec<u32>,
    /// Steps in a row in which nothing else was thinkable, by call.
    calm: Vec<u8>,
    sweeps: usize,
}

/// What was found about a candidate of a call, and for which versions of what the handlers hold it still holds.
#[derive(Debug, Clone, Copy)]
struct Weighed {
    version: u32,
    /// Logarithm of how likely the call is at that moment, whatever follows.
    first: f32,
    /// How much likelier everything that the candidate does is with the call than without; not a number where nobody
    /// asked.
    gain: f32,
    /// What exchanging the rest with the candidate gains.
    rest: Exchange,
}

/// What an exchange gains, for these versions of what the two hold.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    versions: (u32, u32),
    gain: f32,
}

const UNKNOWN: Weighed = Weighed { version: 0, first: 0.0, gain: 0.0, rest: Exchange { versions: (0, 0), gain: 0.0 } };

/// Says how likely it is that handlers make calls.
struct Judge<'a> {
    batch: &'a Batch,
    model: &'a Model,
    memo: &'a mut Memo,
    odds: &'a Odds,
}

/// Calls that a handler might hold from some point on, and what each and the end adds to its likelihood.
#[derive(Debug, Default)]
struct Hand {
    calls: Vec<u32>,
    terms: Vec<f64>,
    end: f64,
}

/// How far the model is believed. What follows what is not independent in truth, so that at 1 the draws get stuck in
/// whatever was learned first.
pub(super) const TRUST: f64 = 0.5;
/// Candidates of a call that are thinkable at a time: the likeliest by what each has done before.
const MOST_THINKABLE: usize = 24;
/// Steps without doubt after which a call is only looked at every so many sweeps.
const CALM: u8 = 2;
const CALM_EVERY: usize = 4;
/// Logarithm of the odds beyond which another owner is not thinkable: by the moment alone, where what follows may
/// still make up for much; and all things considered, after the trust.
const OUT_OF_PLACE: f32 = 14.0;
const DOUBT: f64 = 7.0;

impl<'a> Sampler<'a> {
    /// Starts from the owners that the batch gives.
    pub(super) fn new(batch: &'a Batch, model: &'a Model, memo: &'a mut Memo, odds: &'a Odds, seed: u64) -> Self {
        let mut held = vec![Vec::new(); batch.handlers.len()];
        for (n, call) in batch.calls.iter().enumerate() {
            if let Some(handler) = call.owner {
                held[handler as usize].push(n as u32);
            }
        }
        let mut sampler = Self {
            batch,
            judge: Judge { batch, model, memo, odds },
            terms: vec![0.0; batch.calls.len()],
            ends: vec![0.0; held.len()],
            version: (1..=held.len() as u32).collect(),
            versions: held.len() as u32,
            weighed: vec![UNKNOWN; batch.candidates.len()],
            held,
            owner: batch.calls.iter().map(|call| call.owner).collect(),
            shares: vec![0.0; batch.candidates.len() + batch.calls.len()],
            random: mix(seed, 11) | 1,
            trust: TRUST,
            thinkable: Vec::new(),
            weights: Vec::new(),
            mine: Hand::default(),
            theirs: Hand::default(),
            both: Vec::new(),
            calm: vec![0; batch.calls.len()],
            sweeps: 0,
        };
        for handler in 0..sampler.held.len() {
            sampler.appraise(handler, 0);
        }
        sampler
    }

    /// Moves every call once, believing the model this far, 1 being fully; those about which there has been no doubt for a while only now and then.
    pub(super) fn sweep(&mut self, trust: f64) {
        self.trust = trust;
        self.sweeps += 1;
        for n in 0..self.batch.calls.len() {
            if self.calm[n] >= CALM && !(self.sweeps + n).is_multiple_of(CALM_EVERY) {
                continue;
            }
            let call = &self.batch.calls[n];
            if call.settled || call.candidates.is_empty() {
                continue;
            }
            self.step(n as u32, call);
            if self.thinkable.len() > 1 {
                self.exchange(n as u32, call);
                self.exchange_rest(n as u32, call);
                self.exchange_some(n as u32, call);
            }
        }
    }

    /// Takes how likely each call was with each of its candidates, and last with nobody, in the sweeps since this was last
    /// asked: adds up to 1 for each call.
    pub(super) fn take_shares(&mut self) -> Vec<f32> {
        let mut taken = vec![0.0; self.shares.len()];
        std::mem::swap(&mut taken, &mut self.shares);
        for (n, call) in self.batch.calls.iter().enumerate() {
            let shares = &mut taken[places(call, n as u32)];
            let total: f32 = shares.iter().sum();
            if total > 0.0 {
                shares.iter_mut().for_each(|share| *share /= total);
            } else {
                // Nothing was weighed: settled, or without candidates.
                let at = if call.candidates.is_empty() { shares.len() - 1 } else { 0 };
                shares[at] = 1.0;
            }
        }
        taken
    }

    /// Questions that were asked so far.
    pub(super) fn asked(&self) -> u64 {
        self.judge.memo.asked
    }

    /// Calls that a handler holds now.
    pub(super) fn held(&self, handler: usize) -> &[u32] {
        &self.held[handler]
    }

    /// Draws the owner of one call, all others staying as they are.
    fn step(&mut self, n: u32, call: &Call) {
        self.think(n, call);
        let (batch, owner, first) = (self.batch, self.owner[n as usize], call.candidates.start as usize);
        let nobody = self.judge.odds.background(call.callee);
        self.weights.clear();
        let mut most = nobody;
        for &place in &self.thinkable {
            let handler = batch.candidates[first + place as usize];
            let known = &mut self.weighed[first + place as usize];
            if known.gain.is_nan() {
                let (before, after) = split(&self.held[handler as usize], n);
                let now: f64 = after.iter().map(|&n| self.terms[n as usize]).sum::<f64>() + self.ends[handler as usize];
                known.gain = if owner == Some(handler) {
                    now - self.judge.rest(handler as usize, before, after.get(1..).unwrap_or_default(), None)
                } else {
                    f64::from(known.first) + self.judge.rest(handler as usize, before, after, Some(call)) - now
                } as f32;
            }
            self.weights.push(f64::from(known.gain));
            most = most.max(f64::from(known.gain));
        }
        self.weights.push(nobody);
        let trust = self.trust;
        let mut doubt = 0;
        for weight in &mut self.weights {
            *weight = (*weight - most) * trust;
            doubt += usize::from(*weight > -DOUBT);
        }
        let shares = &mut self.shares[places(call, n)];
        let nobody_at = shares.len() - 1;
        let place = |at: usize| self.thinkable.get(at).map_or(nobody_at, |&place| place as usize);
        let drawn = if doubt > 1 {
            let drawn = draw(&mut self.weights, &mut self.random);
            let total: f64 = self.weights.iter().sum();
            for (at, weight) in self.weights.iter().enumerate() {
                shares[place(at)] += (weight / total) as f32;
            }
            drawn
        } else {
            let drawn = self.weights.iter().position(|&weight| weight >= 0.0).unwrap_or(0);
            shares[place(drawn)] += 1.0;
            drawn
        };
        let drawn = self.thinkable.get(drawn).map(|&place| batch.candidates[first + place as usize]);
        self.calm[n as usize] = if doubt > 1 || drawn != owner { 0 } else { self.calm[n as usize].saturating_add(1) };
        if drawn != owner {
            self.owner[n as usize] = drawn;
            for handler in [owner, drawn].into_iter().flatten() {
                let list = &mut self.held[handler as usize];
                let at = list.partition_point(|&held| held < n);
                if Some(handler) == owner {
                    list.remove(at);
                } else {
                    list.insert(at, n);
                }
                self.appraise(handler as usize, n);
                // What the call adds to it is the same, whether it is there or not.
                if let Some(place) = batch.place(call, handler) {
                    self.weighed[first + place].version = self.version[handler as usize];
                }
            }
        }
    }

    /// Finds the candidates that are thinkable by what each has done before, without a look at what it does next. So
    /// the exchanges below, which only change what comes next, are as likely to be offered one way as back.
    fn think(&mut self, n: u32, call: &Call) {
        let owner = self.owner[n as usize];
        let (mut most, mut at_owner) = (f32::NEG_INFINITY, u32::MAX);
        let first = call.candidates.start as usize;
        let places = self.batch.candidates(call).iter().zip(&mut self.weighed[first..]);
        for (place, (&handler, known)) in places.enumerate() {
            let version = self.version[handler as usize];
            if known.version != version {
                let (before, _) = split(&self.held[handler as usize], n);
                known.first = self.judge.first(handler as usize, before, call) as f32;
                known.gain = f32::NAN;
                known.version = version;
            }
            most = most.max(known.first);
            if owner == Some(handler) {
                at_owner = place as u32;
            }
        }
        self.thinkable.clear();
        let known = self.weighed[first..].iter().take(call.candidates.len());
        let least = most - OUT_OF_PLACE;
        let thinkable = known.zip(0..).filter(|(known, place)| known.first > least || *place == at_owner);
        self.thinkable.extend(thinkable.map(|(_, place)| place));
        if self.thinkable.len() > MOST_THINKABLE {
            let known = &self.weighed[first..];
            let rank = |place: &u32| if *place == at_owner { f32::INFINITY } else { known[*place as usize].first };
            self.thinkable.select_nth_unstable_by(MOST_THINKABLE - 1, |a, b| rank(b).total_cmp(&rank(a)));
            self.thinkable.truncate(MOST_THINKABLE);
        }
    }

    /// The owner of a call, another thinkable one and its place, drawn by how likely the call is at that moment; and
    /// the logarithm of the odds of drawing the same two from the other side.
    fn two(&mut self, n: u32, call: &Call) -> Option<(usize, usize, usize, f64)> {
        let owner = self.owner[n as usize]?;
        let first = call.candidates.start as usize;
        let chances = self.thinkable.iter().map(|&place| self.weighed[first + place as usize].first);
        let most = chances.clone().fold(f32::NEG_INFINITY, f32::max);
        self.weights.clear();
        let trust = self.trust;
        self.weights.extend(chances.map(|first| f64::from(first - most) * trust));
        let log = |at: usize| f64::from(self.weighed[first + self.thinkable[at] as usize].first) * trust;
        let at_owner =
            self.thinkable.iter().position(|&place| self.batch.candidates[first + place as usize] == owner)?;
        let log_owner = log(at_owner);
        let at = draw(&mut self.weights, &mut self.random);
        let place = first + self.thinkable[at] as usize;
        let other = self.batch.candidates[place];
        let odds = log_owner - f64::from(self.weighed[place].first) * trust;
        (other != owner).then_some((owner as usize, other as usize, place, odds))
    }

    /// Offers the exchange of a call for a later one of the same callee that another handler holds.
    fn exchange(&mut self, n: u32, call: &Call) {
        let Some((a, b, _, odds)) = self.two(n, call) else { return };
        let (before, mine) = split(&self.held[a], n);
        let (before_theirs, theirs) = split(&self.held[b], n);
        let same = |&&held: &&u32| self.batch.calls[held as usize].callee == call.callee;
        let count = theirs.iter().filter(same).count();
        if count == 0 {
            return;
        }
        let odds = odds + (count as f64).ln() - (mine.iter().filter(same).count() as f64).ln();
        let at = below(&mut self.random, count);
        let (batch, other) = (self.batch, theirs.iter().filter(same).nth(at).copied().unwrap_or_default());
        let later = &batch.calls[other as usize];
        if later.settled || batch.place(later, a as u32).is_none() {
            return;
        }
        self.mine.calls.clear();
        self.mine.calls.extend(mine.iter().filter(|&&held| held != n));
        let at = self.mine.calls.partition_point(|&held| held < other);
        self.mine.calls.insert(at, other);
        self.theirs.calls.clear();
        self.theirs.calls.push(n);
        self.theirs.calls.extend(theirs.iter().filter(|&&held| held != other));
        self.judge.hand(a, before, &mut self.mine);
        self.judge.hand(b, before_theirs, &mut self.theirs);
        let gain = self.mine.worth() + self.theirs.worth() - self.worth(a, n) - self.worth(b, n);
        if self.accepts(gain * self.trust + odds) {
            self.exchange_hands(n, a, b);
        }
    }

    /// Offers the exchange of everything from a call on with what another handler does from then on.
    fn exchange_rest(&mut self, n: u32, call: &Call) {
        let Some((a, b, place, odds)) = self.two(n, call) else { return };
        let versions = (self.version[a], self.version[b]);
        let known = self.weighed[place].rest;
        let known = (known.versions == versions).then_some(f64::from(known.gain));
        let gain = known.unwrap_or_else(|| {
            let gain = self.gain(n, a, b, u32::MAX);
            self.weighed[place].rest = Exchange { versions, gain: gain as f32 };
            gain
        });
        if self.accepts(gain * self.trust + odds) {
            if known.is_some() {
                self.gain(n, a, b, u32::MAX);
            }
            self.exchange_hands(n, a, b);
        }
    }

    /// Offers the exchange of a few calls from this one on, as many as both handlers make up to some later one.
    fn exchange_some(&mut self, n: u32, call: &Call) {
        let Some((a, b, _, odds)) = self.two(n, call) else { return };
        let mut both = std::mem::take(&mut self.both);
        both.clear();
        for handler in [a, b] {
            let (_, after) = split(&self.held[handler], n);
            both.extend(after.iter().filter(|&&held| held != n).take(SOME));
        }
        both.sort_unstable();
        both.truncate(SOME);
        // What comes after the first of them, up to all that follow; the choice is the same seen from the other side.
        let cut = if both.len() < 2 { None } else { both.get(1 + below(&mut self.random, both.len() - 1)).copied() };
        self.both = both;
        if let Some(cut) = cut {
            let gain = self.gain(n, a, b, cut);
            if self.accepts(gain * self.trust + odds) {
                self.exchange_hands(n, a, b);
            }
        }
    }

    /// Puts together what two handlers would hold if they exchanged all from a call on up to where it is cut, and says
    /// what that gains.
    fn gain(&mut self, n: u32, a: usize, b: usize, cut: u32) -> f64 {
        let batch = self.batch;
        let (before, mine) = split(&self.held[a], n);
        let (before_theirs, theirs) = split(&self.held[b], n);
        let (my_part, my_rest) = split(mine, cut);
        let (their_part, their_rest) = split(theirs, cut);
        let can = |held: &[u32], to: usize| {
            held.iter().all(|&held| {
                let moved = &batch.calls[held as usize];
                !moved.settled && (held == n || batch.place(moved, to as u32).is_some())
            })
        };
        // If nothing but this call would move, the step has offered that.
        if my_part.len() < 2 && their_part.is_empty() || !can(my_part, b) || !can(their_part, a) {
            return f64::NEG_INFINITY;
        }
        self.mine.calls.clear();
        self.mine.calls.extend(their_part.iter().chain(my_rest));
        self.theirs.calls.clear();
        self.theirs.calls.extend(my_part.iter().chain(their_rest));
        self.judge.hand(a, before, &mut self.mine);
        self.judge.hand(b, before_theirs, &mut self.theirs);
        self.mine.worth() + self.theirs.worth() - self.worth(a, n) - self.worth(b, n)
    }

    /// Whether to take what is this much likelier by the logarithm: always if it is, or else now and then.
    fn accepts(&mut self, gain: f64) -> bool {
        gain >= 0.0 || gain > -UNTHINKABLE && uniform(&mut self.random) < gain.exp()
    }

    /// Gives the two hands to two handlers, in the place of what they hold from a call on.
    fn exchange_hands(&mut self, n: u32, a: usize, b: usize) {
        let (mine, theirs) = (std::mem::take(&mut self.mine), std::mem::take(&mut self.theirs));
        for (handler, hand) in [(a, &mine), (b, &theirs)] {
            let at = self.held[handler].partition_point(|&held| held < n);
            self.held[handler].truncate(at);
            self.held[handler].extend(&hand.calls);
            for (&held, &term) in hand.calls.iter().zip(&hand.terms) {
                self.terms[held as usize] = term;
                if self.owner[held as usize] != Some(handler as u32) {
                    self.owner[held as usize] = Some(handler as u32);
                    self.calm[held as usize] = 0;
                }
            }
            self.ends[handler] = hand.end;
            self.renew(handler);
        }
        (self.mine, self.theirs) = (mine, theirs);
    }

    /// What a handler holds has changed.
    fn renew(&mut self, handler: usize) {
        self.versions += 1;
        self.version[handler] = self.versions;
    }

    /// What a handler's calls from this one on, and its end, add to its likelihood.
    fn worth(&self, handler: usize, from: u32) -> f64 {
        let (_, after) = split(&self.held[handler], from);
        after.iter().map(|&n| self.terms[n as usize]).sum::<f64>() + self.ends[handler]
    }

    /// Judges a handler anew from a call on.
    fn appraise(&mut self, handler: usize, from: u32) {
        let (before, after) = split(&self.held[handler], from);
        self.mine.calls.clear();
        self.mine.calls.extend(after);
        self.judge.hand(handler, before, &mut self.mine);
        for (&held, &term) in self.mine.calls.iter().zip(&self.mine.terms) {
            self.terms[held as usize] = term;
        }
        self.ends[handler] = self.mine.end;
        self.renew(handler);
    }
}

/// Calls that two handlers exchange at most when they do not exchange all.
const SOME: usize = 8;
/// Logarithm of the odds beyond which nothing is drawn.
const UNTHINKABLE: f64 = 20.0;

impl Judge<'_> {
    /// Logarithm of how likely a call is for a handler that made these before.
    fn first(&mut self, handler: usize, before: &[u32], call: &Call) -> f64 {
        let mut path = self.path(handler, before);
        self.term(&mut path, handler, call)
    }

    /// Logarithm of how likely the rest of a handling is, after the calls before and perhaps one more.
    fn rest(&mut self, handler: usize, before: &[u32], after: &[u32], more: Option<&Call>) -> f64 {
        let mut path = self.path(handler, before);
        if let Some(call) = more {
            path.take(call);
        }
        let mut sum = 0.0;
        for &n in after {
            let call = &self.batch.calls[n as usize];
            sum += self.term(&mut path, handler, call);
            path.take(call);
        }
        sum + self.end(&mut path, handler)
    }

    /// Fills in what the calls of a hand and the end are worth after the calls before.
    fn hand(&mut self, handler: usize, before: &[u32], hand: &mut Hand) {
        let mut path = self.path(handler, before);
        hand.terms.clear();
        for &n in &hand.calls {
            let call = &self.batch.calls[n as usize];
            hand.terms.push(self.term(&mut path, handler, call));
            path.take(call);
        }
        hand.end = self.end(&mut path, handler);
    }

    fn path(&self, handler: usize, calls: &[u32]) -> Path {
        let of = &self.batch.handlers[handler];
        let mut path = Path::new(of.start, of.endpoint);
        calls.iter().for_each(|&n| path.take(&self.batch.calls[n as usize]));
        path
    }

    fn term(&mut self, path: &mut Path, handler: usize, call: &Call) -> f64 {
        let (moment, gap) = path.moment(call.start);
        let nested = call.nested(&self.batch.handlers[handler]);
        self.memo.log_likelihood(self.model, moment, gap, call.callee) + self.odds.ending(call.callee, nested)
    }

    fn end(&mut self, path: &mut Path, handler: usize) -> f64 {
        let end = self.batch.handlers[handler].end;
        if end == OPEN_END {
            return 0.0;
        }
        let (moment, gap) = path.moment(end);
        self.memo.log_likelihood(self.model, moment, gap, END)
    }
}

impl Hand {
    fn worth(&self) -> f64 {
        self.terms.iter().sum::<f64>() + self.end
    }
}

/// Calls before this one, and from this one on.
fn split(calls: &[u32], n: u32) -> (&[u32], &[u32]) {
    calls.split_at(calls.partition_point(|&call| call < n))
}

/// Where the shares of a call stand: one place for each candidate and one for the background.
pub(super) fn places(call: &Call, n: u32) -> Range<usize> {
    let shift = n as usize;
    call.candidates.start as usize + shift..call.candidates.end as usize + shift + 1
}

/// Turns logarithms, of which the largest is 0, into weights, and draws a position by them.
fn draw(weights: &mut [f64], random: &mut u64) -> usize {
    let mut total = 0.0;
    for weight in weights.iter_mut() {
        *weight = if *weight > -UNTHINKABLE { weight.exp() } else { 0.0 };
        total += *weight;
    }
    let mut left = uniform(random) * total;
    for (at, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return at;
        }
    }
    weights.len() - 1
}
