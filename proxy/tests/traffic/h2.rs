//! HTTP/2 in the clear: what came as HTTP/2 goes on as HTTP/2, stream by stream.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::framed::{self, connect, headers, origin, read, request, send_all};
use crate::harness::*;

/// Two sidecars in a row: that of a caller, that of the service at `address`.
fn two(address: std::net::SocketAddr) -> (couplet_proxy::Running, couplet_proxy::Running) {
    let mut inner = config("stock");
    inner.app = Some(address);
    let inner = inner.start();
    let outer = config("shop").to("stock", inner.inbound().unwrap()).start();
    (outer, inner)
}

#[tokio::test]
async fn a_request_passes_two_sidecars_with_body_and_trailers_both_ways() {
    let mut origin = origin().await;
    let (outer, _inner) = two(origin.address);
    let mut client = connect(outer.outbound()[0].1).await;
    let (answer, mut body) = client.send_request(request("POST", "/items?x=1", &[("x-one", "1")]), false).unwrap();
    body.send_data("one ".into(), false).unwrap();
    body.send_data("two".into(), false).unwrap();
    body.send_trailers(headers(&[("x-sum", "7")])).unwrap();

    let mut asked = origin.next().await;
    assert_eq!(asked.head.uri.to_string(), "http://service.test/items?x=1");
    let names: Vec<_> = asked.head.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-one", "traceparent", "tracestate"]);
    let (bytes, trailers) = read(asked.body).await.unwrap();
    assert_eq!((bytes.as_slice(), trailers), (b"one two".as_slice(), Some(headers(&[("x-sum", "7")]))));
    let mut reply = asked.answer.send_response(framed::head(201, &[("x-from", "stock")]), false).unwrap();
    reply.send_data("three".into(), false).unwrap();
    reply.send_trailers(headers(&[("x-sum", "5")])).unwrap();

    let (head, body) = answer.await.unwrap().into_parts();
    assert_eq!((head.status.as_u16(), head.headers), (201, headers(&[("x-from", "stock")])));
    let (bytes, trailers) = read(body).await.unwrap();
    assert_eq!((bytes.as_slice(), trailers), (b"three".as_slice(), Some(headers(&[("x-sum", "5")]))));
}

#[tokio::test]
async fn a_request_that_names_its_host_in_a_field_alone_passes_like_that() {
    let mut origin = origin().await;
    let mut config = config("shop");
    config.app = Some(origin.address);
    let proxy = config.start();
    let mut client = connect(proxy.inbound().unwrap()).await;
    let request = Request::get("/x").version(http::Version::HTTP_11).header("host", "shop").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let mut asked = origin.next().await;
    assert_eq!((asked.head.uri.to_string().as_str(), &asked.head.headers["host"]), ("/x", &"shop".parse().unwrap()));
    asked.reply(200, &[], "");
    assert_eq!(answer.await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn both_directions_of_a_stream_flow_at_the_same_time() {
    let mut origin = origin().await;
    let (outer, _inner) = two(origin.address);
    let mut client = connect(outer.outbound()[0].1).await;
    let (answer, mut up) = client.send_request(request("POST", "/chat", &[]), false).unwrap();
    let mut asked = origin.next().await;
    let mut down = asked.begin(200, &[]);
    let mut answer = answer.await.unwrap().into_body();
    for round in ["one", "two", "three"] {
        up.send_data(round.into(), false).unwrap();
        assert_eq!(asked.body.data().await.unwrap().unwrap(), round);
        down.send_data(round.into(), false).unwrap();
        assert_eq!(answer.data().await.unwrap().unwrap(), round);
    }
    up.send_data(Bytes::new(), true).unwrap();
    assert!(asked.body.data().await.is_none_or(|data| data.unwrap().is_empty()));
    down.send_data(Bytes::new(), true).unwrap();
    assert!(answer.data().await.is_none_or(|data| data.unwrap().is_empty()));
}

#[tokio::test]
async fn a_stream_that_the_client_cancels_is_cancelled_at_the_service() {
    let mut origin = origin().await;
    let (outer, _inner) = two(origin.address);
    let mut client = connect(outer.outbound()[0].1).await;
    for begun in [false, true] {
        let (answer, mut up) = client.send_request(request("POST", "/long", &[]), false).unwrap();
        let mut asked = origin.next().await;
        let reply = begun.then(|| asked.begin(200, &[]));
        let answer = if begun { Some(answer.await.unwrap()) } else { None };
        up.send_reset(Reason::CANCEL);
        let error = asked.body.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL), "begun: {begun}");
        drop((reply, answer));
    }
}

#[tokio::test]
async fn a_stream_that_the_service_resets_is_reset_at_the_client_for_the_same_reason() {
    let mut origin = origin().await;
    let (outer, _inner) = two(origin.address);
    let mut client = connect(outer.outbound()[0].1).await;
    let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    let mut reply = origin.next().await.begin(200, &[]);
    reply.send_data("half".into(), false).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "half");
    reply.send_reset(Reason::ENHANCE_YOUR_CALM);
    let error = body.data().await.unwrap().unwrap_err();
    assert_eq!((error.reason(), error.is_reset()), (Some(Reason::ENHANCE_YOUR_CALM), true));
}

#[tokio::test]
async fn many_streams_share_a_connection_on_both_sides() {
    let address = framed::answering(|head, mut asking| {
        let text = Bytes::from(head.uri.path().to_owned());
        asking.answer.send_response(framed::head(200, &[]), false).unwrap().send_data(text, true).unwrap();
    })
    .await;
    let (outer, _inner) = two(address);
    let client = connect(outer.outbound()[0].1).await;
    let mut answers = Vec::new();
    for n in 0..300 {
        let mut ready = client.clone().ready().await.unwrap();
        let (answer, _) = ready.send_request(request("GET", &format!("/{n}"), &[]), true).unwrap();
        answers.push((n, answer));
    }
    for (n, answer) in answers {
        let (bytes, _) = read(answer.await.unwrap().into_body()).await.unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("/{n}"));
    }
}

#[tokio::test]
async fn nobody_shares_a_connection_with_a_client_that_leaves_many_streams_behind() {
    let mut origin = origin().await;
    let mut config = config("shop").to("stock", origin.address);
    config.admin = Some(free());
    let proxy = config.start();
    let opened = || metric(&proxy, "couplet_upstream_connections_opened_total");
    let mut steady = connect(proxy.outbound()[0].1).await;
    let (answer, _) = steady.send_request(request("GET", "/", &[]), true).unwrap();
    let mut held = origin.next().await;

    let mut hasty = connect(proxy.outbound()[0].1).await;
    let (mut left, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        left.push(hasty.send_request(request("POST", "/", &[]), false).unwrap());
        asked.push(origin.next().await);
    }
    assert_eq!(opened().await, 2, "each client has a connection of its own");
    drop((left, hasty));
    for mut asked in asked {
        assert!(asked.body.data().await.unwrap().is_err());
    }

    let mut next = connect(proxy.outbound()[0].1).await;
    let (_answer, _) = next.send_request(request("GET", "/", &[]), true).unwrap();
    let _asked = origin.next().await;
    assert_eq!(opened().await, 3, "what is left of the hasty one may still be under way");

    held.reply(200, &[], "");
    read(answer.await.unwrap().into_body()).await.unwrap();
    let mut last = connect(proxy.outbound()[0].1).await;
    let (_answer, _) = last.send_request(request("GET", "/", &[]), true).unwrap();
    let _asked = origin.next().await;
    assert_eq!(opened().await, 3, "a connection that carries nothing is used again");
}

#[tokio::test]
async fn large_bodies_pass_unchanged_in_both_directions() {
    let address = framed::answering(|_, mut asking| {
        tokio::spawn(async move {
            let mut reply = asking.answer.send_response(framed::head(200, &[]), false).unwrap();
            while let Some(Ok(data)) = asking.body.data().await {
                asking.body.flow_control().release_capacity(data.len()).unwrap();
                send_all(&mut reply, data).await.unwrap();
            }
            reply.send_data(Bytes::new(), true).unwrap();
        });
    })
    .await;
    let (outer, _inner) = two(address);
    let mut client = connect(outer.outbound()[0].1).await;
    let sent: Vec<u8> = (0..8u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (answer, mut up) = client.send_request(request("POST", "/echo", &[]), false).unwrap();
    let bytes = Bytes::from(sent.clone());
    tokio::spawn(async move {
        send_all(&mut up, bytes).await.unwrap();
        up.send_data(Bytes::new(), true).unwrap();
    });
    let (received, _) = read(answer.await.unwrap().into_body()).await.unwrap();
    assert!(received == sent, "{} of {} bytes came back, or others", received.len(), sent.len());
}

#[tokio::test]
async fn a_service_that_reads_nothing_holds_back_its_client() {
    let mut origin = origin().await;
    let (outer, _inner) = two(origin.address);
    let mut client = connect(outer.outbound()[0].1).await;
    let (_answer, mut up) = client.send_request(request("POST", "/slow", &[]), false).unwrap();
    let asked = origin.next().await;
    let sending = async {
        let mut sent = 0u64;
        loop {
            up.reserve_capacity(16 * 1024);
            let granted = std::future::poll_fn(|cx| up.poll_capacity(cx)).await.unwrap().unwrap();
            let granted = granted.min(16 * 1024);
            up.send_data(Bytes::from(vec![0; granted]), false).unwrap();
            sent += granted as u64;
            assert!(sent < 4 << 20, "{sent} bytes are held for a service that reads none");
        }
    };
    // What is in order here never ends; half a second of standing still is the proof.
    assert!(tokio::time::timeout(Duration::from_millis(500), sending).await.is_err());
    drop(asked);
}

#[tokio::test]
async fn a_malformed_request_is_a_400_and_its_neighbours_are_served() {
    let mut origin = origin().await;
    let (outer, _inner) = two(origin.address);
    let mut client = connect(outer.outbound()[0].1).await;
    let (good, _) = client.send_request(request("GET", "/good", &[]), true).unwrap();
    let (bad, _) = client.send_request(request("GET", "/bad", &[("content-length", "+5")]), true).unwrap();
    assert_eq!(bad.await.unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR), "the library itself refuses this one");
    for fields in [[("host", "other.test")], [("x-padded", " 1")]] {
        let (bad, _) = client.send_request(request("GET", "/bad", &fields), true).unwrap();
        let head = bad.await.unwrap();
        assert_eq!((head.status().as_u16(), &head.headers()["couplet-error"]), (400, &"malformed".parse().unwrap()));
    }
    let mut asked = origin.next().await;
    assert_eq!(asked.head.uri.path(), "/good");
    asked.reply(200, &[], "served");
    assert_eq!(read(good.await.unwrap().into_body()).await.unwrap().0, b"served");
}

#[tokio::test]
async fn a_malformed_answer_is_a_502() {
    let mut origin = origin().await;
    let (outer, _inner) = two(origin.address);
    let mut client = connect(outer.outbound()[0].1).await;
    let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    origin.next().await.reply(200, &[("x-padded", "1 ")], "x");
    let head = answer.await.unwrap();
    let reason = &head.headers()["couplet-error"];
    assert_eq!((head.status().as_u16(), reason), (502, &"malformed_response".parse().unwrap()));
}

#[tokio::test]
async fn a_dead_upstream_is_a_502_that_says_why() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = config("shop").to("stock", closed).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    let (head, body) = answer.await.unwrap().into_parts();
    assert_eq!((head.status.as_u16(), &head.headers["couplet-error"]), (502, &"connect".parse().unwrap()));
    assert!(String::from_utf8(read(body).await.unwrap().0).unwrap().contains("stock"));
}

#[tokio::test]
async fn stopping_says_goaway_and_lets_the_streams_in_flight_end() {
    let mut origin = origin().await;
    let mut config = config("shop");
    config.app = Some(origin.address);
    let proxy = config.start();
    let stream = TcpStream::connect(proxy.inbound().unwrap()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let closed = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    let mut asked = origin.next().await;
    let stopping = tokio::spawn(stop(proxy));
    // The connection takes no new stream from some moment on; the one in flight ends.
    while let Ok(ready) = client.clone().ready().await {
        let mut ready = ready;
        match ready.send_request(request("GET", "/more", &[]), true) {
            Ok((more, _)) => {
                let refused = tokio::select! {
                    more = more => more.is_err(),
                    mut asked = origin.next() => {
                        asked.reply(200, &[], "");
                        false
                    }
                };
                if refused {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    asked.reply(200, &[], "late");
    assert_eq!(read(answer.await.unwrap().into_body()).await.unwrap().0, b"late");
    drop(client);
    stopping.await.unwrap();
    let _ = closed.await.unwrap();
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test]
async fn a_preface_settings_or_header_block_that_drips_is_cut_in_time() {
    let shop = answers(200, "").await;
    let mut config = config("shop").app(&shop);
    config.timeouts.header = Duration::from_millis(200);
    let proxy = config.start();
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let block = b"\0\0\x05\x01\0\0\0\0\x01\x82\x86\x84";
    let beginnings: [Vec<u8>; 4] = [
        PREFACE[..1].to_vec(),
        PREFACE.to_vec(),
        [PREFACE, settings, &block[..4]].concat(),
        [PREFACE, settings, block].concat(),
    ];
    for beginning in beginnings {
        let started = tokio::time::Instant::now();
        let mut stream = TcpStream::connect(proxy.inbound().unwrap()).await.unwrap();
        stream.write_all(&beginning).await.unwrap();
        let mut answer = [0; 256];
        // Dripping goes on until the proxy has had enough.
        let mut drip = tokio::time::interval(Duration::from_millis(50));
        let mut rest = PREFACE[1..].iter().chain(settings).cycle();
        let cut = loop {
            tokio::select! {
                read = stream.read(&mut answer) => if read.unwrap_or(0) == 0 { break started.elapsed() },
                _ = drip.tick() => {
                    let dripped = if beginning.len() == 1 { *rest.next().unwrap() } else { 0 };
                    if beginning.len() != 24 + 9 + 12 || started.elapsed() < Duration::from_millis(100) {
                        let _ = stream.write_all(&[dripped]).await;
                    }
                }
            }
        };
        assert!(cut < Duration::from_secs(2), "cut after {cut:?} only: {beginning:?}");
    }
}

#[tokio::test]
async fn a_connection_without_streams_is_closed_when_it_was_idle_for_too_long() {
    let address = framed::answering(|_, mut asking| {
        asking.answer.send_response(framed::head(204, &[]), true).unwrap();
    })
    .await;
    let mut config = config("shop");
    config.app = Some(address);
    config.timeouts.header = Duration::from_millis(50);
    config.timeouts.idle = Duration::from_millis(200);
    let proxy = config.start();
    let stream = TcpStream::connect(proxy.inbound().unwrap()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let closed = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    assert_eq!(answer.await.unwrap().status().as_u16(), 204);
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("closed").unwrap().unwrap();
}

#[tokio::test]
async fn a_call_over_http2_is_linked_and_counted_like_any_other() {
    let analyzer = analyzer().await;
    let address = framed::answering(|_, mut asking| {
        asking.answer.send_response(framed::head(200, &[]), true).unwrap();
    })
    .await;
    let mut inner = config("stock").reports_to(&analyzer);
    inner.app = Some(address);
    let inner = inner.start();
    let outer = config("shop").to("stock", inner.inbound().unwrap()).reports_to(&analyzer).start();
    let mut client = connect(outer.outbound()[0].1).await;
    let (answer, _) = client.send_request(request("GET", "/items/17", &[]), true).unwrap();
    let head = answer.await.unwrap();
    assert!(!head.headers().contains_key("couplet-summary"));
    drop(client);
    stop(outer).await;
    stop(inner).await;
    let reports = analyzer.reports();
    let endpoints: Vec<_> =
        reports.iter().flat_map(|report| &report.paths).map(|path| path.path.endpoint.clone()).collect();
    assert!(endpoints.iter().any(|endpoint| endpoint == "GET /items/{id}"), "{endpoints:?}");
    let calls: u64 = reports.iter().flat_map(|report| &report.calls).map(|call| call.stats.outcomes.total()).sum();
    assert_eq!(calls, 1);
}
