//! The healthy part of a fleet. Nothing in it reaches a threshold, by construction; much of it comes near.
//!
//! Shares of the kinds of services: entries 13 %, middle 48 %, leaves 39 % (Alibaba 2022, arXiv 2504.13141). Popularity:
//! about 5 % of the services take part in nearly all requests (Alibaba, SoCC 2021): Zipf. Depth: 1 to 3 hops, the usual
//! one 2 (Online Boutique, Alibaba 2022). Width: up to 7 callees of one request, static fan-out of entry services by
//! many endpoints (Meta 2023: median 4, p90 23). Calls are blocking, but for one of ten.

use super::random::Random;
use super::system::{Step, System, step};

/// The endpoints that anybody may call without making a chain of it.
#[derive(Debug, Default)]
pub(crate) struct Leaves(pub(crate) Vec<usize>);

impl Leaves {
    /// One of them, the popular ones more often.
    pub(crate) fn any(&self, random: &mut Random) -> usize {
        self.0[random.popular(self.0.len()).min(self.0.len() - 1)]
    }

    /// Some that belong to different services.
    pub(crate) fn several(&self, system: &System, random: &mut Random, count: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        for _ in 0..count * 20 {
            let leaf = self.any(random);
            let service = |at: usize| system.endpoints[at].service;
            if chosen.len() < count && chosen.iter().all(|other| service(*other) != service(leaf)) {
                chosen.push(leaf);
            }
        }
        chosen
    }
}

/// A healthy system of about so many services.
pub(crate) fn healthy(services: usize, random: &mut Random) -> (System, Leaves) {
    let mut system = System { unlinked: 0.003, ..System::default() };
    let share = |part: f64| ((services as f64 * part).round() as usize).max(1);
    let leaves = leaves(&mut system, share(0.39), random);
    let lower = middle(&mut system, share(0.24), "core", &leaves, &[], random);
    let upper = middle(&mut system, share(0.24), "domain", &leaves, &lower, random);
    for n in 0..share(0.13) {
        let service = system.service(format!("web-{n}"), random.between(1, 4));
        // Meta's static fan-out has a long tail; no endpoint of these is wide.
        for at in 0..random.between(1, 6) {
            let steps = if random.chance(0.4) {
                wide(&system, &leaves, random)
            } else {
                let mut steps = vec![step(upper[random.popular(upper.len())])];
                steps.extend(leaves.several(&system, random, 2).into_iter().map(|leaf| repeated(leaf, random, 4)));
                steps
            };
            let own = random.real(5.0, 60.0);
            let endpoint = system.endpoint(service, &format!("GET /page{at}"), own, steps);
            system.endpoints[endpoint].at_once = random.chance(0.15);
            system.enter(endpoint, 60 + 600 / (1 + random.popular(20)));
        }
    }
    for endpoint in &mut system.endpoints {
        endpoint.fails = if random.chance(0.3) { random.real(0.0, 0.01) } else { 0.0 };
        endpoint.ways.iter_mut().flat_map(|way| &mut way.steps).for_each(|step| step.copes = random.chance(0.3));
    }
    (system, leaves)
}

fn leaves(system: &mut System, count: usize, random: &mut Random) -> Leaves {
    let mut all = Leaves::default();
    for n in 0..count {
        let service = system.service(format!("leaf-{n}"), random.between(1, 5));
        // One of five has no sidecar: a database, or somebody else's.
        system.services[service].reports = !random.chance(0.2);
        for at in 0..random.between(1, 3) {
            let own = random.real(1.0, 10.0);
            all.0.push(system.endpoint(service, &format!("GET /item{at}/{{id}}"), own, Vec::new()));
        }
    }
    all
}

/// Services with two endpoints at most, each with one callee: popular, but never hubs.
fn middle(
    system: &mut System,
    count: usize,
    name: &str,
    leaves: &Leaves,
    below: &[usize],
    random: &mut Random,
) -> Vec<usize> {
    let mut all = Vec::new();
    for n in 0..count {
        let service = system.service(format!("{name}-{n}"), random.between(1, 3));
        for at in 0..random.between(1, 2) {
            let down = !below.is_empty() && random.chance(0.6);
            let callee = if down { below[random.popular(below.len())] } else { leaves.any(random) };
            let call = if down { step(callee) } else { repeated(callee, random, 3) };
            let chance = if random.chance(0.5) { 1.0 } else { random.unit() };
            let own = random.real(2.0, 20.0);
            all.push(system.endpoint(service, &format!("POST /task{at}"), own, vec![call.chance(chance)]));
        }
    }
    all
}

/// One to seven callees, at most twice each: below fan-out, and no chain.
fn wide(system: &System, leaves: &Leaves, random: &mut Random) -> Vec<Step> {
    let count = random.between(1, 7);
    let callees = leaves.several(system, random, count);
    let call = |leaf: usize| repeated(leaf, random, 2);
    callees.into_iter().map(call).collect()
}

fn repeated(callee: usize, random: &mut Random, most: usize) -> Step {
    let call = step(callee).times(random.between(1, most));
    if random.chance(0.1) { call.later() } else { call }
}
