//! How much times vary, and how much they would after a cut: what its 95th percentile rests on.
//!
//! The time that a handling waits for one callee is a sum of a number of calls, each of its own duration, all taken to be
//! independent: mean E\[K\]·E\[D\], variance E\[K\]·Var\[D\] + Var\[K\]·E\[D\]². What a cut changes of that goes up to the
//! root, call by call. Quantiles then move as those of a distribution that is moved and stretched.

use std::collections::HashMap;

use couplet_telemetry::counts::Counts;
use couplet_telemetry::histogram::Histogram;

use crate::coupling::flow::{Flow, Node};
use crate::graph::{ServiceIx, Snapshot};

/// What varies in the calls between two services.
#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    /// Variance of a call's duration ÷ the square of its mean.
    duration: f64,
    /// Mean square of the calls of a handling that makes any ÷ the square of their mean.
    number: f64,
}

/// What varies in all calls of a snapshot.
#[derive(Debug)]
pub(super) struct Spread {
    calls: HashMap<(ServiceIx, ServiceIx), Calls>,
}

/// Mean and variance of a time; nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

impl Spread {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let calls = |edge: &crate::graph::Edge| {
            let mut number = Counts::default();
            edge.pairs.iter().for_each(|pair| number.merge(&snapshot[*pair].client.per_handling()));
            let duration = moments(&edge.duration());
            let square = |mean: f64| if mean > 0.0 { mean * mean } else { 1.0 };
            let calls = Calls {
                duration: duration.variance / square(duration.mean),
                number: mean_square(&number) / square(number.mean()),
            };
            ((edge.source, edge.destination), calls)
        };
        Self { calls: snapshot.edges().iter().map(calls).collect() }
    }

    /// By how much the variance of the entry's requests changes between two flows of the same nodes. None where calls are no
    /// longer waited for at all: what is then left of a sum is better known from the sum itself than from its parts.
    pub(super) fn change(&self, before: &Flow, after: &Flow) -> Option<f64> {
        let mut changes = vec![0.0; before.nodes.len()];
        // Children come after their parents: from the end, each is complete before it counts above.
        for (at, (old, new)) in before.nodes.iter().zip(&after.nodes).enumerate().rev() {
            let (Some(parent), Some(was), Some(is)) = (old.parent, before.parent(old), after.parent(new)) else {
                continue;
            };
            if new.waited() <= 0.0 && old.waited() > 0.0 {
                return None;
            }
            let own = changes.get(at).copied().unwrap_or(0.0);
            let waited = self.waited(was, old, was, old, 0.0);
            let waits = self.waited(is, new, was, old, own);
            if let Some(slot) = changes.get_mut(parent) {
                *slot += waits.variance * overlap(is).powi(2) - waited.variance * overlap(was).powi(2);
            }
        }
        changes.first().copied()
    }

    /// The longest of the waits of one handling for each of its callees, if it waited for all of them at once.
    pub(super) fn longest(&self, flow: &Flow, at: usize) -> Option<f64> {
        let above = flow.nodes.get(at)?;
        let children = flow.nodes.iter().filter(|node| node.parent == Some(at));
        let waits = children.map(|node| self.waited(above, node, above, node, 0.0));
        waits.reduce(Moments::longer).map(|longest| longest.mean)
    }

    /// What a handling of `above` waits for all its calls of `node`. `was_above` and `was`: the same as recorded.
    /// `changed`: by how much the variance of one call is another one.
    fn waited(&self, above: &Node, node: &Node, was_above: &Node, was: &Node, changed: f64) -> Moments {
        let spread = self.calls.get(&(was_above.service, was.service)).copied().unwrap_or_default();
        let one = |node: &Node| if node.calls == 0 { 0.0 } else { node.call_nanos as f64 / node.calls as f64 };
        let per = |count: f64, above: &Node| count / (handlings(above).max(1) as f64);
        let (recorded, now) = (one(was), one(node));
        let number = per(was.calls as f64 * was.waited(), was_above);
        let users = per(was.users as f64, was_above).min(1.0);
        // Of the handlings that call, each makes so many calls.
        let each = if users > 0.0 { number / users } else { 0.0 };
        let varies = (users * each * each * spread.number - number * number).max(0.0);
        let left = per(node.calls as f64 * node.waited(), above);
        if left <= 0.0 {
            return Moments::default();
        }
        let kept = if number > 0.0 { (left / number).min(1.0) } else { 1.0 };
        let still = per(node.users as f64, above).min(1.0);
        let varies = if kept < 1.0 && still >= users * (1.0 - ABOUT) {
            // As many handlings call as before, each less often: once.
            still * (1.0 - still)
        } else {
            // Each call is made or not, by chance.
            kept * kept * varies + kept * (1.0 - kept) * number
        };
        let variance = (spread.duration * recorded * recorded + changed).max(0.0);
        Moments { mean: left * now, variance: left * variance + varies * now * now }
    }
}

/// Counts are rounded where a cut takes a share of them.
const ABOUT: f64 = 0.01;

impl Moments {
    /// The longer of two times. Clark, "The greatest of a finite set of random variables", Operations Research 9 (1961): exact
    /// for normal ones.
    pub(super) fn longer(self, other: Self) -> Self {
        let theta = (self.variance + other.variance).sqrt();
        if theta <= 0.0 {
            return if self.mean >= other.mean { self } else { other };
        }
        let alpha = (self.mean - other.mean) / theta;
        let (below, above) = (normal(alpha), normal(-alpha));
        let density = (-alpha * alpha / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let mean = self.mean * below + other.mean * above + theta * density;
        let square = |of: Self| of.mean * of.mean + of.variance;
        let squares = square(self) * below + square(other) * above + (self.mean + other.mean) * theta * density;
        Self { mean, variance: (squares - mean * mean).max(0.0) }
    }
}

/// Mean and variance of a histogram, from the middles of its buckets.
pub(super) fn moments(histogram: &Histogram) -> Moments {
    let n = histogram.count().max(1) as f64;
    let middle = |index: i32| couplet_telemetry::histogram::upper_bound(index) * 1e9 * 2_f64.powf(-1.0 / 16.0);
    let (sum, squares) = histogram.buckets().fold((0.0, 0.0), |(sum, squares), (index, count)| {
        let (middle, count) = (middle(index), count as f64);
        (sum + count * middle, squares + count * middle * middle)
    });
    let mean = sum / n;
    Moments { mean: histogram.mean(), variance: (squares / n - mean * mean).max(0.0) }
}

fn mean_square(counts: &Counts) -> f64 {
    let squares: f64 = counts.iter().map(|(value, times)| f64::from(value).powi(2) * times as f64).sum();
    squares / counts.count().max(1) as f64
}

/// How much of the time of its calls a node waits: less than all of it where they overlap.
fn overlap(node: &Node) -> f64 {
    if node.busy == 0 { 1.0 } else { (node.blocked as f64 / node.busy as f64).min(1.0) }
}

fn handlings(node: &Node) -> u64 {
    if node.handlings == 0 { node.calls } else { node.handlings }
}

/// The normal distribution function, within 1e-7. Abramowitz, Stegun, 7.1.26.
fn normal(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let terms = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let upper = 0.5 * sum * (-z * z).exp();
    if x >= 0.0 { 1.0 - upper } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_two_equal_times_is_longer_than_either() {
        let one = Moments { mean: 10.0, variance: 4.0 };
        let longer = one.longer(one);
        // E max = μ + σ/√π, Var max = σ²(1 − 1/π).
        assert!((longer.mean - (10.0 + 2.0 / std::f64::consts::PI.sqrt())).abs() < 1e-5, "{longer:?}");
        assert!((longer.variance - 4.0 * (1.0 - 1.0 / std::f64::consts::PI)).abs() < 1e-4, "{longer:?}");
        let fixed = |mean| Moments { mean, variance: 0.0 };
        assert_eq!((fixed(3.0).longer(fixed(5.0)), fixed(5.0).longer(fixed(3.0))), (fixed(5.0), fixed(5.0)));
        assert!((fixed(100.0).longer(one).mean - 100.0).abs() < 1e-6);
    }

    #[test]
    fn moments_are_those_of_the_recorded_values() {
        let mut histogram = Histogram::default();
        for n in 0..1_000_u64 {
            histogram.record(1_000_000 + n * 9_000);
        }
        let Moments { mean, variance } = moments(&histogram);
        let (true_mean, true_deviation) = (1e6 + 999.0 * 9_000.0 / 2.0, 9_000.0 * 1_000.0 / 12_f64.sqrt());
        assert!((mean / true_mean - 1.0).abs() < 1e-9 && (variance.sqrt() / true_deviation - 1.0).abs() < 0.03);
    }
}
