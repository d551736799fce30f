//! Keys that are made of numbers, and their hash.

use std::hash::{BuildHasherDefault, Hasher};

/// Mixes two numbers into one key (the finaliser of SplitMix64 over their combination).
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.rotate_left(23) ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes numbers by one multiplication; who gives them out is the proxy, not a stranger.
pub(super) type Spread = BuildHasherDefault<Kept>;

/// See [`Spread`].
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Kept(u64);

impl Hasher for Kept {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0, u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}
