//! Who is in touch with whom: calls, and connections that nobody can read. For rules that care for no more than that.

use super::case::Case;
use super::finding::Step;
use crate::graph::Edge;

/// One service in touch with another.
pub(super) struct Contact<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    /// Calls or connections.
    pub(super) n: u64,
    /// What is counted: one of it, several of it.
    pub(super) word: (&'static str, &'static str),
    pub(super) path: Vec<Step>,
    pub(super) edge: Option<&'a Edge>,
}

/// All contacts between two services; where there are calls, connections beside them are not shown again.
pub(super) fn contacts<'a>(case: &'a Case<'a>) -> impl Iterator<Item = Contact<'a>> {
    let snapshot = case.snapshot;
    let calls = snapshot.edges().iter().map(|edge| Contact {
        from: &snapshot[edge.source].name,
        to: &snapshot[edge.destination].name,
        n: edge.calls(),
        word: ("call", "calls"),
        path: case.way(edge),
        edge: Some(edge),
    });
    let between = |from, to| snapshot.edges().binary_search_by_key(&(from, to), |edge| (edge.source, edge.destination));
    let unread = snapshot.opaque().iter().filter(move |edge| {
        edge.source != edge.destination && edge.stats.asked() > 0 && between(edge.source, edge.destination).is_err()
    });
    // Sorted by source and destination; of several protocols the first stands for all.
    let mut last = None;
    let unread = unread
        .filter(move |edge| last.replace((edge.source, edge.destination)) != Some((edge.source, edge.destination)));
    let connections = unread.map(|edge| Contact {
        from: &snapshot[edge.source].name,
        to: &snapshot[edge.destination].name,
        n: edge.stats.asked(),
        word: ("connection", "connections"),
        path: Vec::new(),
        edge: None,
    });
    calls.chain(connections)
}

#[cfg(test)]
pub(super) mod tests {
    use couplet_config::{Architecture, ConfigFile, FindingThresholds, Sources};
    use couplet_telemetry::opaque::{OpaqueReport, OpaqueStats, Protocol};

    use crate::findings::{Finding, Rule, findings};
    use crate::traffic::{Traffic, on, snapshot_of, traffic};

    pub(in crate::findings) fn architecture(text: &str) -> Architecture {
        let file = ConfigFile::from_bytes("architecture.yaml", text).unwrap();
        Architecture::load(&Sources { file: Some(file), ..Sources::new(&|_| None) }).unwrap()
    }

    /// What one rule finds against an architecture.
    pub(in crate::findings) fn judged(traffic: Traffic, rules: &str, rule: Rule) -> Vec<Finding> {
        let found = findings(&traffic.snapshot(), &FindingThresholds::default(), &architecture(rules));
        found.into_iter().filter(|finding| finding.rule == rule).collect()
    }

    #[test]
    fn a_connection_that_nobody_can_read_is_a_contact() {
        let mut reports = traffic().of(1, &on("web", "GET /")).reports();
        let stats = OpaqueStats { opened: 3, ..OpaqueStats::default() };
        reports[0].opaque = vec![OpaqueReport { peer: "stock-db".to_owned(), protocol: Protocol::Tcp, stats }];
        let rules = architecture("forbidden: [{from: web, to: '*-db'}]\nservices: {web: {owner: team-web}}");
        let found = findings(&snapshot_of(&reports), &FindingThresholds::default(), &rules);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!((finding.rule, finding.evidence.n), (Rule::FB, 3));
        assert_eq!(finding.owners, ["team-web"]);
        assert!(finding.summary.starts_with("3 connections"), "{}", finding.summary);
    }

    #[test]
    fn a_budget_makes_a_warning_of_what_is_beyond_it() {
        use crate::findings::Severity;
        use crate::traffic::chain;
        let severity = |budget: u32| {
            let deep = traffic().of(100, &chain(&["a", "b", "c"]));
            judged(deep, &format!("budgets: {{depth: {budget}}}"), Rule::SC).first().map(|finding| finding.severity)
        };
        assert_eq!((severity(1), severity(2)), (Some(Severity::Warn), None));
    }
}
