//! Likely chains of entries whose links are missing somewhere: averages put together, which nobody has seen whole.

use serde::{Deserialize, Serialize};

use crate::coupling::composed;
use crate::graph::{EndpointIx, Snapshot};

/// What requests of an entry come to on average where links are missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Composed {
    /// Name of the service.
    pub service: String,
    /// The endpoint.
    pub endpoint: String,
    /// Calls per request on all levels; a mean.
    pub calls: f64,
    /// Changes of service on the longest way; a mean.
    pub depth: f64,
    /// The depth that 1 of 20 requests reaches.
    pub depth_p95: u32,
    /// Other services that more than 1 of 20 requests comes to.
    pub services: usize,
    /// The way on which requests go deepest, from the entry on.
    pub steps: Vec<ComposedStep>,
    /// How sure the least sure part is, 0 to 1.
    pub confidence: f64,
    /// Whether any part is disputed, true on average only or a poor fit.
    pub doubtful: bool,
}

/// One step of a likely chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComposedStep {
    /// Name of the service.
    pub service: String,
    /// Its endpoint.
    pub endpoint: String,
    /// Share of the requests that come here on this way, 0 to 1.
    pub share: f64,
}

/// All of them, by service and endpoint.
pub(crate) fn composed(snapshot: &Snapshot) -> Vec<Composed> {
    let name = |endpoint: EndpointIx| {
        let of = &snapshot[endpoint];
        (snapshot[of.service].name.to_string(), of.name.to_string())
    };
    let told = |found: composed::Composed| {
        let step = |step: composed::Step| {
            let (service, endpoint) = name(step.endpoint);
            ComposedStep { service, endpoint, share: step.share }
        };
        let (service, endpoint) = name(found.endpoint);
        Composed {
            service,
            endpoint,
            calls: found.calls,
            depth: found.depth,
            depth_p95: found.depth_p95,
            services: found.services,
            steps: found.steps.into_iter().map(step).collect(),
            confidence: found.confidence,
            doubtful: found.doubtful,
        }
    };
    composed::composed(snapshot).into_iter().map(told).collect()
}
