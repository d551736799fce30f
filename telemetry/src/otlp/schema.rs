//! What OTLP's messages for metrics consist of, field by field: so that what nobody reads is checked all the same, and
//! a request is refused or taken in whatever it is that is damaged in it.
//!
//! Numbers and types are those of opentelemetry-proto 1.10.

use super::wire::{Reader, WireError};

/// The fields of a message that are known.
#[derive(Debug)]
pub(super) struct Schema(&'static [(u32, Kind)]);

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Varint,
    Fixed64,
    Text,
    Bytes,
    Varints,
    Fixed64s,
    Message(&'static Schema),
}

use Kind::{Bytes, Fixed64, Fixed64s, Message, Text, Varint, Varints};

pub(super) static REQUEST: Schema = Schema(&[(1, Message(&RESOURCE_METRICS))]);
pub(super) static RESOURCE_METRICS: Schema =
    Schema(&[(1, Message(&RESOURCE)), (2, Message(&SCOPE_METRICS)), (3, Text)]);
pub(super) static RESOURCE: Schema = Schema(&[(1, Message(&KEY_VALUE)), (2, Varint), (3, Message(&ENTITY))]);
static ENTITY: Schema = Schema(&[(1, Text), (2, Text), (3, Text), (4, Text)]);
pub(super) static SCOPE_METRICS: Schema = Schema(&[(1, Message(&SCOPE)), (2, Message(&METRIC)), (3, Text)]);
static SCOPE: Schema = Schema(&[(1, Text), (2, Text), (3, Message(&KEY_VALUE)), (4, Varint)]);
pub(super) static METRIC: Schema = Schema(&[
    (1, Text),
    (2, Text),
    (3, Text),
    (5, Message(&GAUGE)),
    (7, Message(&SUM)),
    (9, Message(&HISTOGRAM)),
    (10, Message(&EXPONENTIAL)),
    (11, Message(&SUMMARY)),
    (12, Message(&KEY_VALUE)),
]);

pub(super) static GAUGE: Schema = Schema(&[(1, Message(&NUMBER_POINT))]);
pub(super) static SUM: Schema = Schema(&[(1, Message(&NUMBER_POINT)), (2, Varint), (3, Varint)]);
pub(super) static HISTOGRAM: Schema = Schema(&[(1, Message(&HISTOGRAM_POINT)), (2, Varint)]);
pub(super) static EXPONENTIAL: Schema = Schema(&[(1, Message(&EXPONENTIAL_POINT)), (2, Varint)]);
pub(super) static SUMMARY: Schema = Schema(&[(1, Message(&SUMMARY_POINT))]);

pub(super) static NUMBER_POINT: Schema = Schema(&[
    (2, Fixed64),
    (3, Fixed64),
    (4, Fixed64),
    (5, Message(&EXEMPLAR)),
    (6, Fixed64),
    (7, Message(&KEY_VALUE)),
    (8, Varint),
]);
pub(super) static HISTOGRAM_POINT: Schema = Schema(&[
    (2, Fixed64),
    (3, Fixed64),
    (4, Fixed64),
    (5, Fixed64),
    (6, Fixed64s),
    (7, Fixed64s),
    (8, Message(&EXEMPLAR)),
    (9, Message(&KEY_VALUE)),
    (10, Varint),
    (11, Fixed64),
    (12, Fixed64),
]);
pub(super) static EXPONENTIAL_POINT: Schema = Schema(&[
    (1, Message(&KEY_VALUE)),
    (2, Fixed64),
    (3, Fixed64),
    (4, Fixed64),
    (5, Fixed64),
    (6, Varint),
    (7, Fixed64),
    (8, Message(&BUCKETS)),
    (9, Message(&BUCKETS)),
    (10, Varint),
    (11, Message(&EXEMPLAR)),
    (12, Fixed64),
    (13, Fixed64),
    (14, Fixed64),
]);
pub(super) static BUCKETS: Schema = Schema(&[(1, Varint), (2, Varints)]);
static SUMMARY_POINT: Schema = Schema(&[
    (2, Fixed64),
    (3, Fixed64),
    (4, Fixed64),
    (5, Fixed64),
    (6, Message(&QUANTILE)),
    (7, Message(&KEY_VALUE)),
    (8, Varint),
]);
static QUANTILE: Schema = Schema(&[(1, Fixed64), (2, Fixed64)]);
pub(super) static EXEMPLAR: Schema =
    Schema(&[(2, Fixed64), (3, Fixed64), (4, Bytes), (5, Bytes), (6, Fixed64), (7, Message(&KEY_VALUE))]);

pub(super) static KEY_VALUE: Schema = Schema(&[(1, Text), (2, Message(&ANY_VALUE)), (3, Varint)]);
pub(super) static ANY_VALUE: Schema = Schema(&[
    (1, Text),
    (2, Varint),
    (3, Varint),
    (4, Fixed64),
    (5, Message(&ARRAY)),
    (6, Message(&LIST)),
    (7, Bytes),
    (8, Varint),
]);
static ARRAY: Schema = Schema(&[(1, Message(&ANY_VALUE))]);
static LIST: Schema = Schema(&[(1, Message(&KEY_VALUE))]);

impl Schema {
    /// What the field of this number holds, if it is known.
    pub(super) fn kind(&self, field: u32) -> Option<Kind> {
        self.0.iter().find(|(known, _)| *known == field).map(|(_, kind)| *kind)
    }

    /// Checks a whole message. `left`: how deep what is in it may be nested.
    pub(super) fn check(&self, bytes: &[u8], left: u32) -> Result<(), WireError> {
        let mut fields = Reader::new(bytes);
        while let Some(key) = fields.key()? {
            self.pass(key, &mut fields, left)?;
        }
        Ok(())
    }

    /// Checks and passes over the value of one field, known or not.
    pub(super) fn pass(&self, key: u32, fields: &mut Reader<'_>, left: u32) -> Result<(), WireError> {
        let Some(kind) = self.kind(key >> 3) else { return fields.skip(key, left) };
        match (kind, key & 7) {
            (Varint | Varints, 0) => fields.varint().map(drop),
            (Fixed64 | Fixed64s, 1) => fields.fixed64().map(drop),
            (Text, 2) => fields.text().map(drop),
            (Bytes, 2) => fields.sized().map(drop),
            (Varints, 2) => {
                let mut packed = Reader::new(fields.sized()?);
                while packed.len() > 0 {
                    packed.varint()?;
                }
                Ok(())
            }
            (Fixed64s, 2) if fields.sized()?.len().is_multiple_of(8) => Ok(()),
            (Fixed64s, 2) => Err(WireError::Truncated),
            (Message(schema), 2) => {
                let left = left.checked_sub(1).ok_or(WireError::Depth)?;
                schema.check(fields.sized()?, left)
            }
            _ => Err(WireError::WireType),
        }
    }
}
