//! Whether a scenario makes sense: every name leads somewhere, every number is in range, every request ends.

use std::collections::BTreeMap;

use couplet_config::did_you_mean;

use super::{
    scenario::{Call, Change, EndpointSpec, Scenario},
    values::EndpointRef,
};

/// The scenario itself, with its events in the order in which they happen; or all its problems.
pub(crate) fn check(mut scenario: Scenario) -> Result<Scenario, Vec<String>> {
    let mut problems = Vec::new();
    services(&scenario, &mut problems);
    calls(&scenario, &mut problems);
    load(&scenario, &mut problems);
    timeline(&scenario, &mut problems);
    expectations(&scenario, &mut problems);
    if problems.is_empty() {
        endless(&scenario, &mut problems);
    }
    scenario.timeline.sort_by_key(|event| event.at);
    if problems.is_empty() { Ok(scenario) } else { Err(problems) }
}

fn services(scenario: &Scenario, problems: &mut Vec<String>) {
    for (name, service) in &scenario.services {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            problems.push(format!("`{name}` is not a name for a service"));
        }
        for (endpoint, spec) in &service.endpoints {
            if !(0.0..=1.0).contains(&spec.failures) {
                problems.push(format!("{name} {endpoint}: `failures` must be 0 to 1, not {}", spec.failures));
            }
        }
    }
}

fn calls(scenario: &Scenario, problems: &mut Vec<String>) {
    for (name, service) in &scenario.services {
        for (endpoint, spec) in &service.endpoints {
            for call in spec.calls() {
                call_itself(scenario, &format!("{name} {endpoint}"), name, call, problems);
            }
        }
    }
}

fn call_itself(scenario: &Scenario, caller: &str, service: &str, call: &Call, problems: &mut Vec<String>) {
    if let Some(problem) = unknown(scenario, &call.to) {
        problems.push(format!("{caller} calls {}, but {problem}", call.to));
    }
    if call.to.service == service {
        problems.push(format!("{caller} calls its own service"));
    }
    if !(1..=1000).contains(&call.times) {
        problems.push(format!("{caller}: `times` must be 1 to 1000, not {}", call.times));
    }
    if call.retries > 10 {
        problems.push(format!("{caller}: `retries` must be 0 to 10, not {}", call.retries));
    }
    let woken = |change: &Change| matches!(change, Change::StartCalling(callee) if *callee == call.to.service);
    if call.dormant && !scenario.timeline.iter().any(|event| event.service == service && woken(&event.change)) {
        problems.push(format!("{caller}: the dormant call of {} is never started by an event", call.to));
    }
}

fn load(scenario: &Scenario, problems: &mut Vec<String>) {
    if scenario.load.is_empty() {
        problems.push("`load` has no entry: nothing would happen".to_owned());
    }
    for entry in &scenario.load {
        if let Some(problem) = unknown(scenario, &entry.entry) {
            problems.push(format!("load: {problem}"));
        }
        if !(entry.rate > 0.0 && entry.rate <= 1000.0) {
            let (entry, rate) = (&entry.entry, entry.rate);
            problems.push(format!("load of {entry}: `rate` must be above 0 and at most 1000, not {rate}"));
        }
    }
}

fn timeline(scenario: &Scenario, problems: &mut Vec<String>) {
    for event in &scenario.timeline {
        let place = format!("event at {:?}", event.at);
        let Some(service) = scenario.services.get(&event.service) else {
            problems.push(format!("{place}: {}", no_service(scenario, &event.service)));
            continue;
        };
        match &event.change {
            Change::SlowDown(factor) if !(0.01..=1000.0).contains(factor) => {
                problems.push(format!("{place}: `slow_down` must be 0.01 to 1000, not {factor}"));
            }
            Change::Fail(share) if !(0.0..=1.0).contains(share) => {
                problems.push(format!("{place}: `fail` must be 0 to 1, not {share}"));
            }
            Change::StartCalling(callee) => {
                let mut calls = service.endpoints.values().flat_map(EndpointSpec::calls);
                if !calls.any(|call| call.dormant && call.to.service == *callee) {
                    problems.push(format!("{place}: {} has no dormant call of {callee}", event.service));
                }
            }
            Change::SlowDown(_) | Change::Fail(_) | Change::Recover => {}
        }
    }
}

fn expectations(scenario: &Scenario, problems: &mut Vec<String>) {
    for planted in &scenario.planted {
        if planted.services.is_empty() {
            problems.push(format!("planted `{}`: `services` names none", planted.problem));
        }
        for service in planted.services.iter().filter(|service| !scenario.services.contains_key(*service)) {
            problems.push(format!("planted `{}`: {}", planted.problem, no_service(scenario, service)));
        }
        if let Some(problem) = planted.endpoint.as_ref().and_then(|endpoint| unknown(scenario, endpoint)) {
            problems.push(format!("planted `{}`: {problem}", planted.problem));
        }
    }
}

/// A request that comes back to an endpoint that is still waiting for it would go round for ever.
fn endless(scenario: &Scenario, problems: &mut Vec<String>) {
    let mut ends = BTreeMap::new();
    for (service, spec) in &scenario.services {
        for endpoint in spec.endpoints.keys() {
            let at = EndpointRef { service: service.clone(), endpoint: endpoint.clone() };
            if !request_ends(scenario, &at, &mut ends) {
                problems.push(format!("a request to {at} would never end: its calls lead back to where they started"));
                return;
            }
        }
    }
}

/// Whether a request to `at` ends. `ends` holds what is known: `false` also stands for "not finished looking".
fn request_ends(scenario: &Scenario, at: &EndpointRef, ends: &mut BTreeMap<EndpointRef, bool>) -> bool {
    if let Some(known) = ends.get(at) {
        return *known;
    }
    ends.insert(at.clone(), false);
    let spec = scenario.services.get(&at.service).and_then(|service| service.endpoints.get(&at.endpoint));
    let all = spec.is_none_or(|spec| spec.calls().all(|call| request_ends(scenario, &call.to, ends)));
    ends.insert(at.clone(), all);
    all
}

/// Why `at` does not exist, if so.
fn unknown(scenario: &Scenario, at: &EndpointRef) -> Option<String> {
    match scenario.services.get(&at.service) {
        None => Some(no_service(scenario, &at.service)),
        Some(service) if service.endpoints.contains_key(&at.endpoint) => None,
        Some(_) => Some(format!("{} has no endpoint {}", at.service, at.endpoint)),
    }
}

pub(super) fn no_service(scenario: &Scenario, name: &str) -> String {
    match did_you_mean(name, scenario.services.keys().map(String::as_str)) {
        Some(meant) => format!("there is no service `{name}`: did you mean `{meant}`?"),
        None => format!("there is no service `{name}`"),
    }
}
