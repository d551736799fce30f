//! Small whole numbers (calls, depths, services per handling) as a distribution: exact up to 63, within 3 % above.

use serde::Serialize;

/// Values up to this one are kept exactly.
const EXACT: u32 = 63;
/// Values that are kept at most.
const MOST: usize = 64 + 26 * 32;

/// A distribution of whole numbers. Bounded: at most 64 exact values and 32 per power of two above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// (value, how often), ascending by value.
    values: Vec<(u32, u64)>,
    count: u64,
    sum: u64,
    max: u32,
}

/// Quantiles of [`Counts`], for people to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CountQuantiles {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u32,
    /// 95th percentile.
    pub p95: u32,
    /// Largest.
    pub max: u32,
}

impl Counts {
    /// Records one value.
    pub fn record(&mut self, value: u32) {
        self.record_many(value, 1);
    }

    /// Records one value `times` times.
    pub fn record_many(&mut self, value: u32, times: u64) {
        if times > 0 {
            self.add(rounded(value), times);
            self.sum = self.sum.saturating_add(u64::from(value).saturating_mul(times));
            self.max = self.max.max(value);
        }
    }

    /// Adds all values of `other`; exact.
    pub fn merge(&mut self, other: &Self) {
        for (value, times) in other.iter() {
            self.add(value, times);
        }
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// Adds all values of `other`; where there are none yet, they are taken over.
    pub fn absorb(&mut self, other: Self) {
        if self.count == 0 { *self = other } else { self.merge(&other) }
    }

    /// Rebuilds a distribution from what came over a wire; values are rounded and sorted again.
    #[must_use]
    pub fn from_parts(values: impl IntoIterator<Item = (u32, u64)>, sum: u64, max: u32) -> Self {
        let mut counts = Self::default();
        let values = values.into_iter();
        counts.values.reserve_exact(values.size_hint().0.min(MOST));
        for (value, times) in values {
            if times > 0 {
                counts.add(rounded(value), times);
            }
        }
        if counts.count > 0 {
            (counts.sum, counts.max) = (sum, max.max(counts.values.last().map_or(0, |(value, _)| *value)));
        }
        counts
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all values; exact, also above 63.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Largest value; exact.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Mean; 0 where there is no value.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The values with how often they came, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.values.iter().copied()
    }

    /// The `q`-quantile; 0 where there is no value.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u32 {
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0);
        let mut seen = 0.0;
        for (value, times) in self.iter() {
            seen += times as f64;
            if seen >= rank {
                return value;
            }
        }
        self.max
    }

    /// How many values are `bound` or more.
    #[must_use]
    pub fn at_least(&self, bound: u32) -> u64 {
        self.iter().filter(|(value, _)| *value >= bound).fold(0, |sum, (_, times)| sum.saturating_add(times))
    }

    /// The figures that people read.
    #[must_use]
    pub fn quantiles(&self) -> CountQuantiles {
        CountQuantiles { mean: self.mean(), p50: self.quantile(0.50), p95: self.quantile(0.95), max: self.max }
    }

    fn add(&mut self, value: u32, times: u64) {
        self.count = self.count.saturating_add(times);
        self.max = self.max.max(value);
        if self.values.last().is_some_and(|(last, _)| *last < value) {
            self.values.push((value, times));
            return;
        }
        match self.values.binary_search_by_key(&value, |(value, _)| *value) {
            Ok(at) => {
                if let Some((_, n)) = self.values.get_mut(at) {
                    *n = n.saturating_add(times);
                }
            }
            Err(at) => {
                if self.values.is_empty() {
                    // Most have one value, and there are five of them for each of thousands of paths.
                    self.values.reserve_exact(1);
                }
                self.values.insert(at, (value, times));
            }
        }
    }
}

/// Keeps the six leading bits of a value above [`EXACT`], rounding down.
fn rounded(value: u32) -> u32 {
    if value <= EXACT {
        return value;
    }
    let dropped = 26 - value.leading_zeros();
    value >> dropped << dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_up_to_63_are_exact() {
        let mut counts = Counts::default();
        for value in 0..=63 {
            counts.record(value);
        }
        assert_eq!(counts.iter().collect::<Vec<_>>(), (0..=63).map(|value| (value, 1)).collect::<Vec<_>>());
        assert_eq!(counts.quantile(0.5), 31);
        assert_eq!(counts.at_least(60), 4);
    }

    proptest! {
        #[test]
        fn larger_values_are_kept_within_three_and_a_half_percent_and_never_above(value in 64u32..) {
            let kept = rounded(value);
            prop_assert!(kept <= value);
            prop_assert!(f64::from(value - kept) / f64::from(value) < 0.032);
        }

        #[test]
        fn merging_is_recording_all(a in prop::collection::vec(any::<u32>(), 0..50), b in prop::collection::vec(any::<u32>(), 0..50)) {
            let of = |values: &[u32]| { let mut c = Counts::default(); for v in values { c.record(*v); } c };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }

        #[test]
        fn the_number_of_kept_values_is_bounded(values in prop::collection::vec(any::<u32>(), 0..3000)) {
            let mut counts = Counts::default();
            for value in values { counts.record(value); }
            prop_assert!(counts.iter().count() <= MOST);
        }
    }
}
