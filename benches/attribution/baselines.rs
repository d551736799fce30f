//! Simple ways to link calls, to see what the estimator is worth.

use std::collections::HashSet;

use crate::traces::{Call, Traffic};

/// Calls linked rightly by taking, of all handlers around the call, the one that started last.
pub(crate) fn nearest_parent(traffic: &Traffic) -> usize {
    let right = |call: &&Call| {
        let last = around(traffic, call).next_back();
        last.is_some_and(|n| traffic.handlers[n].identity == call.handler)
    };
    traffic.calls.iter().filter(right).count()
}

/// Calls linked rightly by taking the earliest handler around the call that has not called this callee yet.
pub(crate) fn first_in_first_out(traffic: &Traffic) -> usize {
    let mut taken = HashSet::new();
    let mut right = 0;
    for call in &traffic.calls {
        let free = around(traffic, call).find(|&n| !taken.contains(&(n, call.callee)));
        if let Some(n) = free.or_else(|| around(traffic, call).next()) {
            taken.insert((n, call.callee));
            right += usize::from(traffic.handlers[n].identity == call.handler);
        }
    }
    right
}

/// Handlers that were open from the start to the end of a call, in order of their start.
fn around<'a>(traffic: &'a Traffic, call: &'a Call) -> impl DoubleEndedIterator<Item = usize> + 'a {
    let upto = traffic.handlers.partition_point(|handler| handler.start <= call.start);
    (0..upto).filter(|&n| traffic.handlers[n].end >= call.end)
}
