//! Ejection: when one endpoint of a destination is passed over while the others serve.

use std::time::Duration;

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    off::{count_or_off_schema, number_or_off},
    overlay::keys,
    units,
};

/// When one endpoint of a destination is passed over while the others serve; only where there are several. In `observe`
/// nothing is passed over, and what would have been is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
#[garde(custom(|ejection: &Self, _| units::ordered("base", ejection.base, "max", ejection.max)))]
pub struct Ejection {
    /// Failures of one endpoint in a row from which on it is ejected; `off` for never.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[serde(serialize_with = "number_or_off")]
    #[schemars(schema_with = "count_or_off_schema")]
    pub consecutive_failures: Option<u32>,

    /// Connections to one endpoint in a row that could not be made; `off` for never.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[serde(serialize_with = "number_or_off")]
    #[schemars(schema_with = "count_or_off_schema")]
    pub connect_failures: Option<u32>,

    /// For how long the first time, 100ms to 1h; twice as long each further time. As long again in good health takes one
    /// time off.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub base: Duration,

    /// For how long at most: 100ms to 1h.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub max: Duration,

    /// The share of all endpoints in percent that is ejected at most, rounded down: of three and 50 %, one.
    #[garde(range(max = 100))]
    pub max_ejection_percent: u32,

    /// Whether the last endpoint that is left may be ejected. It is called nevertheless where there is no other.
    pub allow_last: bool,
}

keys!(Ejection { consecutive_failures, connect_failures, base, max, max_ejection_percent, allow_last });

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            connect_failures: Some(3),
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            max_ejection_percent: 50,
            allow_last: false,
        }
    }
}
