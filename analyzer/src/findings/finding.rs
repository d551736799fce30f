//! What every finding carries.

use std::collections::BTreeMap;
use std::fmt;

use couplet_config::{Levels, ShareLevels, WarnLevels};
use couplet_telemetry::outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::coupling::chain::QUANTILE;
use crate::coupling::interval::beyond;
use crate::graph::{EndpointIx, Snapshot};

/// One thing that is wrong, or worth knowing, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Rule and fingerprint, such as `SC-3fa9c1`: the same problem keeps it over restarts, replicas and traffic levels.
    pub id: String,
    /// What kind of problem.
    pub rule: Rule,
    /// How grave.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// One or two sentences with figures.
    pub summary: String,
    /// The services that take part, sorted.
    pub services: Vec<String>,
    /// The endpoints that take part, as `service endpoint`, sorted.
    pub endpoints: Vec<String>,
    /// The chain or cycle, in order, where there is one.
    pub path: Vec<Step>,
    /// What it rests on.
    pub evidence: Evidence,
    /// Why it matters: two sentences.
    pub why: String,
    /// Ways out, the most promising first.
    pub suggestions: Vec<String>,
    /// Who looks after the services, as the architecture says; sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Requests that show it, where any had a trace; the most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<ExampleRequest>,
}

impl Finding {
    /// A finding that says nothing yet.
    pub(super) fn blank(rule: Rule) -> Self {
        Self {
            id: String::new(),
            rule,
            severity: Severity::Info,
            title: String::new(),
            summary: String::new(),
            services: Vec::new(),
            endpoints: Vec::new(),
            path: Vec::new(),
            evidence: Evidence {
                n: 0,
                linked: outcome::Evidence::Exact,
                confidence: 0.0,
                formula: String::new(),
                operands: BTreeMap::new(),
            },
            why: String::new(),
            suggestions: Vec::new(),
            owners: Vec::new(),
            examples: Vec::new(),
        }
    }
}

/// A request that shows what a finding says, by its trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExampleRequest {
    /// The trace: 32 hexadecimal digits.
    pub trace: String,
    /// Why this one: `slowest`, `failed` or `busiest` of those handled where it was seen.
    pub what: String,
    /// Where it was seen, as `service endpoint`.
    pub endpoint: String,
    /// When it ended, or the window in which it did, seconds since the Unix epoch.
    pub at: f64,
    /// How long it took there, seconds.
    pub seconds: f64,
    /// How it ended there.
    pub outcome: outcome::Outcome,
    /// Calls that were waited for there.
    pub calls: u32,
    /// Whether the trace was said to be recorded; else only logs may know it.
    pub sampled: bool,
}

/// One endpoint of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the service.
    pub service: String,
    /// Its endpoint.
    pub endpoint: String,
}

/// What a finding rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// How many requests were seen.
    pub n: u64,
    /// The weakest link between the calls.
    pub linked: outcome::Evidence,
    /// How likely it is that the finding is true, 0 to 1: the chance that what was counted is really beyond the
    /// threshold, times how far the links between calls can be relied on.
    #[serde(default)]
    pub confidence: f64,
    /// How it was judged.
    pub formula: String,
    /// The operands of the formula, by name.
    #[serde(flatten)]
    pub operands: BTreeMap<String, Value>,
}

/// The full id of a finding: a fingerprint over the rule, a variant of it, and sorted names.
pub(super) fn id<'a>(rule: Rule, variant: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let mut hash = Xxh3::new();
    for part in [rule.as_str(), variant].into_iter().chain(names) {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    format!("{rule}-{:016x}", hash.digest())
}

/// An endpoint as a step of a chain.
pub(super) fn step(snapshot: &Snapshot, endpoint: EndpointIx) -> Step {
    let row = &snapshot[endpoint];
    Step { service: snapshot[row.service].name.to_string(), endpoint: row.name.to_string() }
}

/// Sorted, every name once.
pub(super) fn sorted(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// How grave a value is; none where it is below all levels.
pub(super) fn grade(value: u32, levels: &Levels) -> Option<Severity> {
    match value {
        value if value >= levels.critical => Some(Severity::Critical),
        value if value >= levels.warn => Some(Severity::Warn),
        value if value >= levels.info => Some(Severity::Info),
        _ => None,
    }
}

/// How grave a value is where nothing is mere information.
pub(super) fn grade_warn(value: u32, levels: &WarnLevels) -> Option<Severity> {
    match value {
        value if value >= levels.critical => Some(Severity::Critical),
        value if value >= levels.warn => Some(Severity::Warn),
        _ => None,
    }
}

/// How grave a share is; none where it is below all levels.
pub(super) fn grade_share(value: f64, levels: &ShareLevels) -> Option<Severity> {
    // A share of counts that should meet a level exactly may miss it by the last digit.
    match value + 1e-9 {
        value if value >= levels.critical => Some(Severity::Critical),
        value if value >= levels.warn => Some(Severity::Warn),
        _ => None,
    }
}

/// The confidence of a finding from the chance that counting gives and the weakest link. An inferred link is right nine
/// times of ten, or it would not have been made; of unlinked calls only the edge is certain.
pub(super) fn confidence(chance: f64, linked: outcome::Evidence) -> f64 {
    let link = match linked {
        outcome::Evidence::Exact => 1.0,
        outcome::Evidence::Inferred => 0.9,
        outcome::Evidence::Unknown => 0.5,
    };
    ((chance * link).clamp(0.0, 1.0) * 1e3).round() / 1e3
}

/// The chance that a 95th percentile is really at a level or above, when `beyond` of `n` values are.
pub(super) fn chance_of_quantile(above: u64, n: u64) -> f64 {
    beyond(above, n, 1.0 - QUANTILE)
}

/// The kinds of problems. A closed list; the codes are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Synchronous chain.
    SC,
    /// Chain availability.
    CA,
    /// Fan-out hotspot.
    FO,
    /// Circular flow.
    CY,
    /// Hub or orchestrator.
    HB,
    /// Chatty pair.
    CH,
    /// Repeated call (1+N).
    NP,
    /// Temporal coupling of an edge.
    TC,
    /// Blast radius.
    BR,
    /// Single point.
    SP,
    /// Retry amplification.
    RT,
    /// Time limit too short, or none.
    TO,
    /// Layer violation.
    LV,
    /// Forbidden edge.
    FB,
    /// Context not propagated.
    PR,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 15] = [
        Rule::SC,
        Rule::CA,
        Rule::FO,
        Rule::CY,
        Rule::HB,
        Rule::CH,
        Rule::NP,
        Rule::TC,
        Rule::BR,
        Rule::SP,
        Rule::RT,
        Rule::TO,
        Rule::LV,
        Rule::FB,
        Rule::PR,
    ];

    /// The code.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::SC => "SC",
            Rule::CA => "CA",
            Rule::FO => "FO",
            Rule::CY => "CY",
            Rule::HB => "HB",
            Rule::CH => "CH",
            Rule::NP => "NP",
            Rule::TC => "TC",
            Rule::BR => "BR",
            Rule::SP => "SP",
            Rule::RT => "RT",
            Rule::TO => "TO",
            Rule::LV => "LV",
            Rule::FB => "FB",
            Rule::PR => "PR",
        }
    }

    /// What the code stands for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rule::SC => "synchronous chain",
            Rule::CA => "chain availability",
            Rule::FO => "fan-out hotspot",
            Rule::CY => "circular flow",
            Rule::HB => "hub",
            Rule::CH => "chatty pair",
            Rule::NP => "repeated call (1+N)",
            Rule::TC => "temporal coupling",
            Rule::BR => "blast radius",
            Rule::SP => "single point",
            Rule::RT => "retry amplification",
            Rule::TO => "time limit",
            Rule::LV => "layer violation",
            Rule::FB => "forbidden edge",
            Rule::PR => "context not propagated",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Should be looked at.
    Warn,
    /// Endangers the system.
    Critical,
}

impl Severity {
    /// All of them, the least grave first.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warn, Severity::Critical];

    /// The word for labels and flags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Critical => "critical",
        }
    }

    /// The severity that [`Severity::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == word)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
