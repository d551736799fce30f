//! How spans become handlings and calls.

use std::collections::BTreeMap;

use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::PathKind;
use serde_json::json;

use super::super::{Repair, SetAside};
use super::story::{client, see, see_file, server, span};

#[test]
fn a_client_span_and_its_server_span_are_one_call() {
    let seen = see(&[
        server("shop", 1).named("GET /cart/7").during(0, 100),
        client("shop", 2).below(1).named("GET").during(10, 60),
        server("stock", 3).below(2).named("GET /items/9").during(20, 50),
    ]);
    assert_eq!(seen.graph(), "shop>stock 1");
    assert_eq!(seen.entries(), BTreeMap::from([("shop GET /cart/{id}".to_owned(), 1)]));
    let shop = seen.path("shop");
    assert_eq!((shop.stats.blocked, shop.stats.busy), (50_000, 50_000), "the caller's side tells how long it waited");
    assert_eq!(shop.stats.depth_below.max(), 1);
    assert_eq!(shop.path.id, PathId::root("shop", "GET /cart/{id}"));
    assert_eq!(seen.path("stock").path.id, shop.path.id.child("stock", "GET /items/{id}"));
    assert_eq!(seen.path("stock").path.caller.as_deref(), Some("shop"));
    let call = &seen.reports[0].calls[0];
    assert_eq!(call.callee.endpoint(), "GET /items/{id}", "the caller's word for the endpoint is the callee's own");
    assert_eq!(call.stats.links.get(Evidence::Exact), 1);
}

#[test]
fn halves_that_share_an_id_are_one_call_and_what_is_below_belongs_to_the_server() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).during(10, 60),
        server("stock", 2).below(1).with("shared", true).during(20, 50),
        client("stock", 3).below(2).during(30, 40).to("mysql"),
    ]);
    assert_eq!(seen.graph(), "shop>stock 1, stock>mysql 1");
    assert_eq!(seen.path("shop").stats.depth_below.max(), 2);
    assert_eq!(seen.path("shop").stats.blocked, 50_000);
}

#[test]
fn without_kinds_a_change_of_service_is_a_call_and_internal_spans_are_none() {
    let seen = see(&[
        span("front", 1).named("Recv").during(0, 100),
        span("front", 2).below(1).named("shop.Cart/Get").during(10, 60),
        span("cart", 3).below(2).named("grpc.shop.Cart/Get").during(20, 50),
        span("cart", 4).below(3).named("sql.conn.query").during(25, 30),
        span("front", 5).below(1).named("render").during(70, 90),
    ]);
    assert_eq!(seen.graph(), "front>cart 1");
    assert_eq!(seen.path("front").stats.blocked, 50_000, "the span that is named like its child is the call");
    assert_eq!(seen.summary.handlings, 2);
}

#[test]
fn an_internal_span_around_a_call_is_not_taken_for_the_call() {
    let seen = see(&[
        span("front", 1).during(0, 100),
        span("front", 2).below(1).named("render").during(10, 90),
        span("cart", 3).below(2).named("GET /cart").during(20, 50),
    ]);
    assert_eq!(seen.path("front").stats.blocked, 30_000);
}

#[test]
fn a_server_span_directly_below_a_server_span_is_a_call_of_the_handler() {
    let seen = see(&[
        client("start", 1).during(0, 100),
        server("one", 2).below(1).during(0, 90),
        server("two", 3).below(2).during(10, 40),
        server("three", 4).below(2).during(50, 80),
    ]);
    assert_eq!(seen.graph(), "one>three 1, one>two 1, start>one 1");
    assert_eq!(seen.path("one").stats.blocked, 60_000);
    assert_eq!(seen.path("start").stats.services_below.max(), 3);
}

#[test]
fn calls_of_a_service_to_itself_are_neither_edge_nor_depth() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).during(10, 60).to("shop"),
        server("shop", 3).below(2).during(20, 50),
        client("shop", 4).below(1).during(61, 70),
        server("shop", 4).below(1).with("shared", true).during(61, 70),
        client("shop", 5).below(1).during(80, 90).to("shop"),
    ]);
    assert_eq!(seen.graph(), "");
    assert_eq!((seen.summary.handlings, seen.path("shop").stats.depth_below.max()), (1, 0));
}

#[test]
fn a_service_that_is_called_back_is_not_below_itself() {
    let seen = see(&[
        server("shop", 1).named("GET /a").during(0, 100),
        client("shop", 2).below(1).during(10, 90),
        server("stock", 2).below(1).with("shared", true).during(20, 80),
        server("shop", 3).below(2).named("GET /b").during(30, 40),
    ]);
    assert_eq!(seen.graph(), "shop>stock 1, stock>shop 1");
    let root = seen.reports[0].paths.iter().find(|path| path.path.parent.is_none()).unwrap();
    assert_eq!(
        (root.stats.depth_below.max(), root.stats.calls_below.max(), root.stats.services_below.max()),
        (2, 2, 1)
    );
}

#[test]
fn a_named_peer_without_spans_is_external_and_an_unnamed_one_is_counted_only() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).named("insert").during(10, 20).to("app_db"),
        client("shop", 3).below(1).named("insert").during(20, 30).to("app_db"),
        client("shop", 4).below(1).named("lookup").during(30, 40),
    ]);
    assert_eq!(seen.graph(), "shop>app_db 2");
    assert_eq!(seen.reports.len(), 1, "an external peer never reports");
    assert_eq!(seen.set_aside(SetAside::NoPeer), 1);
    assert_eq!(seen.reports[0].calls[0].stats.per_handling.max(), 2);
}

#[test]
fn a_client_span_within_a_client_span_is_the_same_call() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).during(10, 60).to("stock"),
        span("shop", 3).below(2).named("connect").during(10, 15),
        client("shop", 4).below(2).during(15, 60).to("stock"),
        server("stock", 5).below(4).during(20, 50),
    ]);
    assert_eq!(seen.graph(), "shop>stock 1");
    assert_eq!(seen.path("shop").stats.blocked, 45_000);
}

#[test]
fn two_answers_to_one_client_span_are_two_calls_timed_by_their_servers() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).during(10, 90),
        server("stock", 3).below(2).during(20, 30),
        server("stock", 4).below(2).during(40, 60),
    ]);
    assert_eq!(seen.graph(), "shop>stock 2");
    assert_eq!(seen.path("shop").stats.blocked, 30_000);
}

#[test]
fn a_clock_that_is_wrong_is_moved_with_all_that_its_host_did() {
    let hour = 3_600_000_000;
    let seen = see(&[
        server("shop", 1).during(0, 1_000),
        client("shop", 2).below(1).during(100, 500),
        server("stock", 3).below(2).during(hour, hour + 200),
        client("stock", 4).below(3).during(hour + 50, hour + 150).to("db"),
    ]);
    assert_eq!(seen.repaired(Repair::ClockSkew), 1);
    assert_eq!((seen.path("shop").stats.blocked, seen.path("stock").stats.blocked), (400_000, 100_000));
    assert_eq!(seen.path("stock").stats.duration.max(), 200_000, "a moved span is as long as before");
    assert!(seen.reports[0].end <= 1_001_000_000 + 1_000, "nothing happens an hour later");
    assert_eq!(seen.blocking(), 2);
}

#[test]
fn a_server_span_as_long_as_its_client_span_is_moved_onto_it_and_a_longer_one_stays() {
    let skews = |to: i64| {
        let spans = [server("shop", 1).during(0, 100), client("shop", 2).below(1).during(10, 60)];
        let seen = see(&[spans.as_slice(), &[server("stock", 3).below(2).during(-500, to)]].concat());
        seen.repaired(Repair::ClockSkew)
    };
    assert_eq!((skews(-450), skews(-449)), (1, 0));
}

#[test]
fn a_call_that_outlives_its_handler_is_asynchronous_and_no_part_of_the_chain() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).during(90, 300),
        server("mail", 3).below(2).during(100, 290),
        client("mail", 4).below(3).during(110, 120).to("smtp"),
    ]);
    assert_eq!(seen.graph(), "mail>smtp 1, shop>mail 1");
    let shop = seen.path("shop");
    assert_eq!((shop.stats.asynchronous, shop.stats.blocked, shop.stats.depth_below.max()), (1, 0, 0));
    assert_eq!(shop.stats.services_below.max(), 0);
    assert_eq!(seen.path("mail").stats.depth_below.max(), 1, "for its own part it waits");
    assert_eq!(seen.path("mail").path.depth, 1);
}

#[test]
fn a_call_that_ends_a_rounding_error_after_its_handler_is_waited_for() {
    let call_until =
        |end: i64| see(&[server("shop", 1).during(0, 50_000), client("shop", 2).below(1).during(0, end).to("db")]);
    let (within, beyond) = (call_until(50_500), call_until(50_501));
    assert_eq!((within.blocking(), beyond.blocking()), (1, 0));
    assert_eq!(within.path("shop").stats.blocked, 50_000_000, "never longer than the handling itself");
}

#[test]
fn parallel_calls_block_once_but_are_busy_twice() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).during(10, 60).to("a"),
        client("shop", 3).below(1).during(20, 80).to("b"),
    ]);
    let stats = &seen.path("shop").stats;
    assert_eq!((stats.blocked, stats.busy), (70_000, 110_000));
    assert_eq!((stats.calls.max(), stats.callees.max(), stats.calls_below.max()), (2, 2, 2));
}

#[test]
fn a_span_without_its_parent_is_no_entry_and_its_chain_is_of_unknown_origin() {
    let seen = see(&[
        server("stock", 3).below(99).during(0, 100),
        client("stock", 4).below(3).during(10, 60),
        server("price", 5).below(4).during(20, 50),
    ]);
    assert_eq!(seen.graph(), "stock>price 1", "what it called is known");
    assert_eq!(seen.entries(), BTreeMap::new());
    assert_eq!(seen.summary.orphans, 1);
    let stock = seen.path("stock");
    assert_eq!((stock.path.caller.as_deref(), stock.path.evidence), (None, Evidence::Unknown));
    assert_eq!(seen.path("price").path.evidence, Evidence::Unknown);
    let above = &seen.reports.iter().find(|report| report.origin.service == "stock").unwrap().paths;
    let above = above.iter().find(|path| Some(path.path.id) == stock.path.parent).unwrap();
    assert_eq!((above.path.kind, above.stats.outcomes.total()), (PathKind::Unlinked, 0));
}

#[test]
fn every_root_of_a_trace_is_an_entry() {
    let seen =
        see(&[server("shop", 1).named("GET /a"), server("shop", 2).named("GET /b"), server("shop", 3).named("GET /b")]);
    assert_eq!(seen.entries(), BTreeMap::from([("shop GET /a".to_owned(), 1), ("shop GET /b".to_owned(), 2)]));
    assert_eq!((seen.summary.traces, seen.summary.roots), (1, 3));
}

#[test]
fn loops_are_cut_and_a_span_that_is_its_own_parent_is_a_root() {
    let seen = see(&[
        server("a", 1).below(3).during(0, 100),
        server("b", 2).below(1).during(10, 90),
        server("c", 3).below(2).during(20, 80),
        server("d", 4).below(4),
    ]);
    assert_eq!(seen.graph(), "a>b 1, b>c 1", "the earliest span of the loop has lost its parent");
    assert_eq!((seen.repaired(Repair::ParentLoop), seen.repaired(Repair::SelfParent)), (1, 1));
    assert_eq!(seen.entries().keys().collect::<Vec<_>>(), ["d work of d"]);
}

#[test]
fn copies_are_set_aside_pieces_are_put_together_and_stolen_ids_are_refused() {
    let twice = server("shop", 1).during(0, 100);
    let seen = see(&[
        twice.clone(),
        twice,
        client("shop", 2).below(1).during(10, 60).without("duration"),
        client("shop", 2).below(1).during(10, 60).without("timestamp").to("db"),
        client("shop", 3).below(1).during(60, 70).to("db"),
        client("other", 3).below(1).during(60, 70).to("elsewhere"),
    ]);
    assert_eq!((seen.set_aside(SetAside::Duplicate), seen.set_aside(SetAside::IdUsedTwice)), (1, 1));
    assert_eq!(seen.repaired(Repair::SplitSpan), 1);
    assert_eq!(seen.edges().into_values().sum::<u64>(), 2);
    assert_eq!(seen.handlings("shop"), 1);
}

#[test]
fn missing_times_are_taken_from_around_and_zero_durations_are_durations() {
    let seen = see(&[
        server("shop", 1).without("duration"),
        client("shop", 2).below(1).during(10, 60).to("db"),
        server("none", 7).without("timestamp").without("duration"),
        server("instant", 8).with("duration", 0),
    ]);
    assert_eq!(seen.path("shop").stats.duration.max(), 60_000);
    assert_eq!(seen.repaired(Repair::NoDuration), 1);
    assert_eq!(seen.path("instant").stats.duration.zeros(), 1);
    assert_eq!(seen.handlings("none"), 1);
    assert_eq!(seen.reports[0].start, 1_000_000_000, "a span without time says nothing about the window");
    let seen =
        see(&[server("shop", 1).with("timestamp", 0).with("duration", 100), client("shop", 2).below(1).to("db")]);
    assert_eq!(seen.repaired(Repair::NoStart), 1);
}

#[test]
fn a_span_without_service_belongs_to_its_parent_or_is_set_aside() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).during(10, 60).to("stock"),
        server("", 3).below(2).during(20, 50),
        span("", 4).below(1).without("localEndpoint"),
        server("", 5),
        server("lost", 6).below(5),
    ]);
    assert_eq!(seen.graph(), "shop>stock 1");
    assert_eq!((seen.repaired(Repair::NoService), seen.set_aside(SetAside::NoService)), (2, 1));
    assert_eq!(seen.summary.orphans, 1);
    assert_eq!(seen.entries().len(), 1);
}

#[test]
fn a_message_makes_an_edge_to_its_broker_and_no_chain_to_its_consumer() {
    let seen = see(&[
        server("shop", 1).during(0, 100),
        span("shop", 2).below(1).with("kind", "PRODUCER").named("send").during(10, 20).to("kafka"),
        span("mail", 3).below(2).with("kind", "CONSUMER").named("poll").during(30, 31).to("kafka"),
        span("mail", 4).below(3).named("on-message").during(31, 90).tag("error", "boom"),
        client("mail", 5).below(4).during(40, 80).to("smtp"),
        span("shop", 6).below(2).with("kind", "CONSUMER").named("poll").during(30, 31).to("kafka"),
    ]);
    assert_eq!(seen.graph(), "mail>smtp 1, shop>kafka 1");
    assert_eq!(seen.entries().keys().collect::<Vec<_>>(), ["mail poll", "shop poll", "shop work of shop"]);
    let mail = seen.path("mail");
    assert_eq!(mail.stats.duration.max(), 60_000, "a message is handled until the work for it is done");
    assert_eq!((mail.stats.depth_below.max(), mail.stats.outcomes.get(Outcome::ServerError)), (1, 1));
    assert_eq!(seen.blocking(), 1, "only the consumer's own call");
}

#[test]
fn a_message_through_an_unnamed_broker_is_an_asynchronous_call_of_its_consumer() {
    let seen = see(&[
        span("food", 1).named("POST /food").during(0, 100),
        span("food", 2).below(1).named("orders send").during(10, 20),
        span("delivery", 3).below(2).named("orders process").during(15, 18),
    ]);
    assert_eq!(seen.graph(), "food>delivery 1");
    assert_eq!((seen.blocking(), seen.path("food").stats.depth_below.max()), (0, 0));
    assert_eq!(seen.entries().len(), 1);
}

#[test]
fn errors_and_statuses_become_outcomes() {
    let outcome = |key: &str, value: &str| {
        let seen = see(&[server("shop", 1).tag(key, value)]);
        seen.path("shop").stats.outcomes.iter().next().unwrap().0
    };
    assert_eq!(outcome("error", "timeout"), Outcome::ServerError);
    assert_eq!(outcome("error", ""), Outcome::ServerError);
    assert_eq!(outcome("error", "false"), Outcome::Ok);
    assert_eq!(outcome("http.status_code", "503"), Outcome::ServerError);
    assert_eq!(outcome("http.status_code", "404"), Outcome::ClientError);
    assert_eq!(outcome("color", "red"), Outcome::Ok);
    let both = see(&[server("shop", 1).tag("http.status_code", "404").tag("error", "404")]);
    assert_eq!(both.path("shop").stats.outcomes.failures(), 0, "a client error is nobody's failure, whatever the flag");
}

#[test]
fn a_failed_call_is_seen_beside_its_handler() {
    let seen = see(&[
        server("shop", 1).during(0, 100).tag("http.status_code", "500"),
        client("shop", 2).below(1).during(10, 60),
        server("stock", 3).below(2).during(20, 50).tag("error", "true"),
    ]);
    let call = &seen.reports[0].calls[0];
    assert_eq!((call.stats.joint.both, call.stats.outcomes.failures()), (1, 1));
}

#[test]
fn in_jaegers_form_a_span_that_follows_from_another_is_not_waited_for() {
    let jaeger = |kind: &str| {
        let spans = json!([
            {"traceID": "0a1", "spanID": "1", "operationName": "GET /a", "startTime": 1_000_000, "duration": 100, "processID": "p1",
             "references": [], "tags": [{"key": "span.kind", "type": "string", "value": "server"}]},
            {"traceID": "a1", "spanID": "0002", "operationName": "work", "startTime": 1_000_010, "duration": 50, "processID": "p2",
             "references": [{"refType": kind, "traceID": "a1", "spanID": "01"}],
             "tags": [{"key": "error", "type": "bool", "value": true}, {"key": "odd", "value": {"a": [1]}}], "logs": []}]);
        let processes = json!({"p1": {"serviceName": "shop", "tags": []}, "p2": {"serviceName": "audit"}});
        let data = json!([{"traceID": "a1", "spans": spans, "processes": processes, "warnings": null}]);
        see_file(json!({"data": data, "total": 0, "errors": null}).to_string().as_bytes()).unwrap()
    };
    let (child, follower) = (jaeger("CHILD_OF"), jaeger("FOLLOWS_FROM"));
    assert_eq!((child.graph(), follower.graph()), ("shop>audit 1".to_owned(), "shop>audit 1".to_owned()));
    assert_eq!((child.blocking(), follower.blocking()), (1, 0));
    assert_eq!((child.path("shop").stats.depth_below.max(), follower.path("shop").stats.depth_below.max()), (1, 0));
    assert_eq!(child.path("audit").stats.outcomes.failures(), 1);
    assert_eq!(child.entries().len(), 1);
}

#[test]
fn the_order_of_spans_makes_no_difference() {
    let mut spans = vec![
        server("shop", 1).during(0, 100),
        client("shop", 2).below(1).during(10, 60),
        server("stock", 2).below(1).with("shared", true).during(20, 50),
        client("stock", 3).below(2).during(30, 40).to("mysql"),
        server("lost", 9).below(77),
    ];
    let forwards = see(&spans);
    spans.reverse();
    assert_eq!(see(&spans).reports, forwards.reports);
}

#[test]
fn the_summary_reads_well() {
    let seen = see(&[server("a b", 1), client("a b", 2).below(1), server("c", 3).below(9)]);
    let expected = "files 1, traces 1, spans 3\nhandlings 2 (roots 1), calls 0\n\
        orphans 1: their parent is not in the trace, so who called is unknown\n\
        repaired: service names with odd characters 1\nset aside: calls to nobody named 1";
    assert_eq!(seen.summary.to_string(), expected);
}

#[test]
fn every_path_has_examples_of_its_traces_and_an_id_that_is_no_number_is_none() {
    let slow = see(&[server("a", 1).with("traceId", "b2").during(0, 9_000)]);
    let examples = slow.path("a").stats.examples.distinct().collect::<Vec<_>>();
    let [example] = examples[..] else { panic!("{examples:?}") };
    assert_eq!((example.trace.id, example.trace.at, example.duration), (0xb2, 1_009_000_000, 9_000_000));
    let strange = see(&[server("a", 1).with("traceId", "not-a-number")]);
    assert!(strange.path("a").stats.examples.is_empty());
}
