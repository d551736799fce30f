//! How long the calls of late took: enough for a p99 as evidence, in a few hundred bytes. Reports carry the exact ones.

use std::time::Duration;

use tokio::time::Instant;

/// The durations of this window and of the one before.
#[derive(Debug)]
pub(super) struct Durations {
    counts: [[u32; BUCKETS]; 2],
    window: Duration,
    /// When they move on.
    rotate_at: Instant,
}

impl Durations {
    pub(super) fn new(window: Duration, now: Instant) -> Self {
        Self { counts: [[0; BUCKETS]; 2], window, rotate_at: now + window }
    }

    pub(super) fn add(&mut self, took: Duration, now: Instant) {
        if now >= self.rotate_at {
            // What is older than the window before is over as well.
            let gap = now.saturating_duration_since(self.rotate_at) >= self.window;
            self.counts.swap(0, 1);
            self.counts = match (gap, self.counts) {
                (true, _) => [[0; BUCKETS]; 2],
                (false, [_, before]) => [[0; BUCKETS], before],
            };
            self.rotate_at = now + self.window;
        }
        if let Some(count) = self.counts.first_mut().and_then(|counts| counts.get_mut(bucket(took))) {
            *count = count.saturating_add(1);
        }
    }

    /// The duration that 99 of 100 do not exceed, within a tenth; none where there were no calls.
    pub(super) fn p99(&self) -> Option<Duration> {
        let [current, before] = &self.counts;
        let both = || current.iter().zip(before).map(|(one, other)| u64::from(*one) + u64::from(*other));
        let all: u64 = both().sum();
        let mut left = all - all / 100;
        let found = both().position(|count| {
            left = left.saturating_sub(count);
            left == 0
        });
        // The middle of its bucket.
        let at = |index: usize| 2f64.powf((index as f64 - 0.5) / PER_OCTAVE) * SHORTEST;
        found.filter(|_| all > 0).map(|index| Duration::from_secs_f64(at(index)))
    }
}

/// Bucket 0 holds what takes no longer than the shortest; the last one everything beyond its lower bound.
fn bucket(took: Duration) -> usize {
    let above = (took.as_secs_f64() / SHORTEST).log2() * PER_OCTAVE;
    if above <= 0.0 { 0 } else { (above.ceil() as usize).min(BUCKETS - 1) }
}

/// Buckets per power of two: each is 19 % wide.
const PER_OCTAVE: f64 = 4.0;
/// Seconds: 61 µs.
const SHORTEST: f64 = 1.0 / 16_384.0;
/// Up to four minutes.
const BUCKETS: usize = 4 * 22 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn the_p99_is_within_a_tenth_of_what_it_is() {
        let now = Instant::now();
        for micros in [100_u64, 812, 5_000, 33_333, 812_400, 20_000_000, 200_000_000] {
            let mut durations = Durations::new(WINDOW, now);
            (0..980).for_each(|_| durations.add(Duration::from_micros(micros / 3), now));
            (0..20).for_each(|_| durations.add(Duration::from_micros(micros), now));
            let p99 = durations.p99().unwrap().as_secs_f64() * 1e6;
            assert!((p99 / micros as f64 - 1.0).abs() <= 0.1, "{micros} µs: {p99}");
        }
        assert_eq!(Durations::new(WINDOW, now).p99(), None);
    }

    #[test]
    fn what_is_older_than_two_windows_is_forgotten() {
        let now = Instant::now();
        let mut durations = Durations::new(WINDOW, now);
        durations.add(Duration::from_secs(1), now);
        durations.add(Duration::from_millis(1), now + WINDOW);
        assert!(durations.p99().unwrap() > Duration::from_millis(900));
        durations.add(Duration::from_millis(1), now + 2 * WINDOW);
        assert!(durations.p99().unwrap() < Duration::from_millis(2));
        durations.add(Duration::from_secs(1), now + 2 * WINDOW);
        durations.add(Duration::from_millis(1), now + 20 * WINDOW);
        assert!(durations.p99().unwrap() < Duration::from_millis(2), "after a long silence");
    }
}
