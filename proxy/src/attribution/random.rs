//! Random numbers that only have to be spread well.

/// Between 0 and 1.
pub(super) fn uniform(random: &mut u64) -> f64 {
    (next(random) >> 11) as f64 / (1u64 << 53) as f64
}

/// The next number of xorshift64*.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// A whole number below a limit.
pub(super) fn below(state: &mut u64, limit: usize) -> usize {
    ((u128::from(next(state)) * limit as u128) >> 64) as usize
}
