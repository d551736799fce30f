//! The canonical document: services, edges, entries and findings of a system as JSON.
//!
//! The same reports give the same bytes, in whatever order they came. Durations are in seconds.

use std::collections::BTreeMap;

use couplet_config::ServiceRole;
use couplet_telemetry::counts::{CountQuantiles, Counts};
use couplet_telemetry::histogram::{Histogram, Quantiles, seconds};
use couplet_telemetry::{outcome, report};
use serde::{Deserialize, Serialize};

use super::composed::composed;
pub use super::composed::{Composed, ComposedStep};
pub use super::expected::Expected;
use super::expected::expected;
use crate::coupling::{blocking, chain, cycles};
use crate::doctor;
use crate::findings::{Finding, Step};
use crate::graph::{self, EndpointIx, Snapshot};
use crate::score::Score;

/// Version of the document's shape; it changes when a reader would have to.
pub const VERSION: u32 = 1;

/// The whole document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the system.
    pub name: String,
    /// When the traffic was seen.
    pub window: Window,
    /// Requests from outside.
    pub requests: u64,
    /// How outbound calls were linked to handlers.
    pub links: Links,
    /// All services, by name.
    pub services: Vec<Service>,
    /// All edges between services, by source and destination.
    pub edges: Vec<Edge>,
    /// All connections between services that nobody can read, by source, destination and protocol.
    #[serde(default)]
    pub opaque: Vec<OpaqueEdge>,
    /// What endpoints were found to call by timing where no header links calls: statistics, in no chain. By source and
    /// destination.
    #[serde(default)]
    pub expected: Vec<Expected>,
    /// What requests of entries come to where links are missing, put together from averages: statistics, no chains that
    /// anybody has seen.
    #[serde(default)]
    pub composed: Vec<Composed>,
    /// All endpoints that are called from outside, by service and endpoint.
    pub entries: Vec<Entry>,
    /// The findings, the gravest first.
    pub findings: Vec<Finding>,
    /// How much of a distributed monolith the system is; none in documents that were written without it.
    #[serde(default)]
    pub score: Option<Score>,
    /// What limits cost, by name; only what is not zero.
    pub losses: BTreeMap<String, u64>,
}

/// A span of time, seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its start.
    pub start: f64,
    /// Its end.
    pub end: f64,
}

/// Calls by how they were linked; handlings by the weakest link above them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Links {
    /// A header proves it.
    pub exact: u64,
    /// Timing makes it likely.
    pub inferred: u64,
    /// Not linked.
    pub unknown: u64,
    /// Share of exact links, 0 to 1; none where there is no call.
    pub coverage: Option<f64>,
}

/// Whether a service reports by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceKind {
    /// Its proxy reports.
    Observed,
    /// Only others report about it.
    External,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Whether it reports by itself.
    pub kind: ServiceKind,
    /// What part it plays (`gateway`, `bff`, `store`), as the architecture says or by its shape; none where it plays none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Handlings.
    pub requests: u64,
    /// Handlings that failed.
    pub failures: u64,
    /// Endpoints.
    pub endpoints: u64,
    /// Distinct callers.
    pub fan_in: u64,
    /// Distinct callees.
    pub fan_out: u64,
    /// How its outbound calls were linked.
    pub links: Links,
    /// Proxies that reported for it.
    pub instances: u64,
    /// Versions that reported.
    pub versions: Vec<String>,
    /// How long its handlings took.
    pub duration: Durations,
}

/// Calls from one service to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// The service that calls.
    pub source: String,
    /// The service that is called.
    pub destination: String,
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that ended before their handler did.
    pub blocking: u64,
    /// Share of the caller's time that waits for this callee, 0 to 1; none where the caller does not report.
    pub blocked_share: Option<f64>,
    /// How long the calls took.
    pub duration: Durations,
    /// Mean time of a call between the two, seconds: what the caller waits for and the callee does not work on. None where
    /// one side does not report.
    #[serde(default)]
    pub network: Option<f64>,
    /// Calls that only one side counted although both report.
    #[serde(default)]
    pub unpaired: u64,
    /// Requests that faults injected on purpose held up before they became calls.
    #[serde(default)]
    pub delayed: u64,
    /// Requests that faults injected on purpose answered: they are no calls, and the callee knows nothing of them.
    #[serde(default)]
    pub aborted: u64,
    /// How the calls were linked.
    pub links: Links,
    /// Whether callee and caller depend on one another, directly or through others.
    pub circular: bool,
    /// The pairs of endpoints, by source and destination.
    pub endpoints: Vec<EndpointPair>,
}

/// Connections from one service to another that nobody can read: to a database, a queue, inside TLS. No calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpaqueEdge {
    /// The service that connects.
    pub source: String,
    /// Whom it connects to: a name where one is known, else `address:port`.
    pub destination: String,
    /// `tls` where it began as TLS does, else `tcp`.
    pub protocol: String,
    /// Connections that were made.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections that could not be made.
    pub failed: u64,
    /// Connections that one side reset, or that were silent for too long.
    pub broken: u64,
    /// Bytes to the destination.
    pub sent_bytes: u64,
    /// Bytes from it.
    pub received_bytes: u64,
    /// How long connections lasted that ended.
    pub duration: Durations,
}

/// Calls from one endpoint to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointPair {
    /// The endpoint that calls.
    pub source_endpoint: String,
    /// The endpoint that is called.
    pub destination_endpoint: String,
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls per handling that made at least one.
    pub per_handling: Distribution,
    /// How long the calls took.
    pub duration: Durations,
}

/// An endpoint that is called from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its root path, 16 hexadecimal digits: the name of its tree of paths.
    pub id: String,
    /// Name of the service.
    pub service: String,
    /// The endpoint.
    pub endpoint: String,
    /// Requests from outside.
    pub requests: u64,
    /// Requests from outside that failed.
    pub failures: u64,
    /// How long they took.
    pub duration: Durations,
    /// Longest chain of service changes per request.
    pub depth: Distribution,
    /// Blocking calls per request, on all levels.
    pub calls: Distribution,
    /// Distinct other services needed per request.
    pub services: Distribution,
    /// A typical chain of the depth that 1 of 20 requests reaches.
    pub deepest: Vec<Step>,
    /// The weakest link of that chain.
    #[serde(default = "exact")]
    pub evidence: outcome::Evidence,
    /// Requests by the weakest link on which depth, calls and services are known.
    #[serde(default)]
    pub links: Links,
    /// Services of its tree some of whose calls are linked to no request: what those lead to is missing above.
    #[serde(default)]
    pub incomplete: Vec<String>,
    /// Calls that outlived the request that made them, anywhere at the entry itself.
    #[serde(default)]
    pub asynchronous: u64,
    /// Calls that were made again after they had failed.
    #[serde(default)]
    pub retries: u64,
    /// Where failures began: the deepest service that failed by itself. The most frequent first.
    #[serde(default)]
    pub origins: Vec<Origin>,
}

/// Failures that began in one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The service.
    pub service: String,
    /// Failed requests.
    pub failures: u64,
}

/// Origins, the most frequent first.
pub(crate) fn origins(origins: &report::Origins) -> Vec<Origin> {
    let origin = |(service, failures): (&str, u64)| Origin { service: service.to_owned(), failures };
    let mut all: Vec<_> = origins.iter().map(origin).collect();
    all.sort_by(|a, b| b.failures.cmp(&a.failures).then_with(|| a.service.cmp(&b.service)));
    all
}

/// What an older document meant where it said nothing.
fn exact() -> outcome::Evidence {
    outcome::Evidence::Exact
}

/// Durations in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// Small whole numbers per request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u32,
    /// 95th percentile.
    pub p95: u32,
    /// Largest.
    pub max: u32,
}

impl From<&Histogram> for Durations {
    fn from(histogram: &Histogram) -> Self {
        let Quantiles { count, mean, p50, p95, p99, max } = histogram.quantiles();
        Self { count, mean, p50, p95, p99, max }
    }
}

impl From<&Counts> for Distribution {
    fn from(counts: &Counts) -> Self {
        let CountQuantiles { mean, p50, p95, max } = counts.quantiles();
        Self { mean, p50, p95, max }
    }
}

impl From<&outcome::Links> for Links {
    fn from(links: &outcome::Links) -> Self {
        let [exact, inferred, unknown] = outcome::Evidence::ALL.map(|evidence| links.get(evidence));
        let total = links.total();
        Self { exact, inferred, unknown, coverage: (total > 0).then(|| exact as f64 / total as f64) }
    }
}

impl Document {
    /// The document of a snapshot and its findings; `name` is the name of the system.
    #[must_use]
    pub fn new(snapshot: &Snapshot, findings: &[Finding], name: &str) -> Self {
        let (start, end) = snapshot.window();
        let mut losses: BTreeMap<String, u64> =
            snapshot.losses().iter().map(|(loss, count)| ((*loss).to_owned(), *count)).collect();
        let unkept = cycles::closed(snapshot).unkept;
        if unkept > 0 {
            losses.insert("graph_cycles".to_owned(), unkept);
        }
        Self {
            version: VERSION,
            name: name.to_owned(),
            window: Window { start: seconds(start), end: seconds(end) },
            requests: snapshot.requests(),
            links: snapshot.links().into(),
            services: snapshot.services().iter().map(Service::new).collect(),
            edges: edges(snapshot),
            opaque: snapshot.opaque().iter().map(|edge| OpaqueEdge::new(snapshot, edge)).collect(),
            expected: expected(snapshot),
            composed: composed(snapshot),
            entries: snapshot.entries().iter().map(|entry| Entry::new(snapshot, entry)).collect(),
            findings: findings.to_vec(),
            score: None,
            losses,
        }
    }

    /// The document with its score.
    #[must_use]
    pub fn with_score(self, score: Score) -> Self {
        Self { score: Some(score), ..self }
    }

    /// The document with the roles of its services, in their order.
    #[must_use]
    pub fn with_roles(mut self, roles: &[ServiceRole]) -> Self {
        for (service, role) in self.services.iter_mut().zip(roles) {
            let word = match role {
                ServiceRole::Service => None,
                ServiceRole::Gateway => Some("gateway"),
                ServiceRole::Bff => Some("bff"),
                ServiceRole::Store => Some("store"),
            };
            service.role = word.map(str::to_owned);
        }
        self
    }

    /// The document as JSON with indentation and a final line end: what is written to files and terminals.
    ///
    /// # Errors
    /// Only if memory ends; every value has a JSON form.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }
}

impl Service {
    fn new(service: &graph::Service) -> Self {
        Self {
            name: service.name.to_string(),
            kind: if service.observed { ServiceKind::Observed } else { ServiceKind::External },
            role: None,
            requests: service.outcomes.total(),
            failures: service.outcomes.failures(),
            endpoints: service.endpoints,
            fan_in: service.fan_in,
            fan_out: service.fan_out,
            links: (&service.links).into(),
            instances: service.instances,
            versions: service.versions.clone(),
            duration: (&service.duration).into(),
        }
    }
}

fn edges(snapshot: &Snapshot) -> Vec<Edge> {
    let measures = blocking::shares(snapshot).into_iter().zip(cycles::circular_edges(snapshot));
    let edge = |(edge, (blocked_share, circular)): (&graph::Edge, (Option<f64>, bool))| {
        let client = edge.client.totals();
        Edge {
            source: snapshot[edge.source].name.to_string(),
            destination: snapshot[edge.destination].name.to_string(),
            calls: edge.calls(),
            failures: edge.outcomes().failures(),
            blocking: client.blocking,
            blocked_share,
            duration: (&edge.duration()).into(),
            network: edge.on_the_way().map(|nanos| nanos / 1e9),
            unpaired: snapshot.unpaired(edge),
            delayed: client.delayed,
            aborted: client.aborted,
            links: (&client.links).into(),
            circular,
            endpoints: edge
                .pairs
                .iter()
                .filter_map(|pair| EndpointPair::new(snapshot, edge, &snapshot[*pair]))
                .collect(),
        }
    };
    snapshot.edges().iter().zip(measures).map(edge).collect()
}

impl OpaqueEdge {
    fn new(snapshot: &Snapshot, edge: &graph::OpaqueEdge) -> Self {
        let stats = &edge.stats;
        Self {
            source: snapshot[edge.source].name.to_string(),
            destination: snapshot[edge.destination].name.to_string(),
            protocol: edge.protocol.as_str().to_owned(),
            opened: stats.opened,
            closed: stats.closed,
            open: stats.open(),
            failed: stats.failed,
            broken: stats.broken,
            sent_bytes: stats.sent,
            received_bytes: stats.received,
            duration: (&stats.duration).into(),
        }
    }
}

impl EndpointPair {
    /// None where the side that is believed for the edge does not know the pair.
    fn new(snapshot: &Snapshot, edge: &graph::Edge, pair: &graph::Pair) -> Option<Self> {
        let (outcomes, duration) = match edge.has_client_side() {
            true => (pair.client.outcomes(), pair.client.duration()),
            false => (pair.server.outcomes(), pair.server.duration()),
        };
        (outcomes.total() > 0).then(|| Self {
            source_endpoint: snapshot[pair.source].name.to_string(),
            destination_endpoint: snapshot[pair.destination].name.to_string(),
            calls: outcomes.total(),
            failures: outcomes.failures(),
            per_handling: (&pair.client.per_handling()).into(),
            duration: (&duration).into(),
        })
    }
}

impl Entry {
    fn new(snapshot: &Snapshot, entry: &graph::Entry) -> Self {
        let step = |endpoint: EndpointIx| {
            let row = &snapshot[endpoint];
            Step { service: snapshot[row.service].name.to_string(), endpoint: row.name.to_string() }
        };
        let Step { service, endpoint } = step(entry.endpoint);
        let chain = chain::deepest(snapshot, entry);
        Self {
            id: entry.roots.first().map(|root| snapshot[*root].id.to_string()).unwrap_or_default(),
            service,
            endpoint,
            requests: entry.stats.outcomes.total(),
            failures: entry.stats.outcomes.failures(),
            duration: (&entry.stats.duration).into(),
            depth: (&entry.stats.depth_below).into(),
            calls: (&entry.stats.calls_below).into(),
            services: (&entry.stats.services_below).into(),
            evidence: chain.as_ref().map_or(outcome::Evidence::Exact, |chain| chain.evidence),
            links: (&entry.stats.below).into(),
            incomplete: doctor::incomplete(snapshot, entry),
            asynchronous: entry.stats.asynchronous,
            retries: entry.stats.retries,
            origins: origins(&entry.stats.origins),
            deepest: chain.map(|chain| chain.steps.into_iter().map(step).collect()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::findings;
    use crate::traffic::{chain, on, snapshot_of, traffic};
    use couplet_config::{Architecture, FindingThresholds};
    use couplet_telemetry::report::Report;

    fn document(reports: &[Report]) -> Document {
        let snapshot = snapshot_of(reports);
        Document::new(&snapshot, &findings(&snapshot, &FindingThresholds::default(), &Architecture::default()), "shop")
    }

    /// A bit of everything that a document has a place for.
    fn shop(replicas: u32) -> Vec<Report> {
        let loops = on("cart", "GET /cart").calls(12, on("catalog", "GET /product/{id}").takes(9));
        let wide =
            (0..9).fold(on("web", "GET /").takes(3), |web, n| web.calls(1, on(&format!("w{n}"), "GET /").takes(n)));
        traffic()
            .with_replicas(replicas)
            .of(60, &chain(&["web", "orders", "billing", "ledger", "orders", "audit"]))
            .of(60, &on("web", "GET /cart").calls(1, loops))
            .of(60, &wide)
            .of(25, &on("web", "GET /").fails().calls(1, on("db", "query").external().fails()))
            .unlinked(60, "billing", &on("mail", "POST /mail"))
            .reports()
    }

    /// The same order from the same seed, without a dependency on anybody's shuffle.
    fn shuffled(mut reports: Vec<Report>, mut seed: u64) -> Vec<Report> {
        for last in (1..reports.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            reports.swap(last, (seed >> 33) as usize % (last + 1));
        }
        for report in &mut reports {
            let middle = seed as usize % report.paths.len().max(1);
            report.paths.rotate_left(middle);
            report.calls.reverse();
        }
        reports
    }

    #[test]
    fn the_order_of_reports_changes_no_byte() {
        let expected = document(&shop(3)).to_json().unwrap();
        for seed in 0..20 {
            assert_eq!(document(&shuffled(shop(3), seed)).to_json().unwrap(), expected);
        }
    }

    #[test]
    fn replicas_change_nothing_but_their_number() {
        let one = document(&shop(1));
        let mut five = document(&shop(5));
        assert_eq!(one.findings, five.findings);
        for (single, service) in one.services.iter().zip(&mut five.services) {
            assert!(service.instances >= single.instances);
            service.instances = single.instances;
        }
        assert_eq!(one, five);
    }

    #[test]
    fn ten_times_the_traffic_finds_the_same_problems() {
        let ids = |document: &Document| {
            document.findings.iter().map(|finding| finding.id.clone()).collect::<std::collections::BTreeSet<_>>()
        };
        let once = shop(1);
        let ten_times: Vec<Report> = std::iter::repeat_n(once.clone(), 10).flatten().collect();
        assert_eq!(ids(&document(&once)), ids(&document(&ten_times)));
    }

    #[test]
    fn a_document_reads_back_as_itself() {
        let document = document(&shop(2));
        let rules: std::collections::BTreeSet<_> = document.findings.iter().map(|finding| finding.rule).collect();
        assert!(rules.len() > 6, "findings of many rules: {rules:?}");
        let text = document.to_json().unwrap();
        let read: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(read.to_json().unwrap(), text);
    }

    #[test]
    fn figures_of_the_document_are_those_of_the_traffic() {
        let document = document(&shop(1));
        assert_eq!(document.requests, 205);
        assert_eq!(document.window.end - document.window.start, 10.0);
        let edge = |source: &str, destination: &str| {
            document.edges.iter().find(|edge| edge.source == source && edge.destination == destination).unwrap()
        };
        assert_eq!((edge("cart", "catalog").calls, edge("cart", "catalog").endpoints[0].per_handling.p95), (720, 12));
        assert_eq!((edge("web", "db").failures, edge("web", "db").circular), (25, false));
        assert!(edge("orders", "billing").circular && edge("ledger", "orders").circular);
        assert_eq!((edge("billing", "mail").links.unknown, document.links.unknown), (60, 60));
        let service = |name: &str| document.services.iter().find(|service| service.name == name).unwrap();
        assert_eq!(service("db").kind, ServiceKind::External);
        assert_eq!((service("orders").fan_in, service("orders").fan_out, service("orders").requests), (2, 2, 120));
        let entry = document.entries.iter().find(|entry| entry.endpoint == "GET /cart").unwrap();
        assert_eq!((entry.requests, entry.depth.p95, entry.calls.p95, entry.services.p95), (60, 2, 13, 2));
        assert_eq!(entry.deepest.len(), 3);
        assert_eq!(entry.id, couplet_telemetry::path::PathId::root("web", "GET /cart").to_string());
    }

    #[test]
    fn nothing_seen_is_a_document_too() {
        let empty = document(&[]);
        assert_eq!((empty.services.len(), empty.links.coverage), (0, None));
        assert!(empty.to_json().unwrap().starts_with("{\n  \"version\": 1,\n  \"name\": \"shop\","));
    }
}
