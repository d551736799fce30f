//! Values with a unit: durations and sizes as people write them, and how values are written back.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// A number of bytes, written like `64KiB` (1024-based) or `64kB` (1000-based).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `count` bytes.
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// `count` times 1024 bytes.
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// `count` times 1024² bytes.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// `count` times 1024³ bytes.
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes for comparing with lengths in memory; on a platform that cannot address so much, the most
    /// it can.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The shortest exact form: `64KiB`, `1GiB`, `1500B`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 > 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "minimum": 0, "examples": ["64KiB", "4MiB"] })
    }
}

/// Reads a size such as `64KiB`, `4 MB` or `512`; `None` when it is none or does not fit into 64 bits.
pub(crate) fn parse_size(text: &str) -> Option<ByteSize> {
    let (digits, unit) = split_number(text.trim());
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).map(ByteSize)
}

/// Reads a duration such as `250ms`, `5s` or `1m30s`: whole numbers, each with its unit (`us`, `ms`, `s`, `m`, `h`,
/// `d`), the largest unit first and none twice; or `0`. `None` when it is none or longer than fits.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut previous = u64::MAX;
    while !rest.is_empty() {
        let (digits, tail) = split_number(rest);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let micros = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        if micros >= previous {
            return None;
        }
        previous = micros;
        total = total.checked_add(Duration::from_micros(digits.parse::<u64>().ok()?.checked_mul(micros)?))?;
        rest = tail;
    }
    (previous != u64::MAX).then_some(total)
}

/// Writes a duration in the form that [`parse_duration`] reads; less than a microsecond is cut off.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut micros = duration.as_micros();
    let mut text = String::new();
    for (unit, factor) in UNITS {
        let factor = u128::from(*factor);
        // One day is written in hours, as people do.
        let least = if *unit == "d" { 2 * factor } else { factor };
        if micros >= least {
            text.push_str(&format!("{}{unit}", micros / factor));
            micros %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Units of time in microseconds, the largest first.
const UNITS: &[(&str, u64)] =
    &[("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Splits the leading decimal digits from what follows.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A rule: the duration lies between `least` and `most`, both included.
pub(crate) fn between(least: Duration, most: Duration) -> impl FnOnce(&Duration, &()) -> garde::Result {
    move |value, ()| {
        if (least..=most).contains(value) {
            return Ok(());
        }
        let (value, least, most) = (show_duration(*value), show_duration(least), show_duration(most));
        Err(garde::Error::new(format!("{value} is not between {least} and {most}")))
    }
}

/// A rule: the size lies between `least` and `most`, both included.
pub(crate) fn bytes_between(least: ByteSize, most: ByteSize) -> impl FnOnce(&ByteSize, &()) -> garde::Result {
    move |value, ()| {
        if (least..=most).contains(value) {
            return Ok(());
        }
        Err(garde::Error::new(format!("{value} is not between {least} and {most}")))
    }
}

/// What stands for "none" where leaving the key out means the default.
pub(crate) const OFF: &str = "off";

pub(crate) fn serialize_duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show_duration(*value))
}

#[expect(clippy::ref_option, reason = "the signature that serialize_with asks for")]
pub(crate) fn serialize_duration_or_off<S: Serializer>(
    value: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serialize_duration(value, serializer),
        None => serializer.serialize_str(OFF),
    }
}

#[expect(clippy::ref_option, reason = "the signature that serialize_with asks for")]
pub(crate) fn serialize_or_off<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_str(OFF),
    }
}

pub(crate) fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "examples": ["250ms", "5s", "1m30s"] })
}

pub(crate) fn duration_or_off_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "examples": ["250ms", "5s", "1m30s", "off"] })
}

pub(crate) fn address_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "examples": ["127.0.0.1:8080", "[::1]:8080"] })
}

pub(crate) fn address_or_off_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "examples": ["127.0.0.1:8080", "[::1]:8080", "off"] })
}

pub(crate) fn addresses_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 16, "items": { "type": "string", "examples": ["10.0.0.10:53"] } })
}

pub(crate) fn networks_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 1000, "items": { "type": "string", "examples": ["10.0.0.0/8"] } })
}

/// The schema of a section that has a short form as text.
pub(crate) fn or_text(schema: &mut Schema) {
    let section = std::mem::take(schema);
    *schema = json_schema!({ "anyOf": [section, { "type": "string" }] });
}

/// That the first duration is not the greater one.
pub(crate) fn ordered(low: &str, below: Duration, high: &str, above: Duration) -> garde::Result {
    if below <= above {
        return Ok(());
    }
    let (below, above) = (show_duration(below), show_duration(above));
    Err(garde::Error::new(format!("`{low}` ({below}) must not be greater than `{high}` ({above})")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, expected) in [("5s", 5_000), ("250ms", 250), ("1m30s", 90_000), ("24h", 86_400_000), ("0", 0)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(expected)), "{text}");
        }
    }

    #[test]
    fn a_number_without_unit_or_in_disorder_is_no_duration() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "30s1m", "1s1s", "5S", "99999999999999999999s", "5s!", "1d¼"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_both_bases() {
        for (text, expected) in [("64KiB", 65_536), ("64kB", 64_000), ("1 GiB", 1 << 30), ("12", 12), ("12B", 12)] {
            assert_eq!(parse_size(text), Some(ByteSize::bytes(expected)), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "64K", "99999999999TiB", "1 2"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(micros in 0..u64::MAX, bytes in any::<u64>()) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&ByteSize::bytes(bytes).to_string()), Some(ByteSize::bytes(bytes)));
        }

        #[test]
        fn no_text_is_too_strange_to_be_read(text in any::<String>()) {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
