//! Which services break chains, and what would mend them: per service how its calls are linked, which headers arrive and do
//! not leave, and what to change. A pure function of a snapshot.

mod remedy;

use std::collections::BTreeSet;

use couplet_telemetry::outcome::{Evidence, Links};
use couplet_telemetry::propagation::HeaderUse;
use serde::{Deserialize, Serialize};

use crate::graph::{Entry, PathIx, Service, ServiceIx, Snapshot};

/// Share of exact links from which on a service is well.
const WELL: f64 = 0.95;
/// Share of calls that are linked to no request from which on a service breaks chains.
const BREAKS: f64 = 0.05;
/// Share of calls that have a header from which on it is passed on.
const PASSED_ON: f64 = 0.95;

/// The whole examination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// Calls by how they were linked, of all services.
    pub links: Shares,
    /// Services that break chains, those with most calls in no chain first.
    pub breaks: Vec<String>,
    /// All services that make calls, the worst first.
    pub services: Vec<Diagnosis>,
}

/// Calls by how they were linked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Calls.
    pub calls: u64,
    /// Share that a header proves, 0 to 1.
    pub exact: f64,
    /// Share that timing makes likely.
    pub inferred: f64,
    /// Share that is in no chain.
    pub unknown: f64,
}

/// How one service links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Calls are in no chain: chains end here.
    Breaks,
    /// Chains go on, but rest on timing.
    Inferred,
    /// Headers prove nearly all.
    Exact,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Its name.
    pub service: String,
    /// In a word.
    pub verdict: Verdict,
    /// How its calls are linked.
    pub links: Shares,
    /// Services that its unlinked calls lead to: what is below them hangs in the air.
    pub cut_off: Vec<String>,
    /// Headers that name a request, those that link most first, then those that arrive most.
    pub headers: Vec<Header>,
    /// HTTP clients by which it calls, those with most calls first.
    pub clients: Vec<Client>,
    /// What is wrong, and what to do about it, in sentences.
    pub advice: Vec<String>,
}

/// What becomes of one header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Requests that have it when the application gets them.
    pub arrives: u64,
    /// Calls that have it.
    pub leaves: u64,
    /// Calls that it links.
    pub links: u64,
}

/// An HTTP client, by its `User-Agent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// What it is.
    pub name: String,
    /// How its calls are linked.
    pub links: Shares,
}

impl From<&Links> for Shares {
    fn from(links: &Links) -> Self {
        let calls = links.total();
        let share = |evidence| links.get(evidence) as f64 / calls.max(1) as f64;
        Self {
            calls,
            exact: share(Evidence::Exact),
            inferred: share(Evidence::Inferred),
            unknown: share(Evidence::Unknown),
        }
    }
}

/// Examines all services.
#[must_use]
pub fn examine(snapshot: &Snapshot) -> Examination {
    let calling = snapshot.service_indices().filter(|at| snapshot[*at].links.total() > 0);
    let mut services: Vec<Diagnosis> = calling.map(|at| diagnose(snapshot, at, &snapshot[at])).collect();
    let missing = |links: &Shares| (links.unknown * links.calls as f64) as u64;
    services.sort_by(|a, b| {
        let by_loss = missing(&b.links).cmp(&missing(&a.links));
        a.verdict.cmp(&b.verdict).then(by_loss).then_with(|| a.service.cmp(&b.service))
    });
    let breaks = services.iter().filter(|diagnosis| diagnosis.verdict == Verdict::Breaks);
    Examination {
        links: snapshot.links().into(),
        breaks: breaks.map(|diagnosis| diagnosis.service.clone()).collect(),
        services,
    }
}

/// Services in the tree of an entry some of whose calls are linked to no request.
#[must_use]
pub fn incomplete(snapshot: &Snapshot, entry: &Entry) -> Vec<String> {
    let mut seen: BTreeSet<ServiceIx> = BTreeSet::new();
    let mut open: Vec<PathIx> = entry.roots.clone();
    while let Some(path) = open.pop() {
        seen.insert(snapshot.service_of(path));
        open.extend_from_slice(snapshot.children(path));
    }
    let breaks = |service: &&ServiceIx| Shares::from(&snapshot[**service].links).unknown > BREAKS;
    seen.iter().filter(breaks).map(|service| snapshot[*service].name.to_string()).collect()
}

fn diagnose(snapshot: &Snapshot, at: ServiceIx, service: &Service) -> Diagnosis {
    let links = Shares::from(&service.links);
    let verdict = match links {
        Shares { unknown, .. } if unknown > BREAKS => Verdict::Breaks,
        Shares { exact, .. } if exact < WELL => Verdict::Inferred,
        _ => Verdict::Exact,
    };
    let header = |(name, used): (&String, &HeaderUse)| Header {
        name: name.clone(),
        arrives: used.inbound,
        leaves: used.outbound,
        links: used.linked,
    };
    let mut headers: Vec<Header> = service.propagation.headers.iter().map(header).collect();
    headers.sort_by(|a, b| (b.links, b.arrives).cmp(&(a.links, a.arrives)).then_with(|| a.name.cmp(&b.name)));
    let client = |(client, links): (&couplet_telemetry::propagation::Client, &Links)| Client {
        name: client.as_str().to_owned(),
        links: links.into(),
    };
    let mut clients: Vec<Client> = service.propagation.clients.iter().map(client).collect();
    clients.sort_by(|a, b| b.links.calls.cmp(&a.links.calls).then_with(|| a.name.cmp(&b.name)));
    let advice = if verdict == Verdict::Exact { Vec::new() } else { advice(service, &links, &headers, &clients) };
    Diagnosis {
        service: service.name.to_string(),
        verdict,
        links,
        cut_off: cut_off(snapshot, at),
        headers,
        clients,
        advice,
    }
}

/// Whom the unlinked calls of a service lead to.
fn cut_off(snapshot: &Snapshot, at: ServiceIx) -> Vec<String> {
    let unlinked = snapshot.pairs().iter().filter(|pair| {
        let source = &snapshot[pair.source];
        source.service == at && source.is_unlinked() && pair.client.total() > 0
    });
    let callees: BTreeSet<&str> = unlinked.map(|pair| &*snapshot[snapshot[pair.destination].service].name).collect();
    callees.into_iter().map(str::to_owned).collect()
}

fn advice(service: &Service, links: &Shares, headers: &[Header], clients: &[Client]) -> Vec<String> {
    let mut advice = Vec::new();
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let of_calls = |header: &Header| header.leaves as f64 / links.calls.max(1) as f64;
    if service.outcomes.total() == 0 {
        advice.push(
            "No request to this service passes its sidecar: its calls are background work, or requests reach the service \
             past the sidecar's inbound listener. Let callers connect to the sidecar."
                .to_owned(),
        );
        return advice;
    }
    let stopped = headers.iter().find(|header| header.arrives > 0 && of_calls(header) < PASSED_ON);
    let other = headers.iter().find(|header| header.leaves > 0 && header.links * 2 < header.leaves);
    match (other, stopped) {
        (Some(header), _) => advice.push(format!(
            "`{}` leaves with {} of the calls, but with values that no request brought: the service begins a trace of its own. \
             Let it continue the one that arrives (extract the context from the request before the first call).",
            header.name,
            percent(of_calls(header))
        )),
        (None, Some(header)) => advice.push(format!(
            "`{}` arrives with {} requests and leaves with {} of the calls. Copy it, and `tracestate` beside it, from each \
             request to the calls that are made for it.",
            header.name,
            header.arrives,
            percent(of_calls(header))
        )),
        (None, None) => advice.push(
            "The headers leave, but several requests share their values, or calls are made after the request has long ended: \
             pass `tracestate` on, too, which tells such requests apart."
                .to_owned(),
        ),
    }
    let unproved = clients.iter().filter(|client| client.links.exact < WELL);
    for client in unproved.take(3) {
        let kind = couplet_telemetry::propagation::Client::parse(&client.name);
        advice.push(format!("{} of the calls: {}", client.links.calls, remedy::of(kind)));
    }
    advice.push(
        "Where the service copies a header of its own, name it in the sidecar's `link.headers`; after some hundred calls it is \
         found without that."
            .to_owned(),
    );
    advice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{chain, on, traffic};
    use couplet_telemetry::propagation;

    fn examined(inbound: u64, outbound: u64, linked: u64) -> Examination {
        let mut reports = traffic().of(100, &chain(&["web", "orders"])).of(50, &chain(&["orders"])).unlinked(
            50,
            "orders",
            &on("mail", "POST /mail"),
        );
        reports = reports.unlinked(1, "web", &on("log", "POST /log"));
        let mut reports = reports.reports();
        for report in reports.iter_mut().filter(|report| report.origin.service == "orders") {
            let mut links = Links::default();
            links.add(Evidence::Unknown, 50);
            report.propagation.clients.insert(propagation::Client::Requests, links);
            *report.propagation.header("traceparent").unwrap() = HeaderUse { inbound, outbound, linked };
        }
        examine(&crate::traffic::snapshot_of(&reports))
    }

    #[test]
    fn who_breaks_chains_comes_first_with_what_would_mend_them() {
        let examination = examined(150, 0, 0);
        assert_eq!(examination.breaks, ["orders"]);
        let [orders, web] = &examination.services[..] else { panic!("{examination:#?}") };
        assert_eq!(
            (orders.verdict, orders.links.unknown, &orders.cut_off[..]),
            (Verdict::Breaks, 1.0, &["mail".to_owned()][..])
        );
        assert!(orders.advice[0].contains("`traceparent` arrives with 150 requests and leaves with 0 % of the calls"));
        assert!(orders.advice[1].contains("50 of the calls: Python"), "{:?}", orders.advice);
        assert_eq!((web.verdict, web.advice.len()), (Verdict::Exact, 0), "one of a hundred is no break");
    }

    #[test]
    fn a_service_that_begins_a_trace_of_its_own_is_told_apart_from_one_that_passes_nothing_on() {
        let examination = examined(150, 50, 0);
        assert!(examination.services[0].advice[0].contains("begins a trace of its own"));
    }

    #[test]
    fn an_entry_says_whose_calls_are_missing_below_it() {
        let traffic = traffic().of(100, &chain(&["web", "orders"])).unlinked(50, "orders", &on("mail", "POST /mail"));
        let snapshot = traffic.snapshot();
        let web = snapshot.entries().iter().find(|entry| snapshot.label(entry.endpoint) == "web GET /").unwrap();
        assert_eq!(incomplete(&snapshot, web), ["orders"]);
    }

    #[test]
    fn nothing_is_wrong_with_an_empty_system() {
        let examination = examine(&traffic().snapshot());
        assert_eq!((examination.links.calls, examination.services.len()), (0, 0));
    }
}
