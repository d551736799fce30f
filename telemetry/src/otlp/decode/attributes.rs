//! Attributes, as they stand in the bytes.

use super::super::schema::{ANY_VALUE, KEY_VALUE};
use super::super::wire::{Reader, WireError, sized, varint};
use super::super::words;
use crate::outcome::{Evidence, Outcome};
use crate::path::PathId;

const KEY: u32 = sized(1);
const VALUE: u32 = sized(2);
const TEXT: u32 = sized(1);
const FLAG: u32 = varint(2);
const INT: u32 = varint(3);

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    /// UTF-8, as the values that are texts.
    pub(super) key: &'a [u8],
    pub(super) value: Value<'a>,
}

/// What an attribute says, as far as anybody asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Text(&'a [u8]),
    Flag(bool),
    Int(i64),
    /// Nothing, or something that no proxy says.
    Other,
}

impl<'a> Attribute<'a> {
    /// Reads a `KeyValue`. `left`: how deep what is in it may be nested.
    pub(super) fn read(bytes: &'a [u8], left: u32) -> Result<Self, WireError> {
        let mut attribute = Self { key: b"", value: Value::Other };
        let mut fields = Reader::new(bytes);
        while let Some(key) = fields.key()? {
            match key {
                KEY => attribute.key = fields.text()?,
                VALUE => attribute.read_value(fields.sized()?, left.checked_sub(1).ok_or(WireError::Depth)?)?,
                _ => KEY_VALUE.pass(key, &mut fields, left)?,
            }
        }
        Ok(attribute)
    }

    /// Reads an `AnyValue`: the last one of several counts.
    fn read_value(&mut self, bytes: &'a [u8], left: u32) -> Result<(), WireError> {
        let mut fields = Reader::new(bytes);
        while let Some(key) = fields.key()? {
            match key {
                TEXT => self.value = Value::Text(fields.text()?),
                FLAG => self.value = Value::Flag(fields.varint()? != 0),
                INT => self.value = Value::Int(fields.varint()?.cast_signed()),
                _ => {
                    ANY_VALUE.pass(key, &mut fields, left)?;
                    if (4..=8).contains(&(key >> 3)) {
                        self.value = Value::Other;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The attributes of one thing. Of several with one key the first counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'s, 'a>(pub(super) &'s [Attribute<'a>]);

impl<'a> Attributes<'_, 'a> {
    fn value(&self, key: &str) -> Option<Value<'a>> {
        self.0.iter().find(|attribute| attribute.key == key.as_bytes()).map(|attribute| attribute.value)
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        match self.value(key)? {
            Value::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    pub(super) fn required(&self, key: &str) -> Result<&'a str, String> {
        self.text(key).ok_or_else(|| format!("{key} is missing"))
    }

    pub(super) fn int(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Int(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, String> {
        match self.value(key) {
            Some(Value::Flag(flag)) => Ok(flag),
            _ => Err(format!("{key} is missing")),
        }
    }

    pub(super) fn path(&self, key: &str) -> Result<PathId, String> {
        if let Some(Value::Text(text)) = self.value(key)
            && let Some(path) = PathId::parse(text)
        {
            return Ok(path);
        }
        let text = self.required(key)?;
        Err(format!("{key}: {:?} is no path id", text.get(..16).unwrap_or(text)))
    }

    pub(super) fn outcome(&self) -> Result<Outcome, String> {
        self.word(words::OUTCOME, &Outcome::ALL, Outcome::as_str)
    }

    pub(super) fn evidence(&self) -> Result<Evidence, String> {
        self.word(words::EVIDENCE, &Evidence::ALL, Evidence::as_str)
    }

    /// Which of the words it is that the attribute of this key says.
    fn word<T: Copy>(&self, key: &str, words: &[T], of: impl Fn(T) -> &'static str) -> Result<T, String> {
        let Some(Value::Text(text)) = self.value(key) else { return Err(format!("{key} is missing")) };
        let found = words.iter().find(|word| of(**word).as_bytes() == text).copied();
        found.ok_or_else(|| format!("{:?} is no {key}", String::from_utf8_lossy(text)))
    }
}

/// The attributes of the point that is being read: their bytes, and what they say once somebody asks. Nearly every point
/// says, beside what it belongs to, the same as the one before: then nothing is read again.
#[derive(Debug, Default)]
pub(super) struct Scratch<'a> {
    bytes: Vec<&'a [u8]>,
    read: Vec<Attribute<'a>>,
    /// The bytes of those that were read last.
    read_of: Vec<&'a [u8]>,
}

/// How deep the attribute of a point may be nested: it is the sixth message from the outside.
const LEFT: u32 = super::POINT - 1;

impl<'a> Scratch<'a> {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &'a [u8]) {
        self.bytes.push(bytes);
    }

    /// The attributes as bytes.
    pub(super) fn bytes(&self) -> &[&'a [u8]] {
        &self.bytes
    }

    /// The attributes, but for so many from the first.
    pub(super) fn after(&mut self, skipped: usize) -> Result<Attributes<'_, 'a>, WireError> {
        let bytes = self.bytes.get(skipped..).unwrap_or_default();
        if self.read_of != bytes {
            self.read.clear();
            self.read_of.clear();
            for bytes in bytes {
                self.read.push(Attribute::read(bytes, LEFT)?);
            }
            self.read_of.extend_from_slice(bytes);
        }
        Ok(Attributes(&self.read))
    }

    /// All attributes.
    pub(super) fn all(&mut self) -> Result<Attributes<'_, 'a>, WireError> {
        self.after(0)
    }
}
