//! A system as it is meant to behave: what every endpoint calls, how long it takes, how often it fails.

/// A whole system. Services and endpoints are named by their positions.
#[derive(Debug, Clone, Default)]
pub(crate) struct System {
    pub(crate) services: Vec<Service>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) entries: Vec<Entry>,
    /// Share of the calls that no header links to their handler.
    pub(crate) unlinked: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) replicas: usize,
    /// Whether it has a sidecar.
    pub(crate) reports: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) service: usize,
    pub(crate) name: String,
    /// Milliseconds that it spends by itself: the median.
    pub(crate) own: f64,
    /// How often it fails by itself.
    pub(crate) fails: f64,
    /// How much of that comes in whole requests: then all its handlings of a request fail.
    pub(crate) together: f64,
    /// Its steps are taken at the same time; the calls of one step still come one after the other.
    pub(crate) at_once: bool,
    /// What it does: one of these for each handling, chosen by their weights.
    pub(crate) ways: Vec<Way>,
}

#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) weight: f64,
    pub(crate) steps: Vec<Step>,
}

/// Calls to one endpoint, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) to: usize,
    pub(crate) times: u32,
    /// How likely the step is taken.
    pub(crate) chance: f64,
    /// How likely each call can be spared, because a cache has the answer.
    pub(crate) spared: f64,
    /// Nobody waits for the answer.
    pub(crate) later: bool,
    /// The caller goes on where a call fails.
    pub(crate) copes: bool,
}

/// Requests from outside.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) endpoint: usize,
    pub(crate) requests: u32,
}

pub(crate) fn step(to: usize) -> Step {
    Step { to, times: 1, chance: 1.0, spared: 0.0, later: false, copes: false }
}

impl Step {
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.times = times as u32;
        self
    }

    pub(crate) fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    pub(crate) fn later(mut self) -> Self {
        self.later = true;
        self
    }
}

impl System {
    pub(crate) fn service(&mut self, name: String, replicas: usize) -> usize {
        self.services.push(Service { name, replicas, reports: true });
        self.services.len() - 1
    }

    /// An endpoint that does these steps, always.
    pub(crate) fn endpoint(&mut self, service: usize, name: &str, own: f64, steps: Vec<Step>) -> usize {
        let ways = vec![Way { weight: 1.0, steps }];
        let (name, fails, together, at_once) = (name.to_owned(), 0.0, 0.0, false);
        self.endpoints.push(Endpoint { service, name, own, fails, together, at_once, ways });
        self.endpoints.len() - 1
    }

    pub(crate) fn enter(&mut self, endpoint: usize, requests: usize) {
        self.entries.push(Entry { endpoint, requests: requests as u32 });
    }

    pub(crate) fn name_of(&self, endpoint: usize) -> &str {
        &self.services[self.endpoints[endpoint].service].name
    }

    /// As findings write an endpoint.
    pub(crate) fn label(&self, endpoint: usize) -> String {
        format!("{} {}", self.name_of(endpoint), self.endpoints[endpoint].name)
    }

    /// All steps from one service to another.
    pub(crate) fn steps_between(&mut self, from: &str, to: &str) -> impl Iterator<Item = &mut Step> {
        let services = &self.services;
        let is = |service: usize, name: &str| services[service].name == name;
        let called: Vec<bool> = self.endpoints.iter().map(|endpoint| is(endpoint.service, to)).collect();
        let callers = self.endpoints.iter_mut().filter(move |endpoint| services[endpoint.service].name == from);
        let steps = callers.flat_map(|endpoint| &mut endpoint.ways).flat_map(|way| &mut way.steps);
        steps.filter(move |step| called[step.to])
    }
}
