//! Predictions against what comes true: the same system simulated again, as it is or with the cut made.

use std::collections::HashMap;

use couplet_analyzer::coupling::availability::availability as availability_of;
use couplet_analyzer::coupling::flow::Flows;
use couplet_analyzer::whatif::{parse, what_if as predict};
use couplet_config::{Architecture, FindingThresholds};

use super::judge::received;
use super::random::Random;
use super::system::{System, step};
use super::traffic::{reports, seen};

/// Trees of services that fail: entries with one to three callees, each with up to two, some called several times.
fn failing(random: &mut Random, requests: usize) -> System {
    let mut system = System::default();
    for entry in 0..4 {
        let branch = |name: String, system: &mut System, random: &mut Random| {
            let service = system.service(name, random.between(1, 3));
            let own = random.real(3.0, 40.0);
            let endpoint = system.endpoint(service, "GET /", own, Vec::new());
            system.endpoints[endpoint].fails = random.real(0.002, 0.04);
            system.endpoints[endpoint].together = random.unit();
            endpoint
        };
        let root = branch(format!("entry{entry}"), &mut system, random);
        for arm in 0..random.between(1, 3) {
            let inner = branch(format!("e{entry}-arm{arm}"), &mut system, random);
            for end in 0..random.between(0, 2) {
                let leaf = branch(format!("e{entry}-arm{arm}-end{end}"), &mut system, random);
                let call = step(leaf).times(random.between(1, 3)).chance(random.real(0.5, 1.0));
                system.endpoints[inner].ways[0].steps.push(call);
            }
            let call = step(inner).times(random.between(1, 3));
            system.endpoints[root].ways[0].steps.push(call);
        }
        system.enter(root, requests);
    }
    system
}

/// Entries whose availability is predicted right, and all: inside the predicted range, or beside it by no more than what
/// the two samples (of the prediction, and of the truth) may be off by chance (90 %).
pub(crate) fn availability(seed: u64, requests: usize) -> (u32, u32) {
    let mut random = Random::new(seed ^ 0xa7a1);
    let system = failing(&mut random, requests);
    let snapshot = received(&reports(&system, seed));
    let truth = seen(&system, seed ^ 0xffff_ffff);
    let (mut right, mut all) = (0, 0);
    for flow in &Flows::of(&snapshot) {
        let label = snapshot.label(snapshot[flow.entry].endpoint);
        let found = truth.iter().find(|(endpoint, _)| system.label(**endpoint) == label);
        let Some((predicted, (_, (n, failed, _)))) = availability_of(flow).zip(found) else { continue };
        let comes_true = 1.0 - *failed as f64 / *n as f64;
        let off = 1.645 * (2.0 * comes_true * (1.0 - comes_true) / *n as f64).sqrt();
        all += 1;
        right += u32::from((predicted.predicted.low - off..=predicted.predicted.high + off).contains(&comes_true));
    }
    (right, all)
}

/// One prediction of what a cut does to an entry.
#[derive(Debug, Clone)]
pub(crate) struct Prediction {
    /// The kind of cut.
    pub(crate) kind: &'static str,
    /// What is predicted.
    pub(crate) measure: &'static str,
    /// Predicted ÷ come true, less one.
    pub(crate) error: f64,
}

/// Makes one cut of every kind in a random system: what is predicted, and what the changed system does.
pub(crate) fn what_if(seed: u64, requests: usize) -> Vec<Prediction> {
    let mut random = Random::new(seed ^ 0x0c07);
    let system = failing(&mut random, requests);
    let snapshot = received(&reports(&system, seed));
    let (thresholds, architecture) = (FindingThresholds::default(), Architecture::default());
    let mut all = Vec::new();
    for kind in ["async", "cache", "batch", "parallel", "breaker"] {
        let edges = snapshot.edges();
        let edge = &edges[random.below(edges.len())];
        let (from, to) = (snapshot[edge.source].name.to_string(), snapshot[edge.destination].name.to_string());
        let what = match kind {
            "parallel" => from.clone(),
            "cache" => format!("{from}->{to}=0.5"),
            _ => format!("{from}->{to}"),
        };
        let cut = parse(&snapshot, kind, &what).expect("a cut of this system");
        let predicted = predict(&snapshot, &thresholds, &architecture, &[cut]);
        let changed = changed(&system, kind, &from, &to);
        let truth: HashMap<String, _> = seen(&changed, seed ^ 0xffff_0000)
            .into_iter()
            .map(|(endpoint, seen)| (changed.label(endpoint), seen))
            .collect();
        for entry in &predicted.entries {
            let Some((n, failed, nanos)) = truth.get(&entry.entry) else { continue };
            let mut nanos = nanos.clone();
            nanos.sort_unstable();
            let quantile = |q: f64| nanos[((nanos.len() - 1) as f64 * q) as usize] as f64 / 1e9;
            let comes_true = 1.0 - *failed as f64 / *n as f64;
            let measures = [
                ("p50", entry.p50.after, quantile(0.5)),
                ("p95", entry.p95.after, quantile(0.95)),
                ("availability", entry.availability.after, comes_true),
            ];
            let prediction = |(measure, predicted, real): (&'static str, f64, f64)| Prediction {
                kind,
                measure,
                error: predicted / real - 1.0,
            };
            all.extend(measures.into_iter().map(prediction));
        }
    }
    all
}

/// The system after the cut.
fn changed(system: &System, kind: &str, from: &str, to: &str) -> System {
    let mut new = system.clone();
    if kind == "parallel" {
        let services = new.services.clone();
        let callers = new.endpoints.iter_mut().filter(|endpoint| services[endpoint.service].name == from);
        callers.for_each(|endpoint| endpoint.at_once = true);
        return new;
    }
    for step in new.steps_between(from, to) {
        match kind {
            "async" => step.later = true,
            "cache" => step.spared = 0.5,
            "batch" => step.times = 1,
            _ => step.copes = true,
        }
    }
    new
}
