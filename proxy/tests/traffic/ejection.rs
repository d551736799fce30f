//! Destinations with several endpoints, one of which fails: it is passed over, and is not where breakers only observe.

#![expect(clippy::indexing_slicing, reason = "what a test has set up is there")]

use std::time::Duration;

use couplet_config::{BreakerMode, BreakerSettings, Destinations, Outbound, ProxyConfig};
use couplet_proxy::Running;
use serde_json::Value;

use crate::breakers::breaker;
use crate::harness::*;
use crate::wire::Played;

/// A proxy for a destination with these endpoints, whose breaker never opens.
fn to(services: &[std::net::SocketAddr], mode: BreakerMode) -> ProxyConfig {
    let list = services.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut config = config("shop");
    config.admin = Some(free());
    config.outbound.push(Outbound::new("stock", free(), Destinations::parse(&list).unwrap()));
    let mut settings = BreakerSettings { mode, failure_rate: None, consecutive_failures: None, ..Default::default() };
    settings.connect_failures = None;
    settings.ejection.base = Duration::from_secs(600);
    settings.ejection.max = Duration::from_secs(600);
    config.breakers.defaults = settings;
    config
}

/// How many of so many calls failed.
async fn failed(proxy: &Running, calls: usize) -> usize {
    let mut failed = 0;
    for _ in 0..calls {
        // A connection of its own: the one to an endpoint that broke off is gone.
        let answer = client(proxy.outbound()[0].1).await.get("/").await;
        failed += usize::from(answer.status != 200);
    }
    failed
}

#[tokio::test]
async fn an_endpoint_that_fails_is_passed_over_while_others_serve() {
    let (good, bad) = (answers(200, "").await, answers(500, "").await);
    let proxy = to(&[good.address, bad.address], BreakerMode::Enforce).start();
    assert_eq!(failed(&proxy, 200).await, 5, "and then no more");
    assert_eq!(bad.seen().len(), 5);
    let page: Value = breaker(&proxy, "stock").await;
    let shown = &page["endpoints"][0];
    assert_eq!((&shown["address"], &shown["times"]), (&bad.address.to_string().into(), &1.into()), "{page}");
    assert!(shown["ejected_ms"].as_u64().unwrap() > 500_000, "{page}");
    assert_eq!(page["ejections"]["ejected"], 1);
    assert_eq!(page["state"], "closed", "the destination as a whole serves");
    let metrics = metrics(&proxy).await;
    for line in [
        "couplet_endpoints_ejected{service_peer_name=\"stock\"} 1",
        "couplet_endpoint_ejections_total{service_peer_name=\"stock\",result=\"ejected\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_passed_over_as_well() {
    let (good, played) = (answers(200, "").await, Played::new().await);
    let mut config = to(&[good.address, played.address()], BreakerMode::Enforce);
    config.timeouts.request = Some(Duration::from_millis(300));
    let proxy = config.start();
    let silent = tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            silent.push(played.meet().await);
        }
    });
    assert_eq!(failed(&proxy, 60).await, 5);
    silent.abort();
}

#[tokio::test]
async fn the_last_endpoint_is_never_ejected() {
    let bad = [answers(500, "").await, answers(500, "").await];
    let proxy = to(&bad.each_ref().map(|service| service.address), BreakerMode::Enforce).start();
    assert_eq!(failed(&proxy, 60).await, 60);
    let page: Value = breaker(&proxy, "stock").await;
    assert_eq!(page["ejections"]["ejected"], 1);
    assert!(page["ejections"]["refused_last"].as_u64().unwrap() > 0, "{page}");
}

#[tokio::test]
async fn observing_passes_over_nobody() {
    let (good, bad) = (answers(200, "").await, answers(500, "").await);
    let proxy = to(&[good.address, bad.address], BreakerMode::Observe).start();
    let failed = failed(&proxy, 200).await;
    assert!(failed > 50, "both are chosen alike: {failed}");
    let page: Value = breaker(&proxy, "stock").await;
    assert_eq!((&page["ejections"]["would_eject"], &page["ejections"]["ejected"]), (&1.into(), &0.into()), "{page}");
}
