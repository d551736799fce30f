//! How long things take between two events, as a smoothed histogram of the logarithm that slowly forgets.

/// Width of a bin in natural logarithms.
pub(super) const WIDTH: f64 = 0.2;
/// Bins: up to `exp(26)` microseconds, beyond any timeout.
pub(super) const BINS: usize = 130;
/// The clock tick that gaps are measured in, in nanoseconds: shorter gaps are all alike.
const TICK: f32 = 1_000.0;
/// Mass that every bin has before anything was seen, and their sum.
const FLOOR: f64 = 0.02;
const FLOOR_TOTAL: f64 = 2.0;

/// Weights of gaps by the logarithm of their length.
#[derive(Debug, Clone)]
pub(super) struct Density {
    bins: Box<[f32; BINS]>,
    pub(super) total: f64,
}

/// A gap, prepared for look-up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) bin: usize,
    /// Logarithm of `1 + gap / tick`: what a density over the logarithm is larger by than one over time.
    pub(super) stretch: f64,
}

impl Gap {
    /// A gap of this many nanoseconds.
    pub(super) fn new(nanos: u64) -> Self {
        let stretch = logarithm(1.0 + nanos as f32 / TICK);
        Self { bin: ((stretch / WIDTH as f32) as usize + 1).min(BINS - 2), stretch: f64::from(stretch) }
    }
}

/// The natural logarithm of a number from 1 on, to within 0.0002: the exponent, and a polynomial over the mantissa fitted
/// by least squares that is exact at both ends. One is taken for every weighing of a call against a handler.
fn logarithm(number: f32) -> f32 {
    let bits = number.to_bits();
    let exponent = (bits >> 23) as f32 - 127.0;
    let mantissa = f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000) - 1.0;
    let bulge = mantissa * (1.0 - mantissa) * (0.438_07 - mantissa * (0.236_69 - mantissa * 0.080_31));
    (exponent + mantissa + bulge) * std::f32::consts::LN_2
}

impl Density {
    pub(super) fn new() -> Self {
        Self { bins: Box::new([0.0; BINS]), total: 0.0 }
    }

    /// Adds one gap with a weight, spread over the bins beside it.
    pub(super) fn add(&mut self, gap: Gap, weight: f64) {
        for (at, share) in [(gap.bin - 1, 0.25), (gap.bin, 0.5), (gap.bin + 1, 0.25)] {
            if let Some(bin) = self.bins.get_mut(at) {
                *bin += (weight * share) as f32;
            }
        }
        self.total += weight;
    }

    /// Mass of a bin as a share, where `unit` is the weight of one observation of today.
    pub(super) fn share(&self, bin: usize, unit: f64) -> f64 {
        let seen = self.bins.get(bin).copied().unwrap_or(0.0);
        (f64::from(seen) + FLOOR * unit) / (self.total + FLOOR_TOTAL * unit)
    }

    /// Multiplies everything that was seen.
    pub(super) fn scale(&mut self, by: f64) {
        self.bins.iter_mut().for_each(|bin| *bin *= by as f32);
        self.total *= by;
    }
}

/// Share of a bin when nothing at all is known.
pub(super) const UNKNOWN: f64 = FLOOR / FLOOR_TOTAL;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_logarithm_is_close_to_the_true_one() {
        let mut number = 1.0f32;
        while number < 1e15 {
            let (quick, exact) = (logarithm(number), number.ln());
            assert!((quick - exact).abs() < 2e-4 + exact * 1e-6, "{number}: {quick} for {exact}");
            number *= 1.013;
        }
    }

    #[test]
    fn the_longest_gap_has_a_bin() {
        assert_eq!(Gap::new(u64::MAX).bin, BINS - 2);
        assert_eq!(Gap::new(0).bin, 1);
    }
}
