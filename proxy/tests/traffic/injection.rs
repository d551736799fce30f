//! Faults that somebody injects into calls on purpose: who sees them, and who must not.

use std::time::{Duration, Instant};

use couplet_config::{BreakerMode, BreakerSettings, ProxyConfig};
use couplet_proxy::Running;
use couplet_telemetry::outcome::Outcome;
use http::{Method, Request};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::framed::{self, connect, headers, read};
use crate::harness::*;

/// A sidecar with an admin listener whose breakers stop calls.
fn enforcing(service: &str) -> ProxyConfig {
    let mut config = config(service);
    config.breakers.defaults = BreakerSettings { mode: BreakerMode::Enforce, ..BreakerSettings::default() };
    config.admin = Some(free());
    config
}

async fn admin(proxy: &Running, method: Method, target: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(target).header("host", "admin").body(Body::default()).unwrap();
    let answer = client(proxy.admin().unwrap()).await.ask(request).await;
    (answer.status.as_u16(), answer.text)
}

/// Injects faults into calls to `stock`, and says how they are shown.
async fn inject(proxy: &Running, what: &str) -> Value {
    let (status, text) =
        admin(proxy, Method::POST, &format!("/faults?to=stock&{what}&for=5m&by=ann&why=game+day")).await;
    assert_eq!(status, 201, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn faults(proxy: &Running) -> Value {
    serde_json::from_str(&admin(proxy, Method::GET, "/faults").await.1).unwrap()
}

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", answer.headers)).to_str().unwrap()
}

#[tokio::test]
async fn an_aborted_call_says_so_reaches_nobody_and_is_held_against_nobody() {
    let (stock, analyzer) = (answers(200, "there").await, analyzer().await);
    let proxy = enforcing("shop").to("stock", stock.address).reports_to(&analyzer).start();
    let mut client = client(proxy.outbound()[0].1).await;
    assert_eq!(client.get("/items").await.status, 200);
    let shown = inject(&proxy, "status=503&percent=100&path=/items").await;
    assert_eq!((&shown["id"], &shown["by"], &shown["why"]), (&1.into(), &"ann".into(), &"game day".into()));
    for _ in 0..20 {
        let answer = client.get("/items/7").await;
        assert_eq!(answer.status, 503);
        assert_eq!(field(&answer, "couplet-error"), "fault_injected");
        assert_eq!(field(&answer, "couplet-fault"), "abort; edge=\"shop>stock\"; id=1");
        assert!(answer.text.contains("on purpose"), "{}", answer.text);
    }
    assert_eq!(client.get("/other").await.status, 200, "another path is spared");
    assert_eq!(stock.seen().len(), 2);

    let page = faults(&proxy).await;
    assert_eq!((&page["faults"][0]["aborted"], &page["faults"][0]["delayed"]), (&20.into(), &0.into()));
    let breaker: Value = serde_json::from_str(&admin(&proxy, Method::GET, "/breakers/stock").await.1).unwrap();
    assert_eq!((&breaker["state"], &breaker["window"]["total"]), (&"closed".into(), &2.into()));
    let name = "couplet_faults_injected_total{service_peer_name=\"stock\",kind=\"abort\"}";
    assert_eq!(metric(&proxy, name).await, 20);
    assert_eq!(metric(&proxy, "couplet_answers_total{reason=\"fault_injected\"}").await, 20);
    assert_eq!(metric(&proxy, "couplet_faults_active").await, 1);

    let (status, text) = admin(&proxy, Method::DELETE, "/faults/1").await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(client.get("/items").await.status, 200);
    assert_eq!(admin(&proxy, Method::DELETE, "/faults/1").await.0, 404);
    assert_eq!(faults(&proxy).await["ended"][0]["ended"], "removed");
    stop(proxy).await;
    let (mut failures, mut calls, mut aborted) = (0, 0, 0);
    for report in analyzer.reports() {
        for call in &report.calls {
            failures += call.stats.outcomes.failures();
            calls += call.stats.outcomes.total();
            aborted += call.stats.aborted;
        }
    }
    assert_eq!((failures, calls, aborted), (0, 3, 20), "what never was a call is none in the reports");
}

#[tokio::test]
async fn a_delay_is_not_the_latency_of_the_destination() {
    let (stock, analyzer) = (answers(200, "there").await, analyzer().await);
    let proxy = enforcing("shop").to("stock", stock.address).reports_to(&analyzer).start();
    let mut client = client(proxy.outbound()[0].1).await;
    inject(&proxy, "delay=300ms&percent=100").await;
    let before = Instant::now();
    let answer = client.get("/").await;
    let waited = before.elapsed();
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "there"));
    assert_eq!(field(&answer, "couplet-fault"), "delay; for=300ms; edge=\"shop>stock\"; id=1");
    stop(proxy).await;
    let calls: Vec<_> = analyzer.reports().into_iter().flat_map(|report| report.calls).collect();
    let delayed: u64 = calls.iter().map(|call| call.stats.delayed).sum();
    let ok: u64 = calls.iter().map(|call| call.stats.outcomes.get(Outcome::Ok)).sum();
    assert_eq!((delayed, ok), (1, 1));
    let call = calls.iter().find(|call| call.stats.duration.count() == 1).unwrap().stats.duration.mean();
    assert!(waited.as_nanos() as f64 >= call + 3e8, "{waited:?} in all, {call} ns of a call: the delay is in it");
}

#[tokio::test]
async fn a_call_that_is_held_up_is_in_flight_and_ends_with_its_client() {
    let stock = answers(200, "there").await;
    let proxy = enforcing("shop").to("stock", stock.address).start();
    inject(&proxy, "delay=5m&percent=100").await;
    let mut waiting = crate::wire::Wire::to(proxy.outbound()[0].1).await;
    waiting.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
    while faults(&proxy).await["held"] != 1 {}
    assert_eq!(metric(&proxy, "couplet_in_flight").await, 1);
    drop(waiting);
    while faults(&proxy).await["held"] != 0 {}
    assert_eq!(metric(&proxy, "couplet_in_flight").await, 0);
    assert!(stock.seen().is_empty());
}

#[tokio::test]
async fn a_call_of_grpc_is_aborted_with_a_head_alone() {
    let address = framed::answering(|_, mut asking| {
        let mut body =
            asking.answer.send_response(framed::head(200, &[("content-type", "application/grpc")]), false).unwrap();
        body.send_trailers(headers(&[("grpc-status", "0")])).unwrap();
    })
    .await;
    let proxy = enforcing("shop").to("stock", address).start();
    inject(&proxy, "grpc_status=8&percent=100").await;
    let mut client = connect(proxy.outbound()[0].1).await;
    let request =
        framed::request("POST", "/shop.Stock/Get", &[("content-type", "application/grpc"), ("te", "trailers")]);
    let (answer, _) = client.send_request(request, true).unwrap();
    let (head, body) = answer.await.unwrap().into_parts();
    let said = |name: &str| head.headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        (head.status.as_u16(), said("grpc-status"), said("couplet-error")),
        (200, "8".into(), "fault_injected".into())
    );
    assert!(body.is_end_stream());
    // It is for gRPC alone.
    let (answer, _) = client.send_request(framed::request("GET", "/", &[]), true).unwrap();
    let (head, body) = answer.await.unwrap().into_parts();
    assert!(head.headers.get("couplet-fault").is_none());
    read(body).await.unwrap();
}

#[tokio::test]
async fn the_failure_of_a_handler_that_was_denied_a_call_began_in_no_service() {
    let (stock, analyzer, to_stock) = (answers(200, "there").await, analyzer().await, Later::default());
    let address = to_stock.clone();
    let app = service(move |request| {
        let address = address.get();
        async move { answer(if pass_on(&request, address, "/").await.status == 200 { 200 } else { 500 }, "") }
    })
    .await;
    let proxy = enforcing("shop").app(&app).to("stock", stock.address).reports_to(&analyzer).start();
    to_stock.is(proxy.outbound()[0].1);
    inject(&proxy, "status=500&percent=100").await;
    assert_eq!(client(proxy.inbound().unwrap()).await.get("/").await.status, 500);
    stop(proxy).await;
    let paths: Vec<_> = analyzer.reports().into_iter().flat_map(|report| report.paths).collect();
    let origins: Vec<_> =
        paths.iter().flat_map(|path| path.stats.origins.iter().map(|(name, n)| (name.to_owned(), n))).collect();
    assert_eq!(origins, [("(other)".to_owned(), 1)], "neither stock nor shop");
}

#[tokio::test]
async fn a_tunnel_that_is_asked_for_meets_faults_as_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = enforcing("shop").to("stock", address);
    config.explicit = Some(free());
    let proxy = config.start();
    inject(&proxy, "status=502&percent=100&method=CONNECT").await;
    let mut wire = crate::wire::Wire::to(proxy.explicit().unwrap()).await;
    wire.say(&format!("CONNECT stock:{0} HTTP/1.1\r\nhost: stock:{0}\r\n\r\n", address.port())).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 502") && head.contains("couplet-fault: abort"), "{head}");
}

#[tokio::test]
async fn another_configuration_ends_all_faults() {
    let stock = answers(200, "there").await;
    let config = enforcing("shop").to("stock", stock.address);
    let mut proxy = config.clone().start();
    inject(&proxy, "status=503&percent=100").await;
    // Also for a connection that is still served by the configuration before.
    let mut client = client(proxy.outbound()[0].1).await;
    assert_eq!(client.get("/").await.status, 503);
    let mut next = config;
    next.timeouts.connect = Duration::from_secs(4);
    proxy.reload(Ok(next)).unwrap();
    let page = faults(&proxy).await;
    assert_eq!((page["faults"].as_array().map(Vec::len), &page["ended"][0]["ended"]), (Some(0), &"reload".into()));
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn nobody_injects_into_what_is_not_there() {
    let stock = answers(200, "there").await;
    let proxy = enforcing("shop").to("stock", stock.address).start();
    let (status, text) =
        admin(&proxy, Method::POST, "/faults?to=stok&status=503&percent=1&for=5m&by=ann&why=drill").await;
    assert_eq!(status, 404);
    assert!(text.contains("there is: stock"), "{text}");
    let (status, text) = admin(&proxy, Method::POST, "/faults?to=stock&status=503&percent=1&by=ann&why=drill").await;
    assert_eq!(status, 400);
    assert!(text.contains("for ever"), "{text}");
}
