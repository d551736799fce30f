//! What is wrong with a system, with the evidence: one file per rule, each a pure function of a snapshot.
//!
//! Nothing is said about what was seen less often than `min_samples`. A finding's id depends on the rule and on the
//! names that make the problem what it is, never on counts, so that the same problem keeps it.

mod chain;
mod availability;
mod fan_out;
mod cycle;
mod hub;
mod chatty;
mod repeat;
mod temporal;
mod blast;
mod single_point;
mod retry;
mod timeout;
mod layers;
mod forbidden;
mod propagation;
mod contact;
mod examples;
mod case;
mod words;
mod finding;

use std::cmp::Reverse;
use std::collections::HashMap;

use couplet_config::{Architecture, FindingThresholds};

use crate::coupling::flow::{EachFlow, Flows};
use crate::graph::Snapshot;

use case::Case;

pub use finding::{Evidence, ExampleRequest, Finding, Rule, Severity, Step};

/// Everything that thresholds and architecture make a finding: the gravest first, then what concerns most requests, then
/// by id.
#[must_use]
pub fn findings(snapshot: &Snapshot, thresholds: &FindingThresholds, architecture: &Architecture) -> Vec<Finding> {
    findings_in(snapshot, &Flows::of(snapshot), thresholds, architecture)
}

/// As [`findings`], where the flows of the snapshot are known already.
#[must_use]
pub fn findings_in(
    snapshot: &Snapshot,
    flows: &dyn EachFlow,
    thresholds: &FindingThresholds,
    architecture: &Architecture,
) -> Vec<Finding> {
    let case = Case::new(snapshot, flows, thresholds, architecture);
    let of_snapshot = [chain::find, fan_out::find, cycle::find, repeat::find];
    let mut found: Vec<Finding> = of_snapshot.iter().flat_map(|find| find(snapshot, &case.thresholds)).collect();
    let of_case = [
        availability::find,
        hub::find,
        chatty::find,
        temporal::find,
        blast::find,
        single_point::find,
        retry::find,
        timeout::find,
        layers::find,
        forbidden::find,
        propagation::find,
    ];
    found.extend(of_case.iter().flat_map(|find| find(&case)));
    found.iter_mut().for_each(|finding| finding.owners = owners(finding, architecture));
    examples::give(&mut found, snapshot);
    shorten_ids(&mut found);
    found.sort_by(|a, b| {
        let key = |finding: &Finding| (Reverse(finding.severity), Reverse(finding.evidence.n));
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    found
}

/// Who looks after the services of a finding.
fn owners(finding: &Finding, architecture: &Architecture) -> Vec<String> {
    finding::sorted(finding.services.iter().filter_map(|service| architecture.service(service)?.owner))
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
