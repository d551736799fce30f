//! The record of a change of a breaker's state, with its evidence: a log line, an entry of `/breakers`, an event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use couplet_config::BreakerMode;
use parking_lot::Mutex;

use super::breaker::{Cause, Change, Forced, Stands};

/// One change of state.
#[derive(Debug, Clone)]
pub(crate) struct Transition {
    pub(crate) at: SystemTime,
    /// Counts the changes of all breakers of this proxy, from 1.
    pub(crate) number: u64,
    pub(crate) from: Arc<str>,
    pub(crate) to: Arc<str>,
    pub(crate) mode: BreakerMode,
    pub(crate) change: Change,
    /// The rule that asks for the change, in words.
    pub(crate) rule: Option<String>,
    pub(crate) in_flight: u64,
    /// Of the calls of the last one or two windows.
    pub(crate) p99: Option<Duration>,
    pub(crate) causes: Vec<Cause>,
    pub(crate) forced: Option<Forced>,
    /// Hash of the rules in force.
    pub(crate) config: u64,
}

/// The last changes.
#[derive(Default)]
pub(crate) struct Transitions(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    last: VecDeque<Arc<Transition>>,
    count: u64,
}

impl Transitions {
    /// Keeps and logs it.
    pub(crate) fn add(&self, mut transition: Transition) {
        let mut kept = self.0.lock();
        kept.count += 1;
        transition.number = kept.count;
        let transition = Arc::new(transition);
        if kept.last.len() >= KEPT {
            kept.last.pop_front();
        }
        kept.last.push_back(Arc::clone(&transition));
        drop(kept);
        transition.log();
    }

    /// The last ones, the newest first, and how many there were in all.
    pub(crate) fn last(&self) -> (Vec<Arc<Transition>>, u64) {
        let kept = self.0.lock();
        (kept.last.iter().rev().cloned().collect(), kept.count)
    }
}

/// Changes that are kept.
const KEPT: usize = 256;

impl Transition {
    /// What an operator reads at night: what happened to whom, why, and whether anything is stopped now.
    fn log(&self) {
        let change = &self.change;
        let edge = format!("{}>{}", self.from, self.to);
        let (state, before, reason) = (change.to.as_str(), change.from.as_str(), change.reason.as_str());
        let open_for = change.open_for.map_or(0, |time| time.as_millis());
        let causes: Vec<String> =
            self.causes.iter().take(3).map(|cause| format!("{}×{}", cause.count, cause.what)).collect();
        let causes = causes.join(" ");
        let counts = &change.counts;
        let by = self.forced.as_ref().map_or("", |forced| forced.by.as_str());
        match change.to {
            Stands::Open | Stands::ForcedOpen => tracing::warn!(
                edge,
                state,
                before,
                reason,
                stops = self.stops(),
                epoch = change.epoch,
                open_for_ms = open_for,
                attempt = change.attempt,
                total = counts.total,
                failed = counts.failed,
                throttled = counts.throttled,
                no_connection = counts.local,
                slow = counts.slow,
                in_flight = self.in_flight,
                causes,
                by,
                "breaker opened"
            ),
            _ => tracing::info!(edge, state, before, reason, epoch = change.epoch, by, "breaker changed"),
        }
    }

    /// Whether calls really are stopped, or it is only said that they would be.
    pub(crate) fn stops(&self) -> bool {
        self.mode == BreakerMode::Enforce || self.change.to == Stands::ForcedOpen
    }
}
