//! λ: how likely a handling fails *because* a call of it failed.
//!
//! The attributable risk among the unexposed that are left: λ = (P(F|f) − P(F|¬f)) / (1 − P(F|¬f)), where F is "the
//! handling failed" and f "at least one of its calls to this callee failed". 1: it never copes; 0: a failed call changes
//! nothing.

use couplet_telemetry::report::Joint;

use super::interval::{Interval, jeffreys};

/// How failures of a callee reach its caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Propagation {
    /// λ, 0 to 1.
    pub share: f64,
    /// λ at the bounds of the 90 % interval of P(F|f).
    pub interval: Interval,
    /// P(F|f).
    pub given_failure: f64,
    /// P(F|¬f); 0 where every handling saw a failed call.
    pub base: f64,
    /// Handlings in which a call failed.
    pub failures: u64,
}

/// λ alone, without what it rests on: what is asked for thousands of times. None as below.
#[must_use]
pub fn share(joint: &Joint, min_failures: u64) -> Option<f64> {
    let (failed, base) = seen(joint, min_failures)?;
    Some(attributable(joint.both as f64 / failed as f64, base))
}

/// λ from a 2×2 table; none where fewer than `min_failures` handlings saw a failed call.
#[must_use]
pub fn propagation(joint: &Joint, min_failures: u64) -> Option<Propagation> {
    let (failed, base) = seen(joint, min_failures)?;
    let given_failure = joint.both as f64 / failed as f64;
    let Interval { low, high } = jeffreys(joint.both, failed);
    Some(Propagation {
        share: attributable(given_failure, base),
        interval: Interval { low: attributable(low, base), high: attributable(high, base) },
        given_failure,
        base,
        failures: failed,
    })
}

/// Handlings in which a call failed, and P(F|¬f); none where they are too few.
fn seen(joint: &Joint, min_failures: u64) -> Option<(u64, f64)> {
    let failed = joint.both.saturating_add(joint.call_only);
    let well = joint.neither.saturating_add(joint.handling_only);
    let base = if well == 0 { 0.0 } else { joint.handling_only as f64 / well as f64 };
    (failed >= min_failures.max(1)).then_some((failed, base))
}

fn attributable(given: f64, base: f64) -> f64 {
    if base >= 1.0 { 0.0 } else { ((given - base) / (1.0 - base)).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint(neither: u64, handling_only: u64, call_only: u64, both: u64) -> Joint {
        Joint { neither, handling_only, call_only, both }
    }

    #[test]
    fn a_caller_that_never_copes_has_one_and_one_that_always_does_has_none() {
        assert_eq!(propagation(&joint(100, 0, 0, 20), 20).map(|p| p.share), Some(1.0));
        assert_eq!(propagation(&joint(100, 0, 20, 0), 20).map(|p| p.share), Some(0.0));
    }

    #[test]
    fn handlings_that_fail_anyway_prove_nothing() {
        let seen = propagation(&joint(50, 50, 10, 10), 20).unwrap();
        assert_eq!((seen.share, seen.base, seen.given_failure), (0.0, 0.5, 0.5));
        assert!((propagation(&joint(50, 50, 5, 15), 20).unwrap().share - 0.5).abs() < 1e-12);
    }

    #[test]
    fn few_failures_say_nothing() {
        assert_eq!(propagation(&joint(100, 0, 0, 19), 20), None);
        assert_eq!(propagation(&joint(100, 0, 0, 0), 0), None);
    }
}
