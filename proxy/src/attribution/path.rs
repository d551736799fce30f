//! What a handler has done so far, as far as what it does next depends on it.

use super::batch::{Batch, Call, OPEN_END, SLACK};
use super::density::Gap;
use super::hash::mix;
use super::model::{END, Last, Moment};

/// The way through one handling up to some point of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    endpoint: u32,
    since: u64,
    last: Last,
    history: u64,
    /// Calls whose end has not been passed: when and whose.
    open: [(u64, u32); OPEN],
    opened: usize,
}

/// Calls that are open side by side in one handler, as far as the end of each is looked for.
const OPEN: usize = 8;

impl Path {
    pub(super) fn new(start: u64, endpoint: u32) -> Self {
        Self { endpoint, since: start, last: Last::START, history: 0, open: [(0, 0); OPEN], opened: 0 }
    }

    /// The moment at which something happens now, and how long after the latest event. Time must not run back.
    #[inline]
    pub(super) fn moment(&mut self, at: u64) -> (Moment, Gap) {
        self.pass(at);
        let moment = Moment { endpoint: self.endpoint, last: self.last, history: self.history };
        (moment, Gap::new(at.saturating_sub(self.since)))
    }

    /// Makes a call.
    #[inline]
    pub(super) fn take(&mut self, call: &Call) {
        self.pass(call.start);
        if call.start >= self.since {
            (self.since, self.last) = (call.start, Last::call_start(call.callee));
        }
        if call.end != OPEN_END {
            let at = self.opened.min(OPEN - 1);
            if let Some(open) = self.open.get_mut(at) {
                *open = (call.end, call.callee);
            }
            self.opened = at + 1;
        }
        // A sum does not depend on the order of calls that run side by side.
        self.history = self.history.wrapping_add(mix(u64::from(call.callee), 5));
    }

    /// Begins a call of which nobody knows yet when it ends.
    pub(super) fn begin(&mut self, callee: u32, at: u64) {
        if at >= self.since {
            (self.since, self.last) = (at, Last::call_start(callee));
        }
        self.history = self.history.wrapping_add(mix(u64::from(callee), 5));
    }

    /// Such a call ends.
    pub(super) fn end(&mut self, callee: u32, at: u64) {
        if at >= self.since {
            (self.since, self.last) = (at, Last::call_end(callee));
        }
    }

    #[inline]
    fn pass(&mut self, at: u64) {
        let mut n = 0;
        while n < self.opened {
            let Some(&(end, callee)) = self.open.get(n) else { return };
            if end <= at.saturating_add(SLACK) {
                if end >= self.since {
                    (self.since, self.last) = (end, Last::call_end(callee));
                }
                self.opened -= 1;
                self.open.swap(n, self.opened);
            } else {
                n += 1;
            }
        }
    }
}

/// Walks through what a handler does when it makes these calls, in order of their start: each call and the end.
pub(super) fn follow(batch: &Batch, handler: usize, calls: &[u32], mut visit: impl FnMut(Moment, Gap, u32)) {
    let Some(of) = batch.handlers.get(handler) else { return };
    let mut path = Path::new(of.start, of.endpoint);
    for call in calls.iter().filter_map(|&n| batch.calls.get(n as usize)) {
        let (moment, gap) = path.moment(call.start);
        visit(moment, gap, call.callee);
        path.take(call);
    }
    if of.end != OPEN_END {
        let (moment, gap) = path.moment(of.end);
        visit(moment, gap, END);
    }
}
