//! Reports as OTLP: one `ExportMetricsServiceRequest` with delta temporality.
//!
//! | metric | type, unit | attributes |
//! |---|---|---|
//! | `http.server.request.duration` | exponential histogram, s | `couplet.path` and what defines it |
//! | `couplet.handlings` | sum | `couplet.path`, `couplet.outcome` |
//! | `couplet.handling.{links,below}` | sum | `couplet.path`, `couplet.evidence` |
//! | `couplet.handling.origins` | sum | `couplet.path`, `couplet.origin` |
//! | `couplet.handling.{blocked,busy}` | sum, ns | `couplet.path` |
//! | `couplet.handling.{asynchronous,retries}` | sum | `couplet.path` |
//! | `couplet.handling.{calls,callees,depth_below,calls_below,services_below}` | histogram | `couplet.path` |
//! | `http.client.request.duration`, `couplet.call.first_byte` | exponential histogram, s | path, peer, endpoint |
//! | `couplet.calls` | sum | path, peer, endpoint, `couplet.outcome` |
//! | `couplet.call.links` | sum | path, peer, endpoint, `couplet.evidence` |
//! | `couplet.call.{blocking,attempts,delayed,aborted,request_bytes,response_bytes}`, `couplet.call.blocked` (ns) | sum | path, peer, endpoint |
//! | `couplet.call.per_handling` | histogram | path, peer, endpoint |
//! | `couplet.call.joint` | sum | path, peer, endpoint, `couplet.call_failed`, `couplet.handling_failed` |
//! | `couplet.opaque.duration` | exponential histogram, s | peer, `network.protocol.name` |
//! | `couplet.opaque.connections` | sum | peer, protocol, `couplet.opaque.event`: opened, closed, failed, broken |
//! | `couplet.opaque.io` | sum, By | peer, protocol, `network.io.direction` |
//! | `couplet.headers` | sum | `couplet.header`, `couplet.header.event`: inbound, outbound, linked |
//! | `couplet.clients` | sum | `couplet.client`, `couplet.evidence` |
//! | `couplet.breaker.peak` | gauge, calls | peer, `couplet.breaker.state`, `couplet.breaker.mode` |
//! | `couplet.breaker.counts` | sum | peer, `couplet.breaker.count`; times in ns |
//! | `couplet.breaker.transitions` | sum | peer, `couplet.breaker.record`: the record as JSON |
//! | `couplet.expected` | sum | `couplet.endpoint`, peer, peer endpoint, `couplet.expected.part`: handlings; thousandths of calls; see [`ExpectedStats`](crate::expected::ExpectedStats) |
//! | `couplet.losses` | sum | `couplet.loss` |
//!
//! The resource names the sender (`service.name`, `service.instance.id`, `service.version`) and the report
//! (`couplet.sequence`). Any Collector or backend can read it; only an analyzer puts it together again. Histograms of
//! whole numbers list the values that occurred as their bounds, so that nothing is rounded on the way.

mod decode;
mod encode;

pub use decode::{Bounds, DecodeError, Decoded, decode};
pub use encode::encode;

/// Names of metrics and attributes, spelled once for both directions.
mod words {
    pub(super) const SEQUENCE: &str = "couplet.sequence";
    pub(super) const INBOUND: &str = "couplet.inbound";
    pub(super) const SERVICE: &str = "service.name";
    pub(super) const INSTANCE: &str = "service.instance.id";
    pub(super) const VERSION: &str = "service.version";

    pub(super) const PATH: &str = "couplet.path";
    pub(super) const PARENT: &str = "couplet.path.parent";
    pub(super) const ROOT: &str = "couplet.path.root";
    pub(super) const CALLER: &str = "couplet.path.caller";
    pub(super) const DEPTH: &str = "couplet.path.depth";
    pub(super) const KIND: &str = "couplet.path.kind";
    pub(super) const EVIDENCE: &str = "couplet.evidence";
    pub(super) const ENDPOINT: &str = "couplet.endpoint";
    pub(super) const PEER: &str = "service.peer.name";
    pub(super) const PEER_ENDPOINT: &str = "couplet.peer.endpoint";
    pub(super) const OUTCOME: &str = "couplet.outcome";
    pub(super) const CALL_FAILED: &str = "couplet.call_failed";
    pub(super) const HANDLING_FAILED: &str = "couplet.handling_failed";
    pub(super) const PROTOCOL: &str = "network.protocol.name";
    pub(super) const DIRECTION: &str = "network.io.direction";
    pub(super) const TRANSMIT: &str = "transmit";
    pub(super) const RECEIVE: &str = "receive";
    pub(super) const EVENT: &str = "couplet.opaque.event";
    pub(super) const OPENED: &str = "opened";
    pub(super) const CLOSED: &str = "closed";
    pub(super) const FAILED: &str = "failed";
    pub(super) const BROKEN: &str = "broken";
    pub(super) const HEADER: &str = "couplet.header";
    pub(super) const HEADER_EVENT: &str = "couplet.header.event";
    pub(super) const INBOUND_REQUEST: &str = "inbound";
    pub(super) const OUTBOUND_CALL: &str = "outbound";
    pub(super) const LINKED_CALL: &str = "linked";
    pub(super) const CLIENT: &str = "couplet.client";
    pub(super) const LOSS: &str = "couplet.loss";
    pub(super) const BREAKER_STATE: &str = "couplet.breaker.state";
    pub(super) const BREAKER_MODE: &str = "couplet.breaker.mode";
    pub(super) const BREAKER_COUNT: &str = "couplet.breaker.count";
    pub(super) const BREAKER_RECORD: &str = "couplet.breaker.record";
    pub(super) const PART: &str = "couplet.expected.part";

    pub(super) const SERVER_DURATION: &str = "http.server.request.duration";
    pub(super) const HANDLINGS: &str = "couplet.handlings";
    pub(super) const HANDLING_LINKS: &str = "couplet.handling.links";
    pub(super) const HANDLING_BELOW: &str = "couplet.handling.below";
    pub(super) const HANDLING_RETRIES: &str = "couplet.handling.retries";
    pub(super) const HANDLING_ORIGINS: &str = "couplet.handling.origins";
    pub(super) const ORIGIN: &str = "couplet.origin";
    pub(super) const HANDLING_BLOCKED: &str = "couplet.handling.blocked";
    pub(super) const HANDLING_BUSY: &str = "couplet.handling.busy";
    pub(super) const HANDLING_ASYNCHRONOUS: &str = "couplet.handling.asynchronous";
    pub(super) const HANDLING_CALLS: &str = "couplet.handling.calls";
    pub(super) const HANDLING_CALLEES: &str = "couplet.handling.callees";
    pub(super) const DEPTH_BELOW: &str = "couplet.handling.depth_below";
    pub(super) const CALLS_BELOW: &str = "couplet.handling.calls_below";
    pub(super) const SERVICES_BELOW: &str = "couplet.handling.services_below";

    pub(super) const CLIENT_DURATION: &str = "http.client.request.duration";
    pub(super) const FIRST_BYTE: &str = "couplet.call.first_byte";
    pub(super) const CALLS: &str = "couplet.calls";
    pub(super) const CALL_LINKS: &str = "couplet.call.links";
    pub(super) const CALL_BLOCKING: &str = "couplet.call.blocking";
    pub(super) const CALL_BLOCKED: &str = "couplet.call.blocked";
    pub(super) const CALL_ATTEMPTS: &str = "couplet.call.attempts";
    pub(super) const CALL_DELAYED: &str = "couplet.call.delayed";
    pub(super) const CALL_ABORTED: &str = "couplet.call.aborted";
    pub(super) const CALL_REQUEST_BYTES: &str = "couplet.call.request_bytes";
    pub(super) const CALL_RESPONSE_BYTES: &str = "couplet.call.response_bytes";
    pub(super) const CALL_PER_HANDLING: &str = "couplet.call.per_handling";
    pub(super) const CALL_JOINT: &str = "couplet.call.joint";
    pub(super) const OPAQUE_DURATION: &str = "couplet.opaque.duration";
    pub(super) const OPAQUE_CONNECTIONS: &str = "couplet.opaque.connections";
    pub(super) const OPAQUE_IO: &str = "couplet.opaque.io";
    pub(super) const HEADERS: &str = "couplet.headers";
    pub(super) const CLIENTS: &str = "couplet.clients";
    pub(super) const BREAKER_PEAK: &str = "couplet.breaker.peak";
    pub(super) const BREAKER_COUNTS: &str = "couplet.breaker.counts";
    pub(super) const BREAKER_TRANSITIONS: &str = "couplet.breaker.transitions";
    pub(super) const EXPECTED: &str = "couplet.expected";
    pub(super) const LOSSES: &str = "couplet.losses";
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::breaker::{BreakerCounts, BreakerReport, Cause, Count, Observed, Transition};
    use crate::counts::Counts;
    use crate::expected::ExpectedStats;
    use crate::histogram::Histogram;
    use crate::opaque::{OpaqueReport, OpaqueStats, Protocol};
    use crate::outcome::{Evidence, Links, Outcome, Outcomes};
    use crate::path::PathId;
    use crate::propagation::{Client, HeaderUse, Propagation};
    use crate::report::*;
    use crate::window::Loss;

    const BOUNDS: Bounds = Bounds { paths: 100, calls: 100 };

    /// Sums below 2^50 ns (13 days of waiting in one window) pass through seconds as `f64` without rounding.
    fn histogram() -> impl Strategy<Value = Histogram> {
        prop::collection::vec(0u64..1 << 45, 0..20).prop_map(|values| {
            let mut histogram = Histogram::default();
            values.into_iter().for_each(|value| histogram.record(value));
            histogram
        })
    }

    fn counts() -> impl Strategy<Value = Counts> {
        prop::collection::vec(0u32..1000, 0..20).prop_map(|values| {
            let mut counts = Counts::default();
            values.into_iter().for_each(|value| counts.record(value));
            counts
        })
    }

    fn outcomes() -> impl Strategy<Value = Outcomes> {
        prop::collection::vec(0u64..1 << 40, Outcome::ALL.len()).prop_map(|values| {
            let mut outcomes = Outcomes::default();
            Outcome::ALL.into_iter().zip(values).for_each(|(outcome, n)| outcomes.add(outcome, n));
            outcomes
        })
    }

    fn links() -> impl Strategy<Value = Links> {
        prop::array::uniform3(0u64..1 << 40).prop_map(|counts| {
            let mut links = Links::default();
            Evidence::ALL.into_iter().zip(counts).for_each(|(evidence, n)| links.add(evidence, n));
            links
        })
    }

    fn told(counts: &std::collections::BTreeMap<String, u64>) -> Origins {
        let mut origins = Origins::default();
        counts.iter().for_each(|(service, n)| origins.add(service, *n));
        origins
    }

    prop_compose! {
        fn path_report()(
            endpoint in "[A-Z]{3,6} /[a-z]{0,20}", parent in any::<Option<u32>>(), depth in 0u32..32,
            evidence in prop::sample::select(Evidence::ALL.to_vec()), outcomes in outcomes(), duration in histogram(),
            (blocked, busy, asynchronous) in (0u64..1 << 60, 0u64..1 << 60, 0u64..1000), calls in counts(), callees in counts(),
            depth_below in counts(), calls_below in counts(), services_below in counts(), links in links(),
            below in links(), retries in 0u64..1000, origins in prop::collection::btree_map("[a-z]{1,9}", 1u64..1 << 40, 0..4),
        ) -> PathReport {
            let parent = parent.and_then(|id| PathId::new(u64::from(id)));
            let id = PathId::root("shop", &endpoint);
            PathReport {
                path: Arc::new(PathDefinition {
                    id, parent, root: parent.unwrap_or(id), caller: parent.map(|_| "front".to_owned()), endpoint, depth,
                    kind: PathKind::Handler, evidence,
                }),
                stats: HandlingStats { outcomes, links, duration, blocked, busy, asynchronous, calls, callees, depth_below, calls_below, services_below, below, retries, origins: told(&origins) },
            }
        }
    }

    prop_compose! {
        fn call_report(paths: Vec<PathId>)(
            path in prop::sample::select(paths), service in "[a-z]{1,9}", endpoint in "GET /[a-z]{0,9}", outcomes in outcomes(),
            duration in histogram(), first_byte in histogram(), (blocking, blocked, attempts) in (0u64..1 << 60, 0u64..1 << 60, 0u64..9), (delayed, aborted) in (0u64..9, 0u64..9),
            links in links(), per_handling in counts(), joint in prop::array::uniform4(0u64..1 << 40),
            (request_bytes, response_bytes) in (0u64..1 << 60, 0u64..1 << 60),
        ) -> CallReport {
            let joint = Joint { neither: joint[0], handling_only: joint[1], call_only: joint[2], both: joint[3] };
            CallReport {
                path, callee: Arc::new(Callee::new(service, endpoint)),
                stats: CallStats { outcomes, duration, first_byte, blocking, links, blocked, per_handling, joint, attempts, delayed, aborted, request_bytes, response_bytes },
            }
        }
    }

    prop_compose! {
        fn opaque_report()(
            peer in "[a-z0-9.:-]{1,40}", protocol in prop::sample::select(Protocol::ALL.to_vec()),
            numbers in prop::array::uniform6(0u64..1 << 60), duration in histogram(),
        ) -> OpaqueReport {
            let [opened, closed, failed, broken, sent, received] = numbers;
            OpaqueReport { peer, protocol, stats: OpaqueStats { opened, closed, failed, broken, sent, received, duration } }
        }
    }

    prop_compose! {
        fn propagation()(
            headers in prop::collection::btree_map("[a-z-]{1,20}", prop::array::uniform3(1u64..1 << 60), 0..4),
            clients in prop::collection::btree_map(prop::sample::select(Client::all().collect::<Vec<_>>()), links(), 0..4),
        ) -> Propagation {
            let used = |[inbound, outbound, linked]: [u64; 3]| HeaderUse { inbound, outbound, linked };
            let headers = headers.into_iter().map(|(name, counts)| (name, used(counts))).collect();
            // Zeros are not sent: a client without calls is none.
            let clients = clients.into_iter().filter(|(_, links)| links.total() > 0).collect();
            Propagation { headers, clients }
        }
    }

    prop_compose! {
        fn breaker_report()(
            state in prop::sample::select(vec!["closed", "open", "half_open"]), mode in prop::sample::select(vec!["observe", "enforce"]),
            peak in 0u64..1 << 40, numbers in prop::collection::vec(0u64..1 << 60, Count::ALL.len()), rate in 0.0f64..1.0,
            transitions in 0u64..3, why in prop::option::of("[a-zéß ]{0,9}"),
        ) -> BreakerReport {
            let mut counts = BreakerCounts::default();
            Count::ALL.into_iter().zip(numbers).for_each(|(count, n)| counts.add(count, n));
            let transition = |number| Transition {
                ts: "2026-01-01T00:00:00.000Z".to_owned(), number, edge: "shop→stock".to_owned(), breaker: "edge".to_owned(), epoch: number + 1,
                from: "closed".to_owned(), to: state.to_owned(), mode: mode.to_owned(), stops: false, reason: "failure_rate".to_owned(), rule: None,
                observed: Observed { total: 20, failed: 11, rate, p99_ms: Some(rate), ..Observed::default() },
                causes: vec![Cause { class: "http_503".to_owned(), n: 11, endpoint: Some("10.0.0.1:80".to_owned()), trace: None }],
                open_for_ms: Some(5_000), attempt: 1, by: None, why: why.clone(), config: "xxh3:0".to_owned(),
            };
            BreakerReport {
                to: String::new(), state: state.to_owned(), mode: mode.to_owned(), peak, counts,
                transitions: (0..transitions).map(transition).collect(),
            }
        }
    }

    prop_compose! {
        fn expected_report()(
            endpoint in "GET /[a-z]{0,9}", service in "[a-z]{1,9}", callee in "GET /[a-z]{0,9}",
            numbers in prop::array::uniform7(1u64..1 << 60),
        ) -> ExpectedReport {
            let [handlings, stated, doubtful, disputed, crowded, together, alone] = numbers;
            let stats = ExpectedStats { handlings, stated, doubtful, disputed, crowded, together, alone };
            ExpectedReport { endpoint, callee: Arc::new(Callee::new(service, callee)), stats }
        }
    }

    fn report() -> impl Strategy<Value = Report> {
        prop::collection::vec(path_report(), 1..5).prop_flat_map(|mut paths| {
            paths.sort_unstable_by_key(|report| report.path.id);
            paths.dedup_by_key(|report| report.path.id);
            let ids = paths.iter().map(|report| report.path.id).collect();
            let opaque = prop::collection::vec(opaque_report(), 0..5);
            let breakers = prop::collection::btree_map("[a-z]{1,9}", breaker_report(), 0..4);
            let expected = prop::collection::vec(expected_report(), 0..5);
            let parts = (prop::collection::vec(call_report(ids), 0..6), opaque, expected, propagation(), breakers);
            parts.prop_map(move |(mut calls, mut opaque, mut expected, propagation, breakers)| {
                let breakers = breakers.into_iter().map(|(to, report)| BreakerReport { to, ..report }).collect();
                expected.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
                expected.dedup_by(|a, b| a.order() == b.order());
                opaque.sort_unstable_by(|a, b| (&a.peer, a.protocol).cmp(&(&b.peer, b.protocol)));
                opaque.dedup_by(|a, b| (&a.peer, a.protocol) == (&b.peer, b.protocol));
                let key = |c: &CallReport| (c.path, c.callee.service().to_owned(), c.callee.endpoint().to_owned());
                calls.sort_unstable_by_key(key);
                calls.dedup_by_key(|c| key(c));
                Report {
                    origin: Origin {
                        service: "shop".into(),
                        instance: "shop-1".into(),
                        version: Some("1.2".into()),
                        inbound: Some("127.0.0.1:15406".into()),
                    },
                    sequence: 7,
                    start: 1_000,
                    end: 2_000,
                    paths: paths.clone(),
                    calls,
                    opaque,
                    propagation,
                    breakers,
                    expected,
                    losses: vec![(Loss::Paths, 3)],
                }
            })
        })
    }

    #[test]
    fn what_is_not_ours_is_counted_and_left_alone() {
        let foreign = ExportMetricsServiceRequest::default();
        assert_eq!(decode(&foreign.encode_to_vec(), &BOUNDS).unwrap(), Decoded { reports: vec![], ignored: 0 });
    }

    #[test]
    fn a_loss_told_in_pieces_is_one_loss_and_a_loss_of_nothing_is_none() {
        let told = |losses: Vec<(Loss, u64)>| Report {
            origin: Origin { service: "shop".into(), instance: "shop-1".into(), version: None, inbound: None },
            sequence: 1,
            start: 0,
            end: 1,
            paths: vec![],
            calls: vec![],
            opaque: vec![],
            propagation: Propagation::default(),
            breakers: vec![],
            expected: vec![],
            losses,
        };
        let pieces = told(vec![(Loss::Uses, 1), (Loss::Paths, u64::MAX), (Loss::Uses, 2), (Loss::Paths, u64::MAX)]);
        let read = decode(&encode(&pieces), &BOUNDS).unwrap().reports;
        assert_eq!(read, [told(vec![(Loss::Paths, 2 * i64::MAX.unsigned_abs()), (Loss::Uses, 3)])]);

        let mut nothing = ExportMetricsServiceRequest::decode(&*encode(&told(vec![(Loss::Uses, 1)]))).unwrap();
        let Some(Data::Sum(sum)) = &mut nothing.resource_metrics[0].scope_metrics[0].metrics[0].data else {
            panic!("losses are a sum")
        };
        sum.data_points[0].value = Some(number_data_point::Value::AsInt(0));
        assert_eq!(decode(&nothing.encode_to_vec(), &BOUNDS).unwrap().reports, [told(vec![])]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_report_reads_back_as_what_it_was(report in report()) {
            let decoded = decode(&encode(&report), &BOUNDS).unwrap();
            prop_assert_eq!(decoded.ignored, 0);
            prop_assert_eq!(&decoded.reports[..], &[report][..]);
        }

        #[test]
        fn the_halves_of_a_report_together_say_the_same(report in report()) {
            if let Some((first, second)) = report.split() {
                let total = |f: fn(&Report) -> u64| (f(&first) + f(&second), f(&report));
                let (halves, whole) = total(|r| r.paths.iter().map(|p| p.stats.outcomes.total()).sum());
                prop_assert_eq!(halves, whole);
                let (halves, whole) = total(|r| r.calls.iter().map(|c| c.stats.outcomes.total()).sum());
                prop_assert_eq!(halves, whole);
                prop_assert_eq!(first.expected.len() + second.expected.len(), report.expected.len());
                let (halves, whole) = total(|r| r.opaque.iter().map(|o| o.stats.sent).fold(0, u64::wrapping_add));
                prop_assert_eq!(halves, whole);
                for half in [&first, &second] {
                    prop_assert!(decode(&encode(half), &BOUNDS).is_ok(), "every half stands alone");
                }
            }
        }

        #[test]
        fn the_parts_of_a_report_together_say_the_same(report in report(), entries in 1usize..6) {
            let parts = report.clone().into_parts(entries);
            let total = |f: fn(&Report) -> u64| (parts.iter().map(f).sum::<u64>(), f(&report));
            for f in [
                |r: &Report| r.paths.iter().map(|p| p.stats.outcomes.total()).sum::<u64>(),
                |r: &Report| r.calls.iter().map(|c| c.stats.outcomes.total()).sum(),
                |r: &Report| r.losses.iter().map(|(_, n)| *n).fold(0, u64::wrapping_add),
            ] {
                let (all, whole) = total(f);
                prop_assert_eq!(all, whole);
            }
            prop_assert_eq!(parts.iter().map(|r| r.opaque.len()).sum::<usize>(), report.opaque.len());
            prop_assert_eq!(parts.iter().map(|r| r.expected.len()).sum::<usize>(), report.expected.len());
            for part in &parts {
                prop_assert!(decode(&encode(part), &BOUNDS).is_ok(), "every part stands alone");
            }
        }

        #[test]
        fn a_damaged_report_is_an_error_or_a_report_and_never_a_panic(report in report(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut bytes = encode(&report);
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _ = decode(&bytes, &BOUNDS);
            let _ = decode(&bytes[..at], &BOUNDS);
        }

        #[test]
        fn any_bytes_are_an_error_or_a_report_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &BOUNDS);
        }

        #[test]
        fn a_report_beyond_the_bounds_is_refused_with_the_bound(report in report()) {
            let error = decode(&encode(&report), &Bounds { paths: 0, calls: 0 }).unwrap_err();
            prop_assert!(error.to_string().contains("more than 0 paths"), "{}", error);
        }
    }
}
