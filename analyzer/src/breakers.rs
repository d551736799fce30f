//! What the circuit breakers of all proxies did, or would have done: per caller and destination, over all replicas.

mod history;

use std::collections::{BTreeMap, VecDeque};

use couplet_telemetry::breaker::{BreakerCounts, Count, Transition, WouldHave};
use couplet_telemetry::histogram::seconds;
use couplet_telemetry::report::Report;
use serde::{Deserialize, Serialize};

pub use history::{BreakerHistory, EdgeHistory, Step, Steps};

/// The breakers of all proxies.
#[derive(Debug, Default)]
pub struct Breakers {
    edges: BTreeMap<Key, Edge>,
    transitions: VecDeque<Transition>,
    /// Edges and replicas that are not kept apart, since there are too many.
    overflow: u64,
}

/// Caller, destination and class of calls.
type Key = (String, String, Option<String>);

#[derive(Debug, Default)]
struct Edge {
    counts: BreakerCounts,
    /// Where the breaker of each replica stood when it was last heard of.
    replicas: BTreeMap<String, Replica>,
    peak: u64,
    /// Why it opened the last time, and when.
    last_opened: Option<(String, String)>,
}

#[derive(Debug)]
struct Replica {
    state: String,
    mode: String,
}

/// What breakers did, for people and tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BreakerPage {
    /// By caller and destination.
    pub edges: Vec<BreakerEdge>,
    /// The last changes, the newest first.
    pub transitions: Vec<Transition>,
    /// Edges that are not shown, since there are too many.
    pub not_shown: u64,
}

/// The breakers of one caller's replicas for one destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BreakerEdge {
    /// Whose calls.
    pub from: String,
    /// To whom.
    pub to: String,
    /// The class of calls that it is for, where it is for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How many replicas stand where.
    pub states: BTreeMap<String, u32>,
    /// How many replicas observe, and how many enforce.
    pub modes: BTreeMap<String, u32>,
    /// Calls that were let through and ended, by what that counts as.
    pub calls: BTreeMap<String, u64>,
    /// Calls that were stopped.
    pub rejected: u64,
    /// Times that calls were stopped, or would have been.
    pub opened: u64,
    /// For how long, over all replicas.
    pub stopped_seconds: f64,
    /// The most calls of one replica that were under way at the same time.
    pub peak: u64,
    /// Calls that would have been stopped and were not.
    pub would_have: WouldHave,
    /// Why it opened the last time.
    pub last_reason: Option<String>,
    /// When that was.
    pub last_opened: Option<String>,
}

impl Breakers {
    /// Takes in what a report says.
    pub fn hear(&mut self, report: &Report) {
        for breaker in &report.breakers {
            let key = (report.origin.service.clone(), breaker.to.clone(), breaker.class.clone());
            if self.edges.len() >= MAX_EDGES && !self.edges.contains_key(&key) {
                self.overflow += 1;
                continue;
            }
            let edge = self.edges.entry(key).or_default();
            edge.counts.merge(&breaker.counts);
            edge.peak = edge.peak.max(breaker.peak);
            if edge.replicas.len() < MAX_REPLICAS || edge.replicas.contains_key(&report.origin.instance) {
                let replica = Replica { state: breaker.state.clone(), mode: breaker.mode.clone() };
                edge.replicas.insert(report.origin.instance.clone(), replica);
            } else {
                self.overflow += 1;
            }
            for transition in &breaker.transitions {
                if transition.to == "open" && transition.from != "half_open" {
                    edge.last_opened = Some((transition.ts.clone(), transition.reason.clone()));
                }
                if self.transitions.len() >= KEPT {
                    self.transitions.pop_front();
                }
                self.transitions.push_back(transition.clone());
            }
        }
    }

    /// What there is to say.
    #[must_use]
    pub fn page(&self) -> BreakerPage {
        let edges = self.edges.iter().map(|(key, edge)| edge.shown(key));
        let mut transitions: Vec<Transition> = self.transitions.iter().cloned().collect();
        // Reports of several proxies arrive in any order. The texts of times are all of one form, in UTC.
        transitions.sort_by(|one, other| other.ts.cmp(&one.ts));
        BreakerPage { edges: edges.collect(), transitions, not_shown: self.overflow }
    }
}

impl Edge {
    fn shown(&self, (from, to, class): &Key) -> BreakerEdge {
        let counts = &self.counts;
        let tally = |of: fn(&Replica) -> &String| {
            let mut tally: BTreeMap<String, u32> = BTreeMap::new();
            self.replicas.values().for_each(|replica| *tally.entry(of(replica).clone()).or_default() += 1);
            tally
        };
        let calls = counts.ended().map(|(count, n)| (count.as_str().to_owned(), n));
        let (last_opened, last_reason) = self.last_opened.clone().unzip();
        BreakerEdge {
            from: from.clone(),
            to: to.clone(),
            class: class.clone(),
            states: tally(|replica| &replica.state),
            modes: tally(|replica| &replica.mode),
            calls: calls.collect(),
            rejected: counts.get(Count::Rejected),
            opened: counts.get(Count::Opened),
            stopped_seconds: seconds(counts.get(Count::Stopped)),
            peak: self.peak,
            would_have: WouldHave::from(counts),
            last_reason,
            last_opened,
        }
    }
}

/// Edges that are kept apart.
const MAX_EDGES: usize = 20_000;
/// Replicas of one service that are kept apart.
const MAX_REPLICAS: usize = 1_000;
/// Changes that are kept.
const KEPT: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_telemetry::breaker::BreakerReport;
    use couplet_telemetry::report::Origin;

    fn report(instance: &str, state: &str, failed: u64) -> Report {
        let mut counts = BreakerCounts::default();
        [(Count::ShadowFailed, failed), (Count::ShadowSucceeded, 1), (Count::Opened, 1), (Count::Failure, 7)]
            .into_iter()
            .for_each(|(count, n)| counts.add(count, n));
        Report {
            origin: Origin { service: "shop".into(), instance: instance.into(), version: None, inbound: None },
            sequence: 1,
            start: 0,
            end: 1,
            paths: Vec::new(),
            calls: Vec::new(),
            opaque: Vec::new(),
            propagation: couplet_telemetry::propagation::Propagation::default(),
            expected: Vec::new(),
            breakers: vec![BreakerReport {
                to: "stock".into(),
                class: None,
                state: state.into(),
                mode: "observe".into(),
                peak: failed,
                counts,
                transitions: Vec::new(),
            }],
            losses: Vec::new(),
        }
    }

    #[test]
    fn the_breakers_of_all_replicas_are_one_edge() {
        let mut breakers = Breakers::default();
        for (instance, state, failed) in [("a", "closed", 10), ("b", "open", 20), ("b", "half_open", 9)] {
            breakers.hear(&report(instance, state, failed));
        }
        let page = breakers.page();
        let [edge] = page.edges.as_slice() else { panic!("{page:?}") };
        assert_eq!((edge.from.as_str(), edge.to.as_str()), ("shop", "stock"));
        let states: Vec<_> = edge.states.iter().map(|(state, n)| (state.as_str(), *n)).collect();
        assert_eq!(states, [("closed", 1), ("half_open", 1)], "where each stands now");
        assert_eq!((edge.would_have.failed, edge.would_have.rejected, edge.opened, edge.peak), (39, 42, 3, 20));
        assert_eq!(edge.would_have.precision, Some(39.0 / 42.0));
    }

    #[test]
    fn a_class_of_calls_is_an_edge_of_its_own() {
        let mut breakers = Breakers::default();
        let mut report = report("a", "closed", 10);
        breakers.hear(&report);
        report.breakers[0].class = Some("export".into());
        breakers.hear(&report);
        let classes: Vec<_> = breakers.page().edges.into_iter().map(|edge| (edge.class, edge.opened)).collect();
        assert_eq!(classes, [(None, 1), (Some("export".to_owned()), 1)]);
    }
}
