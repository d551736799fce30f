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

    /// Failures that must have been seen before anything is said about how they spread.
    #[garde(range(min = 1, max = 1_000_000_000))]
    pub min_failures: u64,

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

    /// Availability of entries that their dependencies cost.
    #[garde(dive)]
    pub availability: AvailabilityThresholds,

    /// Hubs: services that many call and that call many.
    #[garde(dive)]
    pub hub: HubThresholds,

    /// Chatty pairs: calls between two services, in both directions, for one request of an entry.
    #[garde(dive)]
    pub chatty: WarnLevels,

    /// Temporal coupling of an edge, 0 to 1.
    #[garde(dive)]
    pub temporal: ShareLevels,

    /// Blast radius: share of the requests from outside that fail when a service does.
    #[garde(dive)]
    pub blast: ShareLevels,

    /// Single points: services that nearly all entries need.
    #[garde(dive)]
    pub single_point: SinglePointThresholds,

    /// Retry amplification.
    #[garde(dive)]
    pub retry: RetryThresholds,

    /// Time limits that are too short, or not there.
    #[garde(dive)]
    pub timeout: TimeoutThresholds,

    /// Services that do not pass on the headers by which calls are linked.
    #[garde(dive)]
    pub propagation: PropagationThresholds,
}

keys!(FindingThresholds {
    min_samples,
    min_failures,
    chain,
    fan_out,
    repeat,
    circular,
    availability,
    hub,
    chatty,
    temporal,
    blast,
    single_point,
    retry,
    timeout,
    propagation,
});

impl Default for FindingThresholds {
    fn default() -> Self {
        Self {
            min_samples: 50,
            min_failures: 20,
            chain: ChainThresholds::default(),
            fan_out: FanOutThresholds::default(),
            repeat: RepeatThresholds::default(),
            circular: CircularThresholds::default(),
            availability: AvailabilityThresholds::default(),
            hub: HubThresholds::default(),
            chatty: WarnLevels { warn: 5, critical: 10 },
            temporal: ShareLevels { warn: 0.5, critical: 0.8 },
            blast: ShareLevels { warn: 0.25, critical: 0.5 },
            single_point: SinglePointThresholds::default(),
            retry: RetryThresholds::default(),
            timeout: TimeoutThresholds::default(),
            propagation: PropagationThresholds::default(),
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

/// When the availability that dependencies cost is a finding.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct AvailabilityThresholds {
    /// Share of the requests of an entry that may fail because of its dependencies; ten times as much is critical.
    #[garde(range(min = 0.0, max = 1.0))]
    pub budget: f64,
}

keys!(AvailabilityThresholds { budget });

impl Default for AvailabilityThresholds {
    fn default() -> Self {
        Self { budget: 0.001 }
    }
}

/// When a service is a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct HubThresholds {
    /// Distinct services that call it.
    #[garde(range(min = 1, max = 1_000_000))]
    pub callers: u64,
    /// Distinct services that it calls.
    #[garde(range(min = 1, max = 1_000_000))]
    pub callees: u64,
}

keys!(HubThresholds { callers, callees });

impl Default for HubThresholds {
    fn default() -> Self {
        Self { callers: 5, callees: 5 }
    }
}

/// When a service is a single point that the entries depend on.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct SinglePointThresholds {
    /// Entries that there must be.
    #[garde(range(min = 1, max = 1_000_000))]
    pub min_entries: u64,
    /// Share of the entries that need the service for nearly every request.
    #[garde(dive)]
    pub entries: ShareLevels,
}

keys!(SinglePointThresholds { min_entries, entries });

impl Default for SinglePointThresholds {
    fn default() -> Self {
        Self { min_entries: 5, entries: ShareLevels { warn: 0.66, critical: 0.9 } }
    }
}

/// When repeating failed calls is a finding.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct RetryThresholds {
    /// Tries on the wire for one call that is meant: 1.1 is 10 % more load on the callee.
    #[garde(range(min = 1.0, max = 1_000_000.0))]
    pub warn: f64,
    /// From here on it is critical.
    #[garde(range(min = 1.0, max = 1_000_000.0))]
    pub critical: f64,
}

keys!(RetryThresholds { warn, critical });

impl Default for RetryThresholds {
    fn default() -> Self {
        Self { warn: 1.1, critical: 2.0 }
    }
}

/// When a time limit is a finding.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct TimeoutThresholds {
    /// Share of the calls that the caller gave up: more than 1 % means that its limit is below the callee's 99th
    /// percentile.
    #[garde(dive)]
    pub given_up: ShareLevels,
    /// A call that took this long, and that nobody gave up, shows that there is no limit: 100ms to 1h.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub endless: Duration,
}

keys!(TimeoutThresholds { given_up, endless });

impl Default for TimeoutThresholds {
    fn default() -> Self {
        Self { given_up: ShareLevels { warn: 0.01, critical: 0.05 }, endless: Duration::from_secs(30) }
    }
}

/// When lost context is a finding.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
pub struct PropagationThresholds {
    /// Share of a service's calls that no header links to a request: from here on it is a warning.
    #[garde(range(min = 0.0, max = 1.0))]
    pub lost: f64,
}

keys!(PropagationThresholds { lost });

impl Default for PropagationThresholds {
    fn default() -> Self {
        Self { lost: 0.1 }
    }
}

/// The shares, 0 to 1, from which on something is a warning, or critical: `warn` ≤ `critical`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields)]
#[garde(custom(|levels: &Self, _| ordered(&[("warn", levels.warn), ("critical", levels.critical)])))]
pub struct ShareLevels {
    /// From here on it is a warning.
    #[garde(range(min = 0.0, max = 1.0))]
    pub warn: f64,
    /// From here on it is critical.
    #[garde(range(min = 0.0, max = 1.0))]
    pub critical: f64,
}

keys!(ShareLevels { warn, critical });

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
fn ordered<N: PartialOrd + std::fmt::Display>(levels: &[(&str, N)]) -> garde::Result {
    for pair in levels.windows(2) {
        let [(low, below), (high, above)] = pair else { continue };
        if below > above {
            return Err(garde::Error::new(format!("`{low}` ({below}) must not be greater than `{high}` ({above})")));
        }
    }
    Ok(())
}
