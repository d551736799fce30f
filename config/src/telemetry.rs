//! What a proxy measures, and how much memory its measurements may take.

use std::time::Duration;

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{names, overlay::keys, units, units::ByteSize};

/// What is measured, and how much memory that may take. What exceeds a bound is counted in an overflow group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Telemetry {
    /// Measure. With `false` the proxy forwards, with all its limits and counters, and nothing else: it links no calls,
    /// adds no header fields, and its reports say only that it is there.
    pub enabled: bool,

    /// How much time one report covers: 100ms to 5m.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(300))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub window: Duration,

    /// Distinct call paths kept per window.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_paths: usize,

    /// Distinct endpoints of this service.
    #[garde(range(min = 1, max = 100_000))]
    pub max_endpoints: usize,

    /// Hops from the root of a path after which a path is not followed further.
    #[garde(range(min = 1, max = 255))]
    pub max_depth: usize,

    /// Distinct pairs of path and callee endpoint kept per window.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_callees: usize,

    /// Link calls that no header links by when they are made. What comes of it is always labelled as inferred.
    pub timing: bool,

    /// Size of one encoded report: 64KiB to 64MiB.
    #[garde(custom(units::bytes_between(ByteSize::kib(64), ByteSize::mib(64))))]
    pub max_report_bytes: ByteSize,
}

keys!(Telemetry { enabled, window, max_paths, max_endpoints, max_depth, max_callees, timing, max_report_bytes });

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Duration::from_secs(5),
            max_paths: 2048,
            max_endpoints: 512,
            max_depth: 32,
            max_callees: 2048,
            timing: true,
            max_report_bytes: ByteSize::mib(4),
        }
    }
}

/// How requests are grouped into endpoints: by `templates`, else by the looks of each path segment and by learning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Endpoints {
    /// Path templates such as `/orders/{id}`; the first that matches a path wins. Learning changes none of them.
    #[garde(length(max = 1000), inner(custom(names::template)))]
    pub templates: Vec<String>,

    /// Learn which path segments stand for many values. Without it only segments that look like ids become `{id}`.
    pub learn: bool,

    /// Distinct values that a path segment may have; with one more it becomes `{id}`: 2 to 1000. Only requests that
    /// succeed count.
    #[garde(range(min = 2, max = 1000))]
    pub max_values: usize,
}

keys!(Endpoints { templates, learn, max_values });

impl Default for Endpoints {
    fn default() -> Self {
        Self { templates: Vec::new(), learn: true, max_values: 50 }
    }
}
