//! How many requests the application gets at the same time.

use std::fmt;
use std::time::Duration;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{
    breakers::BreakerMode,
    overlay::{Scalar, keys},
    units,
};

/// How many requests the application gets at the same time. What is beyond is answered with 503 (gRPC: 14) at once, and
/// waits in no queue. Off by default; the highest number so far is on `/metrics` in any case.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Concurrency {
    /// `off`, `observe` (reject nothing, count what would have been rejected) or `enforce`.
    pub mode: BreakerMode,

    /// How many: a number up to 1 000 000, or `adaptive` for as many as are served without waiting for one another.
    pub limit: ConcurrencyLimit,

    /// How a limit that is `adaptive` finds its way.
    #[garde(dive)]
    pub adaptive: Adaptive,
}

keys!(Concurrency { mode, limit, adaptive });

impl Default for Concurrency {
    fn default() -> Self {
        Self { mode: BreakerMode::Off, limit: ConcurrencyLimit::Adaptive, adaptive: Adaptive::default() }
    }
}

/// A number of requests, or how it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyLimit {
    /// As many as the application serves without getting slower.
    Adaptive,
    /// So many.
    Fixed(u32),
}

impl Scalar for ConcurrencyLimit {
    const EXPECTED: &'static str = "a number of requests, or adaptive";

    fn read(text: &str) -> Result<Self, String> {
        if text == ADAPTIVE {
            return Ok(Self::Adaptive);
        }
        match u32::read(text)? {
            most @ 1..=1_000_000 => Ok(Self::Fixed(most)),
            other => Err(format!("{other} is not between 1 and 1 000 000")),
        }
    }
}

impl fmt::Display for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConcurrencyLimit::Adaptive => f.write_str(ADAPTIVE),
            ConcurrencyLimit::Fixed(most) => most.fmt(f),
        }
    }
}

impl Serialize for ConcurrencyLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ConcurrencyLimit::Adaptive => serializer.serialize_str(ADAPTIVE),
            ConcurrencyLimit::Fixed(most) => serializer.serialize_u32(*most),
        }
    }
}

impl JsonSchema for ConcurrencyLimit {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ConcurrencyLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 1_000_000 }, { "const": ADAPTIVE }] })
    }
}

const ADAPTIVE: &str = "adaptive";

/// How an adaptive limit finds its way: it grows while answers come as soon as they do without load, and shrinks once they
/// take longer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
#[garde(custom(|adaptive: &Self, _| ordered("min", adaptive.min, "initial", adaptive.initial)))]
#[garde(custom(|adaptive: &Self, _| ordered("initial", adaptive.initial, "max", adaptive.max)))]
pub struct Adaptive {
    /// The limit at the start, before anything is known.
    #[garde(range(min = 1, max = 1_000_000))]
    pub initial: u32,

    /// It is never below.
    #[garde(range(min = 1, max = 1_000_000))]
    pub min: u32,

    /// It is never above.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max: u32,

    /// How many times as long as without load answers may take before the limit shrinks: 1 to 10.
    #[garde(range(min = 1.0, max = 10.0))]
    pub tolerance: f64,

    /// How often the limit is looked at: 10ms to 1m. It takes as long as it needs for twenty answers.
    #[garde(custom(units::between(Duration::from_millis(10), Duration::from_secs(60))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub window: Duration,
}

keys!(Adaptive { initial, min, max, tolerance, window });

impl Default for Adaptive {
    fn default() -> Self {
        Self { initial: 20, min: 4, max: 1_000, tolerance: 1.5, window: Duration::from_secs(1) }
    }
}

fn ordered(low: &str, below: u32, high: &str, above: u32) -> garde::Result {
    if below <= above {
        return Ok(());
    }
    Err(garde::Error::new(format!("`{low}` ({below}) must not be greater than `{high}` ({above})")))
}

#[cfg(test)]
mod tests {
    use crate::{ConfigFile, ProxyConfig, Sources};

    use super::*;

    fn load(text: &str) -> Result<Concurrency, String> {
        let file = ConfigFile::from_bytes("couplet.yaml", format!("service: shop\n{text}")).unwrap();
        let sources = Sources { file: Some(file), ..Sources::new(&|_| None) };
        ProxyConfig::load(&sources).map(|config| config.concurrency).map_err(|error| error.to_string())
    }

    #[test]
    fn the_limit_is_a_number_or_finds_its_way() {
        let fixed = load("concurrency: { mode: enforce, limit: 64 }").unwrap();
        assert_eq!((fixed.mode, fixed.limit), (BreakerMode::Enforce, ConcurrencyLimit::Fixed(64)));
        let adaptive = load("concurrency: { mode: observe, limit: adaptive, adaptive: { max: 100 } }").unwrap();
        assert_eq!((adaptive.limit, adaptive.adaptive.max), (ConcurrencyLimit::Adaptive, 100));
        assert_eq!(load("").unwrap().mode, BreakerMode::Off);
    }

    #[test]
    fn what_makes_no_sense_is_told_where_and_why() {
        for (text, reason) in [
            ("concurrency: { limit: 0 }", "not between 1 and 1 000 000"),
            ("concurrency: { limit: adaptiv }", "concurrency.limit"),
            ("concurrency: { adaptive: { min: 30 } }", "`min` (30) must not be greater than `initial` (20)"),
            ("concurrency: { adaptive: { max: 10 } }", "`initial` (20) must not be greater than `max` (10)"),
            ("concurrency: { adaptive: { tolerance: 0.9 } }", "concurrency.adaptive.tolerance"),
            ("concurrency: { adaptive: { window: 1ms } }", "not between 10ms and 1m"),
        ] {
            let message = load(text).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
