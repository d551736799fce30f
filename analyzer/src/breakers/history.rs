//! What breakers saw over time, in the steps in which it is kept: what other rules can be tried on.

use std::collections::BTreeMap;

use couplet_telemetry::breaker::{BreakerCounts, Count};
use couplet_telemetry::histogram::{Histogram, seconds, upper_bound};
use couplet_telemetry::report::Report;
use serde::{Deserialize, Serialize};

/// All edges over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BreakerHistory {
    /// By caller and destination.
    pub edges: Vec<EdgeHistory>,
    /// Edges that are not shown, since there are too many.
    pub not_shown: u64,
}

/// The calls of one service to one destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeHistory {
    /// Whose calls.
    pub from: String,
    /// To whom.
    pub to: String,
    /// The class of calls, where they are of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// By replica of the caller: each has a breaker of its own.
    pub replicas: BTreeMap<String, Vec<Step>>,
    /// How long the calls of all replicas took, by when the step begins that they are in. Pairs of seconds (the upper bound
    /// of a bucket 9 % wide) and calls.
    pub durations: BTreeMap<u64, Vec<(f64, u64)>>,
}

/// A stretch of time of which nothing shorter is kept. Times in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its beginning.
    pub start: u64,
    /// Its end.
    pub end: u64,
    /// What the breaker counted, by the words of [`Count`]; without zeros.
    pub counts: BTreeMap<String, u64>,
}

impl Step {
    /// One of the counts.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.counts.get(count.as_str()).copied().unwrap_or(0)
    }
}

/// Puts the history together from reports, each of a step.
#[derive(Debug, Default)]
pub struct Steps {
    edges: BTreeMap<super::Key, Edge>,
    not_shown: u64,
}

#[derive(Debug, Default)]
struct Edge {
    replicas: BTreeMap<String, BTreeMap<(u64, u64), BreakerCounts>>,
    durations: BTreeMap<u64, Histogram>,
}

impl Steps {
    /// Takes in a report of the step from `start` to `end`.
    pub fn hear(&mut self, report: &Report, (start, end): (u64, u64)) {
        let service = &report.origin.service;
        for breaker in &report.breakers {
            let key = (service.clone(), breaker.to.clone(), breaker.class.clone());
            if self.edges.len() >= MAX_EDGES && !self.edges.contains_key(&key) {
                self.not_shown += 1;
                continue;
            }
            let replicas = &mut self.edges.entry(key).or_default().replicas;
            if replicas.len() >= MAX_REPLICAS && !replicas.contains_key(&report.origin.instance) {
                self.not_shown += 1;
                continue;
            }
            let steps = replicas.entry(report.origin.instance.clone()).or_default();
            steps.entry((start, end)).or_default().merge(&breaker.counts);
        }
        for call in &report.calls {
            let key = (service.clone(), call.callee.service().to_owned(), None);
            if self.edges.len() < MAX_EDGES || self.edges.contains_key(&key) {
                let edge = self.edges.entry(key).or_default();
                edge.durations.entry(start).or_default().merge(&call.stats.duration);
            }
        }
    }

    /// All of it, in order.
    #[must_use]
    pub fn finish(mut self) -> BreakerHistory {
        // How long calls took is known of all calls to a destination together.
        let classes: Vec<_> = self.edges.keys().filter(|(_, _, class)| class.is_some()).cloned().collect();
        for (from, to, class) in classes {
            let all = self.edges.get(&(from.clone(), to.clone(), None)).map(|edge| edge.durations.clone());
            if let (Some(durations), Some(edge)) = (all, self.edges.get_mut(&(from, to, class))) {
                edge.durations = durations;
            }
        }
        // Destinations beyond the limit of a proxy have no breaker.
        let edges = self.edges.into_iter().filter(|(_, edge)| !edge.replicas.is_empty());
        let edges = edges.map(|((from, to, class), edge)| EdgeHistory {
            from,
            to,
            class,
            replicas: edge.replicas.into_iter().map(|(instance, steps)| (instance, steps_of(steps))).collect(),
            durations: edge.durations.iter().map(|(start, durations)| (*start, pairs(durations))).collect(),
        });
        BreakerHistory { edges: edges.collect(), not_shown: self.not_shown }
    }
}

fn steps_of(steps: BTreeMap<(u64, u64), BreakerCounts>) -> Vec<Step> {
    let step = |((start, end), counts): ((u64, u64), BreakerCounts)| Step {
        start,
        end,
        counts: counts.iter().map(|(count, n)| (count.as_str().to_owned(), n)).collect(),
    };
    steps.into_iter().map(step).collect()
}

fn pairs(durations: &Histogram) -> Vec<(f64, u64)> {
    let zeros = (durations.zeros() > 0).then(|| (0.0, durations.zeros()));
    let longest = seconds(durations.max());
    let buckets = durations.buckets().filter(|(_, n)| *n > 0);
    zeros.into_iter().chain(buckets.map(|(index, n)| (upper_bound(index).min(longest), n))).collect()
}

/// Edges that are kept apart.
const MAX_EDGES: usize = 20_000;
/// Replicas of one service that are kept apart.
const MAX_REPLICAS: usize = 200;
