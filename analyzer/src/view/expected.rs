//! What timing says of endpoints, where no header links calls to requests: statistics, no chains.

use serde::{Deserialize, Serialize};

use crate::graph::{self, Snapshot};

/// What the handlings of one endpoint were found to call at another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The service that calls.
    pub source: String,
    /// Its endpoint; none for calls that no handling made, such as those of a timer.
    pub source_endpoint: Option<String>,
    /// The service that is called.
    pub destination: String,
    /// Its endpoint.
    pub destination_endpoint: String,
    /// Calls; a mean, so no whole number.
    pub calls: f64,
    /// Calls per handling; none where no handling made them.
    pub per_handling: Option<f64>,
    /// Share of the calls that are nearly certain, 0 to 1.
    pub confidence: f64,
    /// Whether another way to find it, that looks at no single call, finds something else.
    pub disputed: bool,
    /// Whether too many handlings ran side by side to say anything about a single one.
    pub aggregate_only: bool,
    /// Whether most of the calls are in doubt and handlings of the endpoint do what is not to be expected.
    #[serde(default)]
    pub poor_fit: bool,
    /// Share of the handlings in which the call runs beside another, 0 to 1; none where no handling is known whole.
    pub parallel: Option<f64>,
    /// How many other callees of the endpoint have answered before this one is first called, on average; none where no
    /// handling is known whole. Callees stand in the order of these numbers.
    #[serde(default)]
    pub position: Option<f64>,
}

/// Everything that is worth telling, by source and destination.
pub(crate) fn expected(snapshot: &Snapshot) -> Vec<Expected> {
    snapshot.expected().iter().filter_map(|pair| told(snapshot, pair)).collect()
}

fn told(snapshot: &Snapshot, pair: &graph::Expected) -> Option<Expected> {
    let (source, destination) = (&snapshot[pair.source], &snapshot[pair.destination]);
    let background = source.is_unlinked();
    let per_handling = (!background).then(|| pair.share.calls / (pair.stats.handlings as f64).max(1.0));
    if !(background && pair.share.calls > 0.0 || pair.is_told()) {
        return None;
    }
    Some(Expected {
        source: snapshot[source.service].name.to_string(),
        source_endpoint: (!background).then(|| source.name.to_string()),
        destination: snapshot[destination.service].name.to_string(),
        destination_endpoint: destination.name.to_string(),
        calls: pair.share.calls,
        per_handling,
        confidence: pair.stats.confidence(),
        disputed: pair.stats.is_disputed(),
        aggregate_only: pair.stats.is_crowded(),
        poor_fit: pair.stats.is_misfit(),
        parallel: pair.stats.parallel(),
        position: pair.stats.position(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use couplet_telemetry::expected::ExpectedStats;
    use couplet_telemetry::names::UNLINKED;
    use couplet_telemetry::report::{Callee, ExpectedReport};

    use crate::traffic::{chain, snapshot_of, traffic};

    fn found(endpoint: &str, stats: ExpectedStats) -> ExpectedReport {
        ExpectedReport { endpoint: endpoint.to_owned(), callee: Arc::new(Callee::new("b", "GET /")), stats }
    }

    #[test]
    fn what_replicas_found_adds_up_and_doubt_goes_where_calls_are_certain() {
        let mut reports = traffic().of(10, &chain(&["a", "b"])).reports();
        let certain = ExpectedStats {
            handlings: 10,
            stated: 9_000,
            firm: 8_000,
            doubtful: 1_000,
            alone: 3,
            earlier: 6,
            ..Default::default()
        };
        let doubted = ExpectedStats { handlings: 10, doubtful: 500, disputed: 500, ..Default::default() };
        let background = ExpectedStats { stated: 4_000, firm: 4_000, ..Default::default() };
        let rare = ExpectedStats { handlings: 1_000, stated: 5, ..Default::default() };
        for report in reports.iter_mut().filter(|report| report.origin.service == "a") {
            let all = [("GET /x", certain), ("GET /y", doubted), (UNLINKED, background), ("GET /z", rare)];
            report.expected = all.into_iter().map(|(endpoint, stats)| found(endpoint, stats)).collect();
        }
        let of_a = reports.iter().filter(|report| report.origin.service == "a").cloned().collect::<Vec<_>>();
        reports.extend(of_a);
        let all = expected(&snapshot_of(&reports));
        let told: Vec<_> =
            all.iter().map(|pair| (pair.source_endpoint.as_deref(), pair.per_handling.is_some())).collect();
        assert_eq!(
            told,
            [(None, false), (Some("GET /x"), true)],
            "what is only doubted, or hardly ever happens, is not told"
        );
        assert!((all[0].calls - 8.0).abs() < 1e-9 && (all[1].calls - 21.0).abs() < 1e-9, "{all:?}");
        assert!(all[1].per_handling.is_some_and(|calls| (calls - 1.05).abs() < 1e-9), "{all:?}");
        assert_eq!((all[1].confidence, all[1].disputed, all[1].parallel), (0.9, false, Some(0.0)));
        assert_eq!((all[1].position, all[1].poor_fit), (Some(2.0), false));
    }
}
