//! The Mersenne Twister and the draws of Python's `random`, so that a schedule can be repeated there to the last bit.

const N: usize = 624;
const M: usize = 397;

/// MT19937, seeded like `random.Random(seed)`.
pub(crate) struct Random {
    state: [u32; N],
    at: usize,
}

impl Random {
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = [0u32; N];
        state[0] = 19_650_218;
        for n in 1..N {
            state[n] = 1_812_433_253u32.wrapping_mul(state[n - 1] ^ (state[n - 1] >> 30)).wrapping_add(n as u32);
        }
        let mut n = 1;
        let mixed =
            |state: &[u32; N], n: usize, by: u32| state[n] ^ (state[n - 1] ^ (state[n - 1] >> 30)).wrapping_mul(by);
        for _ in 0..N {
            state[n] = mixed(&state, n, 1_664_525).wrapping_add(seed);
            n += 1;
            if n >= N {
                state[0] = state[N - 1];
                n = 1;
            }
        }
        for _ in 0..N - 1 {
            state[n] = mixed(&state, n, 1_566_083_941).wrapping_sub(n as u32);
            n += 1;
            if n >= N {
                state[0] = state[N - 1];
                n = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, at: N }
    }

    fn next(&mut self) -> u32 {
        if self.at == N {
            for n in 0..N {
                let y = (self.state[n] & 0x8000_0000) | (self.state[(n + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[n] = self.state[(n + M) % N] ^ (y >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn uniform(&mut self) -> f64 {
        let (high, low) = (self.next() >> 5, self.next() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Exponentially distributed with this rate.
    pub(crate) fn exponential(&mut self, rate: f64) -> f64 {
        -(1.0 - self.uniform()).ln() / rate
    }

    fn below(&mut self, limit: u32) -> u32 {
        let bits = u32::BITS - limit.leading_zeros();
        loop {
            let drawn = self.next() >> (u32::BITS - bits);
            if drawn < limit {
                return drawn;
            }
        }
    }

    /// Shuffles in place.
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for n in (1..all.len()).rev() {
            all.swap(n, self.below(n as u32 + 1) as usize);
        }
    }
}
