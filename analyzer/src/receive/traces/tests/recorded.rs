//! Traces that others recorded: Online Boutique, TrainTicket, Hotel Reservation, Zipkin's own samples. They are not part
//! of the repository; where they lie beside it they are read, and where not, that is said aloud. The figures expected
//! here were counted by an independent script: spans without copies, and changes of service from parent to child.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::super::{Repair, SetAside, read};
use super::story::Seen;

fn recorded(file: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces").join(file);
    if !path.exists() {
        eprintln!("SKIPPED: the recorded traces {} are not there; nothing was tested", path.display());
        return None;
    }
    Some(path)
}

fn see_recorded(file: &str) -> Option<Seen> {
    let (reports, summary) = read(&[recorded(file)?]).unwrap();
    println!("{file}:\n{summary}");
    Some(Seen { reports, summary })
}

fn figures(seen: &Seen) -> [u64; 5] {
    let summary = &seen.summary;
    let copies = seen.set_aside(SetAside::Duplicate);
    [summary.spans, copies, summary.roots, summary.handlings, summary.calls]
}

/// How many requests had which depth.
fn depths(seen: &Seen) -> Vec<(u32, u64)> {
    let mut depths = BTreeMap::new();
    for path in seen.reports.iter().flat_map(|report| &report.paths).filter(|path| path.path.parent.is_none()) {
        for (depth, requests) in path.stats.depth_below.iter() {
            *depths.entry(depth).or_default() += requests;
        }
    }
    depths.into_iter().collect()
}

#[test]
fn online_boutique_has_the_edges_that_its_authors_publish_except_one_that_never_occurs() {
    let (Some(seen), Some(expected)) =
        (see_recorded("boutique.zipkin.json.gz"), recorded("boutique-expected-edges.csv"))
    else {
        return;
    };
    let expected = std::fs::read_to_string(expected).unwrap();
    let expected: BTreeSet<String> = expected.lines().skip(1).map(|line| line.trim().replace(',', ">")).collect();
    let found: BTreeSet<String> = seen.edges().into_keys().collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    println!("{} expected edges, never in these traces: {missing:?}", expected.len());
    assert_eq!(found.difference(&expected).count(), 0, "{found:?}");
    assert_eq!(missing, ["checkoutservice>currencyservice"]);
    assert_eq!(figures(&seen), [111_490, 706, 3_000, 29_284, 26_284]);
    assert_eq!(seen.edges()["frontend>productcatalogservice"], 10_574);
    assert_eq!(depths(&seen), [(0, 768), (1, 658), (2, 1_574)]);
    assert_eq!(seen.entries(), BTreeMap::from([("frontend hipstershop.Frontend/Recv.".to_owned(), 3_000)]));
}

#[test]
fn train_ticket_has_28_services_and_55_edges() {
    let Some(seen) = see_recorded("trainticket29.zipkin.json.gz") else { return };
    assert_eq!(figures(&seen), [109_339, 3_296, 1_500, 18_204, 16_704]);
    assert_eq!((seen.reports.len(), seen.edges().len()), (28, 55));
    assert_eq!(seen.entries(), BTreeMap::from([("ts-gateway-service /*".to_owned(), 1_500)]));
    let messages = seen.edges()["ts-food-service>ts-delivery-service"];
    assert_eq!(seen.summary.calls - seen.blocking(), messages, "only messages are not waited for");
    println!("depths {:?}, messages {messages}", depths(&seen));
}

#[test]
fn hotel_reservation_has_five_edges_in_both_formats() {
    for (file, requests) in
        [("hotel25.zipkin.json.gz", 1_000), ("hotel75.zipkin.json.gz", 1_000), ("jaeger-hotel50.json.gz", 50)]
    {
        let Some(seen) = see_recorded(file) else { return };
        let edges = ["frontend>profile", "frontend>reservation", "frontend>search", "search>geo", "search>rate"];
        assert_eq!(seen.edges(), edges.map(|edge| (edge.to_owned(), requests)).into(), "{file}");
        assert_eq!(seen.entries(), BTreeMap::from([("frontend GET /hotels".to_owned(), requests)]));
        assert_eq!(depths(&seen), [(2, requests)], "{file}");
        assert_eq!(figures(&seen), [11 * requests, 0, requests, 6 * requests, 5 * requests]);
        println!("{file}: clocks corrected {}", seen.repaired(Repair::ClockSkew));
    }
}

#[test]
fn a_node_application_with_server_spans_only_is_one_chain_that_branches_once() {
    let Some(seen) = see_recorded("node50.zipkin.json.gz") else { return };
    let edges =
        ["init-service>service1", "service1>service2", "service1>service3", "service2>service4", "service3>service5"];
    assert_eq!(seen.edges(), edges.map(|edge| (edge.to_owned(), 1_000)).into());
    assert_eq!(seen.entries(), BTreeMap::from([("init-service init-span".to_owned(), 1_000)]));
    println!("depths {:?}, blocking {}", depths(&seen), seen.blocking());
}

#[test]
fn zipkins_own_samples_read_as_zipkin_reads_them() {
    let Some(skew) = see_recorded("zipkin-skew.json") else { return };
    assert_eq!((skew.graph().as_str(), skew.repaired(Repair::ClockSkew)), ("servicea>serviceb 1", 1));
    assert_eq!(skew.entries().len(), 1);

    let Some(database) = see_recorded("zipkin-simple-db-p6.json") else { return };
    assert_eq!(database.graph(), "bootifulmeters>app_db 4");
    assert_eq!(database.entries(), BTreeMap::from([("bootifulmeters POST /book".to_owned(), 1)]));

    let Some(yelp) = see_recorded("zipkin-yelp.json") else { return };
    println!("yelp: {}", yelp.graph());
    let expected = "mobile_api>blt 1, mobile_api>memcache 2, mobile_api>spectre 1, routing>unknown 1, routing>yelp-main 1, \
        unknown>yelp_main-api_proxy 1, yelp-main>memcache 3, yelp-main>mobile_api 1, yelp-main>mysql 2, \
        yelp_main-api_proxy>yelp-main 2";
    assert_eq!(yelp.graph(), expected);
    assert_eq!(yelp.entries().keys().collect::<Vec<_>>(), ["routing POST /location/update/v4"]);

    let Some(messages) = see_recorded("zipkin-messaging-kafka.json") else { return };
    println!("kafka: {}, entries {:?}", messages.graph(), messages.entries());
    assert!(messages.edges().keys().all(|edge| edge.ends_with(">kafka")), "{}", messages.graph());
    assert_eq!((messages.blocking(), messages.set_aside(SetAside::NoPeer)), (0, 0));
}
