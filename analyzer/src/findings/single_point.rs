//! SP: single point. One service that nearly every request of nearly all entries waits for.

use std::collections::BTreeMap;

use couplet_telemetry::outcome;
use serde_json::json;

use super::case::Case;
use super::finding::{Evidence, Finding, Rule, confidence, grade_share, id, sorted};
use super::words::{percent, rounded};
use crate::graph::{EntryIx, ServiceIx};

/// An entry needs a service that so large a share of its requests waits for.
const NEEDED: f64 = 0.95;

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let entries = case.entries();
    if (entries as u64) < case.thresholds.single_point.min_entries {
        return Vec::new();
    }
    let mut needed: BTreeMap<ServiceIx, Vec<EntryIx>> = BTreeMap::new();
    case.flows.each(&mut |flow| {
        if flow.requests < case.thresholds.min_samples {
            return;
        }
        for (service, _) in flow.reach().into_iter().filter(|(_, reach)| *reach >= NEEDED) {
            needed.entry(service).or_default().push(flow.entry);
        }
    });
    needed.into_iter().filter_map(|(service, by)| judge(case, service, &by, entries)).collect()
}

fn judge(case: &Case<'_>, service: ServiceIx, by: &[EntryIx], entries: usize) -> Option<Finding> {
    let levels = &case.thresholds.single_point.entries;
    let share = by.len() as f64 / entries as f64;
    let severity = grade_share(share, levels).filter(|_| case.is_one(service))?;
    let name = case.name(service);
    let requests = |entry: &EntryIx| case.snapshot[*entry].stats.outcomes.total();
    let n = by.iter().map(requests).fold(0_u64, u64::saturating_add);
    let linked = outcome::Evidence::Exact;
    Some(Finding {
        id: id(Rule::SP, "", [name.as_str()]),
        rule: Rule::SP,
        severity,
        title: format!("{} of {entries} entries cannot answer without {name}", by.len()),
        summary: format!(
            "At least {} of the requests of each of these entries wait for {name}: {} of all entries, and there is no other way \
             to an answer that was taken.",
            percent(NEEDED),
            percent(share)
        ),
        services: vec![name.clone()],
        endpoints: sorted(by.iter().map(|entry| case.snapshot.label(case.snapshot[*entry].endpoint))),
        evidence: Evidence {
            n,
            linked,
            confidence: confidence(1.0, linked),
            formula: "share of the entries of which at least 95 % of the requests wait for the service".to_owned(),
            operands: BTreeMap::from([
                ("entries".to_owned(), json!(entries)),
                ("needing".to_owned(), json!(by.len())),
                ("share".to_owned(), json!(rounded(share))),
                ("threshold".to_owned(), json!(levels)),
            ]),
        },
        why: format!(
            "While {name} is away, nothing of the system answers, whatever else was built to survive. Every change of it is a \
             change of everything."
        ),
        suggestions: vec![
            format!(
                "Let what {name} says travel with the request (a signed token, a header), so that it is asked once or never."
            ),
            format!("Keep answers of {name} for a while where they are needed, so that a short outage is not seen."),
            format!("Run {name} apart from what changes often, with room to spare and its own budget of failures."),
        ],
        path: Vec::new(),
        owners: Vec::new(),
        examples: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Severity;
    use crate::traffic::{Request, chain, on, traffic};

    fn found(needing: usize, entries: usize) -> Vec<Finding> {
        let mut all = traffic();
        for n in 0..entries {
            let entry: Request = on(&format!("e{n}"), "GET /");
            all = all.of(50, &if n < needing { entry.calls(1, chain(&["auth"])) } else { entry });
        }
        all.finds(Rule::SP)
    }

    #[test]
    fn what_two_thirds_of_the_entries_need_is_a_warning_and_what_nearly_all_need_critical() {
        assert_eq!(found(6, 10), []);
        assert_eq!(found(7, 10)[0].severity, Severity::Warn);
        let all = found(9, 10);
        assert_eq!(
            (all[0].severity, all[0].title.as_str()),
            (Severity::Critical, "9 of 10 entries cannot answer without auth")
        );
    }

    #[test]
    fn a_system_with_few_entries_has_no_single_point() {
        assert_eq!(found(4, 4), []);
        assert_eq!(found(5, 5).len(), 1);
    }

    #[test]
    fn what_only_some_requests_of_an_entry_need_is_not_needed() {
        let mut all = traffic();
        for n in 0..5 {
            let entry = || on(&format!("e{n}"), "GET /");
            all = all.of(90, &entry().calls(1, chain(&["auth"]))).of(10, &entry());
        }
        assert_eq!(all.finds(Rule::SP), []);
    }
}
