//! Problems that are planted in a healthy fleet, and decoys: what is just not a problem.

use std::collections::BTreeMap;

use couplet_analyzer::findings::{Rule, Severity};

use super::random::Random;
use super::shape::{Leaves, healthy};
use super::system::{Step, System, Way, step};

/// A system of which is known what is wrong with it.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) seed: u64,
    pub(crate) system: System,
    /// What must be found: rule and what names the problem; how grave, where the rule itself says it.
    pub(crate) truth: BTreeMap<(Rule, String), Option<Severity>>,
    /// How many things are there that look like problems and are none.
    pub(crate) decoys: usize,
    /// The architecture file.
    pub(crate) architecture: String,
}

/// A fleet of about so many services.
pub(crate) fn fleet(seed: u64, services: usize) -> Fleet {
    let mut random = Random::new(seed);
    let (system, leaves) = healthy((services / 2).max(5), &mut random);
    let fleet = Fleet { seed, system, truth: BTreeMap::new(), decoys: 0, architecture: String::new() };
    let mut garden = Garden { fleet, leaves, random, plots: 0, forbidden: Vec::new(), allowed: Vec::new() };
    while garden.fleet.system.services.len() < services {
        garden.plant();
    }
    let mut file = String::from("services:\n  'edge-*': {role: gateway}\n");
    for (key, rules) in [("forbidden", &garden.forbidden), ("allowed", &garden.allowed)] {
        if !rules.is_empty() {
            file.push_str(&format!("{key}:\n  - {}\n", rules.join("\n  - ")));
        }
    }
    Fleet { architecture: file, ..garden.fleet }
}

struct Garden {
    fleet: Fleet,
    leaves: Leaves,
    random: Random,
    /// Problems and decoys so far; each has services of its own.
    plots: usize,
    forbidden: Vec<String>,
    allowed: Vec<String>,
}

/// Requests of an entry: enough that one of twenty and one of forty can be told apart.
const REQUESTS: usize = 800;
/// Requests that are too few to say anything.
const FEW: usize = 35;
/// Shares of the requests that are clearly above, and clearly below one of twenty.
const OFTEN: f64 = 0.12;
const SELDOM: f64 = 0.02;

impl Garden {
    fn plant(&mut self) {
        self.plots += 1;
        match self.random.below(12) {
            0 | 1 => self.chain(),
            2 => self.needs_many(),
            3 | 4 => self.fan_out(),
            5 => self.inner_fan_out(),
            6 => self.circle(),
            7 => self.layers(),
            8 | 9 => self.repeats(),
            10 => self.hub(),
            _ => self.forbidden_call(),
        }
    }

    /// A chain of 4 to 9 hops: in all requests or in some, too seldom, too few, not waited for, or a hop too short.
    fn chain(&mut self) {
        let kind = self.random.below(6);
        let hops = if kind == 5 { 3 } else { self.random.between(4, 9) };
        let mut at = self.single("chain-end", Vec::new());
        for hop in (1..hops).rev() {
            let next = if kind == 4 && hop == hops / 2 { step(at).later() } else { step(at) };
            at = self.single(&format!("chain{hop}"), vec![next]);
        }
        let often = match kind {
            1 => OFTEN,
            2 => SELDOM,
            _ => 1.0,
        };
        let entry = self.sometimes("chain-web", often, vec![step(at)]);
        self.fleet.system.enter(entry, if kind == 3 { FEW } else { REQUESTS });
        let grave = if hops >= 6 { Severity::Critical } else { Severity::Warn };
        // Of a chain that is cut in its middle, neither part is deep: hops / 2 and what nobody waits for.
        let real = kind < 2 || kind == 4 && hops / 2 > 3;
        self.settle(real, Rule::SC, entry, (kind < 2).then_some(grave));
    }

    /// No deep chain, but many services or calls before the answer.
    fn needs_many(&mut self) {
        let real = self.random.chance(0.5);
        let arms = if real { self.random.between(3, 4) } else { 1 };
        let mut steps = Vec::new();
        for arm in 0..arms {
            let ends = (0..2).map(|end| self.single(&format!("arm{arm}-{end}"), Vec::new())).collect::<Vec<_>>();
            let steps_of_arm = ends.into_iter().map(step).collect();
            steps.push(step(self.single(&format!("arm{arm}"), steps_of_arm)));
        }
        let entry = self.single("many-web", steps);
        self.fleet.system.enter(entry, REQUESTS);
        // Three arms are nine services, four are twelve.
        let grave = if arms == 4 { Severity::Critical } else { Severity::Warn };
        self.settle(real, Rule::SC, entry, Some(grave));
    }

    /// One handler that calls 8 to 22 services, or four times five: often, too seldom, too few, later, or one too few.
    fn fan_out(&mut self) {
        let kind = self.random.below(7);
        let many = self.random.between(8, 22);
        let (callees, times) = match kind {
            5 => (7, 1),
            6 => (5, 4),
            _ => (many, 1),
        };
        let steps: Vec<Step> = (0..callees)
            .map(|n| step(self.single(&format!("wide{n}"), Vec::new())).times(times))
            .map(|step| if kind == 4 { step.later() } else { step })
            .collect();
        let often = match kind {
            1 => OFTEN,
            2 => SELDOM,
            _ => 1.0,
        };
        let entry = self.sometimes("wide-web", often, steps);
        self.fleet.system.enter(entry, if kind == 3 { FEW } else { REQUESTS });
        let grave = if callees >= 15 { Severity::Critical } else { Severity::Warn };
        self.settle(matches!(kind, 0 | 1 | 6), Rule::FO, entry, Some(grave));
    }

    /// The wide handler is not the entry: then the entry needs many services, too.
    fn inner_fan_out(&mut self) {
        let callees = self.random.between(8, 14);
        let steps = (0..callees).map(|n| step(self.single(&format!("inner{n}"), Vec::new()))).collect();
        let inner = self.single("inner", steps);
        let entry = self.single("inner-web", vec![step(inner)]);
        self.fleet.system.enter(entry, REQUESTS);
        self.settle(true, Rule::FO, inner, Some(Severity::Warn));
        let grave = if callees + 1 >= 10 { Severity::Critical } else { Severity::Warn };
        self.settle(true, Rule::SC, entry, Some(grave));
    }

    /// Requests that come back: at another endpoint, or at the same one; or a service that calls itself; or a diamond.
    fn circle(&mut self) {
        let kind = self.random.below(4);
        let (a, b) = (self.new_service("ring-a"), self.new_service("ring-b"));
        let system = &mut self.fleet.system;
        let first = system.endpoint(a, "GET /order", 8.0, Vec::new());
        let back = match kind {
            0 => system.endpoint(a, "GET /price", 3.0, Vec::new()),
            1 => first,
            _ => system.endpoint(b, "GET /price", 3.0, Vec::new()),
        };
        // Seldom enough that no more than one time round matters to the depth.
        let chance = if kind == 1 { 0.15 } else { 1.0 };
        let second = system.endpoint(b, "GET /stock", 5.0, vec![step(back).chance(chance)]);
        let mut steps = vec![step(second)];
        if kind == 3 {
            let third = system.endpoint(b, "GET /tax", 2.0, Vec::new());
            steps.push(step(third));
        }
        system.endpoints[first].ways[0].steps = steps;
        let entry = if kind == 1 { first } else { self.single("ring-web", vec![step(first)]) };
        self.fleet.system.enter(entry, REQUESTS);
        let names = self.names(&[a, b]);
        match kind {
            0 => self.truth(Rule::CY, names, Some(Severity::Warn)),
            1 => self.truth(Rule::CY, names, Some(Severity::Critical)),
            _ => self.fleet.decoys += 1,
        }
    }

    /// Services that call one another in both directions, in different requests: often enough, or too seldom.
    fn layers(&mut self) {
        let real = self.random.chance(0.5);
        let size = self.random.between(2, 4);
        let ring: Vec<usize> = (0..size).map(|n| self.new_service(&format!("layer{n}"))).collect();
        for (at, service) in ring.iter().enumerate() {
            let system = &mut self.fleet.system;
            let callee = system.endpoint(ring[(at + 1) % size], "GET /part", 4.0, Vec::new());
            let caller = system.endpoint(*service, "GET /whole", 4.0, vec![step(callee)]);
            system.enter(caller, if !real && at == 0 { FEW } else { 200 });
        }
        let names = self.names(&ring);
        if real { self.truth(Rule::CY, names, Some(Severity::Info)) } else { self.fleet.decoys += 1 }
    }

    /// The same call again and again: slow; a large part of a fast handler; too quick to matter; one time too few; seldom
    /// too often; to different endpoints.
    fn repeats(&mut self) {
        let kind = self.random.below(6);
        let times = if kind == 3 { 4 } else { self.random.between(5, 14) };
        let (own, each) = match kind {
            0 => (900.0, 25.0),
            1 => (10.0, 1.5),
            2 => (900.0, 0.3),
            _ => (20.0, 25.0),
        };
        let service = self.new_service("row");
        let callee = self.fleet.system.endpoint(service, "GET /row/{id}", each, Vec::new());
        let steps = match kind {
            5 => (0..times)
                .map(|n| step(self.fleet.system.endpoint(service, &format!("GET /column{n}"), each, Vec::new())))
                .collect(),
            _ => vec![step(callee).times(times)],
        };
        let entry = self.single("row-web", steps);
        self.fleet.system.endpoints[entry].own = own;
        if kind == 4 {
            // A few requests repeat it; most of those that call at all do it once.
            let rest = Way { weight: 1.0 - SELDOM, steps: vec![step(callee)] };
            self.fleet.system.endpoints[entry].ways[0].weight = SELDOM;
            self.fleet.system.endpoints[entry].ways.push(rest);
        }
        self.fleet.system.enter(entry, REQUESTS);
        if kind < 2 {
            let pair = format!("{} -> {}", self.fleet.system.label(entry), self.fleet.system.label(callee));
            let grave = if times >= 10 { Severity::Critical } else { Severity::Warn };
            self.truth(Rule::NP, pair, Some(grave));
        } else {
            self.fleet.decoys += 1;
        }
    }

    /// Five and more callers and callees; or four of one kind; or a fifth caller that hardly calls; or a gateway.
    fn hub(&mut self) {
        let kind = self.random.below(6);
        let (mut callers, mut callees) = (self.random.between(5, 20), self.random.between(5, 16));
        match kind {
            3 => callers = 4,
            4 => (callers, callees) = (5, callees.min(10)),
            5 => callees = 4,
            _ => {}
        }
        let gateway = kind == 2;
        let hub = self.new_service(if gateway { "edge" } else { "hub" });
        let ends: Vec<usize> = (0..callees).map(|n| self.single(&format!("spoke{n}"), Vec::new())).collect();
        let doors: Vec<usize> = ends
            .chunks(2)
            .enumerate()
            .map(|(n, ends)| {
                let steps = ends.iter().copied().map(step).collect();
                self.fleet.system.endpoint(hub, &format!("POST /do{n}"), 10.0, steps)
            })
            .collect();
        for n in 0..callers {
            // Every door is used, and nobody needs more than two: no chain is made of it.
            let own: Vec<usize> = if n < doors.len() {
                doors.iter().copied().skip(n).step_by(callers).collect()
            } else {
                vec![doors[n % doors.len()]]
            };
            let steps = own.into_iter().map(step).collect();
            let caller = self.single(&format!("hub-web{n}"), steps);
            let last = kind == 4 && n == callers - 1;
            self.fleet.system.enter(caller, if last { FEW } else { 150 });
        }
        if kind < 2 {
            let name = self.fleet.system.services[hub].name.clone();
            self.truth(Rule::HB, name, None);
        } else {
            self.fleet.decoys += 1;
        }
    }

    /// A call that a rule forbids, by name, by pattern or because others only are allowed; or rules that nobody breaks.
    fn forbidden_call(&mut self) {
        let kind = self.random.below(5);
        let to = self.single("ledger", Vec::new());
        let from = self.single("legacy", vec![step(to)]);
        self.fleet.system.enter(from, 100);
        let (caller, callee) = (self.fleet.system.name_of(from).to_owned(), self.fleet.system.name_of(to).to_owned());
        match kind {
            0 => self.forbidden.push(format!("{{from: {caller}, to: {callee}}}")),
            // `*egacy-7` fits `legacy-7`, and not `legacy-70`.
            1 => self.forbidden.push(format!("{{from: '*{}', to: '*{}'}}", &caller[1..], &callee[1..])),
            2 => self.allowed.push(format!("{{from: {caller}, to: ['leaf-*']}}")),
            3 => self.forbidden.push(format!("{{from: {callee}, to: {caller}}}")),
            _ => self.allowed.push(format!("{{from: {caller}, to: [{callee}, 'leaf-*']}}")),
        }
        if kind < 3 {
            self.truth(Rule::FB, format!("{caller} -> {callee}"), Some(Severity::Critical));
        } else {
            self.fleet.decoys += 1;
        }
    }

    /// A service of its own with one endpoint.
    fn single(&mut self, name: &str, steps: Vec<Step>) -> usize {
        let service = self.new_service(name);
        let own = self.random.real(2.0, 15.0);
        let endpoint = self.fleet.system.endpoint(service, "GET /", own, steps);
        self.fleet.system.endpoints[endpoint].fails = self.random.real(0.0, 0.004);
        endpoint
    }

    /// An entry that takes these steps in a share of its requests, and in the others calls a leaf.
    fn sometimes(&mut self, name: &str, share: f64, steps: Vec<Step>) -> usize {
        let entry = self.single(name, steps);
        let leaf = self.leaves.any(&mut self.random);
        let ways = &mut self.fleet.system.endpoints[entry].ways;
        ways[0].weight = share;
        ways.push(Way { weight: 1.0 - share, steps: vec![step(leaf)] });
        entry
    }

    /// No other plot has a service of this name.
    fn new_service(&mut self, name: &str) -> usize {
        let replicas = self.random.between(1, 3);
        self.fleet.system.service(format!("{name}-{}", self.plots), replicas)
    }

    fn names(&self, services: &[usize]) -> String {
        let mut names: Vec<&str> =
            services.iter().map(|service| self.fleet.system.services[*service].name.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    }

    fn settle(&mut self, real: bool, rule: Rule, endpoint: usize, grave: Option<Severity>) {
        let label = self.fleet.system.label(endpoint);
        if real { self.truth(rule, label, grave) } else { self.fleet.decoys += 1 }
    }

    fn truth(&mut self, rule: Rule, what: String, grave: Option<Severity>) {
        self.fleet.truth.insert((rule, what), grave);
    }
}
