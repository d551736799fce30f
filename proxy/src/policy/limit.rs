//! How many calls to one destination may be under way at the same time. A limit rejects the one call that is too much, and
//! changes no state.

use std::sync::atomic::{AtomicU64, Ordering};

use couplet_config::{BreakerMode, BreakerSettings};

use crate::metrics::Counter;

/// The limit of one destination; read by every call, so without a lock.
pub(crate) struct Limit {
    /// The limit, doubled; one more where it is enforced. [`NONE`] where there is none.
    most: AtomicU64,
    /// Calls that were rejected for it.
    pub(crate) rejected: Counter,
    /// Calls that would have been, but breakers only observe.
    pub(crate) would_reject: Counter,
}

impl Limit {
    pub(crate) fn new(settings: &BreakerSettings) -> Self {
        let most = AtomicU64::new(packed(settings));
        Self { most, rejected: Counter::default(), would_reject: Counter::default() }
    }

    /// Another limit is in force.
    pub(crate) fn configure(&self, settings: &BreakerSettings) {
        self.most.store(packed(settings), Ordering::Relaxed);
    }

    /// Whether a call may pass with which so many are under way, itself included. Counts what the limit costs.
    pub(crate) fn allows(&self, under_way: u64) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        if most == NONE || under_way <= most / 2 {
            return true;
        }
        let enforced = most % 2 == 1;
        if enforced { &self.rejected } else { &self.would_reject }.add(1);
        !enforced
    }
}

fn packed(settings: &BreakerSettings) -> u64 {
    match (settings.max_in_flight, settings.mode) {
        (None, _) | (_, BreakerMode::Off) => NONE,
        (Some(most), mode) => u64::from(most) * 2 + u64::from(mode == BreakerMode::Enforce),
    }
}

const NONE: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(most: Option<u32>, mode: BreakerMode) -> Limit {
        Limit::new(&BreakerSettings { max_in_flight: most, mode, ..BreakerSettings::default() })
    }

    #[test]
    fn the_call_beyond_the_limit_is_rejected_where_it_is_enforced_and_counted_where_not() {
        let enforced = limit(Some(2), BreakerMode::Enforce);
        assert_eq!([1, 2, 3].map(|under_way| enforced.allows(under_way)), [true, true, false]);
        assert_eq!((enforced.rejected.get(), enforced.would_reject.get()), (1, 0));
        let observed = limit(Some(2), BreakerMode::Observe);
        assert!(observed.allows(3));
        assert_eq!((observed.rejected.get(), observed.would_reject.get()), (0, 1));
        for none in [limit(None, BreakerMode::Enforce), limit(Some(2), BreakerMode::Off)] {
            assert!(none.allows(1_000_000));
            assert_eq!((none.rejected.get(), none.would_reject.get()), (0, 0));
        }
    }
}
