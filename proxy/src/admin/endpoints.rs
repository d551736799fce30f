//! `/endpoints`: which endpoints there are, which path segments were merged into `{id}` and from what, and what the
//! limits cost. Bounded, however much was learned.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use couplet_config::ProxyConfig;
use couplet_telemetry::endpoint::Learned;
use couplet_telemetry::window::Loss;
use serde::Serialize;

use crate::aggregate::LEARNED_SEGMENTS;
use crate::ship::Collector;

/// Most entries of one list; how many more there are is said.
const MAX_LISTED: usize = 1_000;

/// The whole page.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    service: &'a str,
    /// As configured; they come first.
    templates: &'a [String],
    learn: bool,
    max_values: usize,
    max_endpoints: usize,
    /// Segments that one worker keeps at most.
    max_segments: usize,
    /// Segments that all workers keep.
    segments: usize,
    /// Segments that were not learned from, since there was no room.
    segments_refused: u64,
    /// Positions learned since the proxy began, forgotten ones included.
    positions_learned: u64,
    /// Requests counted under `(other)`, since there were `max_endpoints`.
    requests_without_endpoint: u64,
    /// By service, then by template.
    learned: Vec<Entry>,
    learned_more: usize,
    /// Inbound requests since the proxy began, by endpoint; those from before a template was learned under the names
    /// that they had.
    endpoints: BTreeMap<String, u64>,
    endpoints_more: usize,
}

/// One learned position.
#[derive(Serialize)]
struct Entry {
    direction: &'static str,
    service: String,
    template: String,
    examples: Vec<String>,
    /// Requests that have their name from this position.
    requests: u64,
    /// `learned` here, or `told` by the proxy of the service.
    by: &'static str,
}

/// What there is to say now.
pub(super) fn page<'a>(config: &'a ProxyConfig, collector: &Collector) -> Page<'a> {
    let workers = collector.learning();
    let segments = workers.iter().map(|worker| worker.segments).sum();
    let segments_refused = workers.iter().map(|worker| worker.refused).sum();
    let positions_learned = workers.iter().map(|worker| worker.positions).max().unwrap_or(0);
    let merged = merged(workers.into_iter().flat_map(|worker| worker.learned));
    let learned_more = merged.len().saturating_sub(MAX_LISTED);
    let learned = merged.into_values().take(MAX_LISTED).map(|learned| entry(learned, &config.service)).collect();
    let (endpoints, endpoints_more, requests_without_endpoint) = collector.totals(|totals| {
        let all = &totals.endpoints.outcomes;
        let listed = all.iter().take(MAX_LISTED).map(|(name, outcomes)| (name.clone(), outcomes.total())).collect();
        let lost = totals.losses.get(&Loss::Endpoints).copied().unwrap_or(0);
        (listed, all.len().saturating_sub(MAX_LISTED), lost)
    });
    Page {
        service: &config.service,
        templates: &config.endpoints.templates,
        learn: config.endpoints.learn,
        max_values: config.endpoints.max_values,
        max_endpoints: config.telemetry.max_endpoints,
        max_segments: LEARNED_SEGMENTS,
        segments,
        segments_refused,
        positions_learned,
        requests_without_endpoint,
        learned,
        learned_more,
        endpoints,
        endpoints_more,
    }
}

/// The same position of several workers is one.
fn merged(all: impl Iterator<Item = Learned>) -> BTreeMap<(String, String), Learned> {
    let mut merged: BTreeMap<_, Learned> = BTreeMap::new();
    for learned in all {
        match merged.entry((learned.service.clone(), learned.template.clone())) {
            Slot::Vacant(slot) => drop(slot.insert(learned)),
            Slot::Occupied(mut slot) => {
                let known = slot.get_mut();
                known.requests = known.requests.saturating_add(learned.requests);
                if known.examples.is_empty() {
                    known.examples = learned.examples;
                }
            }
        }
    }
    merged
}

fn entry(learned: Learned, own: &str) -> Entry {
    // The learner has no name for the own service.
    let inbound = learned.service.is_empty();
    Entry {
        direction: if inbound { "inbound" } else { "outbound" },
        service: if inbound { own.to_owned() } else { learned.service },
        template: learned.template,
        examples: learned.examples,
        requests: learned.requests,
        by: if learned.told { "told" } else { "learned" },
    }
}
