//! Calling-context paths: the chain of (service, endpoint) pairs from a root, named by a 64-bit hash.

use std::fmt;

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3;

/// Names a path: a hash over the parent's id and the last (service, endpoint) pair.
///
/// Two proxies that serve the same endpoint of the same service below the same parent compute the same id, without
/// talking to one another. Printed as 16 hexadecimal digits. Zero is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u64);

impl PathId {
    /// The path that takes what is beyond the limit of paths. Its parent, endpoint and depth mean nothing.
    pub const OVERFLOW: PathId = PathId(u64::MAX);

    /// The path of a root: `service` was called at `endpoint` by somebody who sent no context.
    #[must_use]
    pub fn root(service: &str, endpoint: &str) -> Self {
        Self::hash(0, service, endpoint)
    }

    /// The path one hop below this one.
    #[must_use]
    pub fn child(self, service: &str, endpoint: &str) -> Self {
        Self::hash(self.0, service, endpoint)
    }

    fn hash(parent: u64, service: &str, endpoint: &str) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&parent.to_le_bytes());
        hash.update(service.as_bytes());
        hash.update(&[0]);
        hash.update(endpoint.as_bytes());
        // Two of 2^64 values are taken: zero for "no path", all ones for the overflow path.
        match hash.digest() {
            0 => Self(1),
            u64::MAX => Self(u64::MAX - 1),
            id => Self(id),
        }
    }

    /// The id as a number; never zero.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The id with this number; `None` for zero.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The id as 16 hexadecimal digits.
    #[must_use]
    pub fn hex(self) -> Hex {
        let mut digits = [0; 16];
        for (digit, shift) in digits.iter_mut().rev().zip((0..64).step_by(4)) {
            let value = (self.0 >> shift & 0xf) as u8;
            *digit = value + if value < 10 { b'0' } else { b'a' - 10 };
        }
        Hex(digits)
    }

    /// Reads 16 hexadecimal digits, lower case.
    #[must_use]
    pub fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        parse_hex64(text).and_then(Self::new)
    }
}

/// The text of a [`PathId`].
#[derive(Debug, Clone, Copy)]
pub struct Hex([u8; 16]);

impl AsRef<str> for Hex {
    fn as_ref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // they are digits
    }
}

/// Reads exactly 16 lower-case hexadecimal digits.
#[must_use]
pub fn parse_hex64(text: impl AsRef<[u8]>) -> Option<u64> {
    let digits: &[u8; 16] = text.as_ref().try_into().ok()?;
    let (mut number, mut wrong) = (0, 0);
    for digit in digits {
        // What is no digit has bits that no digit has. Looked at once, behind the last one.
        let value = HEX.get(usize::from(*digit)).copied().unwrap_or(NO_DIGIT);
        number = number << 4 | u64::from(value & 0xf);
        wrong |= value;
    }
    (wrong < NO_DIGIT).then_some(number)
}

/// What every byte is worth as a lower-case hexadecimal digit.
const HEX: [u8; 256] = {
    let mut worth = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        #[expect(clippy::indexing_slicing, reason = "both are checked when this is compiled")]
        {
            worth[b"0123456789abcdef"[value] as usize] = value as u8;
        }
        value += 1;
    }
    worth
};
const NO_DIGIT: u8 = 0x10;

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().as_ref())
    }
}

impl Serialize for PathId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_depends_on_every_pair_of_the_chain_and_on_their_order() {
        let ab = PathId::root("a", "GET /").child("b", "GET /");
        let ba = PathId::root("b", "GET /").child("a", "GET /");
        let aa = PathId::root("a", "GET /").child("a", "GET /");
        assert_ne!(ab, ba);
        assert_ne!(ab, aa);
        assert_ne!(PathId::root("a", "bc"), PathId::root("ab", "c"));
    }

    #[test]
    fn an_id_is_the_same_on_every_machine_and_in_every_release() {
        // A changed value here splits one path in two while proxies of both releases run side by side.
        assert_eq!(PathId::root("shop", "GET /").to_string(), "e21d8c374764fa03");
    }

    #[test]
    fn an_id_reads_back_from_its_text_and_nothing_else_does() {
        let id = PathId::root("shop", "GET /");
        assert_eq!(PathId::parse(id.to_string()), Some(id));
        for wrong in
            ["", "0000000000000000", "00000000000000a", "00000000000000a00", "00000000000000A0", "+000000000000001"]
        {
            assert_eq!(PathId::parse(wrong), None, "{wrong:?}");
        }
    }
}
