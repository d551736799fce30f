//! The first look at a service of which nothing is known: from even odds to a model, in a few rounds.

#![expect(clippy::indexing_slicing, reason = "positions in a batch are made with the batch and never leave it")]

use super::batch::{Batch, Believed, OPEN_END};
use super::density::Gap;
use super::memo::Memo;
use super::model::{END, Model, Moment};
use super::path::{Path, follow};
use super::sampler::{Sampler, TRUST};
use super::tally::Odds;

/// Rounds of weighing each call by itself, then rounds of drawing all at once.
const SOFT_ROUNDS: usize = 6;
const DRAWN_ROUNDS: usize = 6;
const SWEEPS: usize = 8;
const UNOBSERVED: usize = 3;
/// Candidates that a round of weighing may look at: with very many handlers in flight the first calls have to do.
const MOST_WEIGHED: usize = 100_000;
/// Questions that the rounds of drawing may cost. With more handlers in flight than that allows for, what was learned by
/// weighing each call by itself has to do; later batches improve on it.
const MOST_ASKED: u64 = 2_000_000;

/// Learns `model` from a batch alone, and leaves in the batch the owners that it then thinks likely.
pub(super) fn from_nothing(
    batch: &mut Batch,
    model: &mut Model,
    memo: &mut Memo,
    odds: &Odds,
    fresh: impl Fn() -> Model,
) {
    let upto = batch.calls.partition_point(|call| call.candidates.end as usize <= MOST_WEIGHED);
    for round in 0..SOFT_ROUNDS {
        let mut next = fresh();
        memo.clear();
        weigh(batch, upto, model, memo, odds, Some((&mut next, round > 0)));
        *model = next;
    }
    memo.clear();
    weigh(batch, batch.calls.len(), model, memo, odds, None);
    let end = memo.asked.saturating_add(MOST_ASKED);
    for round in 0..DRAWN_ROUNDS {
        let mut next = fresh();
        memo.clear();
        let owners = {
            let mut sampler = Sampler::new(batch, model, memo, odds, round as u64);
            for sweep in 0..SWEEPS {
                sampler.sweep(TRUST);
                if sampler.asked() > end {
                    return memo.clear();
                }
                if sweep >= UNOBSERVED {
                    for handler in 0..batch.handlers.len() {
                        let weight = 1.0 / (SWEEPS - UNOBSERVED) as f64;
                        follow(batch, handler, sampler.held(handler), |moment, gap, event| {
                            next.observe(moment, gap, event, weight);
                        });
                    }
                }
            }
            sampler.owner
        };
        for (call, owner) in batch.calls.iter_mut().zip(owners) {
            call.owner = owner;
        }
        *model = next;
    }
    memo.clear();
}

/// Gives each call without an owner, in order of their start, to the candidate that is most likely by what that one
/// holds so far; only the first ones, `upto`. With `learn`, all calls are given anew, and all that was weighed is observed.
pub(super) fn weigh(
    batch: &mut Batch,
    upto: usize,
    model: &Model,
    memo: &mut Memo,
    odds: &Odds,
    mut learn: Option<(&mut Model, bool)>,
) {
    // Calls come in order of their start, so that the way through each handling is walked once.
    let mut paths: Vec<Path> = batch.handlers.iter().map(|of| Path::new(of.start, of.endpoint)).collect();
    let mut row: Vec<(u32, Moment, Gap, f64)> = Vec::new();
    for n in 0..upto {
        let call = &batch.calls[n];
        // What has become clear since may have ruled out the one that was likely.
        let kept = call.owner.is_some_and(|owner| batch.place(call, owner).is_some());
        let fixed = call.settled || (kept && learn.is_none());
        row.clear();
        let even = learn.as_ref().is_some_and(|(_, informed)| !informed);
        let alone = learn.is_none() && call.candidates.len() == 1;
        for &handler in batch.candidates(call) {
            if fixed && Some(handler) != call.owner {
                continue;
            }
            let (moment, gap) = paths[handler as usize].moment(call.start);
            let log = if even || alone || (fixed && learn.is_none()) {
                0.0
            } else {
                let late = if call.nested(&batch.handlers[handler as usize]) { 0.0 } else { LATE };
                memo.log_likelihood(model, moment, gap, call.callee) + late
            };
            row.push((handler, moment, gap, log));
        }
        let best = row.iter().max_by(|a, b| a.3.total_cmp(&b.3)).map(|(handler, .., log)| (*handler, *log));
        if let Some((next, informed)) = &mut learn
            && let Some((_, most)) = best
        {
            let total: f64 = row.iter().map(|(.., log)| (log - most).exp()).sum();
            for (_, moment, gap, log) in &row {
                next.observe(*moment, *gap, call.callee, (log - most).exp() / total);
            }
            if !*informed && row.len() > 1 {
                continue;
            }
        }
        if let Some((handler, _)) = best {
            paths[handler as usize].take(call);
            if !fixed {
                let endpoint = batch.handlers[handler as usize].endpoint;
                let alike = |candidate: u32| batch.handlers[candidate as usize].endpoint == endpoint;
                let most = best.map_or(0.0, |(_, most)| most);
                let believed = |trust: f64| {
                    // What is alone was not weighed against anything.
                    let nobody = if alone { f64::NEG_INFINITY } else { odds.background(batch.calls[n].callee) - most };
                    let (mut same, mut all) = (0.0, (nobody * trust).min(MOST_ODDS).exp());
                    for (candidate, .., log) in &row {
                        let weight = ((log - most) * trust).exp();
                        all += weight;
                        same += if alike(*candidate) { weight } else { 0.0 };
                    }
                    (same / all) as f32
                };
                batch.calls[n].sight = Believed { full: believed(1.0), half: believed(TRUST) };
            }
            batch.calls[n].owner = Some(handler);
        }
    }
    if let Some((next, _)) = &mut learn {
        let seen = batch.calls.get(upto).map_or(OPEN_END, |call| call.start);
        for (handler, of) in batch.handlers.iter().enumerate().filter(|(_, of)| of.end < seen) {
            let (moment, gap) = paths[handler].moment(of.end);
            next.observe(moment, gap, END, 1.0);
        }
    }
}

/// Logarithm of the odds beyond which nothing needs to be told apart.
const MOST_ODDS: f64 = 30.0;
/// Logarithm of the odds against a call that outlives its handler, before anything is known.
const LATE: f64 = -5.0;
