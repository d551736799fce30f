//! How a running analyzer judges: by its thresholds and its architecture; and how many findings it keeps.

use std::sync::Arc;

use couplet_config::{AnalyzerConfig, Architecture, FindingThresholds, ServiceRole};

use crate::coupling::flow::Flows;
use crate::coupling::roles::roles;
use crate::findings::{Finding, findings, findings_in};
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
        let mut found = findings(snapshot, &self.thresholds, &self.architecture);
        found.truncate(self.kept);
        found
    }

    /// The gravest findings, and how much of a distributed monolith a snapshot shows.
    #[must_use]
    pub fn judge(&self, snapshot: &Snapshot) -> (Vec<Finding>, Score) {
        let flows = Flows::of(snapshot);
        let mut found = findings_in(snapshot, &flows, &self.thresholds, &self.architecture);
        found.truncate(self.kept);
        (found, Scorer::new(snapshot, &self.thresholds, &self.architecture).score(&flows))
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
