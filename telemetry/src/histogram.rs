//! Durations as a base-2 exponential histogram of scale 3, the same in proxy, wire, analyzer and Prometheus.
//!
//! Definition: OpenTelemetry data model, "ExponentialHistogram". With scale 3 a bucket is 2^(1/8) ≈ 9 % wide; bucket
//! `i` holds the values in `(2^(i/8), 2^((i+1)/8)]` seconds. Merging two histograms is exact.

use serde::Serialize;

/// Buckets per power of two are `2^SCALE`.
pub const SCALE: i32 = 3;
/// Buckets per power of two.
const PER_OCTAVE: i32 = 1 << SCALE;
/// First and last bucket: about 1 ns and 18 hours. What lies outside is counted in the nearest bucket.
const LOWEST: i32 = -240;
const HIGHEST: i32 = 127;

/// Upper bounds of the first seven of the eight buckets of the octave (1, 2]: 2^(k/8).
#[expect(clippy::excessive_precision, reason = "the digits of the constants as they are defined")]
const OCTAVE: [f64; 7] = [
    1.090_507_732_665_257_659,
    1.189_207_115_002_721_067,
    1.296_839_554_651_009_666,
    std::f64::consts::SQRT_2,
    1.542_210_825_407_940_824,
    1.681_792_830_507_429_086,
    1.834_008_086_409_342_464,
];

/// A distribution of durations. Recorded in nanoseconds; bucket bounds are in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    count: u64,
    /// Nanoseconds; an integer, so that merging is exact in any order.
    sum: u64,
    min: u64,
    max: u64,
    zeros: u64,
    /// Index of the first bucket.
    offset: i32,
    buckets: Vec<u64>,
}

/// Count, mean and quantiles of a [`Histogram`], in seconds, for people to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many values.
    pub count: u64,
    /// Mean, seconds.
    pub mean: f64,
    /// Median, seconds.
    pub p50: f64,
    /// 95th percentile, seconds.
    pub p95: f64,
    /// 99th percentile, seconds.
    pub p99: f64,
    /// Largest value, seconds.
    pub max: f64,
}

impl Histogram {
    /// Records one duration.
    pub fn record(&mut self, nanos: u64) {
        self.min = if self.count == 0 { nanos } else { self.min.min(nanos) };
        self.max = self.max.max(nanos);
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(nanos);
        if nanos == 0 {
            self.zeros = self.zeros.saturating_add(1);
        } else {
            self.add_bucket(index(seconds(nanos)), 1);
        }
    }

    /// Adds all values of `other`; exact.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            // A copy has no spare room; hundreds of thousands of these are kept.
            *self = other.clone();
            return;
        }
        self.min = if self.count == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.zeros = self.zeros.saturating_add(other.zeros);
        for (index, count) in other.buckets() {
            self.add_bucket(index, count);
        }
    }

    /// Adds all values of `other`; where there are none yet, they are taken over.
    pub fn absorb(&mut self, other: Self) {
        if self.count == 0 { *self = other } else { self.merge(&other) }
    }

    /// Rebuilds a histogram from what came over a wire. `buckets` are counts from bucket `offset` upwards; `sum`,
    /// `min`, `max` in nanoseconds. The count is what the buckets and zeros add up to, whatever the sender claims.
    #[must_use]
    pub fn from_parts(zeros: u64, offset: i32, buckets: &[u64], sum: u64, min: u64, max: u64) -> Self {
        let mut histogram = Self { zeros, count: zeros, ..Self::default() };
        let filled = |count: &u64| *count > 0;
        let (first, last) = (buckets.iter().position(filled), buckets.iter().rposition(filled));
        let places = first.zip(last).and_then(|(first, last)| {
            let place = |position: usize| offset.checked_add(i32::try_from(position).ok()?);
            Some((place(first)?, place(last)?, buckets.get(first..=last)?))
        });
        match places {
            Some((lowest, highest, filled)) if lowest >= LOWEST && highest <= HIGHEST => {
                histogram.offset = lowest;
                histogram.buckets = filled.to_vec();
                histogram.count = filled.iter().fold(zeros, |sum, count| sum.saturating_add(*count));
            }
            // What lies outside is put together at the ends.
            _ => {
                for (position, count) in (0i32..).zip(buckets).filter(|(_, count)| **count > 0) {
                    histogram.add_bucket(offset.saturating_add(position), *count);
                    histogram.count = histogram.count.saturating_add(*count);
                }
                histogram.buckets.shrink_to_fit();
            }
        }
        if histogram.count > 0 {
            (histogram.sum, histogram.min, histogram.max) = (sum, min.min(max), max);
        }
        histogram
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all values, nanoseconds.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Smallest value, nanoseconds; 0 where there is none.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.min
    }

    /// Largest value, nanoseconds; 0 where there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many values were exactly zero.
    #[must_use]
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The buckets that hold something: index and count, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        (self.offset..).zip(self.buckets.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// Index of the first bucket and all counts from there, empty buckets included: the form of OTLP.
    #[must_use]
    pub fn dense(&self) -> (i32, &[u64]) {
        (self.offset, &self.buckets)
    }

    /// Mean, nanoseconds; 0 where there is no value.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The `q`-quantile in nanoseconds, within half a bucket (± 4.5 %) and never outside the observed range; 0 where
    /// there is no value.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0);
        let mut seen = self.zeros as f64;
        if seen >= rank {
            return 0.0;
        }
        for (index, count) in self.buckets() {
            seen += count as f64;
            if seen >= rank {
                let middle = 1e9 * ((f64::from(index) + 0.5) / f64::from(PER_OCTAVE)).exp2();
                return middle.clamp(self.min as f64, self.max as f64);
            }
        }
        self.max as f64
    }

    /// The figures that people read, in seconds.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.count,
            mean: self.mean() / 1e9,
            p50: self.quantile(0.50) / 1e9,
            p95: self.quantile(0.95) / 1e9,
            p99: self.quantile(0.99) / 1e9,
            max: seconds(self.max),
        }
    }

    /// How many values are at most `bound` seconds; a bucket that `bound` cuts is left out, so the figure never
    /// claims more than is certain. Bounds that are bucket bounds (powers of two) are exact.
    #[must_use]
    pub fn at_most(&self, bound: f64) -> u64 {
        let below = self.buckets().take_while(|(index, _)| upper_bound(*index) <= bound * (1.0 + 1e-12));
        below.fold(self.zeros, |sum, (_, count)| sum.saturating_add(count))
    }

    fn add_bucket(&mut self, index: i32, count: u64) {
        let index = index.clamp(LOWEST, HIGHEST);
        if self.buckets.is_empty() {
            self.offset = index;
        }
        if index < self.offset {
            let missing = (self.offset - index) as usize;
            self.buckets.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        }
        let position = (index - self.offset) as usize;
        if position >= self.buckets.len() {
            self.buckets.resize(position + 1, 0);
        }
        if let Some(slot) = self.buckets.get_mut(position) {
            *slot = slot.saturating_add(count);
        }
    }
}

/// Upper bound of a bucket, seconds.
#[must_use]
pub fn upper_bound(index: i32) -> f64 {
    (f64::from(index + 1) / f64::from(PER_OCTAVE)).exp2()
}

/// Nanoseconds as seconds.
#[must_use]
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The bucket of a positive number of seconds: its exponent from the bits, its place in the octave by comparison.
/// Exact at the bounds, and without a logarithm.
fn index(value: f64) -> i32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let first = exponent * PER_OCTAVE;
    if mantissa == 1.0 {
        return first - 1; // a power of two is the upper bound of the bucket below
    }
    first + OCTAVE.iter().filter(|bound| mantissa > **bound).count() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    #[test]
    fn what_came_over_a_wire_and_what_is_kept_of_it_have_no_spare_room() {
        let mut histogram = Histogram::default();
        (1..40).for_each(|n| histogram.record(n * n * 100_000));
        let (offset, buckets) = histogram.dense();
        let (padded, count) = ([&[0, 0], buckets, &[0]].concat(), buckets.len());
        let read = Histogram::from_parts(0, offset - 2, &padded, histogram.sum(), histogram.min(), histogram.max());
        let mut kept = Histogram::default();
        kept.merge(&read);
        assert_eq!((&read, &kept), (&histogram, &histogram));
        assert_eq!((read.buckets.capacity(), kept.buckets.capacity()), (count, count));
    }

    #[test]
    fn a_bucket_includes_its_upper_bound_and_not_its_lower() {
        assert_eq!(index(1.0), -1);
        assert_eq!(index(1.000_001), 0);
        assert_eq!(index(2.0), 7);
        assert_eq!(index(2.000_001), 8);
        assert_eq!(index(0.5), -9);
        assert_eq!(index(OCTAVE[3]), 3);
    }

    #[test]
    fn what_lies_outside_all_buckets_is_counted_in_the_nearest() {
        let histogram = of(&[u64::MAX, 1, 0]);
        assert_eq!(histogram.count(), 3);
        assert_eq!(histogram.buckets().map(|(_, n)| n).sum::<u64>() + histogram.zeros(), 3);
        assert!(histogram.dense().1.len() <= (HIGHEST - LOWEST + 1) as usize);
    }

    #[test]
    fn a_sender_that_lies_about_its_buckets_gets_a_bounded_histogram() {
        let histogram = Histogram::from_parts(0, i32::MAX, &[1, 2, 3], 10, 5, 1);
        assert_eq!(histogram.count(), 6);
        assert!(histogram.min() <= histogram.max());
        assert_eq!(histogram.buckets().count(), 1);
        let histogram = Histogram::from_parts(0, -1_000, &[1, 2, 3], 10, 1, 5);
        assert_eq!((histogram.count(), histogram.dense().0), (6, LOWEST));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_half_a_bucket(mut values in prop::collection::vec(1u64..10_000_000_000, 1..200), q in 0.0f64..1.0) {
            let histogram = of(&values);
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let truth = values[rank - 1] as f64;
            let ratio = histogram.quantile(q) / truth;
            prop_assert!((0.957..=1.045).contains(&ratio), "{ratio}");
        }

        #[test]
        fn merging_in_any_order_is_recording_all(a in prop::collection::vec(0u64..u64::MAX >> 20, 0..50), b in prop::collection::vec(0u64..u64::MAX >> 20, 0..50)) {
            let (mut ab, mut ba) = (of(&a), of(&b));
            ab.merge(&of(&b));
            ba.merge(&of(&a));
            let all = of(&[a, b].concat());
            prop_assert_eq!(ab.quantiles(), all.quantiles());
            prop_assert_eq!(ba.quantiles(), all.quantiles());
            prop_assert_eq!(ab.sum(), all.sum());
        }

        #[test]
        fn the_index_agrees_with_the_definition(nanos in 1u64..u64::MAX >> 10) {
            let value = seconds(nanos);
            let found = index(value);
            prop_assert!(value <= upper_bound(found) * (1.0 + 1e-12));
            prop_assert!(value > upper_bound(found - 1) * (1.0 - 1e-12));
        }
    }
}
