//! From where on something is a finding, and how grave it is.

use std::time::Duration;

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{overlay::keys, units};

/// From where on something is a finding.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct FindingThresholds {
    /// Requests that must have been seen before anything is said about them.
    #[garde(range(min = 1, max = 1_000_000_000))]
    pub min_samples: u64,

    /// Synchronous chains.
    #[garde(dive)]
    pub chain: ChainThresholds,

    /// Fan-out: one request that calls many.
    #[garde(dive)]
    pub fan_out: FanOutThresholds,

    /// Repeated calls: one request that makes the same call many times.
    #[garde(dive)]
    pub repeat: RepeatThresholds,

    /// Circular flows.
    #[garde(dive)]
    pub circular: CircularThresholds,
}

keys!(FindingThresholds { min_samples, chain, fan_out, repeat, circular });

impl Default for FindingThresholds {
    fn default() -> Self {
        Self {
            min_samples: 50,
            chain: ChainThresholds::default(),
            fan_out: FanOutThresholds::default(),
            repeat: RepeatThresholds::default(),
            circular: CircularThresholds::default(),
        }
    }
}

/// When a synchronous chain is a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct ChainThresholds {
    /// Hops below the root.
    #[garde(dive)]
    pub depth: Levels,
    /// Distinct services needed at once.
    #[garde(dive)]
    pub services: Levels,
    /// Calls made for one request, over the whole chain.
    #[garde(dive)]
    pub calls: Levels,
}

keys!(ChainThresholds { depth, services, calls });

impl Default for ChainThresholds {
    fn default() -> Self {
        Self {
            depth: Levels { info: 3, warn: 4, critical: 6 },
            services: Levels { info: 4, warn: 6, critical: 10 },
            calls: Levels { info: 10, warn: 20, critical: 50 },
        }
    }
}

/// When a fan-out is a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct FanOutThresholds {
    /// Distinct callees of one request.
    #[garde(dive)]
    pub callees: WarnLevels,
    /// Calls that one request makes directly.
    #[garde(dive)]
    pub calls: WarnLevels,
}

keys!(FanOutThresholds { callees, calls });

impl Default for FanOutThresholds {
    fn default() -> Self {
        Self { callees: WarnLevels { warn: 8, critical: 15 }, calls: WarnLevels { warn: 20, critical: 60 } }
    }
}

/// When repeating a call is a finding.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct RepeatThresholds {
    /// Calls of the same endpoint that one request makes.
    #[garde(dive)]
    pub calls: WarnLevels,

    /// Time that the repeated calls must take in one request: 0s to 1h.
    #[garde(custom(units::between(Duration::ZERO, Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub min_time: Duration,

    /// Share of the request's time that the repeated calls must take, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    pub min_share: f64,
}

keys!(RepeatThresholds { calls, min_time, min_share });

impl Default for RepeatThresholds {
    fn default() -> Self {
        Self { calls: WarnLevels { warn: 5, critical: 10 }, min_time: Duration::from_millis(50), min_share: 0.10 }
    }
}

/// When a circular flow is a finding: always. The section is there so that it can be named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct CircularThresholds {}

keys!(CircularThresholds {});

/// The values from which on something is information, a warning, or critical: `info` ≤ `warn` ≤ `critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields)]
#[garde(custom(|levels: &Self, _| ordered(&[("info", levels.info), ("warn", levels.warn), ("critical", levels.critical)])))]
pub struct Levels {
    /// From here on it is worth knowing.
    #[garde(range(min = 1, max = 1_000_000))]
    pub info: u32,
    /// From here on it is a warning.
    #[garde(range(min = 1, max = 1_000_000))]
    pub warn: u32,
    /// From here on it is critical.
    #[garde(range(min = 1, max = 1_000_000))]
    pub critical: u32,
}

keys!(Levels { info, warn, critical });

/// The values from which on something is a warning, or critical: `warn` ≤ `critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields)]
#[garde(custom(|levels: &Self, _| ordered(&[("warn", levels.warn), ("critical", levels.critical)])))]
pub struct WarnLevels {
    /// From here on it is a warning.
    #[garde(range(min = 1, max = 1_000_000))]
    pub warn: u32,
    /// From here on it is critical.
    #[garde(range(min = 1, max = 1_000_000))]
    pub critical: u32,
}

keys!(WarnLevels { warn, critical });

/// Says which neighbours are in the wrong order. A finding can only become graver as its value grows.
fn ordered(levels: &[(&str, u32)]) -> garde::Result {
    for pair in levels.windows(2) {
        let [(low, below), (high, above)] = pair else { continue };
        if below > above {
            return Err(garde::Error::new(format!("`{low}` ({below}) must not be greater than `{high}` ({above})")));
        }
    }
    Ok(())
}
