//! `/links`: by which headers calls are linked to the requests that make them, what is being learned, and how much of it
//! all comes together. Values of headers are nowhere: only how often they met.

use couplet_config::ProxyConfig;
use couplet_telemetry::outcome::Evidence;
use serde::Serialize;

use crate::link::{Headers, Learning, Source};
use crate::ship::Collector;

/// From this share of exact links on, a service passes on what it should.
const PROPAGATES: f64 = 0.95;
/// Below this share it does not.
const DOES_NOT: f64 = 0.05;

/// The whole page.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    service: &'a str,
    /// Whether calls carry on what requests brought.
    propagates: Propagates,
    /// Calls by how they were linked, since the proxy began.
    exact: u64,
    inferred: u64,
    unknown: u64,
    headers: Vec<Header>,
    learning: Learning,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Propagates {
    Yes,
    Partly,
    No,
    /// There was no call yet.
    Unknown,
}

/// One header.
#[derive(Serialize)]
struct Header {
    name: String,
    source: Source,
    /// Inbound requests that had it.
    inbound: u64,
    /// Calls that had it.
    outbound: u64,
    /// Calls that it linked.
    linked: u64,
    /// Calls that have the value of the request to which they were linked, by this header or another one.
    right: u64,
}

/// What there is to say now.
pub(super) fn page<'a>(config: &'a ProxyConfig, collector: &Collector, headers: &Headers) -> Page<'a> {
    let links = collector.totals(|totals| totals.links);
    let [exact, inferred, unknown] = Evidence::ALL.map(|evidence| links.get(evidence));
    let total = links.total();
    let share = exact as f64 / total.max(1) as f64;
    let propagates = match total {
        0 => Propagates::Unknown,
        _ if share >= PROPAGATES => Propagates::Yes,
        _ if share >= DOES_NOT => Propagates::Partly,
        _ => Propagates::No,
    };
    let seen = |source: Source, counts: [u64; 2]| source != Source::Known || counts != [0, 0];
    let tallies =
        headers.tallies().into_iter().filter(|(_, source, tally)| seen(*source, [tally.inbound, tally.outbound]));
    let header = |(name, source, tally): (String, Source, crate::link::Tally)| {
        let crate::link::Tally { inbound, outbound, linked, right } = tally;
        Header { name, source, inbound, outbound, linked, right }
    };
    Page {
        service: &config.service,
        propagates,
        exact,
        inferred,
        unknown,
        headers: tallies.map(header).collect(),
        learning: headers.learning(),
    }
}
