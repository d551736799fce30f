//! How long answers took, in buckets that everybody may add to at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Times of one window.
pub(super) struct Times {
    buckets: Box<[AtomicU32; BUCKETS]>,
    count: AtomicU32,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: Box::new([const { AtomicU32::new(0) }; BUCKETS]), count: AtomicU32::new(0) }
    }
}

impl Times {
    /// One more; how many there are now.
    pub(super) fn add(&self, took: Duration) -> u32 {
        if let Some(bucket) = self.buckets.get(index(nanos(took))) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The median of all, which are gone then; none where there is none. What is added meanwhile may be lost or in the
    /// next window.
    pub(super) fn take_median(&self) -> Option<Duration> {
        self.count.store(0, Ordering::Relaxed);
        let taken: Vec<u64> = self.buckets.iter().map(|bucket| u64::from(bucket.swap(0, Ordering::Relaxed))).collect();
        let total: u64 = taken.iter().sum();
        let mut below = 0;
        for (index, count) in taken.into_iter().enumerate() {
            if count > 0 && (below + count) * 2 >= total {
                // As if they were spread evenly over their bucket.
                let share = (total as f64 / 2.0 - below as f64) / count as f64;
                let (from, to) = (lower(index) as f64, lower(index + 1) as f64);
                return Some(Duration::from_secs_f64((from + (to - from) * share) / 1e9));
            }
            below += count;
        }
        None
    }
}

/// Sixteen for each doubling, from a microsecond to two minutes; what is outside is in the first and in the last.
const BUCKETS: usize = ((LAST - FIRST) as usize + 1) * 16;
const FIRST: u32 = 10;
const LAST: u32 = 36;

fn index(nanos: u64) -> usize {
    let nanos = nanos.clamp(1 << FIRST, (1 << (LAST + 1)) - 1);
    let doubling = nanos.ilog2();
    ((doubling - FIRST) as usize) * 16 + ((nanos >> (doubling - 4)) & 15) as usize
}

/// Where a bucket begins, nanoseconds.
fn lower(index: usize) -> u64 {
    let doubling = FIRST as usize + index / 16;
    (16 + index as u64 % 16) << (doubling - 4)
}

/// Whole nanoseconds, as counts take them.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_its_bucket() {
        for nanos in [1 << 10, 1_500, 1_000_000, 999_999_999, (1 << 37) - 1] {
            let index = index(nanos);
            assert!((lower(index)..lower(index + 1)).contains(&nanos), "{nanos} in {index}");
        }
        assert_eq!((index(0), index(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn the_median_is_right_within_a_few_percent_and_then_gone() {
        let times = Times::default();
        assert_eq!(times.take_median(), None);
        for millis in 1..=99 {
            assert_eq!(times.add(Duration::from_millis(millis)), millis as u32);
        }
        let median = times.take_median().unwrap().as_secs_f64();
        assert!((median - 0.05).abs() < 0.002, "{median}");
        assert_eq!(times.take_median(), None);
        times.add(Duration::ZERO);
        assert!(times.take_median().unwrap() < Duration::from_micros(2));
    }
}
