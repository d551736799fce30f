//! Calls that are tried again: when, how often, and what everybody is told of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use couplet_config::{BreakerMode, BreakerSettings, ProxyConfig, Retry, RetryBudget, RetryOn, Route};
use couplet_proxy::Running;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::framed::{self, connect, headers};
use crate::harness::*;
use crate::wire::{Played, Wire};

/// Tries again at once.
fn on(on: &[RetryOn]) -> Retry {
    Retry { on: on.to_vec(), attempts: 2, backoff: Duration::ZERO, ..Retry::default() }
}

/// A sidecar with an admin listener that tries calls to `stock` again.
fn with(retry: Retry) -> ProxyConfig {
    let mut config = config("shop");
    config.admin = Some(free());
    config.routes = vec![Route { retry: Some(retry), ..Route::new("stock") }];
    config
}

/// A service that answers so, one after the other, and keeps the bodies that it gets.
struct Scripted {
    service: Service,
    bodies: Arc<parking_lot::Mutex<Vec<Bytes>>>,
}

async fn scripted(statuses: &'static [u16]) -> Scripted {
    let (asked, bodies) = (AtomicU64::new(0), Arc::<parking_lot::Mutex<Vec<Bytes>>>::default());
    let kept = Arc::clone(&bodies);
    let service = service(move |request: Request<Bytes>| {
        kept.lock().push(request.into_body());
        let turn = usize::try_from(asked.fetch_add(1, Ordering::SeqCst)).unwrap();
        let status = statuses.get(turn).or(statuses.last()).copied().unwrap();
        async move { answer(status, "said") }
    })
    .await;
    Scripted { service, bodies }
}

impl Scripted {
    fn asked(&self) -> usize {
        self.bodies.lock().len()
    }
}

fn send(method: Method, body: Bytes) -> Request<Body> {
    Request::builder().method(method).uri("/").header("host", "stock").body(Full::new(body)).unwrap()
}

async fn retries(proxy: &Running) -> u64 {
    metric(proxy, "couplet_retries_total{service_peer_name=\"stock\"}").await
}

async fn denied(proxy: &Running, reason: &str) -> u64 {
    metric(proxy, &format!("couplet_retries_denied_total{{reason=\"{reason}\"}}")).await
}

async fn breaker(proxy: &Running) -> Value {
    let page = client(proxy.admin().unwrap()).await.get("/breakers/stock").await.text;
    serde_json::from_str(&page).unwrap()
}

#[tokio::test]
async fn a_call_that_failed_is_tried_again_and_everybody_can_see_that() {
    let (stock, analyzer) = (scripted(&[503, 503, 200]).await, analyzer().await);
    let retry = on(&[RetryOn::Status(503)]);
    let proxy = with(retry).to("stock", stock.service.address).reports_to(&analyzer).start();
    let mut client = client(proxy.outbound()[0].1).await;
    let answer = client.get("/items").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "said"));
    assert_eq!((stock.asked(), retries(&proxy).await), (3, 2));
    let page = breaker(&proxy).await;
    assert_eq!((&page["window"]["total"], &page["window"]["failed"]), (&3.into(), &2.into()), "each try counts");
    assert_eq!(page["in_flight"], 0);
    stop(proxy).await;
    let (mut calls, mut attempts) = (0, 0);
    for report in analyzer.reports() {
        calls += report.calls.iter().map(|call| call.stats.outcomes.total()).sum::<u64>();
        attempts += report.calls.iter().map(|call| call.stats.attempts).sum::<u64>();
    }
    assert_eq!((calls, attempts), (1, 3), "one call, amplified");
}

#[tokio::test]
async fn it_is_tried_so_often_and_then_the_last_answer_passes() {
    let stock = scripted(&[503]).await;
    let proxy = with(on(&[RetryOn::ServerError])).to("stock", stock.service.address).start();
    let answer = client(proxy.outbound()[0].1).await.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (503, "said"));
    assert_eq!((stock.asked(), denied(&proxy, "attempts").await), (3, 1));
}

#[tokio::test]
async fn without_a_route_or_with_another_status_or_method_nothing_is_tried_again() {
    let stock = scripted(&[502]).await;
    let mut config = with(on(&[RetryOn::Status(503)]));
    config.routes[0].path = Some("/again".to_owned());
    config.routes.push(Route {
        retry: Some(on(&[RetryOn::Status(502)])),
        path: Some("/more".to_owned()),
        ..Route::new("stock")
    });
    let proxy = config.to("stock", stock.service.address).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for target in ["/", "/again"] {
        assert_eq!(client.get(target).await.status, 502);
    }
    let mut post = send(Method::POST, Bytes::from("order"));
    *post.uri_mut() = "/more".parse().unwrap();
    assert_eq!(client.ask(post).await.status, 502, "it may have been ordered");
    assert_eq!(stock.asked(), 3);
    assert_eq!(client.get("/more").await.status, 502);
    assert_eq!(stock.asked(), 6);
}

#[tokio::test]
async fn a_body_is_sent_again_whole_up_to_its_limit() {
    let stock = scripted(&[503, 200, 503]).await;
    let proxy = with(on(&[RetryOn::Status(503)])).to("stock", stock.service.address).start();
    let mut client = client(proxy.outbound()[0].1).await;
    let most = Bytes::from(vec![b'x'; 64 * 1024]);
    assert_eq!(client.ask(send(Method::PUT, most.clone())).await.status, 200);
    assert!(stock.asked() == 2 && stock.bodies.lock().iter().all(|body| *body == most));
    assert_eq!(metric(&proxy, "couplet_retry_kept_bytes").await, 0, "it is kept no longer than needed");
    let more = Bytes::from(vec![b'x'; 64 * 1024 + 1]);
    assert_eq!(client.ask(send(Method::PUT, more)).await.status, 503);
    assert_eq!((stock.asked(), denied(&proxy, "body").await), (3, 1));
}

#[tokio::test]
async fn a_body_without_a_length_is_sent_again_without_one() {
    let stock = scripted(&[503, 200]).await;
    let proxy = with(on(&[RetryOn::Status(503)])).to("stock", stock.service.address).start();
    let mut wire = Wire::to(proxy.outbound()[0].1).await;
    wire.say("PUT / HTTP/1.1\r\nhost: stock\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        .await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(*stock.bodies.lock(), [Bytes::from("onetwo"), Bytes::from("onetwo")]);
    assert!(stock.service.seen().iter().all(|request| request.headers().contains_key("transfer-encoding")));
}

#[tokio::test]
async fn what_of_a_body_is_still_to_come_follows_what_was_kept() {
    let played = Played::new().await;
    let proxy = with(on(&[RetryOn::Status(503)])).to("stock", played.address()).start();
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("PUT / HTTP/1.1\r\nhost: stock\r\ncontent-length: 6\r\n\r\none").await;
    let mut first = played.meet().await;
    first.hear("one").await;
    first.say("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
    let mut second = played.meet().await;
    assert!(second.hear("one").await.contains("content-length: 6\r\n"));
    client.say("two").await;
    second.hear("two").await;
    second.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(first.rest().await, "", "the first one is not told that this was all");
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_where_somebody_says_so() {
    let played = Played::new().await;
    let proxy = with(on(&[RetryOn::Reset])).to("stock", played.address()).start();
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
    let mut first = played.meet().await;
    first.head().await;
    drop(first);
    let mut second = played.meet().await;
    second.head().await;
    second.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert!(client.hear("ok").await.starts_with("HTTP/1.1 200"));
    assert_eq!(retries(&proxy).await, 1);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_tried_again() {
    let played = Played::new().await;
    let all = [RetryOn::Reset, RetryOn::ServerError, RetryOn::Timeout];
    let retry = Retry { per_try_timeout: Some(Duration::from_secs(20)), ..on(&all) };
    let proxy = with(retry).to("stock", played.address()).start();
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
    let mut stock = played.meet().await;
    stock.head().await;
    stock.say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab").await;
    client.hear("ab").await;
    drop(stock);
    assert_eq!(client.rest().await, "");
    assert!(!metrics(&proxy).await.contains("couplet_retries_total{"));
}

#[tokio::test]
async fn a_try_that_takes_too_long_gives_way_to_the_next() {
    let played = Played::new().await;
    let retry = Retry { per_try_timeout: Some(Duration::from_millis(100)), attempts: 10, ..on(&[RetryOn::Timeout]) };
    let proxy = with(retry).to("stock", played.address()).start();
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
    let mut silent = played.meet().await;
    silent.head().await;
    assert_eq!(silent.rest().await, "", "it is not waited for any longer");
    let mut second = played.meet().await;
    second.head().await;
    second.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert!(client.hear("ok").await.starts_with("HTTP/1.1 200"));
    assert_eq!(breaker(&proxy).await["causes"][0]["class"], "per_try_timeout");
}

#[tokio::test]
async fn no_connection_is_tried_again_and_told_as_what_it_is() {
    let nobody: SocketAddr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = with(on(&[RetryOn::Connect]));
    // A breaker that opens begins to count anew.
    config.breakers.defaults.connect_failures = None;
    let proxy = config.to("stock", nobody).start();
    let answer = client(proxy.outbound()[0].1).await.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.headers["couplet-error"].to_str().unwrap()), (502, "connect"));
    assert_eq!((retries(&proxy).await, breaker(&proxy).await["window"]["no_connection"].clone()), (2, 3.into()));
}

#[tokio::test]
async fn a_budget_keeps_tries_from_becoming_a_flood() {
    let stock = scripted(&[503]).await;
    let budget = RetryBudget { percent: 20.0, interval: Duration::from_secs(60), min_per_second: 0 };
    let retry = Retry { budget, ..on(&[RetryOn::Status(503)]) };
    let proxy = with(retry).to("stock", stock.service.address).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..100 {
        assert_eq!(client.get("/").await.status, 503);
    }
    assert_eq!((stock.asked(), retries(&proxy).await), (120, 20));
    assert!(denied(&proxy, "budget").await >= 80);
}

#[tokio::test]
async fn the_breaker_is_asked_before_each_try() {
    let stock = scripted(&[503]).await;
    let mut config = with(Retry { attempts: 10, ..on(&[RetryOn::Status(503)]) });
    config.breakers.defaults = BreakerSettings {
        mode: BreakerMode::Enforce,
        consecutive_failures: Some(3),
        consecutive_min_span: Duration::ZERO,
        ..BreakerSettings::default()
    };
    let proxy = config.to("stock", stock.service.address).start();
    let answer = client(proxy.outbound()[0].1).await.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (503, "said"), "what the destination said passes");
    assert_eq!((stock.asked(), denied(&proxy, "breaker").await), (3, 1));
    let page = breaker(&proxy).await;
    assert_eq!((&page["state"], &page["in_flight"]), (&"open".into(), &0.into()));
}

#[tokio::test]
async fn a_grpc_call_is_tried_again_only_where_post_is_named() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let address = framed::answering(move |_, mut asking| {
        let first = count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        let kind = ("content-type", "application/grpc");
        if first {
            asking.answer.send_response(framed::head(200, &[kind, ("grpc-status", "14")]), true).unwrap();
            return;
        }
        let mut body = asking.answer.send_response(framed::head(200, &[kind]), false).unwrap();
        body.send_trailers(headers(&[("grpc-status", "0")])).unwrap();
    })
    .await;
    let call = async |proxy: &Running| {
        let mut client = connect(proxy.outbound()[0].1).await;
        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
        let (answer, mut body) = client.send_request(framed::request("POST", "/s/M", &fields), false).unwrap();
        body.send_data(Bytes::from_static(b"\0\0\0\0\0"), true).unwrap();
        let (head, body) = answer.await.unwrap().into_parts();
        let trailers = framed::read(body).await.unwrap().1;
        let all = trailers.as_ref().unwrap_or(&head.headers);
        all["grpc-status"].to_str().unwrap().to_owned()
    };
    let retry = on(&[RetryOn::Grpc(14)]);
    let named = Retry { methods: vec!["POST".to_owned()], ..retry.clone() };
    let proxy = with(named).to("stock", address).start();
    assert_eq!((call(&proxy).await.as_str(), asked.load(Ordering::SeqCst)), ("0", 2));
    let proxy = with(retry).to("stock", address).start();
    assert_eq!((call(&proxy).await.as_str(), asked.load(Ordering::SeqCst)), ("14", 3));
}

#[tokio::test]
async fn an_upload_over_http2_that_was_refused_early_goes_on_with_the_next_try() {
    let mut stock = framed::origin().await;
    let proxy = with(on(&[RetryOn::Status(503)])).to("stock", stock.address).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let (answer, mut body) = client.send_request(framed::request("PUT", "/", &[]), false).unwrap();
    body.send_data(Bytes::from_static(b"one"), false).unwrap();
    let mut first = stock.next().await;
    assert_eq!(first.body.data().await.unwrap().unwrap(), "one");
    first.reply(503, &[], "");
    let mut second = stock.next().await;
    assert_eq!(second.body.data().await.unwrap().unwrap(), "one");
    body.send_data(Bytes::from_static(b"two"), true).unwrap();
    assert_eq!(framed::read(second.body).await.unwrap().0, b"two");
    second.answer.send_response(framed::head(200, &[]), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    // The end of the first upload is not made up.
    while let Some(data) = first.body.data().await {
        if data.is_err() {
            return;
        }
    }
    panic!("the first one was told that this was all");
}
