//! Handlers and calls that are not done with, kept in order of their start.

#![expect(clippy::indexing_slicing, reason = "positions in a batch are made with the batch and never leave it")]

use std::collections::HashMap;

use super::batch::{self, Batch, Believed, OPEN_END, SLACK};
use super::hash::Spread;
use super::settings::{Costs, Settings};
use super::tally::Odds;

/// A call that has been decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The call, as it was named when it started.
    pub call: u64,
    /// The handler most likely to have made it; none if that is the background.
    pub handler: Option<u64>,
    /// Probability of that, 0 to 1.
    pub probability: f64,
    /// Probability that the call was made by that handler or another one of its endpoint.
    pub endpoint_probability: f64,
    /// Whether it was known, not inferred.
    pub exact: bool,
}

/// A handler as it is remembered.
#[derive(Debug, Clone)]
pub(super) struct Handled {
    pub(super) id: u64,
    pub(super) endpoint: u32,
    pub(super) start: u64,
    pub(super) end: Option<u64>,
}

/// Callee, start and end of each call of a handling.
type Calls = Vec<(u32, u64, u64)>;
/// Endpoint of a handling, and its calls.
type Handling = (u32, Calls);

#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) callee: u32,
    pub(super) start: u64,
    pub(super) end: Option<u64>,
    /// The handler that is known to have made it.
    pub(super) exact: Option<u64>,
    /// The handler that is taken to have made it.
    pub(super) owner: Option<u64>,
    /// How likely its endpoint was when the call was given to it at sight.
    pub(super) sight: Believed,
    /// Probability of the owner, once decided.
    pub(super) decided: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) handlers: Vec<Handled>,
    pub(super) calls: Vec<Pending>,
    handler_at: HashMap<u64, usize, Spread>,
    call_at: HashMap<u64, usize, Spread>,
}

/// Up to when everything about calls is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// Calls that started before have no open handler as a candidate.
    pub(super) closed: u64,
    /// Calls that started before share no candidate with one that has an open candidate.
    pub(super) decidable: u64,
}

impl Buffer {
    pub(super) fn start_handler(&mut self, id: u64, endpoint: u32, at: u64) -> bool {
        let new = !self.handler_at.contains_key(&id);
        if new {
            self.handler_at.insert(id, self.handlers.len());
            self.handlers.push(Handled { id, endpoint, start: at, end: None });
        }
        new
    }

    pub(super) fn end_handler(&mut self, id: u64, at: u64) -> bool {
        let handler = self.handler_at.get(&id).and_then(|&at| self.handlers.get_mut(at));
        match handler.filter(|handler| handler.end.is_none()) {
            Some(handler) => {
                handler.end = Some(at);
                true
            }
            None => false,
        }
    }

    pub(super) fn start_call(&mut self, id: u64, callee: u32, at: u64, exact: Option<u64>) -> bool {
        let new = !self.call_at.contains_key(&id);
        if new {
            self.call_at.insert(id, self.calls.len());
            self.calls.push(Pending {
                id,
                callee,
                start: at,
                end: None,
                exact,
                owner: None,
                sight: Believed::default(),
                decided: None,
            });
        }
        new
    }

    pub(super) fn end_call(&mut self, id: u64, at: u64) -> bool {
        let call = self.call_at.get(&id).and_then(|&at| self.calls.get_mut(at));
        match call.filter(|call| call.end.is_none()) {
            Some(call) => {
                call.end = Some(at);
                true
            }
            None => false,
        }
    }

    pub(super) fn horizon(&self, now: u64, longest: u64) -> Horizon {
        let open = self.handlers.iter().filter(|h| h.end.is_none() && now.saturating_sub(h.start) <= longest);
        let closed = open.map(|handler| handler.start).min().unwrap_or(now.saturating_add(1));
        let late = self.handlers.iter().filter(|h| h.end.is_some_and(|end| end.saturating_add(SLACK) >= closed));
        let decidable = late.map(|handler| handler.start).min().unwrap_or(closed).min(closed);
        Horizon { closed, decidable }
    }

    /// Calls not decided yet that started before.
    pub(super) fn waiting(&self, before: u64) -> impl Iterator<Item = &Pending> {
        self.calls.iter().filter(move |call| call.decided.is_none() && call.start < before)
    }

    /// Fills in everything that is kept as a batch.
    pub(super) fn batch(&self, decidable: u64, odds: &Odds, settings: &Settings, costs: &mut Costs, batch: &mut Batch) {
        batch.handlers.clear();
        batch.calls.clear();
        batch.candidates.clear();
        // The latest end of all handlers up to each: further back than the start of a call none is looked for.
        let mut reach: Vec<u64> = Vec::with_capacity(self.handlers.len());
        for handler in &self.handlers {
            let Handled { start, endpoint, .. } = *handler;
            let end = handler.end.unwrap_or(OPEN_END);
            batch.handlers.push(batch::Handler { start, end, endpoint, retires: end < decidable });
            reach.push(reach.last().map_or(end, |&latest| end.max(latest)));
        }
        let position = |id: u64| self.handler_at.get(&id).map(|&at| at as u32);
        for pending in &self.calls {
            let owner = pending.owner.and_then(position);
            let known = pending.exact.and_then(position).or(owner.filter(|_| pending.decided.is_some()));
            let settled = known.is_some() || pending.decided.is_some();
            let first = batch.candidates.len() as u32;
            let mut call = batch::Call {
                start: pending.start,
                end: pending.end.unwrap_or(OPEN_END),
                callee: pending.callee,
                candidates: first..first,
                settled,
                owner: if settled { known } else { owner },
                sight: pending.sight,
            };
            if settled {
                batch.candidates.extend(known);
            } else {
                let before = self.handlers.partition_point(|handler| handler.start <= call.start.saturating_add(SLACK));
                let mut nested = 0;
                for (at, (handler, reach)) in batch.handlers.iter().zip(&reach).enumerate().take(before).rev() {
                    if reach.saturating_add(SLACK) < call.start {
                        break;
                    }
                    if handler.end.saturating_add(SLACK) < call.start {
                        continue;
                    }
                    if batch.candidates.len() - first as usize >= settings.max_candidates {
                        costs.candidates_left_out += 1;
                        break;
                    }
                    nested += usize::from(call.nested(handler));
                    batch.candidates.push(at as u32);
                }
                let rarely = odds.outliving(call.callee).is_none_or(|share| share < RARELY);
                if nested > 0 && rarely {
                    let mut kept = first as usize;
                    for at in first as usize..batch.candidates.len() {
                        let candidate = batch.candidates[at];
                        if call.nested(&batch.handlers[candidate as usize]) {
                            batch.candidates[kept] = candidate;
                            kept += 1;
                        }
                    }
                    batch.candidates.truncate(kept);
                }
            }
            call.candidates.end = batch.candidates.len() as u32;
            batch.calls.push(call);
        }
    }

    /// When the middle one of the handlers or calls, whichever is later, started.
    pub(super) fn middle(&self) -> u64 {
        let handler = self.handlers.get(self.handlers.len() / 2).map_or(0, |handler| handler.start);
        let call = self.calls.get(self.calls.len() / 2).map_or(0, |call| call.start);
        handler.max(call)
    }

    /// Handlings that ended before and whose calls are all stated: endpoint, and callee, start and end of each call.
    pub(super) fn stated_handlings(&self, decidable: u64, stated: f64) -> Vec<Handling> {
        let mut by: HashMap<u64, Option<Calls>, Spread> = HashMap::default();
        for call in &self.calls {
            let Some(owner) = call.owner else { continue };
            let calls = by.entry(owner).or_insert_with(|| Some(Vec::new()));
            let sure = call.decided.is_some_and(|probability| probability >= stated);
            match (calls.as_mut(), call.end) {
                (Some(calls), Some(end)) if sure => calls.push((call.callee, call.start, end)),
                _ => *calls = None,
            }
        }
        let done = self.handlers.iter().filter(|handler| handler.end.is_some_and(|end| end < decidable));
        done.filter_map(|handler| Some((handler.endpoint, by.remove(&handler.id)??))).collect()
    }

    /// Drops what nothing can be learned from any more: handlers that ended before, and decided calls without one.
    pub(super) fn drop_before(&mut self, decidable: u64) {
        self.handlers.retain(|handler| handler.end.is_none_or(|end| end >= decidable));
        self.index();
    }

    /// Drops everything, decided or not.
    pub(super) fn clear(&mut self) {
        self.handlers.clear();
        self.calls.clear();
        self.index();
    }

    /// Drops the oldest handlers and decided calls down to a number, and returns how many of those handlers were open.
    pub(super) fn shrink(&mut self, handlers: usize, calls: usize) -> u64 {
        let surplus = self.handlers.len().saturating_sub(handlers);
        let open = self.handlers.drain(..surplus).filter(|handler| handler.end.is_none()).count();
        self.index();
        let surplus = self.calls.len().saturating_sub(calls);
        let mut left = surplus;
        self.calls.retain(|call| {
            let drop = left > 0 && call.decided.is_some();
            left -= usize::from(drop);
            !drop
        });
        self.index();
        open as u64
    }

    fn index(&mut self) {
        self.handler_at = self.handlers.iter().enumerate().map(|(at, handler)| (handler.id, at)).collect();
        let known = &self.handler_at;
        self.calls.retain(|call| call.decided.is_none() || call.owner.is_some_and(|owner| known.contains_key(&owner)));
        self.call_at = self.calls.iter().enumerate().map(|(at, call)| (call.id, at)).collect();
    }
}

/// Share of calls that outlive their handler under which that is not considered, if any handler fits otherwise.
const RARELY: f64 = 0.002;
