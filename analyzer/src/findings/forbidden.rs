//! FB: forbidden edges. A call that the architecture says must not be.

use std::collections::BTreeMap;

use couplet_config::RuleSeverity;
use couplet_telemetry::outcome;
use serde_json::json;

use super::case::{Case, weakest};
use super::contact::{Contact, contacts};
use super::finding::{Evidence, Finding, Rule, Severity, confidence, id, sorted};
use super::words::count;

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    if case.architecture.forbidden.is_empty() && case.architecture.allowed.is_empty() {
        return Vec::new();
    }
    contacts(case).filter_map(|contact| judge(case, &contact)).collect()
}

/// The rule that a contact breaks.
struct Broken {
    text: String,
    why: Option<String>,
    severity: Option<RuleSeverity>,
}

fn judge(case: &Case<'_>, contact: &Contact<'_>) -> Option<Finding> {
    let Broken { text, why, severity } = broken(case, contact)?;
    let severity = match severity {
        Some(RuleSeverity::Info) => Severity::Info,
        Some(RuleSeverity::Warn) => Severity::Warn,
        Some(RuleSeverity::Critical) | None => Severity::Critical,
    };
    let (from, to) = (contact.from.to_owned(), contact.to.to_owned());
    let reason = why.as_ref().map_or_else(String::new, |why| format!(" The reason given: {why}."));
    Some(Finding {
        id: id(Rule::FB, "", [format!("from {from}").as_str(), format!("to {to}").as_str()]),
        rule: Rule::FB,
        severity,
        title: format!("{from} must not call {to}"),
        summary: format!("{}, against the rule “{text}”.{reason}", count(contact.n, contact.word.0, contact.word.1)),
        services: sorted([from.clone(), to.clone()]),
        evidence: Evidence {
            n: contact.n,
            linked: contact.edge.map_or(outcome::Evidence::Exact, |edge| weakest(&edge.client.links())),
            confidence: confidence(1.0, outcome::Evidence::Exact),
            formula: "at least one call on an edge that a rule of the architecture forbids".to_owned(),
            operands: BTreeMap::from([("rule".to_owned(), json!(text)), ("why".to_owned(), json!(why))]),
        },
        why: "The rule was written down because somebody relies on it. Every day that the call is there, more will rely on the call."
            .to_owned(),
        suggestions: vec![
            format!("Find what {from} needs of {to}, and ask the service that may be asked."),
            "If the rule is out of date, change it in the architecture file, with the reason.".to_owned(),
        ],
        path: contact.path.clone(),
        ..Finding::blank(Rule::FB)
    })
}

fn broken(case: &Case<'_>, contact: &Contact<'_>) -> Option<Broken> {
    let (from, to) = (contact.from, contact.to);
    if let Some(rule) = case.architecture.forbids(from, to) {
        let text = format!("{} must not call {}", rule.from, rule.to);
        return Some(Broken { text, why: rule.why.clone(), severity: rule.severity });
    }
    let rules: Vec<_> = case.architecture.allows(from).collect();
    let first = rules.first()?;
    if rules.iter().any(|rule| rule.to.iter().any(|allowed| allowed.fits(to))) {
        return None;
    }
    let allowed: Vec<&str> = rules.iter().flat_map(|rule| &rule.to).map(couplet_config::NamePattern::as_str).collect();
    let whom = if allowed.is_empty() { "nobody".to_owned() } else { format!("{} only", allowed.join(", ")) };
    let text = format!("{} may call {whom}", first.from);
    Some(Broken { text, why: first.why.clone(), severity: first.severity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::contact::tests::judged;
    use crate::traffic::{chain, on, traffic};

    fn found(services: &[&str], rules: &str) -> Vec<Finding> {
        judged(traffic().of(1, &chain(services)), rules, Rule::FB)
    }

    #[test]
    fn one_forbidden_call_is_enough() {
        let rules = "forbidden: [{from: web, to: '*-db', why: ask the service, severity: warn}]";
        let found = found(&["web", "stock", "stock-db"], rules);
        assert_eq!(found, [], "stock may");
        let found =
            judged(traffic().of(1, &on("web", "GET /").calls(1, on("stock-db", "query").external())), rules, Rule::FB);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!((finding.severity, finding.title.as_str()), (Severity::Warn, "web must not call stock-db"));
        assert_eq!(
            finding.summary,
            "1 call, against the rule “web must not call *-db”. The reason given: ask the service."
        );
    }

    #[test]
    fn where_a_service_may_call_some_it_may_call_no_other() {
        let rules = "allowed: [{from: billing, to: [accounts]}, {from: 'bill*', to: ['ledger-*']}]";
        assert_eq!(found(&["billing", "accounts"], rules), []);
        assert_eq!(found(&["billing", "ledger-1"], rules), []);
        let found = found(&["billing", "mail"], rules);
        assert_eq!(
            (found[0].severity, &found[0].evidence.operands["rule"]),
            (Severity::Critical, &json!("billing may call accounts, ledger-* only"))
        );
    }

    #[test]
    fn a_service_that_calls_itself_breaks_no_rule() {
        assert_eq!(found(&["web", "web"], "forbidden: [{from: '*', to: '*'}]"), []);
    }
}
