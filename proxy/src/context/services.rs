//! How many distinct services stand below a call: exact up to sixteen, an estimate beyond.

use couplet_telemetry::report::Callee;
use xxhash_rust::xxh3::xxh3_64;

use super::text::Text;
use super::{MAX_BYTES, hex64};

/// Most services that are told apart one by one; 16 × 4 characters fit the summary.
const EXACT: usize = 16;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A set of service names.
///
/// Up to sixteen are kept as 24-bit hashes (two of sixteen names fall together about once in 140 000 sets). Beyond,
/// a 64-bit linear-counting bitmap (Whang et al. 1990): about ±10 % at 30 services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Services {
    /// The hashes, ascending.
    Exact(Vec<u32>),
    /// One bit per hash, by its low six bits.
    Estimate(u64),
}

impl Default for Services {
    fn default() -> Self {
        Services::Exact(Vec::new())
    }
}

impl Services {
    /// The hash by which a service is known in a set.
    pub(crate) fn hash(name: &str) -> u32 {
        Self::cut(xxh3_64(name.as_bytes()))
    }

    /// The same for a callee, which knows the hash of its service.
    pub(crate) fn hash_of(callee: &Callee) -> u32 {
        Self::cut(callee.service_hash())
    }

    fn cut(hash: u64) -> u32 {
        (hash & 0xff_ffff) as u32
    }

    /// Adds one service by its hash.
    pub(crate) fn insert(&mut self, hash: u32) {
        match self {
            Services::Estimate(bits) => *bits |= 1 << (hash & 63),
            Services::Exact(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    hashes.insert(at, hash);
                    if hashes.len() > EXACT {
                        *self = Services::Estimate(bitmap(hashes));
                    }
                }
            }
        }
    }

    /// Adds all services of another set.
    pub(crate) fn merge(&mut self, other: &Services) {
        match other {
            Services::Exact(hashes) => hashes.iter().for_each(|hash| self.insert(*hash)),
            Services::Estimate(theirs) => {
                let ours = match self {
                    Services::Exact(hashes) => bitmap(hashes),
                    Services::Estimate(bits) => *bits,
                };
                *self = Services::Estimate(ours | theirs);
            }
        }
    }

    /// How many services there are, not counting the one with hash `without`.
    pub(crate) fn count_without(&self, without: u32) -> u32 {
        match self {
            Services::Exact(hashes) => hashes.iter().filter(|hash| **hash != without).count() as u32,
            Services::Estimate(bits) => {
                let empty = bits.count_zeros().max(1);
                (64.0 * (64.0 / f64::from(empty)).ln()).round() as u32
            }
        }
    }

    /// Adds itself to a text.
    pub(super) fn write(&self, text: &mut Text<MAX_BYTES>) {
        match self {
            Services::Estimate(bits) => {
                text.push(b"~");
                text.hex(*bits);
            }
            Services::Exact(hashes) => {
                for hash in hashes {
                    text.push(&letters(*hash));
                }
            }
        }
    }

    /// Reads what [`Services::write`] writes.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if let Some(bits) = text.strip_prefix(b"~") {
            return hex64(bits).map(Services::Estimate);
        }
        if !text.len().is_multiple_of(4) || text.len() > EXACT * 4 {
            return None;
        }
        let mut set = Services::default();
        for word in text.chunks_exact(4) {
            let digit = |b: &u8| ALPHABET.iter().position(|letter| letter == b);
            let hash = word.iter().try_fold(0, |hash, b| digit(b).map(|digit| hash << 6 | digit as u32))?;
            set.insert(hash);
        }
        Some(set)
    }
}

fn letters(hash: u32) -> [u8; 4] {
    [18, 12, 6, 0].map(|shift| ALPHABET.get((hash >> shift & 63) as usize).copied().unwrap_or(b'A'))
}

fn bitmap(hashes: &[u32]) -> u64 {
    hashes.iter().fold(0, |bits, hash| bits | 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(count: usize) -> Services {
        let mut set = Services::default();
        (0..count).for_each(|n| set.insert(Services::hash(&format!("service-{n}"))));
        set
    }

    #[test]
    fn sixteen_services_are_counted_exactly_and_the_own_one_left_out() {
        assert_eq!(of(16).count_without(0), 16);
        assert_eq!(of(16).count_without(Services::hash("service-3")), 15);
    }

    #[test]
    fn more_are_estimated_within_a_quarter() {
        for count in [20, 30, 50] {
            let estimate = f64::from(of(count).count_without(0));
            assert!((estimate / count as f64 - 1.0).abs() < 0.25, "{count}: {estimate}");
        }
    }

    proptest! {
        #[test]
        fn a_set_reads_back_as_what_it_was(count in 0usize..40) {
            let mut text = Text::new();
            of(count).write(&mut text);
            prop_assert!(text.as_bytes().len() <= 64);
            prop_assert_eq!(Services::parse(text.as_bytes()), Some(of(count)));
        }

        #[test]
        fn merging_in_any_order_is_the_same(a in 0usize..30, b in 0usize..30) {
            let (mut ab, mut ba) = (of(a), of(b));
            ab.merge(&of(b));
            ba.merge(&of(a));
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(ab, of(a.max(b)));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,80}") {
            let _ = Services::parse(text.as_bytes());
        }
    }
}
