//! How a running analyzer judges: by its thresholds and its architecture; and how many findings it keeps.

use std::sync::Arc;

use couplet_config::{AnalyzerConfig, Architecture, FindingThresholds};

use crate::findings::{Finding, findings};
use crate::graph::Snapshot;

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

    /// Less than so many requests say nothing.
    #[must_use]
    pub fn min_samples(&self) -> u64 {
        self.thresholds.min_samples
    }
}
