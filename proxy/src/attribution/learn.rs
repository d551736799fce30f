//! The first look at a service of which nothing is known: from even odds to a model, in a few rounds.

#![expect(clippy::indexing_slicing, reason = "positions in a batch are made with the batch and never leave it")]

use super::batch::Batch;
use super::model::{END, Model, Moment};
use super::sampler::{Path, Sampler, follow};

/// Rounds of weighing each call by itself, then rounds of drawing all at once.
const SOFT_ROUNDS: usize = 6;
const DRAWN_ROUNDS: usize = 6;
const SWEEPS: usize = 8;
const UNOBSERVED: usize = 3;

/// Learns `model` from a batch alone, and leaves in the batch the owners that it then thinks likely.
pub(super) fn from_nothing(
    batch: &mut Batch,
    model: &mut Model,
    background: &[f64],
    outlives: &[f64],
    fresh: impl Fn() -> Model,
) {
    for round in 0..SOFT_ROUNDS {
        let mut next = fresh();
        weigh(batch, model, Some((&mut next, round > 0)));
        *model = next;
    }
    weigh(batch, model, None);
    for round in 0..DRAWN_ROUNDS {
        let mut next = fresh();
        let owners = {
            let mut sampler = Sampler::new(batch, model, background, outlives, round as u64);
            for sweep in 0..SWEEPS {
                sampler.sweep();
                if sweep >= UNOBSERVED {
                    for handler in 0..batch.handlers.len() {
                        let weight = 1.0 / (SWEEPS - UNOBSERVED) as f64;
                        follow(batch, handler, sampler.held(handler), |moment, event| {
                            next.observe(moment, event, weight);
                        });
                    }
                }
            }
            sampler.owner
        };
        for (call, owner) in batch.calls.iter_mut().zip(owners) {
            call.owner = owner.and_then(|at| call.candidates.get(at).copied());
        }
        *model = next;
    }
}

/// Gives each call without an owner, in order of their start, to the candidate that is most likely by what that one
/// holds so far. With `learn`, all calls are given anew, and all that was weighed is observed.
pub(super) fn weigh(batch: &mut Batch, model: &Model, mut learn: Option<(&mut Model, bool)>) {
    let mut held: Vec<Vec<u32>> = vec![Vec::new(); batch.handlers.len()];
    let mut row: Vec<(u32, Moment, f64)> = Vec::new();
    for n in 0..batch.calls.len() {
        let call = &batch.calls[n];
        let fixed = call.settled || (call.owner.is_some() && learn.is_none());
        row.clear();
        for &handler in &call.candidates {
            if fixed && Some(handler) != call.owner {
                continue;
            }
            let moment = moment(batch, handler as usize, &held[handler as usize], call.start);
            let log = if learn.as_ref().is_some_and(|(_, informed)| !informed) {
                0.0
            } else {
                let late = if call.nested(&batch.handlers[handler as usize]) { 0.0 } else { LATE };
                model.log_likelihood(moment, call.callee) + late
            };
            row.push((handler, moment, log));
        }
        let best = row.iter().max_by(|a, b| a.2.total_cmp(&b.2)).map(|(handler, _, log)| (*handler, *log));
        if let Some((next, informed)) = &mut learn
            && let Some((_, most)) = best
        {
            let total: f64 = row.iter().map(|(_, _, log)| (log - most).exp()).sum();
            for (_, moment, log) in &row {
                next.observe(*moment, call.callee, (log - most).exp() / total);
            }
            if !*informed && row.len() > 1 {
                continue;
            }
        }
        if let Some((handler, _)) = best {
            held[handler as usize].push(n as u32);
            batch.calls[n].owner = Some(handler);
        }
    }
    if let Some((next, _)) = &mut learn {
        for (handler, of) in batch.handlers.iter().enumerate() {
            if let Some(end) = of.end {
                next.observe(moment(batch, handler, &held[handler], end), END, 1.0);
            }
        }
    }
}

/// Logarithm of the odds against a call that outlives its handler, before anything is known.
const LATE: f64 = -5.0;

fn moment(batch: &Batch, handler: usize, held: &[u32], at: u64) -> Moment {
    let of = &batch.handlers[handler];
    let mut path = Path::new(of.start);
    for &n in held {
        path.take(&batch.calls[n as usize]);
    }
    path.moment(of.endpoint, at)
}
