//! The configuration of `couplet analyzer`: the one program that sees the whole system.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{log::Log, overlay::keys, secret::Secret, thresholds::FindingThresholds, units, units::ByteSize};

/// The configuration of the Couplet analyzer. Nothing is required.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(title = "Couplet analyzer", deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct AnalyzerConfig {
    /// Where the page, the API and the receiver of reports are served.
    #[schemars(schema_with = "units::address_schema")]
    pub listen: SocketAddr,

    /// Directory of the history. Without it everything is kept in memory only.
    pub data: Option<PathBuf>,

    /// A recording to show: then nothing is received, and `data` must be left out.
    pub recording: Option<PathBuf>,

    /// Name of the system, shown on the page.
    #[garde(inner(length(min = 1, max = 255)))]
    pub name: Option<String>,

    /// Bearer token that reports must carry. Without it every report is accepted.
    pub token: Option<Secret>,

    /// File with the architecture that the system is held against: layers, owners, forbidden calls, budgets.
    pub architecture: Option<PathBuf>,

    /// What the analyzer keeps at most.
    #[garde(dive)]
    pub limits: AnalyzerLimits,

    /// How traces of other exporters are put together.
    #[garde(dive)]
    pub traces: Traces,

    /// From where on something is a finding.
    #[garde(dive)]
    pub findings: FindingThresholds,

    /// How often a new snapshot of the graph is published: 100ms to 1m.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(60))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub snapshot_every: Duration,

    /// What the analyzer logs.
    #[garde(dive)]
    pub log: Log,
}

keys!(AnalyzerConfig {
    listen,
    data,
    recording,
    name,
    token,
    architecture,
    limits,
    traces,
    findings,
    snapshot_every,
    log
});

impl Default for AnalyzerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 15400)),
            data: None,
            recording: None,
            name: None,
            token: None,
            architecture: None,
            limits: AnalyzerLimits::default(),
            traces: Traces::default(),
            findings: FindingThresholds::default(),
            snapshot_every: Duration::from_secs(1),
            log: Log::default(),
        }
    }
}

/// How spans wait for the rest of their trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Traces {
    /// A trace is complete when no span of it has come for so long: 100ms to 5m.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(300))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub quiet: Duration,

    /// No trace waits longer than this: 100ms to 1h.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub longest: Duration,

    /// Memory of spans that wait; beyond it, the trace that has waited longest is taken as it is: 1MiB to 64GiB.
    #[garde(custom(units::bytes_between(ByteSize::mib(1), ByteSize::gib(64))))]
    pub bytes: ByteSize,

    /// Spans that are taken in within one second; exporters are asked to send the others again.
    #[garde(range(min = 1, max = 10_000_000))]
    pub spans_per_second: usize,
}

keys!(Traces { quiet, longest, bytes, spans_per_second });

impl Default for Traces {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(10),
            longest: Duration::from_secs(60),
            bytes: ByteSize::mib(64),
            spans_per_second: 50_000,
        }
    }
}

/// What the analyzer keeps at most. What exceeds a limit is dropped and counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct AnalyzerLimits {
    /// Services in the graph.
    #[garde(range(min = 1, max = 1_000_000))]
    pub services: usize,

    /// Endpoints, over all services.
    #[garde(range(min = 1, max = 10_000_000))]
    pub endpoints: usize,

    /// Edges between endpoints.
    #[garde(range(min = 1, max = 10_000_000))]
    pub edges: usize,

    /// Call paths.
    #[garde(range(min = 1, max = 10_000_000))]
    pub paths: usize,

    /// Paths of which example requests are kept: their traces, three of each at most.
    #[garde(range(min = 1, max = 10_000_000))]
    pub examples: usize,

    /// Proxies that report.
    #[garde(range(min = 1, max = 1_000_000))]
    pub proxies: usize,

    /// Size of one report as received: 64KiB to 64MiB.
    #[garde(custom(units::bytes_between(ByteSize::kib(64), ByteSize::mib(64))))]
    pub report_bytes: ByteSize,

    /// Findings kept, the gravest first.
    #[garde(range(min = 1, max = 100_000))]
    pub findings: usize,

    /// Pages open at the same time.
    #[garde(range(min = 1, max = 10_000))]
    pub ui_clients: usize,

    /// Size of the history on disk: 1MiB to 1TiB.
    #[garde(custom(units::bytes_between(ByteSize::mib(1), ByteSize::gib(1024))))]
    pub history_bytes: ByteSize,

    /// Memory of the slots that sliding windows are made of, on top of what the graph takes: 1MiB to 64GiB.
    #[garde(custom(units::bytes_between(ByteSize::mib(1), ByteSize::gib(64))))]
    pub slot_bytes: ByteSize,

    /// Age of the oldest history kept: 1m to 10 years.
    #[garde(custom(units::between(Duration::from_secs(60), Duration::from_secs(3650 * 24 * 60 * 60))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub history_age: Duration,
}

keys!(AnalyzerLimits {
    services,
    endpoints,
    edges,
    paths,
    examples,
    proxies,
    report_bytes,
    findings,
    ui_clients,
    slot_bytes,
    history_bytes,
    history_age,
});

impl Default for AnalyzerLimits {
    fn default() -> Self {
        Self {
            services: 5_000,
            endpoints: 50_000,
            edges: 100_000,
            paths: 500_000,
            examples: 50_000,
            proxies: 10_000,
            report_bytes: ByteSize::mib(8),
            findings: 1_000,
            ui_clients: 64,
            slot_bytes: ByteSize::mib(128),
            history_bytes: ByteSize::gib(1),
            history_age: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}
