//! Connections to a destination and calls that wait for one: how many there may be, and how many there were at most.

#![expect(clippy::indexing_slicing, reason = "what a test has set up is there")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use couplet_config::{BreakerMode, BreakerSettings, Destinations, Outbound, ProxyConfig, Route, TimeLimit};
use couplet_proxy::Running;
use http::{Response, StatusCode};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, UdpSocket};

use crate::breakers::{breaker, field, grpc_call, with};
use crate::framed;
use crate::harness::*;
use crate::wire::{Played, Wire};

fn limited(most: u32, mode: BreakerMode) -> ProxyConfig {
    with("shop", BreakerSettings { mode, max_connections: Some(most), ..BreakerSettings::default() })
}

/// Waits until the breaker's page says so.
async fn until(proxy: &Running, key: &str, count: u64) -> Value {
    loop {
        let page = breaker(proxy, "stock").await;
        if page[key] == count {
            return page;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_that_needs_one_connection_too_many_is_rejected_where_that_is_enforced() {
    for (mode, passes) in [(BreakerMode::Enforce, 2), (BreakerMode::Observe, 3)] {
        let (stock, gate) = gated().await;
        let proxy = limited(2, mode).to("stock", stock.address).start();
        let address = proxy.outbound()[0].1;
        let mut waiting = tokio::task::JoinSet::new();
        for n in 1..=passes {
            waiting.spawn(async move { client(address).await.get("/").await.status.as_u16() });
            while stock.seen().len() < n {
                tokio::task::yield_now().await;
            }
        }
        if mode == BreakerMode::Enforce {
            let refused = client(address).await.get("/").await;
            assert_eq!(refused.status, 503);
            assert_eq!(field(&refused.headers, "couplet-error"), "destination_connections");
            let why = field(&refused.headers, "couplet-reject");
            assert_eq!(why, "limit; edge=\"shop>stock\"; reason=limit_connections; for=0s");
            assert_eq!(field(&refused.headers, "retry-after"), "1");
        }
        gate.add_permits(10);
        assert!(waiting.join_all().await.into_iter().all(|status| status == 200));
        assert_eq!(client(address).await.get("/").await.status, 200, "one that is idle serves");
        let page = breaker(&proxy, "stock").await;
        assert_eq!((&page["connections"], &page["connections_peak"]), (&passes.into(), &passes.into()), "{page}");
        let enforces = u64::from(mode == BreakerMode::Enforce);
        assert_eq!(
            (&page["limit_rejected"], &page["limit_would_reject"]),
            (&enforces.into(), &(1 - enforces).into()),
            "{page}"
        );
        assert_eq!((&page["state"], &page["calls"]["failure"]), (&"closed".into(), &0.into()));
        let word = if enforces == 1 { "rejected" } else { "would_reject" };
        for line in [
            format!("couplet_breaker_connections_peak{{service_peer_name=\"stock\"}} {passes}"),
            format!(
                "couplet_limit_rejected_total{{service_peer_name=\"stock\",limit=\"max_connections\",result=\"{word}\"}} 1"
            ),
        ] {
            let metrics = metrics(&proxy).await;
            assert!(metrics.contains(&line), "no {line} in\n{metrics}");
        }
        assert_eq!(stock.seen().len(), passes + 1);
    }
}

#[tokio::test]
async fn without_a_limit_the_peaks_are_known_all_the_same_and_connections_that_end_count_no_more() {
    let (stock, gate) = gated().await;
    let proxy = with("shop", BreakerSettings::default()).to("stock", stock.address).start();
    let address = proxy.outbound()[0].1;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 1..=5 {
        waiting.spawn(async move { client(address).await.get("/").await.status.as_u16() });
        while stock.seen().len() < n {
            tokio::task::yield_now().await;
        }
    }
    let page = breaker(&proxy, "stock").await;
    assert_eq!((&page["connections"], &page["pending"], &page["pending_peak"]), (&5.into(), &0.into(), &1.into()));
    // Their callers go away, and what was asked for them is cut.
    waiting.shutdown().await;
    let page = until(&proxy, "connections", 0).await;
    assert_eq!(page["connections_peak"], 5);
    gate.add_permits(10);
}

/// Speaks HTTP/1 and HTTP/2, and answers at once.
async fn bilingual() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 3];
                while stream.peek(&mut first).await.is_ok_and(|count| (1..3).contains(&count)) {}
                if &first != b"PRI" {
                    let service =
                        service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new())));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    return;
                }
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut answer))) = connection.accept().await {
                    let _ = answer.send_response(framed::head(200, &[]), true);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_connection_that_nobody_uses_makes_room_for_one_that_is_needed() {
    let proxy = limited(1, BreakerMode::Enforce).to("stock", bilingual().await).start();
    let address = proxy.outbound()[0].1;
    let mut one = client(address).await;
    let mut two = framed::connect(address).await;
    for round in 0..3 {
        assert_eq!(one.get("/").await.status, 200, "{round}");
        let (answer, _) = two.send_request(framed::request("GET", "/", &[]), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200, "{round}");
    }
    let page = breaker(&proxy, "stock").await;
    assert_eq!((&page["connections"], &page["limit_rejected"]), (&1.into(), &0.into()), "{page}");
}

#[tokio::test]
async fn over_http2_clients_share_where_there_may_be_no_more_connections() {
    let mut stock = framed::origin().await;
    let proxy = limited(1, BreakerMode::Enforce).to("stock", stock.address).start();
    let address = proxy.outbound()[0].1;
    let (mut one, mut two) = (framed::connect(address).await, framed::connect(address).await);
    let mut answers = Vec::new();
    let mut asked = Vec::new();
    for client in [&mut one, &mut two] {
        answers.push(client.send_request(framed::request("GET", "/", &[]), true).unwrap().0);
        asked.push(stock.next().await);
    }
    let page = breaker(&proxy, "stock").await;
    assert_eq!((&page["in_flight"], &page["connections_peak"]), (&2.into(), &1.into()), "{page}");
    for (mut asked, answer) in asked.into_iter().zip(answers) {
        asked.reply(200, &[], "");
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_tunnel_is_a_connection_for_as_long_as_it_lasts() {
    let stock = Played::new().await;
    let mut config = with(
        "shop",
        BreakerSettings { mode: BreakerMode::Enforce, max_connections: Some(1), ..BreakerSettings::default() },
    );
    config.explicit = Some(free());
    let proxy = config.start();
    let to = stock.address();
    let tunnel = async || {
        let mut wire = Wire::to(proxy.explicit().unwrap()).await;
        wire.say(&format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n")).await;
        let head = wire.head().await;
        (wire, head)
    };
    let (first, head) = tunnel().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let met = stock.meet().await;
    let (_, head) = tunnel().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("reason=limit_connections"), "{head}");
    drop((first, met));
    while !tunnel().await.1.starts_with("HTTP/1.1 200 ") {}
}

/// A name server that never says a word.
async fn silent_name_server(config: &mut ProxyConfig) -> UdpSocket {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    config.dns.servers = vec![server.local_addr().unwrap()];
    server
}

#[tokio::test]
async fn a_call_that_would_wait_beside_too_many_others_is_rejected_at_once() {
    let settings = BreakerSettings { mode: BreakerMode::Enforce, max_pending: Some(2), ..BreakerSettings::default() };
    let mut config = with("shop", settings);
    let _silent = silent_name_server(&mut config).await;
    config.timeouts.connect = Duration::from_secs(3600);
    config.outbound.push(Outbound::new("stock", free(), Destinations::parse("stock.test:80").unwrap()));
    let proxy = config.start();
    let address = proxy.outbound()[0].1;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 1..=2 {
        waiting.spawn(async move { client(address).await.get("/").await.status });
        until(&proxy, "pending", n).await;
    }
    let refused = client(address).await.get("/").await;
    assert_eq!((refused.status.as_u16(), field(&refused.headers, "couplet-error")), (503, "destination_pending"));
    assert!(field(&refused.headers, "couplet-reject").contains("reason=limit_pending"));
    let mut grpc = framed::connect(address).await;
    let (answer, _) = grpc.send_request(grpc_call(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(
        (field(answer.headers(), "grpc-status"), field(answer.headers(), "grpc-retry-pushback-ms")),
        ("14", "1")
    );
    let page = breaker(&proxy, "stock").await;
    assert_eq!((&page["pending_peak"], &page["limit_rejected"]), (&2.into(), &2.into()), "{page}");
    assert_eq!((&page["state"], &page["calls"]["ignored"]), (&"closed".into(), &2.into()), "{page}");
    waiting.shutdown().await;
    until(&proxy, "pending", 0).await;
}

#[tokio::test]
async fn a_destination_has_a_connect_timeout_of_its_own() {
    let mut config = with("shop", BreakerSettings::default());
    let _silent = silent_name_server(&mut config).await;
    config.timeouts.connect = Duration::from_secs(3600);
    let mut route = Route::new("stock");
    route.timeouts.connect = Some(TimeLimit::After(Duration::from_millis(20)));
    config.routes.push(route);
    config.outbound.push(Outbound::new("stock", free(), Destinations::parse("stock.test:80").unwrap()));
    let proxy = config.start();
    let answer = client(proxy.outbound()[0].1).await.get("/").await;
    assert_eq!((answer.status.as_u16(), field(&answer.headers, "couplet-error")), (502, "unresolved"));
}
