//! The scenarios that come with the program, and how a scenario is read.

use serde::Deserialize;

use super::{
    check::check,
    scenario::{Event, Scenario},
};

/// The scenarios that come with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BuiltIn {
    /// A shop with every problem planted.
    Monolith,
    /// A shop of the same size without one.
    Healthy,
    /// The monolith on a bad day: slow and failing services.
    Incident,
}

/// The built-in scenario `name`.
///
/// # Errors
/// The built-in file is wrong; every problem of it is named.
pub(crate) fn built_in(name: BuiltIn) -> anyhow::Result<Scenario> {
    match name {
        BuiltIn::Monolith => parse("monolith.yaml", MONOLITH),
        BuiltIn::Healthy => parse("healthy.yaml", HEALTHY),
        BuiltIn::Incident => incident("incident.yaml", INCIDENT),
    }
}

/// Reads a scenario from the text of the file `file`.
///
/// # Errors
/// The place of a mistake in the text, or all references that lead nowhere.
pub(crate) fn parse(file: &str, text: &str) -> anyhow::Result<Scenario> {
    checked(file, serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("{file}: {error}"))?)
}

/// What `incident.yaml` adds to the monolith.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Incident {
    name: String,
    about: String,
    timeline: Vec<Event>,
}

/// The monolith on a bad day: the same system with more events.
fn incident(file: &str, text: &str) -> anyhow::Result<Scenario> {
    let incident: Incident = serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("{file}: {error}"))?;
    let mut scenario = parse("monolith.yaml", MONOLITH)?;
    scenario.name = incident.name;
    scenario.about = incident.about;
    scenario.timeline.extend(incident.timeline);
    checked(file, scenario)
}

fn checked(file: &str, scenario: Scenario) -> anyhow::Result<Scenario> {
    check(scenario).map_err(|problems| anyhow::anyhow!("{file}: {}", problems.join(&format!("\n{file}: "))))
}

const MONOLITH: &str = include_str!("scenarios/monolith.yaml");
const HEALTHY: &str = include_str!("scenarios/healthy.yaml");
const INCIDENT: &str = include_str!("scenarios/incident.yaml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::values::EndpointRef;

    const SMALL: &str = r"
name: small
about: two services
services:
  web:
    endpoints:
      GET /:
        work: 1ms..2ms
        steps:
          - call: stock GET /items/{id}
            times: 2
  stock:
    endpoints:
      GET /items/{id}: {work: 1ms..2ms}
load:
  - entry: web GET /
    rate: 10
";

    fn problem_of(text: &str) -> String {
        parse("small.yaml", text).expect_err("a broken scenario").to_string()
    }

    #[test]
    fn every_built_in_scenario_is_valid() {
        for name in [BuiltIn::Monolith, BuiltIn::Healthy, BuiltIn::Incident] {
            let scenario = built_in(name).unwrap();
            assert!((10..=12).contains(&scenario.services.len()), "{}: {}", scenario.name, scenario.services.len());
        }
    }

    #[test]
    fn every_entry_is_requested_often_enough_to_be_judged_within_fifteen_seconds() {
        for name in [BuiltIn::Monolith, BuiltIn::Healthy, BuiltIn::Incident] {
            for entry in built_in(name).unwrap().load {
                assert!(entry.rate * 15.0 >= 60.0, "{} {}", entry.entry, entry.rate);
            }
        }
    }

    #[test]
    fn the_incident_is_the_monolith_with_more_events() {
        let monolith = built_in(BuiltIn::Monolith).unwrap();
        let incident = built_in(BuiltIn::Incident).unwrap();
        assert!(incident.timeline.len() >= monolith.timeline.len() + 3);
        assert_eq!(incident.planted.len(), monolith.planted.len());
        assert!(incident.timeline.is_sorted_by_key(|event| event.at));
    }

    #[test]
    fn the_healthy_shop_is_shallow_narrow_and_patient() {
        let scenario = built_in(BuiltIn::Healthy).unwrap();
        for (name, service) in &scenario.services {
            for (endpoint, spec) in &service.endpoints {
                assert!(
                    spec.calls().map(|call| &call.to.service).collect::<std::collections::BTreeSet<_>>().len() <= 4
                );
                assert!(spec.calls().all(|call| call.times < 5 && call.retries < 4), "{name} {endpoint}");
            }
        }
        for entry in &scenario.load {
            assert!(depth(&scenario, &entry.entry) <= 2, "{}", entry.entry);
        }
        assert!(scenario.planted.is_empty());
    }

    #[test]
    fn the_monolith_has_a_chain_of_six_hops_behind_its_checkout() {
        let scenario = built_in(BuiltIn::Monolith).unwrap();
        assert_eq!(scenario.load.iter().map(|entry| depth(&scenario, &entry.entry)).max(), Some(6));
    }

    fn depth(scenario: &Scenario, at: &EndpointRef) -> usize {
        let calls = scenario.services[&at.service].endpoints[&at.endpoint].calls();
        calls.map(|call| 1 + depth(scenario, &call.to)).max().unwrap_or(0)
    }

    #[test]
    fn a_callee_that_does_not_exist_is_named_with_its_caller() {
        let problem = problem_of(&SMALL.replace("call: stock", "call: stok"));
        assert!(problem.contains("small.yaml: web GET / calls stok GET /items/{id}"), "{problem}");
        assert!(problem.contains("did you mean `stock`?"), "{problem}");
    }

    #[test]
    fn an_endpoint_that_does_not_exist_is_named_with_its_service() {
        let problem = problem_of(&SMALL.replace("entry: web GET /", "entry: web POST /"));
        assert!(problem.contains("web has no endpoint POST /"), "{problem}");
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let problem = problem_of(&SMALL.replace("times: 2", "time: 2"));
        assert!(problem.contains("time") && problem.contains("line 11"), "{problem}");
    }

    #[test]
    fn calls_that_lead_back_to_the_same_endpoint_would_never_end_and_are_refused() {
        let text = SMALL.replace(
            "GET /items/{id}: {work: 1ms..2ms}",
            "GET /items/{id}:\n        work: 1ms..2ms\n        steps: [{call: web GET /}]",
        );
        let problem = problem_of(&text);
        assert!(problem.contains("never end"), "{problem}");
    }

    #[test]
    fn all_problems_are_named_at_once() {
        let text = SMALL.replace("rate: 10", "rate: 0").replace("times: 2", "times: 0");
        let problem = problem_of(&text);
        assert!(problem.contains("rate") && problem.contains("times"), "{problem}");
    }

    #[test]
    fn a_step_is_a_call_or_several_together() {
        let both = SMALL.replace("times: 2", "together: [{call: stock GET /items/{id}}]");
        for text in [both.replace("/{id}}]", "\"}]"), SMALL.replace("times: 2", "together: []")] {
            assert!(parse("small.yaml", &text).is_err());
        }
    }
}
