//! How long things take between two events, as a smoothed histogram of the logarithm that slowly forgets.

/// Width of a bin in natural logarithms.
pub(super) const WIDTH: f64 = 0.2;
/// Bins: up to `exp(26)` microseconds, beyond any timeout.
const BINS: usize = 130;
/// The clock tick that gaps are measured in, in nanoseconds: shorter gaps are all alike.
const TICK: f64 = 1_000.0;
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
    bin: usize,
    /// Logarithm of `1 + gap / tick`: what a density over the logarithm is larger by than one over time.
    pub(super) stretch: f64,
}

impl Gap {
    /// A gap of this many nanoseconds.
    pub(super) fn new(nanos: u64) -> Self {
        let stretch = (nanos as f64 / TICK).ln_1p();
        Self { bin: ((stretch / WIDTH) as usize + 1).min(BINS - 2), stretch }
    }
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

    /// Mass of the gap's bin as a share, where `unit` is the weight of one observation of today.
    pub(super) fn share(&self, gap: Gap, unit: f64) -> f64 {
        let seen = self.bins.get(gap.bin).copied().unwrap_or(0.0);
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
