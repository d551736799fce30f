//! Reads protobuf's wire format in place: nothing is copied, nothing is allocated, nothing is believed.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. A key is a field's number and, in its low three bits, its wire
//! type. What is read and what is refused is what `prost` reads and refuses.

use thiserror::Error;

/// How deep messages and groups may be nested.
pub(super) const DEPTH: u32 = 100;

/// Key of a field that is a varint.
pub(super) const fn varint(field: u32) -> u32 {
    field << 3
}

/// Key of a field of eight bytes.
pub(super) const fn fixed64(field: u32) -> u32 {
    field << 3 | 1
}

/// Key of a field with a length: a text, bytes, a message, packed numbers.
pub(super) const fn sized(field: u32) -> u32 {
    field << 3 | 2
}

/// Why bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum WireError {
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("a number has more than 64 bits")]
    Varint,
    #[error("a field has a number or a wire type that there is not")]
    Key,
    #[error("a field has a wire type that it cannot have")]
    WireType,
    #[error("a group does not end where it began")]
    Group,
    #[error("a text is not UTF-8")]
    Text,
    #[error("messages are nested too deep")]
    Depth,
}

/// The bytes of a message that are not read yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are not read yet.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key of the next field; none at the end. Whoever does not know it [passes](super::schema::Schema::pass) it on.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Option<u32>, WireError> {
        match self.0 {
            [] => Ok(None),
            [byte, rest @ ..] if *byte < 0x80 => {
                self.0 = rest;
                Ok(Some(u32::from(*byte)))
            }
            _ => u32::try_from(self.long_varint()?).map(Some).map_err(|_| WireError::Key),
        }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        match self.0 {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                // Of the tenth byte, one bit is left.
                if at == 9 && *byte > 1 {
                    return Err(WireError::Varint);
                }
                self.0 = self.0.get(at + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { WireError::Truncated } else { WireError::Varint })
    }

    #[inline]
    pub(super) fn fixed64(&mut self) -> Result<u64, WireError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// The bytes of a field with a length.
    #[inline]
    pub(super) fn sized(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A text, as its bytes: they are UTF-8.
    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a [u8], WireError> {
        let bytes = self.sized()?;
        // Nearly all are ASCII, which is seen sooner.
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() { Ok(bytes) } else { Err(WireError::Text) }
    }

    /// Passes over the value of a field that nobody knows. `left`: how deep it may be nested still.
    pub(super) fn skip(&mut self, key: u32, left: u32) -> Result<(), WireError> {
        if key >> 3 == 0 {
            return Err(WireError::Key);
        }
        let left = left.checked_sub(1).ok_or(WireError::Depth)?;
        match key & 7 {
            0 => self.varint().map(drop),
            1 => self.fixed64().map(drop),
            2 => self.sized().map(drop),
            3 => self.group(key, left),
            4 => Err(WireError::Group),
            5 => {
                let (_, rest) = self.0.split_first_chunk::<4>().ok_or(WireError::Truncated)?;
                self.0 = rest;
                Ok(())
            }
            _ => Err(WireError::Key),
        }
    }

    fn group(&mut self, key: u32, left: u32) -> Result<(), WireError> {
        loop {
            match self.key()? {
                None => return Err(WireError::Truncated),
                // The same number with the wire type of an end.
                Some(end) if end == key + 1 => return Ok(()),
                Some(inner) => self.skip(inner, left)?,
            }
        }
    }
}

/// A signed number as `sint32` writes it: its sign is the lowest bit.
pub(super) fn zigzag(value: u64) -> i32 {
    // As prost has it: what is beyond 32 bits is cut off.
    let value = value as u32;
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}
