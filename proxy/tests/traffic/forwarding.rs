//! What passes a proxy, what does not, and what is answered where nothing can pass.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

#[tokio::test]
async fn a_request_reaches_the_application_with_its_body_and_the_answer_comes_back() {
    let shop = service(|request: Request<Bytes>| async move {
        let echoed = format!("{} {}", request.uri(), String::from_utf8_lossy(request.body()));
        Response::builder().status(201).header("x-from", "shop").body(Full::from(echoed)).unwrap()
    })
    .await;
    let proxy = config("shop").app(&shop).start();
    let request = Request::post("/orders?x=1").header("host", "shop").body(Full::from("one order")).unwrap();
    let answer = client(proxy.inbound().unwrap()).await.ask(request).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (201, "/orders?x=1 one order"));
    assert_eq!(answer.headers["x-from"], "shop");
    assert!(!answer.headers.contains_key("couplet-summary"), "an outsider sees no summary");
}

#[tokio::test]
async fn the_application_gets_trace_headers_and_those_it_was_sent_are_kept() {
    let shop = answers(200, "").await;
    let proxy = config("shop").app(&shop).start();
    let mut client = client(proxy.inbound().unwrap()).await;
    client.get("/").await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    client.ask(get("/", &[("traceparent", parent), ("tracestate", "vendor=1")])).await;
    let seen = shop.seen();
    assert!(seen[0].headers()["traceparent"].to_str().unwrap().starts_with("00-"));
    assert_eq!(seen[1].headers()["traceparent"], parent);
    let state = seen[1].headers()["tracestate"].to_str().unwrap();
    assert!(state.starts_with("couplet=") && state.ends_with(",vendor=1"), "{state}");
}

#[tokio::test]
async fn fields_of_one_hop_and_of_proxies_do_not_pass() {
    let shop = service(|_| async {
        Response::builder()
            .header("couplet-summary", "1;9;9;9;")
            .header("keep-alive", "timeout=9")
            .body(Full::default())
            .unwrap()
    })
    .await;
    let proxy = config("shop").app(&shop).start();
    let spoofed =
        get("/", &[("connection", "x-hop"), ("x-hop", "1"), ("couplet-summary", "1;9;9;9;"), ("x-kept", "2")]);
    let answer = client(proxy.inbound().unwrap()).await.ask(spoofed).await;
    let seen = shop.seen();
    let names: std::collections::BTreeSet<_> = seen[0].headers().keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["host", "traceparent", "tracestate", "x-kept"].into());
    assert!(!answer.headers.contains_key("couplet-summary") && !answer.headers.contains_key("keep-alive"));
}

#[tokio::test]
async fn a_dead_upstream_is_a_502_that_says_why() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = config("shop").to("stock", closed).start();
    let answer = client(proxy.outbound()[0].1).await.get("/").await;
    assert_eq!((answer.status.as_u16(), &answer.headers["couplet-error"]), (502, &"connect".parse().unwrap()));
    assert!(answer.text.contains("stock"), "{}", answer.text);
}

#[tokio::test]
async fn an_upstream_that_closes_after_every_answer_costs_no_request() {
    let shop =
        service(|_| async { Response::builder().header("connection", "close").body(Full::from("ok")).unwrap() }).await;
    let proxy = config("shop").app(&shop).start();
    let mut client = client(proxy.inbound().unwrap()).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.text, "ok");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_breaks_off_at_the_client_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    });
    let analyzer = analyzer().await;
    let proxy = config("shop").to("stock", address).reports_to(&analyzer).start();
    let response = client(proxy.outbound()[0].1).await.send(get("/", &[])).await;
    assert!(response.into_body().collect().await.is_err());
    stop(proxy).await;
    let outcomes: Vec<_> = analyzer
        .reports()
        .iter()
        .flat_map(|r| r.calls.clone())
        .map(|c| c.stats.outcomes.get(couplet_telemetry::outcome::Outcome::Reset))
        .collect();
    assert_eq!(outcomes, [1]);
}

#[tokio::test]
async fn an_upgraded_connection_passes_bytes_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let proxy = config("shop").to("echo", address).start();
    let mut response =
        client(proxy.outbound()[0].1).await.send(get("/", &[("connection", "upgrade"), ("upgrade", "echo")])).await;
    assert_eq!(response.status().as_u16(), 101);
    let mut upgraded = hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    upgraded.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    upgraded.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let shop = answers(200, "").await;
    let mut config = config("shop").app(&shop);
    config.timeouts.header = Duration::from_millis(50);
    let proxy = config.start();
    let mut stream = TcpStream::connect(proxy.inbound().unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n").await.unwrap();
    assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 0, "closed, not answered");
    assert!(shop.seen().is_empty());
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_never_reaches_the_application() {
    let shop = answers(200, "").await;
    let proxy = config("shop").app(&shop).start();
    let mut stream = TcpStream::connect(proxy.inbound().unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nbad header\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(shop.seen().is_empty());
}

#[tokio::test]
async fn more_requests_in_flight_than_the_limit_are_refused_at_once() {
    let (shop, gate) = gated().await;
    let mut config = config("shop").app(&shop);
    config.limits.requests_in_flight = 1;
    let proxy = config.start();
    let mut first = client(proxy.inbound().unwrap()).await;
    let waiting = tokio::spawn(async move { first.get("/").await });
    while shop.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = client(proxy.inbound().unwrap()).await.get("/").await;
    assert_eq!((second.status.as_u16(), &second.headers["couplet-error"]), (503, &"limit_in_flight".parse().unwrap()));
    gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().text, "late");
}

#[tokio::test]
async fn via_names_the_proxy_in_both_directions_where_that_is_wanted() {
    let stock = service(|_| async {
        let mut response = answer(200, "");
        response.headers_mut().insert("via", "1.1 cache".parse().unwrap());
        response
    })
    .await;
    for (wanted, sent, received) in [
        (true, vec!["1.0 edge", "1.1 couplet"], vec!["1.1 cache", "1.1 couplet"]),
        (false, vec!["1.0 edge"], vec!["1.1 cache"]),
    ] {
        let mut config = config("shop").to("stock", stock.address);
        config.headers.via = wanted;
        let proxy = config.start();
        let answer = client(proxy.outbound()[0].1).await.ask(get("/", &[("via", "1.0 edge")])).await;
        let seen = stock.seen();
        assert_eq!(seen.last().unwrap().headers().get_all("via").iter().collect::<Vec<_>>(), sent);
        assert_eq!(answer.headers.get_all("via").iter().collect::<Vec<_>>(), received);
    }
}

#[tokio::test]
async fn a_trace_that_begins_here_is_sampled_unless_it_should_not_be() {
    let shop = answers(200, "").await;
    for (sampled, flags) in [(true, "-01"), (false, "-00")] {
        let mut config = config("shop").app(&shop);
        config.headers.sampled = sampled;
        let proxy = config.start();
        client(proxy.inbound().unwrap()).await.get("/").await;
        let seen = shop.seen();
        assert!(seen.last().unwrap().headers()["traceparent"].to_str().unwrap().ends_with(flags));
    }
}
