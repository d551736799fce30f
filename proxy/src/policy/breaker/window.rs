//! What came of the calls of the last seconds: ten exact buckets, so that a burst counts in full until it is over.

use std::time::Duration;

use tokio::time::Instant;

/// Calls within a window, by what they count as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// All of them.
    pub(crate) total: u32,
    /// The destination failed.
    pub(crate) failed: u32,
    /// The destination said that it is too much.
    pub(crate) throttled: u32,
    /// No connection could be made.
    pub(crate) local: u32,
    /// Took longer than what is slow. These are among the others.
    pub(crate) slow: u32,
}

impl Counts {
    /// The share of all that was no success, 0 to 1.
    pub(crate) fn failure_rate(&self) -> f64 {
        self.share(self.failed + self.throttled + self.local)
    }

    /// The share of all that was slow, 0 to 1.
    pub(crate) fn slow_rate(&self) -> f64 {
        self.share(self.slow)
    }

    fn share(&self, part: u32) -> f64 {
        if self.total == 0 { 0.0 } else { f64::from(part) / f64::from(self.total) }
    }

    fn add(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        self.failed = self.failed.saturating_add(other.failed);
        self.throttled = self.throttled.saturating_add(other.throttled);
        self.local = self.local.saturating_add(other.local);
        self.slow = self.slow.saturating_add(other.slow);
    }

    fn take_off(&mut self, other: &Self) {
        self.total = self.total.saturating_sub(other.total);
        self.failed = self.failed.saturating_sub(other.failed);
        self.throttled = self.throttled.saturating_sub(other.throttled);
        self.local = self.local.saturating_sub(other.local);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

/// The calls of the last `BUCKETS` times `width`.
#[derive(Debug)]
pub(super) struct Window {
    /// When bucket 0 began for the first time.
    origin: Instant,
    width: Duration,
    /// How many buckets have begun since then.
    begun: u64,
    buckets: [Counts; BUCKETS],
    sum: Counts,
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let width = (length / BUCKETS as u32).max(Duration::from_millis(1));
        Self { origin: now, width, begun: 0, buckets: [Counts::default(); BUCKETS], sum: Counts::default() }
    }

    pub(super) fn add(&mut self, counts: &Counts, now: Instant) {
        self.advance(now);
        if let Some(bucket) = self.buckets.get_mut((self.begun % BUCKETS as u64) as usize) {
            bucket.add(counts);
            self.sum.add(counts);
        }
    }

    pub(super) fn sum(&mut self, now: Instant) -> Counts {
        self.advance(now);
        self.sum
    }

    /// Forgets what is over. A moment before the last one (another thread's) belongs to the last one.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.origin).as_nanos() / self.width.as_nanos();
        let target = u64::try_from(passed).unwrap_or(u64::MAX);
        if target.saturating_sub(self.begun) >= BUCKETS as u64 {
            (self.buckets, self.sum) = ([Counts::default(); BUCKETS], Counts::default());
            self.begun = target;
        }
        while self.begun < target {
            self.begun += 1;
            if let Some(bucket) = self.buckets.get_mut((self.begun % BUCKETS as u64) as usize) {
                self.sum.take_off(&std::mem::take(bucket));
            }
        }
    }
}

const BUCKETS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Counts = Counts { total: 1, failed: 1, throttled: 0, local: 0, slow: 0 };

    #[test]
    fn a_burst_counts_in_full_until_it_is_over() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut window = Window::new(Duration::from_secs(10), start);
        for n in 0..5 {
            window.add(&FAILED, at(0.1 * f64::from(n)));
        }
        assert_eq!(window.sum(at(9.99)).failed, 5);
        assert_eq!(window.sum(at(10.0)), Counts::default());
        window.add(&FAILED, at(1_000_000.0));
        assert_eq!(window.sum(at(1_000_001.0)).total, 1);
    }

    #[test]
    fn a_moment_before_the_last_one_counts_now() {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_secs(10), start);
        window.add(&FAILED, start + Duration::from_secs(7));
        window.add(&FAILED, start);
        assert_eq!(window.sum(start + Duration::from_secs(16)).total, 2);
        assert_eq!(window.sum(start + Duration::from_secs(17)).total, 0);
    }

    proptest::proptest! {
        #[test]
        fn the_sum_is_what_the_buckets_hold(steps in proptest::collection::vec((0u64..4_000, 0u32..3), 1..200)) {
            let start = Instant::now();
            let mut window = Window::new(Duration::from_secs(10), start);
            let mut now = start;
            let mut added: Vec<(Instant, u32)> = Vec::new();
            for (millis, total) in steps {
                now += Duration::from_millis(millis);
                window.add(&Counts { total, ..Counts::default() }, now);
                added.push((now, total));
                // A bucket is as a whole within the window, or not.
                let second = |at: &Instant| at.duration_since(start).as_secs();
                let within = added.iter().filter(|(at, _)| second(&now) - second(at) < 10);
                proptest::prop_assert_eq!(window.sum(now).total, within.map(|(_, total)| total).sum::<u32>());
            }
        }
    }
}
