//! Reports there and back; and the decoder against prost's.

mod damaged;
mod oracle;

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::breaker::{BreakerCounts, BreakerReport, Cause, Count, Observed, Transition};
use crate::counts::Counts;
use crate::example::{Example, Examples, Trace};
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
    fn example()(
        id in 1u128.., sampled in any::<bool>(), at in 1u64.., duration in 0u64..1 << 50,
        outcome in prop::sample::select(Outcome::ALL.to_vec()), calls in any::<u32>(),
    ) -> Example {
        Example { trace: Trace { id, sampled, at }, duration, outcome, calls }
    }
}

fn examples() -> impl Strategy<Value = Examples> {
    prop::collection::vec(example(), 0..6).prop_map(|all| {
        let mut examples = Examples::default();
        all.iter().for_each(|one| examples.add(one));
        examples
    })
}

prop_compose! {
    fn path_report()(
        endpoint in "[A-Z]{3,6} /[a-z]{0,20}", parent in any::<Option<u32>>(), depth in 0u32..32,
        evidence in prop::sample::select(Evidence::ALL.to_vec()), outcomes in outcomes(), duration in histogram(),
        (blocked, busy, asynchronous) in (0u64..1 << 60, 0u64..1 << 60, 0u64..1000), calls in counts(), callees in counts(),
        depth_below in counts(), calls_below in counts(), services_below in counts(), links in links(),
        below in links(), retries in 0u64..1000, origins in prop::collection::btree_map("[a-z]{1,9}", 1u64..1 << 40, 0..4),
        examples in examples(),
    ) -> PathReport {
        let parent = parent.and_then(|id| PathId::new(u64::from(id)));
        let id = PathId::root("shop", &endpoint);
        PathReport {
            path: Arc::new(PathDefinition {
                id, parent, root: parent.unwrap_or(id), caller: parent.map(|_| "front".to_owned()), endpoint, depth,
                kind: PathKind::Handler, evidence,
            }),
            stats: HandlingStats { outcomes, links, duration, blocked, busy, asynchronous, calls, callees, depth_below, calls_below, services_below, below, retries, origins: told(&origins), examples },
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
            to: String::new(), class: None, state: state.to_owned(), mode: mode.to_owned(), peak, counts,
            transitions: (0..transitions).map(transition).collect(),
        }
    }
}

prop_compose! {
    fn expected_report()(
        endpoint in "GET /[a-z]{0,9}", service in "[a-z]{1,9}", callee in "GET /[a-z]{0,9}",
        numbers in prop::array::uniform10(1u64..1 << 60),
    ) -> ExpectedReport {
        let [handlings, stated, doubtful, firm, disputed, crowded, misfit, together, alone, earlier] = numbers;
        let stats = ExpectedStats { handlings, stated, doubtful, firm, disputed, crowded, misfit, together, alone, earlier };
        ExpectedReport { endpoint, callee: Arc::new(Callee::new(service, callee)), stats }
    }
}

fn report() -> impl Strategy<Value = Report> {
    prop::collection::vec(path_report(), 1..5).prop_flat_map(|mut paths| {
        paths.sort_unstable_by_key(|report| report.path.id);
        paths.dedup_by_key(|report| report.path.id);
        let ids = paths.iter().map(|report| report.path.id).collect();
        let opaque = prop::collection::vec(opaque_report(), 0..5);
        let breakers =
            prop::collection::btree_map(("[a-z]{1,9}", prop::option::of("[a-z]{1,3}")), breaker_report(), 0..4);
        let expected = prop::collection::vec(expected_report(), 0..5);
        let parts = (prop::collection::vec(call_report(ids), 0..6), opaque, expected, propagation(), breakers);
        parts.prop_map(move |(mut calls, mut opaque, mut expected, propagation, breakers)| {
            let breakers =
                breakers.into_iter().map(|((to, class), report)| BreakerReport { to, class, ..report }).collect();
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
    fn a_report_is_written_as_prost_would_write_it(report in report(), start in prop::sample::select(vec![0, 1_000])) {
        let bytes = encode(&Report { start, ..report });
        let messages = ExportMetricsServiceRequest::decode(&*bytes).unwrap();
        prop_assert!(messages.encode_to_vec() == bytes, "{:?}", messages);
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
