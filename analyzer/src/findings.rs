//! What is wrong with a system, with the evidence: one file per rule, each a pure function of a snapshot.
//!
//! Nothing is said about what was seen less often than `min_samples`. A finding's id depends on the rule and on the
//! names that make the problem what it is, never on counts, so that the same problem keeps it.

mod chain;
mod fan_out;
mod cycle;
mod repeat;
mod words;
mod finding;

use std::cmp::Reverse;
use std::collections::HashMap;

use couplet_config::FindingThresholds;

use crate::graph::Snapshot;

pub use finding::{Evidence, Finding, Rule, Severity, Step};

/// Everything that the thresholds make a finding: the gravest first, then what concerns most requests, then by id.
#[must_use]
pub fn findings(snapshot: &Snapshot, thresholds: &FindingThresholds) -> Vec<Finding> {
    let mut found = chain::find(snapshot, thresholds);
    found.extend(fan_out::find(snapshot, thresholds));
    found.extend(cycle::find(snapshot, thresholds));
    found.extend(repeat::find(snapshot, thresholds));
    shorten_ids(&mut found);
    found.sort_by(|a, b| {
        let key = |finding: &Finding| (Reverse(finding.severity), Reverse(finding.evidence.n));
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    found
}

/// Six digits of the fingerprint are an id, as long as no other finding has the same six.
fn shorten_ids(findings: &mut [Finding]) {
    let short = |id: &str| id.get(..SHORT_ID).unwrap_or(id).to_owned();
    let mut times: HashMap<String, u32> = HashMap::new();
    for finding in findings.iter() {
        *times.entry(short(&finding.id)).or_default() += 1;
    }
    for finding in findings {
        let id = short(&finding.id);
        if times.get(&id) == Some(&1) {
            finding.id = id;
        }
    }
}

/// Two letters, a dash, six digits.
const SHORT_ID: usize = 9;
