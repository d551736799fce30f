//! Handlers and calls that are not done with, kept in order of their start.

use std::collections::HashMap;

use super::batch::{self, Batch, SLACK};
use super::settings::{Costs, Settings};

/// A call that has been decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The call, as it was named when it started.
    pub call: u64,
    /// The handler most likely to have made it; none if that is the background.
    pub handler: Option<u64>,
    /// Probability of that, 0 to 1.
    pub probability: f64,
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
    /// Probability of the owner, once decided.
    pub(super) decided: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) handlers: Vec<Handled>,
    pub(super) calls: Vec<Pending>,
    handler_at: HashMap<u64, usize>,
    call_at: HashMap<u64, usize>,
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
            self.calls.push(Pending { id, callee, start: at, end: None, exact, owner: None, decided: None });
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

    /// Everything that is kept as a batch; what `outlives` says of a callee decides whether handlers that ended before
    /// the call did are weighed.
    pub(super) fn batch(&self, decidable: u64, outlives: &[f64], settings: &Settings, costs: &mut Costs) -> Batch {
        let mut batch = Batch::default();
        for handler in &self.handlers {
            let retires = handler.end.is_some_and(|end| end < decidable);
            let Handled { start, end, endpoint, .. } = *handler;
            batch.handlers.push(batch::Handler { start, end, endpoint, retires });
        }
        let position = |id: u64| self.handler_at.get(&id).map(|&at| at as u32);
        for call in &self.calls {
            let owner = call.owner.and_then(position);
            let known = call.exact.and_then(position).or(owner.filter(|_| call.decided.is_some()));
            let settled = known.is_some() || call.decided.is_some();
            let mut made = batch::Call {
                start: call.start,
                end: call.end,
                callee: call.callee,
                candidates: Vec::new(),
                settled,
                owner: if settled { known } else { owner },
            };
            if settled {
                made.candidates.extend(known);
            } else {
                let rarely = outlives.get(call.callee as usize).is_none_or(|share| *share < RARELY);
                let before = self.handlers.partition_point(|handler| handler.start <= call.start.saturating_add(SLACK));
                let upto = batch.handlers.iter().enumerate().take(before).rev();
                let mut late = Vec::new();
                for (at, handler) in upto {
                    if handler.end.is_some_and(|end| end.saturating_add(SLACK) < call.start) {
                        continue;
                    }
                    if made.candidates.len() >= settings.max_candidates {
                        costs.candidates_left_out += 1;
                        break;
                    }
                    if made.nested(handler) { made.candidates.push(at as u32) } else { late.push(at as u32) }
                }
                if made.candidates.is_empty() || !rarely {
                    made.candidates.extend(late);
                }
            }
            batch.calls.push(made);
        }
        batch
    }

    /// When the middle one of the handlers or calls, whichever is later, started.
    pub(super) fn middle(&self) -> u64 {
        let handler = self.handlers.get(self.handlers.len() / 2).map_or(0, |handler| handler.start);
        let call = self.calls.get(self.calls.len() / 2).map_or(0, |call| call.start);
        handler.max(call)
    }

    /// Handlings that ended before and whose calls are all stated: endpoint, and callee, start and end of each call.
    pub(super) fn stated_handlings(&self, decidable: u64, stated: f64) -> Vec<Handling> {
        let mut by: HashMap<u64, Option<Calls>> = HashMap::new();
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
