//! What HTTP/1 applications say to one another, byte by byte: old clients, answers without bodies, trailers, events,
//! uploads that wait, tunnels.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::*;
use crate::wire::{Played, Wire};

/// The field lines of a head without those that the proxies add.
fn fields(head: &str) -> Vec<&str> {
    let lines = head.trim_end().split("\r\n").skip(1);
    lines.filter(|line| !line.starts_with("traceparent:") && !line.starts_with("tracestate:")).collect()
}

#[tokio::test]
async fn fields_keep_their_order_and_case() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("POST /x HTTP/1.1\r\nX-One: 1\r\nConnection: keep-alive\r\nHOST: stock\r\nx-TWO: 2\r\nTransfer-Encoding: chunked\r\nAccept: */*\r\nX-Last: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    let mut service = stock.meet().await;
    let head = service.head().await;
    let sent = ["X-One: 1", "HOST: stock", "x-TWO: 2", "Transfer-Encoding: chunked", "Accept: */*", "X-Last: 3"];
    assert_eq!(fields(&head), sent, "{head}");
    assert_eq!(service.hear("0\r\n\r\n").await, "5\r\nhello\r\n0\r\n\r\n");
    service.say("HTTP/1.1 200 OK\r\nX-B: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\nX-a: 2\r\nETag: \"x\"\r\n\r\nok").await;
    let answer = client.head().await;
    assert_eq!(fields(&answer), ["X-B: 1", "Content-Length: 2", "X-a: 2", "ETag: \"x\""], "{answer}");
    assert_eq!(client.hear("ok").await, "ok");
}

#[tokio::test]
async fn an_old_client_gets_an_answer_that_it_can_read() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("GET /old HTTP/1.0\r\n\r\n").await;
    let mut service = stock.meet().await;
    let head = service.head().await;
    assert!(head.starts_with("GET /old HTTP/1.1\r\n") && head.to_lowercase().contains("host: 127.0.0.1:"), "{head}");
    service.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nold"), "{answer}");
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
}

#[tokio::test]
async fn an_old_service_that_ends_its_answer_by_closing_is_understood() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    for _ in 0..2 {
        client.say("GET / HTTP/1.1\r\nhost: stock\r\n\r\n").await;
        let mut service = stock.meet().await;
        service.head().await;
        service.say("HTTP/1.0 200 OK\r\nserver: old\r\n\r\nuntil the end").await;
        drop(service);
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("transfer-encoding: chunked"), "{head}");
        assert_eq!(client.hear("\r\n0\r\n\r\n").await, "D\r\nuntil the end\r\n0\r\n\r\n");
    }
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    let mut service = None;
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nx: 1\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\netag: \"x\"\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\nContent-Length: 1000\r\n\r\n"),
        ("HEAD", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nx: 1\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-last: 1\r\n\r\n"),
    ] {
        client.say(&format!("{method} / HTTP/1.1\r\nhost: stock\r\n\r\n")).await;
        let mut wire = match service.take() {
            Some(wire) => wire,
            None => stock.meet().await,
        };
        wire.head().await;
        wire.say(answer).await;
        assert_eq!(client.head().await, answer);
        service = Some(wire);
    }
}

#[tokio::test]
async fn trailers_that_are_announced_pass_in_both_directions() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("POST / HTTP/1.1\r\nHost: stock\r\nTE: trailers\r\nConnection: TE\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\nx-sum: 1\r\n\r\n").await;
    let mut service = stock.meet().await;
    let head = service.head().await;
    assert!(head.contains("TE: trailers\r\n") && head.contains("Trailer: x-sum\r\n"), "{head}");
    assert_eq!(service.head().await, "3\r\none\r\n0\r\nx-sum: 1\r\n\r\n");
    service
        .say("HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\nx-sum: 2\r\n\r\n")
        .await;
    assert!(client.head().await.contains("Trailer: x-sum\r\n"));
    assert_eq!(client.head().await, "3\r\ntwo\r\n0\r\nx-sum: 2\r\n\r\n");
}

#[tokio::test]
async fn trailers_that_nobody_announced_or_asked_for_pass_in_both_directions() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    let trailers = "0\r\nx-sum: 1\r\nx-sum: 2\r\ngrpc-status: 0\r\n\r\n";
    let mut service = None;
    for _ in 0..2 {
        client.say("POST / HTTP/1.1\r\nHost: stock\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await;
        client.say(trailers).await;
        let service = match &mut service {
            Some(service) => service,
            none => none.insert(stock.meet().await),
        };
        assert!(!service.head().await.contains("Trailer"));
        assert_eq!(service.hear(trailers).await, format!("3\r\none\r\n{trailers}"));
        service.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n").await;
        service.say(trailers).await;
        client.head().await;
        assert_eq!(client.hear(trailers).await, format!("3\r\ntwo\r\n{trailers}"));
    }
}

#[tokio::test]
async fn an_old_client_gets_no_trailers() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("GET / HTTP/1.0\r\nHost: stock\r\n\r\n").await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\nx-sum: 1\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.rest().await, "0\r\n\r\n");
}

#[tokio::test]
async fn every_event_of_a_stream_arrives_when_it_is_sent() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("GET /events HTTP/1.1\r\nHost: stock\r\nAccept: text/event-stream\r\n\r\n").await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        service.say(&format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(client.hear("\n\n\r\n").await, format!("{:X}\r\n{event}\r\n", event.len()));
    }
}

const UPLOAD: &str = "PUT /big HTTP/1.1\r\nHost: stock\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[tokio::test]
async fn an_upload_is_asked_for_when_the_service_asks_for_it() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    for _ in 0..2 {
        client.say(UPLOAD).await;
        let mut service = stock.meet().await;
        assert!(service.head().await.contains("Expect: 100-continue"));
        service.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.say("data").await;
        assert_eq!(service.hear("data").await, "data");
        service.say("HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 201 Created\r\n"));
    }
}

#[tokio::test]
async fn an_upload_that_the_service_refuses_is_never_asked_for() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    for refusal in ["Content-Length: 2\r\n\r\nno", "Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"] {
        let mut client = Wire::to(outer.outbound()[0].1).await;
        client.say(UPLOAD).await;
        let mut service = stock.meet().await;
        service.head().await;
        service.say(&format!("HTTP/1.1 413 Content Too Large\r\n{refusal}")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 413 ") && head.contains("connection: close"), "{head}");
        assert!(client.rest().await.contains("no"), "and the connection closes: a body was announced on it");
        assert_eq!(service.rest().await, "", "nothing of a body, and no end that would make one");
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_without_a_body_is_never_asked_for() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say(&UPLOAD.replace("Content-Length: 4", "Transfer-Encoding: chunked")).await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 417 ") && head.contains("connection: close"), "{head}");
    assert_eq!((client.rest().await.as_str(), service.rest().await.as_str()), ("", ""));
}

#[tokio::test]
async fn a_service_that_asks_for_no_upload_gets_it_all_the_same() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say(UPLOAD).await;
    let mut service = stock.meet().await;
    service.head().await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.say("data").await;
    assert_eq!(service.hear("data").await, "data");
    service.say("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 201 Created\r\n"));
}

#[tokio::test]
async fn a_service_may_answer_before_it_takes_an_upload() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say(UPLOAD).await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    client.say("data").await;
    assert_eq!(service.hear("data").await, "data");
    service.say("data").await;
    assert_eq!(client.hear("data").await, "data");
}

#[tokio::test]
async fn an_upload_for_which_there_is_no_service_is_never_asked_for() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = config("shop").to("stock", closed).start();
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say(UPLOAD).await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn an_absolute_target_reaches_the_application_as_path_and_host() {
    let stock = Played::new().await;
    let mut config = config("stock");
    config.app = Some(stock.address());
    let proxy = config.start();
    let mut client = Wire::to(proxy.inbound().unwrap()).await;
    client.say("GET http://stock:8080/items?x=1 HTTP/1.1\r\nHost: stock:8080\r\n\r\n").await;
    let head = stock.meet().await.head().await;
    assert!(head.starts_with("GET /items?x=1 HTTP/1.1\r\nHost: stock:8080\r\n"), "{head}");
}

#[tokio::test]
async fn an_upgrade_to_http2_is_answered_as_http1() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nHost: stock\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n").await;
    let mut service = stock.meet().await;
    assert_eq!(fields(&service.head().await), ["Host: stock"]);
    service.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_websocket_passes_two_sidecars() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("GET /ws HTTP/1.1\r\nHost: stock\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhl\r\n\r\n").await;
    let mut service = stock.meet().await;
    let head = service.head().await;
    let sent = ["Host: stock", "Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Key: dGhl"];
    assert_eq!(fields(&head), sent, "{head}");
    service.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello").await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.hear("hello").await, "hello");
    client.say("\u{1}frame").await;
    assert_eq!(service.hear("frame").await, "\u{1}frame");
    drop(client);
    assert_eq!(service.rest().await, "");
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_a_502() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nHost: stock\r\n\r\n").await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n").await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn connect_tunnels_through_one_sidecar_into_another() {
    let stock = Played::new().await;
    let (outer, inner) = stock.behind_two();
    let to = inner.inbound().unwrap();
    let mut client = Wire::to(outer.explicit().unwrap()).await;
    client.say(&format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.say("GET /within HTTP/1.1\r\nHost: stock\r\n\r\n").await;
    let mut service = stock.meet().await;
    assert!(service.head().await.starts_with("GET /within HTTP/1.1\r\n"));
    service.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn large_bodies_pass_without_being_held() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let client = Wire::to(outer.outbound()[0].1).await;
    let size = 64usize << 20;
    let (mut reading, mut writing) = client.0.into_split();
    let before = resident();
    let sending = tokio::spawn(async move {
        let head = format!("POST /echo HTTP/1.1\r\nHost: stock\r\nContent-Length: {size}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        for block in 0..size / BLOCK {
            writing.write_all(&pattern(block)).await.unwrap();
        }
        writing
    });
    let mut service = stock.meet().await;
    service.head().await;
    service.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")).await;
    tokio::spawn(async move {
        let (mut reading, mut writing) = service.0.into_split();
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
    });
    while reading.read_u8().await.unwrap() != b'\n' || reading.read_u8().await.unwrap() != b'\r' {}
    assert_eq!(reading.read_u8().await.unwrap(), b'\n');
    let mut grown = 0;
    let mut block = vec![0; BLOCK];
    for n in 0..size / BLOCK {
        reading.read_exact(&mut block).await.unwrap();
        assert!(block == pattern(n), "block {n} came back with other bytes");
        grown = grown.max(growth(before).unwrap_or(0));
    }
    drop(sending.await.unwrap());
    assert!(grown < 24 << 20, "grew by {grown} bytes while {size} bytes passed");
}

const BLOCK: usize = 64 * 1024;

fn pattern(block: usize) -> Vec<u8> {
    (0..BLOCK).map(|n| (n.wrapping_mul(31) ^ block.wrapping_mul(131)) as u8).collect()
}
