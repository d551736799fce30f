//! What proxies tell one another: chains, summaries, and who may not be believed.

use std::collections::BTreeMap;

use bytes::Bytes;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{PathKind, PathReport, Report};
use http::Request;

use crate::harness::*;

/// The paths of all reports by service and endpoint, merged.
fn paths(reports: &[Report]) -> BTreeMap<(String, String), PathReport> {
    let mut merged: BTreeMap<(String, String), PathReport> = BTreeMap::new();
    for report in reports {
        for path in &report.paths {
            let key = (report.origin.service.clone(), path.path.endpoint.clone());
            merged.entry(key).and_modify(|known| known.stats.merge(&path.stats)).or_insert_with(|| path.clone());
        }
    }
    merged
}

fn of(paths: &BTreeMap<(String, String), PathReport>, service: &str, endpoint: &str) -> PathReport {
    paths
        .get(&(service.to_owned(), endpoint.to_owned()))
        .unwrap_or_else(|| panic!("{service} {endpoint}: {paths:#?}"))
        .clone()
}

/// shop → stock → prices (twice), every service with a sidecar that reports to the same analyzer.
#[tokio::test]
async fn a_root_knows_how_deep_and_how_wide_every_request_was() {
    let analyzer = analyzer().await;
    let prices = answers(200, "9.99").await;
    let prices_proxy = config("prices").app(&prices).reports_to(&analyzer).start();

    let (to_prices, to_stock) = (Later::default(), Later::default());
    let address = to_prices.clone();
    let stock = service(move |request: Request<Bytes>| {
        let address = address.get();
        async move {
            pass_on(&request, address, "/prices/17").await;
            pass_on(&request, address, "/prices/18").await;
            answer(200, "")
        }
    })
    .await;
    let stock_proxy =
        config("stock").app(&stock).to("prices", prices_proxy.inbound().unwrap()).reports_to(&analyzer).start();
    to_prices.is(stock_proxy.outbound()[0].1);

    let address = to_stock.clone();
    let shop = service(move |request: Request<Bytes>| {
        let address = address.get();
        async move {
            pass_on(&request, address, "/stock").await;
            answer(200, "")
        }
    })
    .await;
    let shop_proxy =
        config("shop").app(&shop).to("stock", stock_proxy.inbound().unwrap()).reports_to(&analyzer).start();
    to_stock.is(shop_proxy.outbound()[0].1);

    let mut client = client(shop_proxy.inbound().unwrap()).await;
    for _ in 0..20 {
        let answer = client.get("/checkout").await;
        assert!(!answer.headers.contains_key("couplet-summary"));
    }
    for proxy in [shop_proxy, stock_proxy, prices_proxy] {
        stop(proxy).await;
    }

    let paths = paths(&analyzer.reports());
    let (root, middle, leaf) = (
        of(&paths, "shop", "GET /checkout"),
        of(&paths, "stock", "GET /stock"),
        of(&paths, "prices", "GET /prices/{id}"),
    );
    assert_eq!(root.path.id, PathId::root("shop", "GET /checkout"));
    assert_eq!(
        (middle.path.parent, middle.path.caller.as_deref(), middle.path.depth),
        (Some(root.path.id), Some("shop"), 1)
    );
    assert_eq!((leaf.path.parent, leaf.path.root, leaf.path.depth), (Some(middle.path.id), root.path.id, 2));
    assert_eq!(leaf.path.evidence, Evidence::Exact);
    let counted = [&root, &middle, &leaf].map(|path| path.stats.outcomes.total());
    assert_eq!(counted, [20, 20, 40]);
    let only = |value: u32| vec![(value, 20)];
    assert_eq!(root.stats.depth_below.iter().collect::<Vec<_>>(), only(2));
    assert_eq!(root.stats.calls_below.iter().collect::<Vec<_>>(), only(3));
    assert_eq!(root.stats.services_below.iter().collect::<Vec<_>>(), only(2));
    assert!(root.stats.blocked > middle.stats.blocked && middle.stats.blocked > 0);
    for service in [&shop, &stock, &prices] {
        let heads = service.seen();
        assert!(
            heads.iter().all(|head| !head.headers().contains_key("couplet-context")),
            "no application sees the context"
        );
    }
}

#[tokio::test]
async fn a_call_without_trace_headers_is_counted_as_unlinked_and_claims_no_chain() {
    let analyzer = analyzer().await;
    let stock = answers(200, "").await;
    let stock_proxy = config("stock").app(&stock).reports_to(&analyzer).start();
    let shop_proxy = config("shop").to("stock", stock_proxy.inbound().unwrap()).reports_to(&analyzer).start();
    client(shop_proxy.outbound()[0].1).await.get("/stock").await;
    stop(shop_proxy).await;
    stop(stock_proxy).await;
    let reports = analyzer.reports();
    let stock = of(&paths(&reports), "stock", "GET /stock");
    assert_eq!((stock.path.evidence, stock.path.caller.as_deref()), (Evidence::Unknown, Some("shop")));
    let unlinked = of(&paths(&reports), "shop", "(unlinked)");
    assert_eq!((unlinked.path.kind, stock.path.parent), (PathKind::Unlinked, Some(unlinked.path.id)));
    let links = reports
        .iter()
        .flat_map(|report| &report.calls)
        .map(|call| call.stats.links.get(Evidence::Unknown))
        .sum::<u64>();
    assert_eq!(links, 1);
}

#[tokio::test]
async fn an_application_cannot_speak_for_its_proxy() {
    let stock = answers(200, "").await;
    let shop_proxy = config("shop").to("stock", stock.address).start();
    let forged = "1;00000000000000aa;00000000000000aa;0;00000000000000aa;e;admin";
    let own = "couplet=00000000000000ff,vendor=1";
    client(shop_proxy.outbound()[0].1).await.ask(get("/", &[("couplet-context", forged), ("tracestate", own)])).await;
    let seen = stock.seen();
    let context = seen[0].headers()["couplet-context"].to_str().unwrap();
    assert!(context.ends_with(";u;shop"), "{context}");
    assert_eq!(seen[0].headers()["tracestate"], "vendor=1", "the id of a handler concerns nobody else");
}

#[tokio::test]
async fn a_context_from_outside_the_trusted_networks_changes_nothing() {
    let analyzer = analyzer().await;
    let stock = answers(200, "").await;
    let mut config = config("stock").app(&stock).reports_to(&analyzer);
    config.trust.networks.clear();
    let proxy = config.start();
    let forged = "1;00000000000000aa;00000000000000aa;0;00000000000000aa;e;shop";
    let answer = client(proxy.inbound().unwrap()).await.ask(get("/", &[("couplet-context", forged)])).await;
    assert!(!answer.headers.contains_key("couplet-summary"));
    stop(proxy).await;
    assert_eq!(of(&paths(&analyzer.reports()), "stock", "GET /").path.parent, None);
}

#[tokio::test]
async fn a_context_that_cannot_be_read_breaks_no_request() {
    let stock = answers(200, "fine").await;
    let proxy = config("stock").app(&stock).start();
    let long = "1;".repeat(4_000);
    for forged in ["", "1;zz", long.as_str()] {
        let answer = client(proxy.inbound().unwrap()).await.ask(get("/", &[("couplet-context", forged)])).await;
        assert_eq!(answer.text, "fine");
    }
}

#[tokio::test]
async fn a_destination_outside_the_trusted_networks_is_told_nothing() {
    let outside = answers(200, "").await;
    let mut config = config("shop").to("outside", outside.address);
    config.trust.networks.clear();
    let proxy = config.start();
    client(proxy.outbound()[0].1).await.get("/").await;
    assert!(!outside.seen()[0].headers().contains_key("couplet-context"));
}
