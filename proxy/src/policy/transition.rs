//! The last changes of state of all breakers, each kept and logged with its evidence.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use couplet_telemetry::breaker::{Observed, Transition};
use parking_lot::Mutex;

/// The last changes.
#[derive(Default)]
pub(crate) struct Transitions {
    last: Mutex<VecDeque<Arc<Transition>>>,
    count: AtomicU64,
}

impl Transitions {
    /// The number of the next change, from 1.
    pub(crate) fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps and logs it.
    pub(crate) fn add(&self, transition: Arc<Transition>) {
        log(&transition);
        let mut last = self.last.lock();
        if last.len() >= KEPT {
            last.pop_front();
        }
        last.push_back(transition);
    }

    /// The last ones, the newest first, and how many there were in all.
    pub(crate) fn last(&self) -> (Vec<Arc<Transition>>, u64) {
        let last = self.last.lock().iter().rev().cloned().collect();
        (last, self.count.load(Ordering::Relaxed))
    }
}

/// Changes that are kept.
const KEPT: usize = 256;

/// What an operator reads at night: what happened to whom, why, and whether anything is stopped now.
fn log(change: &Transition) {
    let causes = change.causes.iter().take(3).map(|cause| format!("{}×{}", cause.n, cause.class));
    let causes = causes.collect::<Vec<_>>().join(" ");
    let Transition { edge, from, to, reason, stops, epoch, attempt, observed, .. } = change;
    let by = change.by.as_deref().unwrap_or_default();
    let opens = matches!(to.as_str(), "open" | "forced_open");
    if !opens {
        tracing::info!(edge, from, to, reason, epoch, by, "breaker changed");
        return;
    }
    let open_for_ms = change.open_for_ms.unwrap_or(0);
    let Observed { total, failed, throttled, no_connection, slow, in_flight, .. } = *observed;
    macro_rules! opened {
        ($level:ident, $($more:ident,)? $text:literal) => {
            tracing::$level!(
                edge, from, to, reason, epoch, attempt, open_for_ms, total, failed, throttled, no_connection, slow,
                in_flight, causes, $($more,)? $text
            )
        };
    }
    // What stops nothing wakes up nobody.
    match stops {
        true => opened!(warn, by, "breaker opened: calls are stopped"),
        false => opened!(info, "breaker would open: nothing is stopped"),
    }
}
