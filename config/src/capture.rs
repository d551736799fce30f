//! Transparent capture: connections that rules of the kernel bring to the proxy without the application knowing.

use std::{borrow::Cow, fmt, net::SocketAddr, time::Duration};

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{
    overlay::{Scalar, keys},
    problem::quoted,
    units,
};

/// Connections that rules of the kernel bring to the proxy; `couplet intercept apply` writes such rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Capture {
    /// Where captured outbound connections arrive, usually `127.0.0.1:15401`; then `[::1]` of the same port is listened
    /// on as well. Each is delivered to the address that the application asked for.
    #[serde(serialize_with = "units::serialize_or_off")]
    #[schemars(schema_with = "units::address_or_off_schema")]
    pub outbound: Option<SocketAddr>,

    /// Whether inbound connections are captured: each is delivered to the address that the client asked for, and not to
    /// `app`. They arrive at the port of `inbound`, on every address.
    pub inbound: bool,

    /// Mark of the proxy's own packets, by which the rules leave them alone: 1 to 0xffffffff. Setting it needs
    /// CAP_NET_ADMIN; a proxy with a user of its own needs none.
    #[serde(serialize_with = "units::serialize_or_off")]
    #[schemars(schema_with = "Mark::or_off_schema")]
    pub mark: Option<Mark>,

    /// How long a connection that is passed on untouched may be silent in both directions: 1s to 30d, or `off`.
    #[garde(inner(custom(units::between(Duration::from_secs(1), Duration::from_secs(30 * 24 * 60 * 60)))))]
    #[serde(serialize_with = "units::serialize_duration_or_off")]
    #[schemars(schema_with = "units::duration_or_off_schema")]
    pub idle: Option<Duration>,
}

keys!(Capture { outbound, inbound, mark, idle });

impl Default for Capture {
    fn default() -> Self {
        Self { outbound: None, inbound: false, mark: None, idle: Some(Duration::from_secs(24 * 60 * 60)) }
    }
}

/// A mark of packets, written like `0x21`; never 0, which is what packets without a mark have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u32);

impl Mark {
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Reads a mark in hexadecimal digits behind `0x`, or in decimal ones.
    ///
    /// # Errors
    /// A message that shows the expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        let mark = number.ok().filter(|mark| *mark != 0).map(Self);
        mark.ok_or_else(|| format!("{} is not a mark: write a number other than 0, such as 0x21", quoted(text)))
    }

    fn or_off_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer", "null"], "minimum": 1, "examples": ["0x21", "off"] })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Mark {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Mark".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Self::or_off_schema(generator)
    }
}

impl Scalar for Mark {
    const EXPECTED: &'static str = "a mark such as 0x21";
    const CAN_BE_OFF: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_in_both_notations_and_written_in_one() {
        assert_eq!(Mark::parse("0x21").unwrap(), Mark::parse("33").unwrap());
        assert_eq!(Mark::parse("33").unwrap().to_string(), "0x21");
        for text in ["0", "0x0", "", "0x100000000", "x21", "-1"] {
            assert!(Mark::parse(text).unwrap_err().contains("0x21"), "{text}");
        }
    }
}
