//! Interim answers (1xx), and uploads that go on behind their answer.

use bytes::Bytes;
use h2::Reason;
use h2::client::ResponseFuture;
use http::Response;

use crate::framed::{self, connect, headers, origin, read, request};
use crate::harness::*;
use crate::wire::{Played, Wire};

/// The next interim answer.
async fn interim(answer: &mut ResponseFuture) -> Option<Response<()>> {
    std::future::poll_fn(|cx| answer.poll_informational(cx)).await.transpose().unwrap()
}

#[tokio::test]
async fn a_client_is_asked_for_its_body_once_the_service_asks_and_hears_early_hints() {
    let mut origin = origin().await;
    let mut inner = config("stock");
    inner.app = Some(origin.address);
    let inner = inner.start();
    let outer = config("shop").to("stock", inner.inbound().unwrap()).start();
    let mut client = connect(outer.outbound()[0].1).await;
    let expects = [("expect", "100-continue")];
    let (mut answer, mut up) = client.send_request(request("PUT", "/big", &expects), false).unwrap();
    let mut asked = origin.next().await;
    assert_eq!(asked.head.headers["expect"], "100-continue");
    asked.answer.send_informational(framed::head(100, &[])).unwrap();
    assert_eq!(interim(&mut answer).await.unwrap().status().as_u16(), 100);
    up.send_data("body".into(), true).unwrap();
    assert_eq!(read(asked.body).await.unwrap().0, b"body");

    let hints = [("link", "</a.css>; rel=preload"), ("couplet-summary", "not for you"), ("x-early", "1")];
    asked.answer.send_informational(framed::head(103, &hints)).unwrap();
    asked.answer.send_informational(framed::head(103, &[("x-early", "2")])).unwrap();
    let first = interim(&mut answer).await.unwrap();
    let passed = headers(&[("link", "</a.css>; rel=preload"), ("x-early", "1")]);
    assert_eq!((first.status().as_u16(), first.headers()), (103, &passed));
    assert_eq!(interim(&mut answer).await.unwrap().headers()["x-early"], "2");
    asked.answer.send_response(framed::head(201, &[("x-late", "1")]), true).unwrap();
    assert!(interim(&mut answer).await.is_none());
    let answer = answer.await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()), (201, &headers(&[("x-late", "1")])));
}

#[tokio::test]
async fn interim_answers_that_come_with_the_final_one_arrive_before_it() {
    let mut origin = origin().await;
    let proxy = config("shop").to("stock", origin.address).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let (mut answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    let mut asked = origin.next().await;
    for n in ["1", "2", "3", "4", "5"] {
        asked.answer.send_informational(framed::head(103, &[("x-n", n)])).unwrap();
    }
    asked.reply(200, &[], "done");
    for n in ["1", "2", "3", "4", "5"] {
        assert_eq!(interim(&mut answer).await.unwrap().headers()["x-n"], n);
    }
    assert_eq!(read(answer.await.unwrap().into_body()).await.unwrap().0, b"done");
}

#[tokio::test]
async fn an_interim_answer_that_switches_protocols_or_has_content_is_malformed() {
    let mut origin = origin().await;
    let proxy = config("shop").to("stock", origin.address).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    for malformed in [framed::head(101, &[]), framed::head(103, &[("content-length", "5")])] {
        let (mut answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
        let mut asked = origin.next().await;
        asked.answer.send_informational(malformed).unwrap();
        assert!(interim(&mut answer).await.is_none());
        let answer = answer.await.unwrap();
        assert_eq!(answer.status().as_u16(), 502);
        assert_eq!(answer.headers()["couplet-error"], "malformed_response");
        let reset = std::future::poll_fn(|cx| asked.answer.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, Reason::CANCEL, "nobody waits for the rest");
    }
}

#[tokio::test]
async fn an_upload_goes_on_behind_its_answer() {
    let mut origin = origin().await;
    let proxy = config("shop").to("stock", origin.address).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let (answer, mut up) = client.send_request(request("POST", "/", &[]), false).unwrap();
    let mut asked = origin.next().await;
    asked.reply(200, &[], "early");
    assert_eq!(read(answer.await.unwrap().into_body()).await.unwrap().0, b"early");
    for piece in ["one", "two", "three"] {
        up.send_data(Bytes::from(piece), false).unwrap();
        assert_eq!(asked.body.data().await.unwrap().unwrap(), piece);
    }
    up.send_trailers(headers(&[("x-sum", "3")])).unwrap();
    assert_eq!(read(asked.body).await.unwrap(), (Vec::new(), Some(headers(&[("x-sum", "3")]))));
}

#[tokio::test]
async fn a_service_that_wants_no_more_of_an_upload_is_heard_by_its_client() {
    let mut origin = origin().await;
    let proxy = config("shop").to("stock", origin.address).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let (answer, mut up) = client.send_request(request("POST", "/", &[]), false).unwrap();
    let mut asked = origin.next().await;
    asked.reply(413, &[], "too much");
    let answer = answer.await.unwrap();
    assert_eq!(answer.status().as_u16(), 413);
    assert_eq!(read(answer.into_body()).await.unwrap().0, b"too much");
    // RFC 9113, section 8.1: the answer is whole, and the rest of the request is of no use.
    drop(asked);
    let reset = std::future::poll_fn(|cx| up.poll_reset(cx)).await.unwrap();
    assert_eq!(reset, Reason::NO_ERROR);
}

#[tokio::test]
async fn over_http1_interim_answers_pass_before_the_answer_and_belong_to_no_other() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nHost: stock\r\n\r\n").await;
    let mut service = stock.meet().await;
    service.head().await;
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\n";
    service.say(&format!("{hint}couplet-summary: not for you\r\n\r\n")).await;
    // While the answer is awaited.
    assert_eq!(client.head().await, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    service.say(&format!("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nx-n: 2\r\n\r\n{answer}")).await;
    assert_eq!(client.head().await, "HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(client.head().await, "HTTP/1.1 103 Early Hints\r\nx-n: 2\r\n\r\n");
    assert!(client.hear("ok").await.starts_with("HTTP/1.1 200 OK\r\n"));

    // The next one on the connection, an upload whose client waits to be asked for it.
    client.say("PUT / HTTP/1.1\r\nHost: stock\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    service.head().await;
    service.say("HTTP/1.1 103 Early Hints\r\nx-n: 3\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 103 Early Hints\r\nx-n: 3\r\n\r\n");
    service.say("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.say("body").await;
    service.hear("body").await;
    service.say(answer).await;
    assert!(client.hear("ok").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn of_requests_that_were_sent_at_once_each_gets_its_own_interim_answers() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say(&"GET / HTTP/1.1\r\nHost: stock\r\n\r\n".repeat(3)).await;
    let mut service = stock.meet().await;
    for n in ["1", "2", "3"] {
        service.head().await;
        service.say(&format!("HTTP/1.1 103 Early Hints\r\nx-n: {n}\r\n\r\n")).await;
        service.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}")).await;
    }
    for n in ["1", "2", "3"] {
        assert_eq!(client.head().await, format!("HTTP/1.1 103 Early Hints\r\nx-n: {n}\r\n\r\n"));
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(client.hear(n).await, n);
    }
}

#[tokio::test]
async fn clients_of_http_1_0_get_no_interim_answers() {
    let stock = Played::new().await;
    let (outer, _inner) = stock.behind_two();
    let mut client = Wire::to(outer.outbound()[0].1).await;
    client.say("GET / HTTP/1.0\r\nHost: stock\r\n\r\n").await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && !answer.contains("103"), "{answer}");
}
