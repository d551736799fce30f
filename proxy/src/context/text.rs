//! Short texts with a bound, written on the stack: a header value is made of one by a single copy.

use http::HeaderValue;

/// A text of at most `MOST` bytes. What does not fit is left out whole, piece by piece.
#[derive(Clone)]
pub(crate) struct Text<const MOST: usize> {
    bytes: [u8; MOST],
    length: usize,
}

impl<const MOST: usize> Text<MOST> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; MOST], length: 0 }
    }

    /// Adds a piece, or nothing where there is no room for it; whether there was.
    pub(crate) fn push(&mut self, piece: &[u8]) -> bool {
        let end = self.length + piece.len();
        let room = self.bytes.get_mut(self.length..end);
        if let Some(room) = room {
            room.copy_from_slice(piece);
            self.length = end;
            return true;
        }
        false
    }

    /// Adds 16 hexadecimal digits.
    pub(crate) fn hex(&mut self, number: u64) {
        self.push(&digits((number >> 32) as u32));
        self.push(&digits(number as u32));
    }

    /// Adds two hexadecimal digits.
    pub(crate) fn byte(&mut self, number: u8) {
        let [.., high, low] = digits(u32::from(number));
        self.push(&[high, low]);
    }

    /// Adds a number in decimal digits.
    pub(crate) fn decimal(&mut self, mut number: u64) {
        let (mut digits, mut at) = ([0; 20], 20);
        loop {
            at -= 1;
            if let Some(digit) = digits.get_mut(at) {
                *digit = b'0' + (number % 10) as u8;
            }
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(digits.get(at..).unwrap_or_default());
    }

    /// How many bytes more there is room for.
    pub(crate) fn room(&self) -> usize {
        MOST - self.length
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// As a header value; none where it has bytes that no header may have. What is written here is said once and never again:
    /// HTTP/2 does not index it. In the encoder's table it would take the place of what comes again, and every value after
    /// it would be compared with it.
    pub(crate) fn value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(self.as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// For people and tests; what stands there is text.
impl<const MOST: usize> std::fmt::Display for Text<MOST> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// Eight lower-case hexadecimal digits, all at once: first each nibble gets a byte of its own, then each byte its letter.
fn digits(number: u32) -> [u8; 8] {
    let spread = u64::from(number);
    let spread = (spread & 0xffff_0000) << 16 | spread & 0xffff;
    let spread = (spread & 0x0000_ff00_0000_ff00) << 8 | spread & 0x0000_00ff_0000_00ff;
    let spread = (spread & 0x00f0_00f0_00f0_00f0) << 4 | spread & 0x000f_000f_000f_000f;
    // One where the digit is a letter: 10 and more reach the fifth bit with six more.
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (spread + 0x3030_3030_3030_3030 + letters * 0x27).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_the_standard_library_writes_them(number: u64, small in 0u64..1_000) {
            for number in [number, small] {
                let mut text = Text::<64>::new();
                text.hex(number);
                text.push(b" ");
                text.decimal(number);
                prop_assert_eq!(text.to_string(), format!("{number:016x} {number}"));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        let mut text = Text::<20>::new();
        assert!(text.push(b"seventeen bytes, "));
        assert!(!text.push(b"more"));
        assert!(text.push(b"end"));
        assert_eq!(text.to_string(), "seventeen bytes, end");
        assert!(Text::<4>::new().value().is_some_and(|value| value.is_empty()));
    }

    #[test]
    fn what_is_said_once_is_not_indexed() {
        let mut text = Text::<4>::new();
        text.push(b"once");
        assert!(text.value().is_some_and(|value| value.is_sensitive()));
    }
}
