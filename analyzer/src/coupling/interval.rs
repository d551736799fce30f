//! What a count says about a probability: intervals and the chance that it is beyond a bound.
//!
//! Jeffreys' prior throughout: k of n seen gives the distribution Beta(k + ½, n − k + ½). Source: Brown, Cai, DasGupta,
//! "Interval Estimation for a Binomial Proportion", 2001.

/// A share between two bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// The central 90 % interval of a probability of which `k` of `n` was seen. Without a trial, everything.
#[must_use]
pub fn jeffreys(k: u64, n: u64) -> Interval {
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (a, b) = parameters(k, n);
    // At the ends the interval reaches the end: nobody who saw no failure claims that there must be one.
    let low = if k == 0 { 0.0 } else { quantile(a, b, TAIL) };
    let high = if k >= n { 1.0 } else { quantile(a, b, 1.0 - TAIL) };
    Interval { low, high }
}

/// The probability that a share of which `k` of `n` was seen is larger than `bound`, 0 to 1; one half without a trial.
#[must_use]
pub fn beyond(k: u64, n: u64, bound: f64) -> f64 {
    if n == 0 {
        return 0.5;
    }
    let (a, b) = parameters(k, n);
    1.0 - cumulative(a, b, bound)
}

/// What is left out on each side of an interval.
const TAIL: f64 = 0.05;

/// Beyond a million trials the distribution is that of a million: wider than it could be, and as fast.
fn parameters(k: u64, n: u64) -> (f64, f64) {
    let k = k.min(n);
    let scale = (MOST_TRIALS / n as f64).min(1.0);
    (k as f64 * scale + 0.5, (n - k) as f64 * scale + 0.5)
}

const MOST_TRIALS: f64 = 1e6;

/// The value below which the share `p` of Beta(a, b) lies, by halving: 50 steps are exact to the last digit that counts.
fn quantile(a: f64, b: f64, p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if cumulative(a, b, middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The regularized incomplete beta function I_x(a, b), by the continued fraction DLMF 8.17.22 on the side where it
/// converges fast.
fn cumulative(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        (front * fraction(a, b, x) / a).clamp(0.0, 1.0)
    } else {
        (1.0 - front * fraction(b, a, 1.0 - x) / b).clamp(0.0, 1.0)
    }
}

/// Lentz' method. The number of steps grows with √max(a, b); beyond the bound the value is that of the last step.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for step in 1..=MOST_STEPS {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        value *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        value *= d * c;
        if (d * c - 1.0).abs() < 1e-12 {
            break;
        }
    }
    value
}

const TINY: f64 = 1e-300;
const MOST_STEPS: u32 = 10_000;

/// ln Γ by Stirling's series (DLMF 5.11.1), shifted to where five terms are exact to 12 digits.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 8.0 {
        shift += x.ln();
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = (1.0 / 12.0
        - square * (1.0 / 360.0 - square * (1.0 / 1_260.0 - square * (1.0 / 1_680.0 - square / 1_188.0))))
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn ln_gamma_is_that_of_the_tables() {
        for (x, expected) in [(0.5, 0.572_364_943), (1.0, 0.0), (5.0, 24.0_f64.ln()), (100.5, 361.435_540_467)] {
            assert!(close(ln_gamma(x), expected), "{x}: {} {expected}", ln_gamma(x));
        }
    }

    #[test]
    fn cumulative_is_exact_where_there_is_a_closed_form() {
        for x in [0.1, 0.5, 0.93] {
            assert!(close(cumulative(1.0, 1.0, x), x));
            assert!(close(cumulative(3.0, 1.0, x), x.powi(3)));
            assert!(close(cumulative(0.5, 0.5, x), x.sqrt().asin() * 2.0 / std::f64::consts::PI));
        }
    }

    #[test]
    fn an_interval_is_that_of_the_tables() {
        // R: qbeta(c(.05, .95), 10.5, 90.5)
        let Interval { low, high } = jeffreys(10, 100);
        assert!((low - 0.0596).abs() < 1e-3 && (high - 0.1575).abs() < 1e-3, "{low} {high}");
        assert_eq!(jeffreys(0, 0), Interval { low: 0.0, high: 1.0 });
        assert_eq!((jeffreys(0, 20).low, jeffreys(20, 20).high), (0.0, 1.0));
    }

    #[test]
    fn many_samples_make_sure_and_few_do_not() {
        assert!(beyond(60, 1_000, 0.05) > 0.9);
        assert!(beyond(6, 100, 0.05) < 0.75);
        assert!(beyond(1_000_000_000, 10_000_000_000, 0.05) > 0.999);
        assert!(close(beyond(0, 0, 0.3), 0.5));
    }

    proptest! {
        #[test]
        fn an_interval_contains_what_was_seen_and_shrinks(k in 0_u64..1_000, more in 1_u64..1_000) {
            let n = k + more;
            let share = k as f64 / n as f64;
            let few = jeffreys(k, n);
            prop_assert!(few.low <= share && share <= few.high, "{few:?} {share}");
            let many = jeffreys(k * 100, n * 100);
            prop_assert!(many.high - many.low <= few.high - few.low + 1e-9);
        }
    }
}
