//! Who is to blame: for every entry which service caused the failures that users saw, and which costs them most time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::coupling::availability::{availability, origins};
use crate::coupling::flow::{Flow, Flows};
use crate::coupling::latency::spent;
use crate::graph::{ServiceIx, Snapshot};

/// What is said of one entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryBlame {
    /// Service and endpoint.
    pub entry: String,
    /// Requests from outside.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// What every service below fails by itself allows: the worst and the best case. Share of the requests that succeed.
    pub predicted: [f64; 2],
    /// Where the failures began, the most first; they add up to all of them.
    pub origins: Vec<Origin>,
    /// Mean time of a request, seconds.
    pub seconds: f64,
    /// Where the time goes, the most first.
    pub time: Vec<TimeShare>,
}

/// A service that failures are traced to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub service: String,
    /// Failed requests of the entry that began with its own failures. Several failed calls of one request share it.
    pub failures: f64,
    /// Its share of all failures of the entry, 0 to 1.
    pub share: f64,
}

/// A part of the time of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimeShare {
    /// The service.
    pub service: String,
    /// What the time is spent on.
    pub on: SpentOn,
    /// Mean time per request, seconds.
    pub seconds: f64,
    /// Its share of the whole, 0 to 1.
    pub share: f64,
}

/// What time is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpentOn {
    /// Own work of the service.
    Work,
    /// The way to it: network, queues, proxies.
    Way,
}

/// Parts that are named per entry.
const MOST: usize = 20;

/// What is said of all entries, those with most failures first; of equals those with most time.
#[must_use]
pub fn blame(snapshot: &Snapshot) -> Vec<EntryBlame> {
    let mut all: Vec<EntryBlame> = Flows::of(snapshot).iter().filter_map(|flow| of(snapshot, flow)).collect();
    all.sort_by(|a, b| {
        let time = |entry: &EntryBlame| entry.seconds * entry.requests as f64;
        b.failures.cmp(&a.failures).then(time(b).total_cmp(&time(a))).then_with(|| a.entry.cmp(&b.entry))
    });
    all
}

fn of(snapshot: &Snapshot, flow: &Flow) -> Option<EntryBlame> {
    let (root, seen) = (flow.root()?, availability(flow)?);
    let name = |service: ServiceIx| snapshot[service].name.to_string();
    let share = |part: f64, whole: f64| if whole > 0.0 { rounded(part / whole) } else { 0.0 };
    let origin = |(service, failures): (String, f64)| Origin {
        service,
        failures: rounded(failures),
        share: share(failures, root.failures as f64),
    };
    let spent = spent(flow);
    let part = |on: SpentOn| {
        move |(service, nanos): &(ServiceIx, f64)| TimeShare {
            service: name(*service),
            on,
            seconds: (nanos / flow.requests.max(1) as f64 / 1e3).round() / 1e6,
            share: share(*nanos, spent.total),
        }
    };
    let mut time: Vec<TimeShare> =
        spent.own.iter().map(part(SpentOn::Work)).chain(spent.way.iter().map(part(SpentOn::Way))).collect();
    time.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.service.cmp(&b.service)));
    time.truncate(MOST);
    Some(EntryBlame {
        entry: snapshot.label(snapshot[flow.entry].endpoint),
        requests: flow.requests,
        failures: root.failures,
        predicted: [rounded(seen.predicted.low), rounded(seen.predicted.high)],
        origins: began(snapshot, flow, root.failures).into_iter().take(MOST).map(origin).collect(),
        seconds: (root.call_nanos as f64 / flow.requests.max(1) as f64 / 1e3).round() / 1e6,
        time,
    })
}

/// Where the failures of an entry began, the most first. What proxies saw of single requests counts; failures of which they
/// know no beginning are traced by how often calls and handlings failed together.
fn began(snapshot: &Snapshot, flow: &Flow, failures: u64) -> Vec<(String, f64)> {
    let seen = &snapshot[flow.entry].stats.origins;
    let mut began: BTreeMap<String, f64> =
        seen.iter().map(|(service, count)| (service.to_owned(), count as f64)).collect();
    let known: f64 = began.values().sum();
    let rest = if failures == 0 { 0.0 } else { (1.0 - known / failures as f64).max(0.0) };
    if rest > 0.0 {
        for (service, count) in origins(flow) {
            *began.entry(snapshot[service].name.to_string()).or_default() += count * rest;
        }
    }
    let mut began: Vec<_> = began.into_iter().collect();
    began.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    began
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{chain, on, traffic};

    #[test]
    fn the_service_that_caused_what_users_saw_is_named_and_so_is_the_slow_one() {
        let broken =
            on("web", "GET /").fails().calls(1, on("pay", "POST /").fails().calls(1, on("bank", "POST /").fails()));
        let slow = on("web", "GET /").calls(1, on("pay", "POST /").takes(80).calls(1, on("bank", "POST /")));
        let all = traffic().of(10, &broken).of(90, &slow).of(500, &chain(&["admin", "pay"])).snapshot();
        let blamed = blame(&all);
        assert_eq!(blamed.iter().map(|entry| entry.entry.as_str()).collect::<Vec<_>>(), ["web GET /", "admin GET /"]);
        let web = &blamed[0];
        assert_eq!((web.failures, web.origins.len()), (10, 1));
        assert_eq!((web.origins[0].service.as_str(), web.origins[0].share), ("bank", 1.0));
        assert_eq!((web.time[0].service.as_str(), web.time[0].on), ("pay", SpentOn::Work));
        assert!(web.time[0].share > 0.9 && (web.time.iter().map(|part| part.share).sum::<f64>() - 1.0).abs() < 1e-3);
    }

    #[test]
    fn what_was_seen_of_single_requests_counts_and_only_the_rest_is_traced() {
        let broken =
            on("web", "GET /").fails().calls(1, on("pay", "GET /").fails()).calls(1, on("bank", "GET /").fails());
        let mut reports = traffic().of(10, &broken).of(90, &chain(&["web", "pay"])).reports();
        let origins = |reports: &[couplet_telemetry::report::Report]| {
            let blamed = blame(&crate::traffic::snapshot_of(reports)).remove(0).origins;
            blamed.into_iter().map(|origin| (origin.service, origin.failures)).collect::<Vec<_>>()
        };
        assert_eq!(origins(&reports), [("bank".to_owned(), 10.0)], "the last to fail, as the proxy of web saw");
        for path in reports.iter_mut().flat_map(|report| &mut report.paths) {
            path.stats.origins = couplet_telemetry::report::Origins::default();
        }
        assert_eq!(origins(&reports), [("bank".to_owned(), 5.0), ("pay".to_owned(), 5.0)], "nobody saw: both failed");
    }

    #[test]
    fn an_entry_without_failures_blames_nobody() {
        assert_eq!(blame(&traffic().of(10, &chain(&["a", "b"])).snapshot())[0].origins, []);
    }
}
