//! LV: layer violations. A service that calls upward, or past the next layer where layers are strict.

use std::collections::BTreeMap;

use serde_json::json;

use super::case::{Case, weakest};
use super::contact::{Contact, contacts};
use super::finding::{Evidence, Finding, Rule, Severity, confidence, id, sorted};
use super::words::count;

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    if case.architecture.layers.is_empty() {
        return Vec::new();
    }
    contacts(case).filter_map(|contact| judge(case, &contact)).collect()
}

/// Which way a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Upward,
    Past,
}

fn judge(case: &Case<'_>, contact: &Contact<'_>) -> Option<Finding> {
    let architecture = case.architecture;
    let layer = |service: &str| {
        let name = architecture.service(service)?.layer?;
        Some((architecture.layer(&name)?, name))
    };
    let (from, to) = (layer(contact.from)?, layer(contact.to)?);
    let wrong = match to.0 {
        below if below < from.0 => Wrong::Upward,
        below if architecture.strict_layers && below > from.0 + 1 => Wrong::Past,
        _ => return None,
    };
    let (source, destination) = (contact.from.to_owned(), contact.to.to_owned());
    let linked = contact.edge.map_or(couplet_telemetry::outcome::Evidence::Exact, |edge| weakest(&edge.client.links()));
    let direction = if wrong == Wrong::Upward { "upward" } else { "past the next layer" };
    Some(Finding {
        id: id(Rule::LV, "", [format!("from {source}").as_str(), format!("to {destination}").as_str()]),
        rule: Rule::LV,
        severity: Severity::Warn,
        title: format!("{source} ({}) calls {direction}: {destination} ({})", from.1, to.1),
        summary: format!(
            "{} from layer {} to layer {}; the layers are, from the outermost: {}.",
            count(contact.n, contact.word.0, contact.word.1),
            from.1,
            to.1,
            architecture.layers.join(", ")
        ),
        services: sorted([source.clone(), destination.clone()]),
        evidence: Evidence {
            n: contact.n,
            // That there was a call is certain; which request caused it does not matter here.
            linked,
            confidence: confidence(1.0, couplet_telemetry::outcome::Evidence::Exact),
            formula: "a call from a layer to one further out, or, where layers are strict, further in than the next".to_owned(),
            operands: BTreeMap::from([
                ("from_layer".to_owned(), json!(from.1)),
                ("strict".to_owned(), json!(architecture.strict_layers)),
                ("to_layer".to_owned(), json!(to.1)),
            ]),
        },
        why: "Layers are a promise about who can be changed without looking at whom. A call against them makes an inner service depend on \
              those that depend on it."
            .to_owned(),
        suggestions: vec![
            format!("Let {destination} give {source} what it needs with the call, or tell it through an event."),
            format!("Move the part of {destination} that {source} needs further in."),
            "If the layers have changed, change them in the architecture file.".to_owned(),
        ],
        path: contact.path.clone(),
        ..Finding::blank(Rule::LV)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::contact::tests::judged;
    use crate::traffic::{chain, traffic};

    const LAYERS: &str = "layers: [edge, app, core]\n\
                          services: {web: {layer: edge}, cart: {layer: app}, pay: {layer: app}, stock: {layer: core}}\n";

    fn found(services: &[&str], more: &str) -> Vec<String> {
        judged(traffic().of(1, &chain(services)), &format!("{LAYERS}{more}"), Rule::LV)
            .into_iter()
            .map(|finding| finding.title)
            .collect()
    }

    #[test]
    fn calls_downward_and_within_a_layer_are_right() {
        assert_eq!(found(&["web", "cart", "pay", "stock"], ""), [""; 0]);
        assert_eq!(found(&["web", "stock"], ""), [""; 0]);
    }

    #[test]
    fn a_call_upward_is_a_violation() {
        assert_eq!(found(&["web", "stock", "cart"], ""), ["stock (core) calls upward: cart (app)"]);
    }

    #[test]
    fn a_call_past_a_layer_is_one_where_layers_are_strict() {
        assert_eq!(
            found(&["web", "stock"], "strict_layers: true"),
            ["web (edge) calls past the next layer: stock (core)"]
        );
    }

    #[test]
    fn services_without_a_layer_are_not_judged() {
        assert_eq!(found(&["stock", "other", "web"], ""), [""; 0]);
    }
}
