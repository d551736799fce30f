//! A demo system as a file: its services, the load on it, what happens over time, and what an analyzer should find.
//!
//! Only the verdict reads `planted` and `absent`; neither sidecars nor analyzer ever see a scenario.

use std::{collections::BTreeMap, time::Duration};

use couplet_analyzer::findings::{Rule, Severity};
use serde::Deserialize;

use super::values::{self, EndpointName, EndpointRef, Work};

/// A demo system. Every name in it refers to something that exists, and every request in it ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Its name, as `--scenario` takes it.
    pub(crate) name: String,
    /// One line for the banner.
    pub(crate) about: String,
    /// The services by name.
    pub(crate) services: BTreeMap<String, ServiceSpec>,
    /// Who calls from outside, and how often.
    pub(crate) load: Vec<Entry>,
    /// What changes while it runs.
    #[serde(default)]
    pub(crate) timeline: Vec<Event>,
    /// Problems that are there and must be found.
    #[serde(default)]
    pub(crate) planted: Vec<Planted>,
    /// Findings that must not be there.
    #[serde(default)]
    pub(crate) absent: Vec<Absent>,
}

/// A service: what it answers, and whether it passes trace headers on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceSpec {
    /// Whether it forwards `traceparent` and `tracestate` to the services it calls.
    #[serde(default = "yes")]
    pub(crate) forward_headers: bool,
    /// What it does for a request, by method and path.
    pub(crate) endpoints: BTreeMap<EndpointName, EndpointSpec>,
}

impl ServiceSpec {
    /// The services it calls, whether from the start or after an event; each once, sorted.
    pub(crate) fn callees(&self) -> Vec<&str> {
        let mut callees: Vec<_> =
            self.endpoints.values().flat_map(EndpointSpec::calls).map(|call| call.to.service.as_str()).collect();
        callees.sort_unstable();
        callees.dedup();
        callees
    }
}

/// What a service does for one request: first its own work, then its steps, one after the other.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointSpec {
    /// Time of its own work.
    pub(crate) work: Work,
    /// Share of requests that fail by themselves, 0 to 1, before any step.
    #[serde(default)]
    pub(crate) failures: f64,
    /// The calls it makes.
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
}

impl EndpointSpec {
    /// Every call of every step.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.steps.iter().flat_map(|step| match step {
            Step::One(call) => std::slice::from_ref(call),
            Step::Together(calls) => calls,
        })
    }
}

/// One step of an endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "StepText")]
pub(crate) enum Step {
    /// One call, possibly repeated.
    One(Call),
    /// Several calls at the same time; the step ends when all have ended.
    Together(Vec<Call>),
}

/// A call of another service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// Whom it calls.
    #[serde(rename = "call")]
    pub(crate) to: EndpointRef,
    /// How often.
    #[serde(default = "once")]
    pub(crate) times: u32,
    /// Whether the repeats run at the same time instead of one after the other.
    #[serde(default)]
    pub(crate) parallel: bool,
    /// How often a failed call is tried again.
    #[serde(default)]
    pub(crate) retries: u32,
    /// Whether the caller succeeds although this call failed.
    #[serde(default)]
    pub(crate) optional: bool,
    /// Whether it is made only after an event said so.
    #[serde(default)]
    pub(crate) dormant: bool,
}

/// A step as it is written: a call, or `together:` with several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    call: Option<EndpointRef>,
    together: Option<Vec<Call>>,
    times: Option<u32>,
    #[serde(default)]
    parallel: bool,
    #[serde(default)]
    retries: u32,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    dormant: bool,
}

impl TryFrom<StepText> for Step {
    type Error = &'static str;

    fn try_from(text: StepText) -> Result<Self, Self::Error> {
        let StepText { call, together, times, parallel, retries, optional, dormant } = text;
        match (call, together) {
            (Some(to), None) => {
                Ok(Self::One(Call { to, times: times.unwrap_or(1), parallel, retries, optional, dormant }))
            }
            (None, Some(_)) if times.is_some() || parallel || retries > 0 || optional || dormant => {
                Err("the calls of `together` have options, `together` itself has none")
            }
            (None, Some(calls)) => Ok(Self::Together(calls)),
            (Some(_), Some(_)) => Err("a step is either a `call` or `together`, not both"),
            (None, None) => Err("a step needs a `call` or `together`"),
        }
    }
}

/// Requests from outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// What is requested.
    pub(crate) entry: EndpointRef,
    /// How often per second, on average.
    pub(crate) rate: f64,
}

/// Something that happens while the demo runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    /// When, counted from the start of the load.
    #[serde(deserialize_with = "values::duration")]
    pub(crate) at: Duration,
    /// To whom.
    pub(crate) service: String,
    /// What changes.
    pub(crate) change: Change,
    /// What the spectator is told.
    pub(crate) say: String,
}

/// A change in how a service behaves. Changes add up until `recover`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// Its own work takes this many times as long.
    SlowDown(f64),
    /// This share of its requests fails, 0 to 1.
    Fail(f64),
    /// It starts to make its dormant calls to this service.
    StartCalling(String),
    /// It is as fast and as reliable as in the beginning.
    Recover,
}

/// A problem that the analyzer must find.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Planted {
    /// The problem in words.
    pub(crate) problem: String,
    /// The rule that finds it.
    pub(crate) rule: Rule,
    /// How grave the finding must at least be.
    #[serde(default = "info")]
    pub(crate) severity: Severity,
    /// Services that the finding must name.
    pub(crate) services: Vec<String>,
    /// An endpoint that the finding must name.
    pub(crate) endpoint: Option<EndpointRef>,
}

/// A kind of finding that must not be there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Absent {
    /// The rule.
    pub(crate) rule: Rule,
    /// From which severity on.
    #[serde(default = "info")]
    pub(crate) severity: Severity,
}

fn yes() -> bool {
    true
}

fn once() -> u32 {
    1
}

fn info() -> Severity {
    Severity::Info
}
