//! Writes protobuf's wire format: a message right where it stands, its length when it is known.

/// Bytes of a message, as far as they are written.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Takes back what was written behind this length.
    pub(super) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    pub(super) fn into_inner(self) -> Vec<u8> {
        self.0
    }

    #[inline]
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A field that is a varint.
    #[inline]
    pub(super) fn varint(&mut self, field: u32, value: u64) {
        self.number(u64::from(super::wire::varint(field)));
        self.number(value);
    }

    /// A field of eight bytes.
    #[inline]
    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.number(u64::from(super::wire::fixed64(field)));
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A field with a length.
    #[inline]
    pub(super) fn sized(&mut self, field: u32, value: &[u8]) {
        self.number(u64::from(super::wire::sized(field)));
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A field that is a message, or packed numbers.
    #[inline]
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.number(u64::from(super::wire::sized(field)));
        let at = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - at - 1;
        match self.0.get_mut(at) {
            // Most are data points and shorter than this.
            Some(place) if length < 0x80 => *place = length as u8,
            _ => self.lengthen(at, length),
        }
    }

    /// Makes room for a length of more than one byte: what is behind it moves.
    fn lengthen(&mut self, at: usize, length: usize) {
        let end = self.0.len();
        self.number(length as u64);
        let more = self.0.len() - end - 1;
        let mut bytes = [0; 10];
        if let (Some(bytes), Some(written)) = (bytes.get_mut(..=more), self.0.get(end..)) {
            bytes.copy_from_slice(written);
        }
        // The length took one byte of room from the start, so the end is where it was, and some bytes further.
        self.0.truncate(end + more);
        self.0.copy_within(at + 1..end, at + 1 + more);
        if let Some(place) = self.0.get_mut(at..=at + more) {
            place.copy_from_slice(bytes.get(..=more).unwrap_or_default());
        }
    }

    /// Packed varints.
    pub(super) fn varints(&mut self, field: u32, values: &[u64]) {
        self.message(field, |out| values.iter().for_each(|value| out.number(*value)));
    }

    /// Packed numbers of eight bytes.
    pub(super) fn fixed64s(&mut self, field: u32, values: impl Iterator<Item = u64>) {
        self.message(field, |out| values.for_each(|value| out.0.extend_from_slice(&value.to_le_bytes())));
    }

    /// A `KeyValue` that is a text.
    pub(super) fn text(&mut self, field: u32, key: &str, value: &str) {
        self.message(field, |out| out.text_inside(key, value));
    }

    /// What is inside of such a `KeyValue`.
    pub(super) fn text_inside(&mut self, key: &str, value: &str) {
        self.sized(1, key.as_bytes());
        self.message(2, |out| out.sized(1, value.as_bytes()));
    }

    /// A `KeyValue` that is yes or no.
    pub(super) fn flag(&mut self, field: u32, key: &str, value: bool) {
        self.message(field, |out| {
            out.sized(1, key.as_bytes());
            out.message(2, |out| out.varint(2, u64::from(value)));
        });
    }

    /// A `KeyValue` that is a whole number; the largest one where it is larger.
    pub(super) fn int(&mut self, field: u32, key: &str, value: u64) {
        self.message(field, |out| {
            out.sized(1, key.as_bytes());
            out.message(2, |out| out.varint(3, signed(value)));
        });
    }
}

/// A number that is carried as one with a sign: the largest one where it is larger.
pub(super) fn signed(value: u64) -> u64 {
    value.min(i64::MAX.unsigned_abs())
}

/// A signed number as `sint32` has it: its sign is the lowest bit.
pub(super) fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)).cast_unsigned())
}
