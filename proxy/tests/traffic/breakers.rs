//! Breakers under real traffic: neighbours that fail in every way, and what their callers get to see.

#![expect(clippy::indexing_slicing, reason = "what a test has set up is there")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use couplet_config::{BreakerMode, BreakerSettings, EdgeBreaker, HalfOpen, OpenTime, ProxyConfig, Route};
use couplet_proxy::Running;
use couplet_telemetry::breaker::Count;
use http::{HeaderMap, Request};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::framed::{self, connect, headers, read};
use crate::harness::*;
use crate::wire::{Played, Wire};

/// Stops calls for a tenth of a second, so that tests need not wait for long.
pub(crate) fn quick(mode: BreakerMode) -> BreakerSettings {
    let time = Duration::from_millis(100);
    let open = OpenTime { base: time, max: time, jitter: 0.0, ..OpenTime::default() };
    let half_open = HalfOpen { probe_timeout: Duration::from_secs(5), ..HalfOpen::default() };
    BreakerSettings { mode, open, half_open, ..BreakerSettings::default() }
}

/// A sidecar whose breakers all have these rules, and an admin listener.
pub(crate) fn with(service: &str, settings: BreakerSettings) -> ProxyConfig {
    let mut config = config(service);
    config.breakers.defaults = settings;
    config.admin = Some(free());
    config
}

/// A service that answers with a status that the test can change, and counts what it is asked.
struct Moody {
    service: Service,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicU64>,
}

async fn moody(status: u16) -> Moody {
    let (status, asked) = (Arc::new(AtomicU16::new(status)), Arc::new(AtomicU64::new(0)));
    let (now, count) = (Arc::clone(&status), Arc::clone(&asked));
    let service = service(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let status = now.load(Ordering::SeqCst);
        async move { answer(status, "") }
    })
    .await;
    Moody { service, status, asked }
}

impl Moody {
    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// What the admin listener says of the breaker for calls to `to`.
pub(crate) async fn breaker(proxy: &Running, to: &str) -> Value {
    let page = client(proxy.admin().unwrap()).await.get(&format!("/breakers/{to}")).await.text;
    serde_json::from_str(&page).unwrap_or_else(|error| panic!("{error}: {page}"))
}

/// Calls until one passes again.
async fn until_it_passes(client: &mut Client, passes: u16) -> u64 {
    let mut rejected = 0;
    while client.get("/").await.status != passes {
        rejected += 1;
    }
    rejected
}

pub(crate) fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).unwrap_or_else(|| panic!("no {name} in {headers:?}")).to_str().unwrap()
}

#[tokio::test]
async fn a_neighbour_that_fails_is_left_alone_until_it_works_again() {
    let stock = moody(500).await;
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", stock.service.address).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..7 {
        assert_eq!(client.get("/").await.status, 500);
    }
    let refused = client.get("/").await;
    assert_eq!(refused.status, 503);
    assert_eq!(field(&refused.headers, "couplet-error"), "breaker_open");
    assert_eq!(
        field(&refused.headers, "couplet-reject"),
        "open; edge=\"shop>stock\"; reason=consecutive_failures; for=1s"
    );
    assert_eq!(field(&refused.headers, "retry-after"), "1");
    assert!(refused.text.contains("stock"), "{}", refused.text);
    assert_eq!(stock.asked(), 7, "and nobody asks it");

    stock.answers(200);
    until_it_passes(&mut client, 200).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(breaker(&proxy, "stock").await["state"], "half_open");
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(stock.asked(), 10, "three that succeed are enough");
    let page = breaker(&proxy, "stock").await;
    assert_eq!(
        (&page["state"], &page["calls"]["probes"], &page["calls"]["opened"]),
        (&"closed".into(), &3.into(), &1.into())
    );
    let metrics = metrics(&proxy).await;
    for line in [
        "couplet_breaker_state{service_peer_name=\"stock\",state=\"closed\"} 1",
        "couplet_breaker_calls_total{service_peer_name=\"stock\",class=\"failure\"} 7",
        "couplet_breaker_calls_total{service_peer_name=\"stock\",class=\"success\"} 3",
        "couplet_breaker_opened_total{service_peer_name=\"stock\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
}

#[tokio::test]
async fn one_that_still_fails_is_asked_once_each_time() {
    let stock = moody(500).await;
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", stock.service.address).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..7 {
        client.get("/").await;
    }
    for round in 1..=3 {
        assert!(until_it_passes(&mut client, 500).await > 0);
        assert_eq!(stock.asked(), 7 + round);
    }
    let page = client_page(&proxy).await;
    let changes: Vec<_> = page["transitions"].as_array().unwrap().iter().rev().collect();
    let words: Vec<_> = changes.iter().map(|change| change["reason"].as_str().unwrap()).collect();
    let expected =
        ["consecutive_failures", "waited", "probe_failed", "waited", "probe_failed", "waited", "probe_failed"];
    assert_eq!(words, expected);
    assert_eq!(changes[0]["edge"], "shop→stock");
    assert_eq!(changes[0]["stops"], true);
    assert_eq!((&changes[0]["observed"]["total"], &changes[0]["observed"]["consecutive"]), (&7.into(), &7.into()));
    let cause = &changes[0]["causes"][0];
    assert_eq!((&cause["class"], &cause["n"]), (&"http_500".into(), &7.into()));
    assert_eq!(cause["endpoint"], stock.service.address.to_string());
}

pub(crate) async fn client_page(proxy: &Running) -> Value {
    let page = client(proxy.admin().unwrap()).await.get("/breakers").await.text;
    serde_json::from_str(&page).unwrap()
}

#[tokio::test]
async fn observing_stops_nothing_and_follows_what_it_would_have_stopped() {
    let stock = moody(500).await;
    let proxy = with("shop", quick(BreakerMode::Observe)).to("stock", stock.service.address).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..30 {
        assert_eq!(client.get("/").await.status, 500);
    }
    // Seven open it. Those that follow would have been stopped.
    stock.answers(200);
    assert_eq!(breaker(&proxy, "stock").await["state"], "open");
    for _ in 0..4 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let page = breaker(&proxy, "stock").await;
    let would_have = &page["would_have"];
    let count = |name: &str| would_have[name].as_u64().unwrap();
    assert_eq!(stock.asked(), 34, "all of them passed");
    assert_eq!(count("failed") + count("succeeded"), count("rejected"));
    assert!((20..=23).contains(&count("failed")), "{page}");
    assert_eq!(page["calls"]["rejected"], 0);
    assert!(would_have["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(client_page(&proxy).await["transitions"][0]["stops"], false);
}

#[tokio::test]
async fn connections_that_cannot_be_made_are_found_out_after_three() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", dead).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 502);
    }
    let refused = client.get("/").await;
    assert_eq!((refused.status.as_u16(), field(&refused.headers, "couplet-error")), (503, "breaker_open"));
    assert!(field(&refused.headers, "couplet-reject").contains("reason=connect_failures"));
    assert_eq!(breaker(&proxy, "stock").await["calls"]["local"], 3);
}

#[tokio::test]
async fn one_that_hangs_or_breaks_off_has_failed() {
    for breaks_off in [false, true] {
        let address = unreliable(breaks_off).await;
        let mut config = with("shop", quick(BreakerMode::Enforce)).to("stock", address);
        config.timeouts.request = Some(Duration::from_millis(50));
        let proxy = config.start();
        for _ in 0..7 {
            let mut wire = Wire::to(proxy.outbound()[0].1).await;
            wire.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
            let head = wire.head().await;
            let status = if breaks_off { "HTTP/1.1 200 " } else { "HTTP/1.1 504 " };
            assert!(head.starts_with(status), "{head}");
            if breaks_off {
                wire.rest().await;
            }
        }
        let page = breaker(&proxy, "stock").await;
        assert_eq!((&page["state"], &page["calls"]["failure"]), (&"open".into(), &7.into()), "{page}");
    }
}

/// A service that never answers, or breaks off within the body.
async fn unreliable(breaks_off: bool) -> SocketAddr {
    let played = Played::new().await;
    let address = played.address();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            let mut wire = played.meet().await;
            wire.head().await;
            if breaks_off {
                wire.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            } else {
                silent.push(wire);
            }
        }
    });
    address
}

#[tokio::test]
async fn one_that_asks_for_time_gets_it() {
    let stock = service(|_| async move {
        let mut answer = answer(429, "");
        answer.headers_mut().insert("retry-after", "90".parse().unwrap());
        answer
    })
    .await;
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", stock.address).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 429);
    }
    let refused = client.get("/").await;
    assert_eq!(refused.status, 503);
    let seconds: u64 = field(&refused.headers, "retry-after").parse().unwrap();
    assert!((85..=90).contains(&seconds), "{seconds}");
}

/// A gRPC service that ends every call with this code in its trailers.
async fn grpc_service(code: Arc<AtomicU16>) -> SocketAddr {
    framed::answering(move |_, mut asking| {
        let head = framed::head(200, &[("content-type", "application/grpc")]);
        let mut body = asking.answer.send_response(head, false).unwrap();
        body.send_data(Bytes::from("message"), false).unwrap();
        let code = code.load(Ordering::SeqCst).to_string();
        body.send_trailers(headers(&[("grpc-status", &code)])).unwrap();
    })
    .await
}

pub(crate) fn grpc_call() -> Request<()> {
    framed::request("POST", "/stock.Stock/Take", &[("content-type", "application/grpc"), ("te", "trailers")])
}

#[tokio::test]
async fn a_grpc_call_that_ends_unavailable_in_its_trailers_has_failed() {
    let code = Arc::new(AtomicU16::new(14));
    let address = grpc_service(Arc::clone(&code)).await;
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", address).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    for _ in 0..7 {
        let (answer, _) = client.send_request(grpc_call(), true).unwrap();
        let (_, trailers) = read(answer.await.unwrap().into_body()).await.unwrap();
        assert_eq!(field(&trailers.unwrap(), "grpc-status"), "14");
    }
    let (answer, _) = client.send_request(grpc_call(), true).unwrap();
    let refused = answer.await.unwrap();
    assert!(refused.body().is_end_stream(), "trailers only");
    assert_eq!((refused.status().as_u16(), field(refused.headers(), "grpc-status")), (200, "14"));
    let pushback: u64 = field(refused.headers(), "grpc-retry-pushback-ms").parse().unwrap();
    assert!((1..=100).contains(&pushback), "{pushback}");
    assert!(field(refused.headers(), "couplet-reject").starts_with("open; edge=\"shop>stock\""));

    code.store(0, Ordering::SeqCst);
    loop {
        let (answer, _) = client.send_request(grpc_call(), true).unwrap();
        read(answer.await.unwrap().into_body()).await.unwrap();
        if breaker(&proxy, "stock").await["state"] == "closed" {
            break;
        }
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_says_nothing_of_the_neighbour() {
    let (stock, gate) = gated().await;
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", stock.address).start();
    for _ in 0..10 {
        let mut wire = Wire::to(proxy.outbound()[0].1).await;
        let before = stock.seen().len();
        wire.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
        while stock.seen().len() == before {
            tokio::task::yield_now().await;
        }
    }
    while breaker(&proxy, "stock").await["calls"]["ignored"] != 10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(breaker(&proxy, "stock").await["state"], "closed");
    gate.add_permits(100);
    assert_eq!(client(proxy.outbound()[0].1).await.get("/").await.status, 200);
}

/// a → b → c, each with a sidecar; both a and b pass on what they get.
struct Chain {
    a: Running,
    b: Running,
    c: Moody,
}

async fn chain(settings: &BreakerSettings) -> Chain {
    let c = moody(500).await;
    let pass = |to: Later| {
        service(move |request: Request<Bytes>| {
            let to = to.get();
            async move {
                let answer_below = pass_on(&request, to, "/").await;
                answer(if answer_below.status == 200 { 200 } else { 500 }, "")
            }
        })
    };
    let (to_b, to_c) = (Later::default(), Later::default());
    let (app_a, app_b) = (pass(to_b.clone()).await, pass(to_c.clone()).await);
    // c has no sidecar: it is a database with an HTTP interface, say.
    let b = with("b", settings.clone()).app(&app_b).to("c", c.service.address).start();
    to_c.is(b.outbound()[0].1);
    let a = with("a", settings.clone()).app(&app_a).to("b", b.inbound().unwrap()).start();
    to_b.is(a.outbound()[0].1);
    Chain { a, b, c }
}

#[tokio::test]
async fn a_breaker_further_down_is_not_blamed_on_the_service_in_between() {
    // So long that none of the three is asked a second time.
    let open = OpenTime { base: Duration::from_secs(60), jitter: 0.0, ..OpenTime::default() };
    let settings = BreakerSettings {
        mode: BreakerMode::Enforce,
        consecutive_failures: Some(7),
        open,
        // What fails before b's breaker opens is b's failure to a, but not enough of one.
        ..BreakerSettings::default()
    };
    let chain = chain(&settings).await;
    // b finds out through a client of its own; then a calls it.
    let mut direct = client(chain.b.inbound().unwrap()).await;
    for _ in 0..7 {
        assert_eq!(direct.get("/").await.status, 500);
    }
    assert_eq!(breaker(&chain.b, "c").await["state"], "open");
    let mut outside = client(chain.a.inbound().unwrap()).await;
    for _ in 0..30 {
        let answer = outside.get("/").await;
        assert_eq!(answer.status, 500);
        let rejected = field(&answer.headers, "couplet-reject");
        assert!(rejected.starts_with("open; edge=\"b>c\"; reason=consecutive_failures"), "{rejected}");
    }
    assert_eq!(chain.c.asked(), 7);
    let page = breaker(&chain.a, "b").await;
    assert_eq!((&page["state"], &page["calls"]["propagated"]), (&"closed".into(), &30.into()), "{page}");
    chain.c.answers(200);
    drop(chain.a);
}

#[tokio::test]
async fn of_a_service_without_sidecar_no_breaker_further_down_is_believed() {
    let stock = service(|_| async move {
        let mut answer = answer(500, "");
        answer.headers_mut().insert("couplet-reject", "open; edge=\"stock>nobody\"".parse().unwrap());
        answer
    })
    .await;
    let proxy = with("shop", quick(BreakerMode::Enforce)).to("stock", stock.address).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..7 {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 500);
        assert!(!answer.headers.contains_key("couplet-reject"), "and it is not passed on");
    }
    assert_eq!(client.get("/").await.status, 503, "it hides nothing");
}

#[tokio::test]
async fn what_is_known_of_a_neighbour_outlives_a_reload_and_its_mode_does_not() {
    let stock = moody(500).await;
    let mut settings = quick(BreakerMode::Observe);
    settings.open = OpenTime { base: Duration::from_secs(60), ..OpenTime::default() };
    let config = with("shop", settings.clone()).to("stock", stock.service.address);
    let mut proxy = config.clone().start();
    let mut before = client(proxy.outbound()[0].1).await;
    for _ in 0..10 {
        assert_eq!(before.get("/").await.status, 500);
    }
    let mut after = config;
    settings.mode = BreakerMode::Enforce;
    after.breakers.edges = vec![EdgeBreaker::new("stock", settings)];
    proxy.reload(Ok(after)).unwrap();
    let mut later = client(proxy.outbound()[0].1).await;
    assert_eq!(later.get("/").await.status, 503, "it has been open for long");
    assert_eq!(stock.asked(), 10);
}

#[tokio::test]
async fn somebody_on_this_machine_can_stop_calls_for_a_time() {
    let stock = moody(200).await;
    let proxy = with("shop", quick(BreakerMode::Observe)).to("stock", stock.service.address).start();
    let mut calls = client(proxy.outbound()[0].1).await;
    assert_eq!(calls.get("/").await.status, 200);
    let mut admin = client(proxy.admin().unwrap()).await;
    let mut order = async |query: &str| {
        let request = Request::builder().method("POST").uri(format!("/breakers/{query}")).header("host", "admin");
        admin.ask(request.body(Body::default()).unwrap()).await
    };
    assert_eq!(order("stock?state=open&by=ann&why=drill").await.status, 400, "not for ever");
    assert_eq!(order("nobody?state=open&for=5m&by=ann&why=drill").await.status, 404);
    let page = order("stock?state=open&for=5m&by=ann&why=drill").await;
    let page: Value = serde_json::from_str(&page.text).unwrap();
    assert_eq!((&page["state"], &page["forced"]["by"]), (&"forced_open".into(), &"ann".into()));
    let refused = calls.get("/").await;
    assert_eq!(refused.status, 503);
    assert!(field(&refused.headers, "couplet-reject").starts_with("forced_open; edge=\"shop>stock\"; reason=forced"));
    assert_eq!(order("stock?state=auto").await.status, 200);
    assert_eq!(calls.get("/").await.status, 200);
    assert_eq!(stock.asked(), 2);
}

#[tokio::test]
async fn all_workers_share_what_they_know() {
    let stock = moody(500).await;
    let mut config = with("shop", quick(BreakerMode::Enforce)).to("stock", stock.service.address);
    config.workers = 2;
    config.breakers.defaults.open.base = Duration::from_secs(60);
    config.breakers.defaults.open.max = Duration::from_secs(60);
    let proxy = config.start();
    // The kernel spreads connections over the workers.
    for _ in 0..40 {
        client(proxy.outbound()[0].1).await.get("/").await;
    }
    assert_eq!(stock.asked(), 7);
}

#[tokio::test]
async fn a_tunnel_to_a_neighbour_that_cannot_be_reached_is_stopped_as_well() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = with("shop", quick(BreakerMode::Enforce));
    config.explicit = Some(free());
    let proxy = config.start();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let mut wire = Wire::to(proxy.explicit().unwrap()).await;
        wire.say(&format!("CONNECT {dead} HTTP/1.1\r\nhost: {dead}\r\n\r\n")).await;
        seen.push(wire.head().await.split(' ').nth(1).unwrap().to_owned());
    }
    assert_eq!(seen, ["502", "502", "502", "503", "503"]);
    drop(TcpStream::connect(proxy.explicit().unwrap()).await.unwrap());
}

#[tokio::test]
async fn calls_beyond_the_limit_are_rejected_and_feed_no_breaker() {
    for (mode, passes) in [(BreakerMode::Enforce, 2), (BreakerMode::Observe, 3)] {
        let (stock, gate) = gated().await;
        let settings = BreakerSettings { max_in_flight: Some(2), ..quick(mode) };
        let proxy = with("shop", settings).to("stock", stock.address).start();
        let address = proxy.outbound()[0].1;
        let mut waiting = tokio::task::JoinSet::new();
        for n in 1..=passes {
            waiting.spawn(async move { client(address).await.get("/").await.status.as_u16() });
            while stock.seen().len() < n {
                tokio::task::yield_now().await;
            }
        }
        let page = breaker(&proxy, "stock").await;
        assert_eq!((&page["in_flight"], &page["limit_would_reject"]), (&passes.into(), &(passes - 2).into()), "{page}");
        if mode == BreakerMode::Enforce {
            let refused = client(address).await.get("/").await;
            assert_eq!(
                (refused.status.as_u16(), field(&refused.headers, "couplet-error")),
                (503, "destination_in_flight")
            );
            let why = field(&refused.headers, "couplet-reject");
            assert_eq!(why, "limit; edge=\"shop>stock\"; reason=limit_in_flight; for=0s");
        }
        gate.add_permits(10);
        assert!(waiting.join_all().await.into_iter().all(|status| status == 200));
        assert_eq!(client(address).await.get("/").await.status, 200);
        let page = breaker(&proxy, "stock").await;
        assert_eq!(
            (&page["state"], &page["calls"]["rejected"], &page["calls"]["ignored"]),
            (&"closed".into(), &0.into(), &0.into())
        );
        assert_eq!(page["in_flight_peak"], passes, "who was rejected was never under way");
        assert_eq!(stock.seen().len(), passes + 1);
    }
}

#[tokio::test]
async fn a_class_of_calls_has_a_breaker_of_its_own() {
    let analyzer = analyzer().await;
    let stock = service(|request: Request<Bytes>| async move {
        answer(if request.uri().path().starts_with("/export/") { 500 } else { 200 }, "")
    })
    .await;
    let mut config = with("shop", quick(BreakerMode::Enforce)).to("stock", stock.address).reports_to(&analyzer);
    let long = Duration::from_secs(600);
    config.breakers.defaults.open = OpenTime { base: long, max: long, ..OpenTime::default() };
    let mut export = Route::new("stock");
    (export.path, export.class) = (Some("/export/".to_owned()), Some("export".to_owned()));
    config.routes.push(export);
    let mut proxy = config.clone().start();
    let mut client = client(proxy.outbound()[0].1).await;
    for n in 0..7 {
        assert_eq!(client.get("/export/all").await.status, 500);
        assert_eq!(client.get(&format!("/items/{n}")).await.status, 200);
    }
    let refused = client.get("/export/all").await;
    assert_eq!(refused.status, 503);
    let why = field(&refused.headers, "couplet-reject");
    assert!(why.starts_with("open; edge=\"shop>stock\"; class=\"export\"; reason="), "{why}");
    for n in 0..50 {
        assert_eq!(client.get(&format!("/items/{n}")).await.status, 200, "others are not stopped");
    }
    let (all, class) = (breaker(&proxy, "stock").await, breaker(&proxy, "stock?class=export").await);
    assert_eq!(
        (&all["state"], &all["calls"]["success"], &all["calls"]["failure"]),
        (&"closed".into(), &57.into(), &0.into())
    );
    assert_eq!(
        (&class["state"], &class["class"], &class["calls"]["failure"]),
        (&"open".into(), &"export".into(), &7.into())
    );
    assert_eq!(client_page(&proxy).await["transitions"][0]["edge"], "shop→stock (export)");
    let metrics = metrics(&proxy).await;
    for line in [
        "couplet_breaker_state{service_peer_name=\"stock\",state=\"closed\"} 1",
        "couplet_breaker_state{service_peer_name=\"stock\",route_class=\"export\",state=\"open\"} 1",
        "couplet_breaker_connections_peak{service_peer_name=\"stock\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    assert!(!metrics.contains("couplet_breaker_connections_peak{service_peer_name=\"stock\",route_class"));
    // By hand, and over another configuration.
    let mut admin = self::client(proxy.admin().unwrap()).await;
    let order =
        Request::builder().method("POST").uri("/breakers/stock?class=export&state=closed&for=5m&by=ann&why=drill");
    assert_eq!(admin.ask(order.header("host", "admin").body(Body::default()).unwrap()).await.status, 200);
    assert_eq!(client.get("/export/all").await.status, 500);
    config.timeouts.drain = Duration::from_secs(9);
    proxy.reload(Ok(config)).unwrap();
    assert_eq!(breaker(&proxy, "stock?class=export").await["state"], "forced_closed", "it is the same one");
    stop(proxy).await;
    let reports = analyzer.reports();
    let told = reports.iter().flat_map(|report| &report.breakers);
    let opened: u64 =
        told.filter(|told| told.class.as_deref() == Some("export")).map(|told| told.counts.get(Count::Opened)).sum();
    assert_eq!(opened, 1);
}
