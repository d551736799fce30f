//! How much of the truth is found, and how much of what is found is true.

use std::collections::{BTreeMap, BTreeSet};

use couplet_analyzer::findings::{Finding, Rule, Severity, findings};
use couplet_analyzer::graph::{Graph, GraphLimits, Snapshot};
use couplet_config::{Architecture, ConfigFile, FindingThresholds, Sources};
use couplet_telemetry::otlp::{self, Bounds};
use couplet_telemetry::report::Report;

use super::plant::Fleet;

/// The rules of which the truth is known.
pub(crate) const RULES: [Rule; 6] = [Rule::SC, Rule::FO, Rule::CY, Rule::NP, Rule::HB, Rule::FB];

/// Counts over fleets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) right: u32,
    pub(crate) wrong: u32,
    pub(crate) missed: u32,
    /// Found, but not as grave as it is, or graver.
    pub(crate) misgraded: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.missed += other.missed;
        self.misgraded += other.misgraded;
    }

    /// Share of what is found that is true; 1 where nothing is found.
    pub(crate) fn precision(&self) -> f64 {
        share(self.right, self.right + self.wrong)
    }

    /// Share of the truth that is found; 1 where there is none.
    pub(crate) fn recall(&self) -> f64 {
        share(self.right, self.right + self.missed)
    }
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 1.0 } else { f64::from(part) / f64::from(whole) }
}

/// What an analyzer with default thresholds makes of what the sidecars send, against the truth. Also whatever is wrong,
/// in words.
pub(crate) fn judge(fleet: &Fleet, reports: &[Report]) -> (BTreeMap<Rule, Tally>, Vec<String>) {
    let found = findings(&received(reports), &FindingThresholds::default(), &architecture(fleet));
    compare(fleet, &found)
}

/// The graph of reports as they come over the wire.
pub(crate) fn received(reports: &[Report]) -> Snapshot {
    let mut graph = Graph::new(GraphLimits::default());
    let bounds = Bounds { paths: 500_000, calls: 500_000 };
    for report in reports {
        let decoded = otlp::decode(&otlp::encode(report), &bounds).expect("a report reads back");
        decoded.reports.iter().for_each(|report| graph.apply(report));
    }
    graph.snapshot()
}

pub(crate) fn architecture(fleet: &Fleet) -> Architecture {
    let file = ConfigFile::from_bytes("architecture.yaml", fleet.architecture.as_str()).expect("text");
    Architecture::load(&Sources { file: Some(file), ..Sources::new(&|_| None) }).expect("an architecture")
}

pub(crate) fn compare(fleet: &Fleet, found: &[Finding]) -> (BTreeMap<Rule, Tally>, Vec<String>) {
    let mut tallies: BTreeMap<Rule, Tally> = RULES.into_iter().map(|rule| (rule, Tally::default())).collect();
    let mut remarks = Vec::new();
    let mut seen = BTreeSet::new();
    for finding in found.iter().filter(|finding| counts(finding)) {
        let Some(tally) = tallies.get_mut(&finding.rule) else { continue };
        let key = (finding.rule, key(finding));
        match fleet.truth.get(&key) {
            Some(grave) => {
                tally.right += 1;
                if grave.is_some_and(|grave| grave != finding.severity) {
                    tally.misgraded += 1;
                    remarks.push(format!("fleet {}: {} is graded {}: {}", fleet.seed, key.0, finding.severity, key.1));
                }
            }
            None => {
                tally.wrong += 1;
                remarks.push(format!("fleet {}: {} is no problem: {}", fleet.seed, key.0, finding.title));
            }
        }
        seen.insert(key);
    }
    for (rule, what) in fleet.truth.keys().filter(|key| !seen.contains(*key)) {
        remarks.push(format!("fleet {}: {rule} is missed: {what}", fleet.seed));
        if let Some(tally) = tallies.get_mut(rule) {
            tally.missed += 1;
        }
    }
    (tallies, remarks)
}

/// Information about chains and fan-out is no claim that something is wrong; about circles it is.
fn counts(finding: &Finding) -> bool {
    finding.severity > Severity::Info || finding.rule == Rule::CY
}

/// What names a problem, as the truth writes it.
fn key(finding: &Finding) -> String {
    let step = |at: usize| finding.path.get(at).map(|step| (step.service.as_str(), step.endpoint.as_str()));
    match finding.rule {
        Rule::SC | Rule::FO => finding.endpoints.first().cloned().unwrap_or_default(),
        Rule::NP => {
            let label = |at| step(at).map(|(service, endpoint)| format!("{service} {endpoint}")).unwrap_or_default();
            format!("{} -> {}", label(0), label(1))
        }
        Rule::FB => {
            let service = |at| step(at).map(|(service, _)| service).unwrap_or_default();
            format!("{} -> {}", service(0), service(1))
        }
        _ => finding.services.join(", "),
    }
}
