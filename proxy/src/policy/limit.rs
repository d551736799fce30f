//! How many of one kind there may be at the same time: calls under way, connections, calls that wait for one. A limit
//! rejects the one call that is too much, and changes no state.

use std::sync::atomic::{AtomicU64, Ordering};

use couplet_config::BreakerMode;

use crate::metrics::{Counter, Gauge};

/// One limit, and what it limits; read by every call, so without a lock.
pub(crate) struct Limit {
    /// The limit, doubled; one more where it is enforced. [`NONE`] where there is none.
    most: AtomicU64,
    now: Gauge,
    /// Calls that were rejected for it.
    pub(crate) rejected: Counter,
    /// Calls that would have been, but breakers only observe.
    pub(crate) would_reject: Counter,
}

impl Limit {
    pub(crate) fn new(most: Option<u32>, mode: BreakerMode) -> Self {
        let most = AtomicU64::new(packed(most, mode));
        Self { most, now: Gauge::default(), rejected: Counter::default(), would_reject: Counter::default() }
    }

    /// Another limit is in force.
    pub(crate) fn configure(&self, most: Option<u32>, mode: BreakerMode) {
        self.most.store(packed(most, mode), Ordering::Relaxed);
    }

    /// One more, and how many that makes; none where that is too much. It is no peak until it has been
    /// [`reached`](Self::reached), and has to [`leave`](Self::leave) in the end.
    pub(crate) fn enter(&self) -> Option<u64> {
        self.enter_beyond(0)
    }

    /// The same, for one of those that may be so many more.
    pub(crate) fn enter_beyond(&self, reserve: u64) -> Option<u64> {
        let now = self.now.up_for_now();
        let most = self.most.load(Ordering::Relaxed);
        if most == NONE || now <= most / 2 + reserve {
            return Some(now);
        }
        if most % 2 == 1 {
            self.now.down();
            return None;
        }
        self.would_reject.add(1);
        Some(now)
    }

    pub(crate) fn reached(&self, now: u64) {
        self.now.reached(now);
    }

    pub(crate) fn leave(&self) {
        self.now.down();
    }

    /// Whether one more would be let in just now.
    pub(crate) fn has_room(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        most == NONE || most.is_multiple_of(2) || self.now.get() < most / 2
    }

    pub(crate) fn get(&self) -> u64 {
        self.now.get()
    }

    pub(crate) fn peak(&self) -> u64 {
        self.now.peak()
    }
}

fn packed(most: Option<u32>, mode: BreakerMode) -> u64 {
    match (most, mode) {
        (None, _) | (_, BreakerMode::Off) => NONE,
        (Some(most), mode) => u64::from(most) * 2 + u64::from(mode == BreakerMode::Enforce),
    }
}

const NONE: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_beyond_the_limit_is_kept_out_where_it_is_enforced_and_counted_where_not() {
        let enforced = Limit::new(Some(2), BreakerMode::Enforce);
        assert_eq!([1, 2, 3].map(|_| enforced.enter()), [Some(1), Some(2), None]);
        assert!(!enforced.has_room());
        enforced.leave();
        assert!(enforced.has_room());
        assert_eq!((enforced.enter(), enforced.get(), enforced.would_reject.get()), (Some(2), 2, 0));
        let observed = Limit::new(Some(2), BreakerMode::Observe);
        assert_eq!([1, 2, 3].map(|_| observed.enter()), [Some(1), Some(2), Some(3)]);
        assert!(observed.has_room());
        assert_eq!(observed.would_reject.get(), 1);
        for none in [Limit::new(None, BreakerMode::Enforce), Limit::new(Some(2), BreakerMode::Off)] {
            assert!((1..100).all(|n| none.has_room() && none.enter() == Some(n)));
            assert_eq!(none.would_reject.get(), 0);
        }
    }

    #[test]
    fn who_was_kept_out_is_no_peak() {
        let limit = Limit::new(Some(1), BreakerMode::Enforce);
        for _ in 0..2 {
            if let Some(now) = limit.enter() {
                limit.reached(now);
            }
        }
        assert_eq!((limit.get(), limit.peak()), (1, 1));
        limit.configure(None, BreakerMode::Enforce);
        assert_eq!(limit.enter(), Some(2), "another limit is in force at once");
    }
}
