//! Answers that take too long: who is told, what becomes of the stream, and what the next one is allowed.

#![expect(clippy::indexing_slicing, reason = "a field that is missing is null")]

use std::time::Duration;

use bytes::Bytes;
use couplet_config::{ProxyConfig, Route, RouteTimeouts, TimeLimit};
use couplet_proxy::Running;
use couplet_telemetry::outcome::Outcome;
use http::HeaderMap;
use serde_json::Value;

use crate::framed::{self, Origin, connect, origin, read};
use crate::harness::*;
use crate::wire::{Played, Wire};

const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// Long enough to happen after what is meant to happen before it, and to be waited for.
const SOON: Option<TimeLimit> = Some(TimeLimit::After(Duration::from_millis(50)));
const LATER: Option<TimeLimit> = Some(TimeLimit::After(Duration::from_millis(500)));

/// A sidecar with an admin listener, and calls to `stock` that have these limits.
fn with(timeouts: RouteTimeouts) -> ProxyConfig {
    let mut config = config("shop");
    config.admin = Some(free());
    config.routes = vec![Route { timeouts, ..Route::new("stock") }];
    config
}

async fn failures(proxy: &Running) -> (Value, Value) {
    let page = client(proxy.admin().unwrap()).await.get("/breakers/stock").await.text;
    let page: Value = serde_json::from_str(&page).unwrap();
    (page["window"]["failed"].clone(), page["causes"][0]["class"].clone())
}

async fn answers_with(proxy: &Running, reason: &str) -> u64 {
    metric(proxy, &format!("couplet_answers_total{{reason=\"{reason}\"}}")).await
}

/// What a gRPC client is told.
fn said<'a>(fields: &'a HeaderMap, name: &str) -> &'a str {
    fields.get(name).unwrap_or_else(|| panic!("no {name} in {fields:?}")).to_str().unwrap()
}

/// The reason for which the proxy reset the stream of an answer.
async fn reset(stream: &mut h2::SendStream<Bytes>) -> h2::Reason {
    std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap()
}

#[tokio::test]
async fn a_destination_that_does_not_begin_to_answer_has_failed() {
    let (stock, _gate) = gated().await;
    let proxy = with(RouteTimeouts { first_byte: SOON, ..RouteTimeouts::default() }).to("stock", stock.address).start();
    let answer = client(proxy.outbound()[0].1).await.get("/").await;
    assert_eq!((answer.status.as_u16(), said(&answer.headers, "couplet-error")), (504, "first_byte_timeout"));
    assert_eq!(failures(&proxy).await, (1.into(), "first_byte_timeout".into()));
    assert_eq!(answers_with(&proxy, "first_byte_timeout").await, 1);
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_and_the_client_sees_that_it_is_not_whole() {
    let played = Played::new().await;
    let request = RouteTimeouts { request: LATER, ..RouteTimeouts::default() };
    let analyzer = analyzer().await;
    let proxy = with(request).to("stock", played.address()).reports_to(&analyzer).start();
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
    let mut stock = played.meet().await;
    stock.head().await;
    stock.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
    client.hear("3\r\none\r\n").await;
    assert_eq!(client.rest().await, "", "the connection ends without the last chunk");
    assert_eq!(stock.rest().await, "", "and so does the one to the destination");
    assert_eq!(failures(&proxy).await, (1.into(), "request_timeout".into()));
    stop(proxy).await;
    let outcomes = |outcome| -> u64 {
        analyzer.reports().iter().flat_map(|report| &report.calls).map(|call| call.stats.outcomes.get(outcome)).sum()
    };
    assert_eq!((outcomes(Outcome::Timeout), outcomes(Outcome::Ok)), (1, 0));
}

#[tokio::test]
async fn an_answer_in_which_nothing_moves_is_cut_and_one_that_drips_is_not() {
    let mut stock = origin().await;
    let idle = RouteTimeouts { idle: LATER, ..RouteTimeouts::default() };
    let proxy = with(idle).to("stock", stock.address).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let (answer, _) = client.send_request(framed::request("GET", "/", &[]), true).unwrap();
    let mut asked = stock.next().await;
    let mut body = asked.begin(200, &[]);
    let mut reading = answer.await.unwrap().into_body();
    // Each piece within the limit, and all of them in more than twice as long.
    let mut began = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..12 {
        began.tick().await;
        body.send_data(Bytes::from_static(b"x"), false).unwrap();
        let piece = reading.data().await.unwrap().unwrap();
        reading.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(reset(&mut body).await, h2::Reason::CANCEL);
    assert_eq!(reading.data().await.unwrap().unwrap_err().reason(), Some(h2::Reason::CANCEL));
    assert_eq!(answers_with(&proxy, "idle_timeout").await, 1);
}

/// Begins a call that allows `allowed`, and hands on what arrives at the destination.
async fn call(proxy: &Running, stock: &mut Origin, allowed: &str) -> (h2::client::ResponseFuture, framed::Asked) {
    let mut client = connect(proxy.outbound()[0].1).await;
    let fields = [GRPC, ("te", "trailers"), ("grpc-timeout", allowed)];
    let (answer, _) = client.send_request(framed::request("POST", "/shop.Stock/Get", &fields), true).unwrap();
    (answer, stock.next().await)
}

#[tokio::test]
async fn the_deadline_of_a_grpc_call_holds_before_its_answer_begins() {
    let mut stock = origin().await;
    let proxy = with(RouteTimeouts::default()).to("stock", stock.address).start();
    let (answer, mut asked) = call(&proxy, &mut stock, "150m").await;
    let (head, body) = answer.await.unwrap().into_parts();
    assert_eq!((head.status.as_u16(), said(&head.headers, "grpc-status")), (200, "4"));
    assert_eq!(said(&head.headers, "couplet-error"), "deadline_exceeded");
    assert!(body.is_end_stream());
    let reason = std::future::poll_fn(|cx| asked.answer.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, h2::Reason::CANCEL, "the destination need not go on");
    assert_eq!(failures(&proxy).await, (1.into(), "deadline_exceeded".into()));
}

#[tokio::test]
async fn the_deadline_of_a_grpc_call_holds_after_its_answer_has_begun() {
    let mut stock = origin().await;
    let proxy = with(RouteTimeouts::default()).to("stock", stock.address).start();
    let (answer, mut asked) = call(&proxy, &mut stock, "500m").await;
    let mut body = asked.begin(200, &[GRPC]);
    body.send_data(Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
    let (read, trailers) = read(answer.await.unwrap().into_body()).await.unwrap();
    assert_eq!((read.len(), said(&trailers.unwrap(), "grpc-status")), (5, "4"));
    assert_eq!(reset(&mut body).await, h2::Reason::CANCEL);
}

#[tokio::test]
async fn a_deadline_that_leaves_no_time_is_held_against_nobody() {
    let stock = origin().await;
    let proxy = with(RouteTimeouts::default()).to("stock", stock.address).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let fields = [GRPC, ("te", "trailers"), ("grpc-timeout", "30m")];
    let (answer, _) = client.send_request(framed::request("POST", "/shop.Stock/Get", &fields), true).unwrap();
    assert_eq!(said(answer.await.unwrap().headers(), "grpc-status"), "4");
    assert_eq!(failures(&proxy).await.0, 0);
}

/// What a gRPC call allows by its header, in nanoseconds.
fn nanos(text: &str) -> u64 {
    let (digits, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        other => panic!("{other}"),
    };
    digits.parse::<u64>().unwrap() * unit
}

#[tokio::test]
async fn each_hop_passes_on_what_is_left_and_a_limit_of_its_own_only_where_that_is_shorter() {
    let mut stock = origin().await;
    let limit = |seconds| Some(TimeLimit::After(Duration::from_secs(seconds)));
    let tight = RouteTimeouts { request: limit(20), ..RouteTimeouts::default() };
    let proxy = with(tight).to("stock", stock.address).start();
    let (_answer, asked) = call(&proxy, &mut stock, "60S").await;
    let left = nanos(said(&asked.head.headers, "grpc-timeout"));
    assert!(left <= 20_000_000_000, "{left}");
    let (_answer, asked) = call(&proxy, &mut stock, "10S").await;
    let left = nanos(said(&asked.head.headers, "grpc-timeout"));
    assert!(left < 10_000_000_000, "{left}: some time has passed");
}

#[tokio::test]
async fn a_deadline_that_cannot_be_read_is_none_and_passes_as_it_is() {
    let mut stock = origin().await;
    let proxy = with(RouteTimeouts::default()).to("stock", stock.address).start();
    let (answer, mut asked) = call(&proxy, &mut stock, "150ms").await;
    assert_eq!(said(&asked.head.headers, "grpc-timeout"), "150ms");
    asked.reply(200, &[GRPC, ("grpc-status", "0")], "");
    assert_eq!(said(answer.await.unwrap().headers(), "grpc-status"), "0");
    assert_eq!(metric(&proxy, "couplet_grpc_timeouts_malformed_total").await, 1);
}

#[tokio::test]
async fn the_sidecar_of_the_callee_keeps_to_the_deadline_as_well() {
    let mut stock = origin().await;
    let mut config = config("stock");
    config.app = Some(stock.address);
    let proxy = config.start();
    let mut client = connect(proxy.inbound().unwrap()).await;
    let fields = [GRPC, ("grpc-timeout", "500m")];
    let (answer, _) = client.send_request(framed::request("POST", "/shop.Stock/Get", &fields), true).unwrap();
    let mut asked = stock.next().await;
    assert_eq!(said(answer.await.unwrap().headers(), "grpc-status"), "4");
    let reason = std::future::poll_fn(|cx| asked.answer.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, h2::Reason::CANCEL);
}

#[tokio::test]
async fn a_tunnel_is_no_answer_that_must_end() {
    let played = Played::new().await;
    let limits = RouteTimeouts { request: SOON, idle: SOON, ..RouteTimeouts::default() };
    let proxy = with(limits).to("stock", played.address()).start();
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nhost: stock\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    let mut stock = played.meet().await;
    stock.head().await;
    stock.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    client.head().await;
    // Longer than both limits, twice.
    let mut later = tokio::time::interval(Duration::from_millis(200));
    later.tick().await;
    later.tick().await;
    client.say("still there?").await;
    stock.hear("still there?").await;
}
