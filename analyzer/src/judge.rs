//! How a running analyzer judges: by its thresholds and its architecture; and how many findings it keeps.

use std::sync::Arc;

use couplet_config::{AnalyzerConfig, Architecture, FindingThresholds, ServiceRole};

use crate::coupling::flow::{EachFlow, Flows, Passing};
use crate::coupling::roles::roles;
use crate::findings::{Finding, findings_in};
use crate::graph::Snapshot;
use crate::score::{Score, Scorer};
use crate::whatif::{BestCut, Cut, WhatIf, best_cuts, what_if};

/// Finds what is wrong with snapshots, always by the same measure.
#[derive(Debug, Clone)]
pub struct Judge {
    thresholds: FindingThresholds,
    architecture: Arc<Architecture>,
    kept: usize,
}

impl Judge {
    /// Judges as the configuration says, and holds the system against the architecture.
    #[must_use]
    pub fn new(config: &AnalyzerConfig, architecture: Architecture) -> Self {
        Self { thresholds: config.findings.clone(), architecture: Arc::new(architecture), kept: config.limits.findings }
    }

    /// The gravest findings, as many as are kept.
    #[must_use]
    pub fn findings(&self, snapshot: &Snapshot) -> Vec<Finding> {
        with_flows(snapshot, |flows| self.findings_in(snapshot, flows))
    }

    fn findings_in(&self, snapshot: &Snapshot, flows: &dyn EachFlow) -> Vec<Finding> {
        let mut found = findings_in(snapshot, flows, &self.thresholds, &self.architecture);
        found.truncate(self.kept);
        found.shrink_to_fit();
        found
    }

    /// The gravest findings, and how much of a distributed monolith a snapshot shows.
    #[must_use]
    pub fn judge(&self, snapshot: &Snapshot) -> (Vec<Finding>, Score) {
        with_flows(snapshot, |flows| {
            let found = self.findings_in(snapshot, flows);
            (found, Scorer::new(snapshot, &self.thresholds, &self.architecture).score(flows))
        })
    }

    /// What part every service of a snapshot plays, in their order.
    #[must_use]
    pub fn roles(&self, snapshot: &Snapshot) -> Vec<ServiceRole> {
        roles(snapshot, &self.architecture)
    }

    /// What cuts would make of a snapshot.
    #[must_use]
    pub fn what_if(&self, snapshot: &Snapshot, cuts: &[Cut]) -> WhatIf {
        what_if(snapshot, &self.thresholds, &self.architecture, cuts)
    }

    /// At most `k` cuts, the best first.
    #[must_use]
    pub fn best_cuts(&self, snapshot: &Snapshot, k: usize) -> Vec<BestCut> {
        best_cuts(snapshot, &self.thresholds, &self.architecture, k)
    }

    /// Less than so many requests say nothing.
    #[must_use]
    pub fn min_samples(&self) -> u64 {
        self.thresholds.min_samples
    }
}

/// The flows of a snapshot of more paths are not kept.
const LARGE: usize = 100_000;

fn with_flows<T>(snapshot: &Snapshot, work: impl FnOnce(&dyn EachFlow) -> T) -> T {
    if snapshot.paths().len() > LARGE { work(&Passing::of(snapshot)) } else { work(&Flows::of(snapshot)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{chain, on, traffic};

    #[test]
    fn flows_that_pass_are_judged_as_those_that_are_kept() {
        let stock = || on("stock", "GET /{id}").takes(9).calls(1, chain(&["db"]));
        let failing = on("web", "GET /").fails().calls(9, stock().fails());
        let mut all = traffic().of(100, &failing).of(300, &on("web", "GET /").calls(9, stock()));
        for n in 0..8 {
            let deep = chain(&["auth", "users", "teams", "rights", "rules", "db"]);
            all = all
                .of(60, &on(&format!("edge-{n}"), "GET /").takes(3).calls(1, deep).calls(2, chain(&["stock", "db"])));
        }
        let snapshot = all.snapshot();
        let judge = Judge::new(&AnalyzerConfig::default(), Architecture::default());
        let (kept, passing) = (Flows::of(&snapshot), Passing::of(&snapshot));
        let seen = |flows: &dyn EachFlow| {
            let mut nodes = Vec::new();
            flows.each(&mut |flow| nodes.push((flow.entry, flow.requests, flow.nodes.clone())));
            (nodes, flows.requests())
        };
        assert_eq!(seen(&passing), seen(&kept));
        assert_eq!(seen(&kept).0.len(), 9);
        let found = judge.findings_in(&snapshot, &kept);
        let rules: std::collections::BTreeSet<_> = found.iter().map(|finding| finding.rule.as_str()).collect();
        assert!(["BR", "CA", "CH", "SP"].iter().all(|rule| rules.contains(rule)), "{rules:?}");
        assert_eq!(judge.findings_in(&snapshot, &passing), found);
        let scorer = Scorer::new(&snapshot, &judge.thresholds, &judge.architecture);
        assert_eq!(scorer.score(&passing), scorer.score(&kept));
        assert_eq!(judge.judge(&snapshot), (found, scorer.score(&kept)));
    }
}
