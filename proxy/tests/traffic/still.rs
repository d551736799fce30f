//! Exchanges in which nothing moves any more: each ends in time, and is counted.

use std::time::Duration;

use couplet_proxy::Running;

use crate::framed;
use crate::harness::*;
use crate::wire::{Played, Wire};

/// How long a proxy bears with stillness here: longer than a busy machine keeps a test waiting between two steps.
const STILL: Duration = Duration::from_secs(1);

/// A proxy before `stock`.
fn proxy(stock: &Played) -> Running {
    let mut config = config("shop").to("stock", stock.address());
    config.explicit = Some(free());
    config.admin = Some(free());
    config.timeouts.stream_idle = Some(STILL);
    config.start()
}

/// How many exchanges ended for their stillness.
async fn timed_out(proxy: &Running) -> u64 {
    metric(proxy, "couplet_streams_timed_out_total").await
}

#[tokio::test]
async fn a_body_of_which_the_rest_never_comes_is_not_waited_for() {
    let stock = Played::new().await;
    let proxy = proxy(&stock);
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("PUT / HTTP/1.1\r\nHost: stock\r\nContent-Length: 10\r\n\r\nhalf").await;
    let mut service = stock.meet().await;
    service.head().await;
    assert_eq!(service.hear("half").await, "half");
    assert_eq!(client.rest().await, "");
    assert_eq!(service.rest().await, "", "the service sees that it is cut");
    assert_eq!(timed_out(&proxy).await, 1);
}

#[tokio::test]
async fn an_answer_of_which_the_rest_never_comes_is_cut() {
    let stock = Played::new().await;
    let proxy = proxy(&stock);
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nHost: stock\r\n\r\n").await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert!(client.rest().await.ends_with("\r\n\r\nhalf"));
    assert_eq!(timed_out(&proxy).await, 1);
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_its_service_for_ever() {
    let stock = Played::new().await;
    let proxy = proxy(&stock);
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("GET / HTTP/1.1\r\nHost: stock\r\n\r\n").await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut sent = 0;
    while tokio::io::AsyncWriteExt::write_all(&mut service.0, chunk.as_bytes()).await.is_ok() {
        sent += 1;
        assert!(sent < 10_000, "somebody reads all of this");
    }
    assert_eq!(timed_out(&proxy).await, 1);
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_passes_is_closed() {
    let stock = Played::new().await;
    let proxy = proxy(&stock);
    let mut client = Wire::to(proxy.explicit().unwrap()).await;
    let to = stock.address();
    client.say(&format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    let mut service = stock.meet().await;
    client.say("ping").await;
    assert_eq!(service.hear("ping").await, "ping");
    assert_eq!((client.rest().await.as_str(), service.rest().await.as_str()), ("", ""));
    assert_eq!(timed_out(&proxy).await, 1);
}

#[tokio::test]
async fn a_websocket_in_which_nothing_passes_is_closed() {
    let stock = Played::new().await;
    let proxy = proxy(&stock);
    let mut client = Wire::to(proxy.outbound()[0].1).await;
    client.say("GET /ws HTTP/1.1\r\nHost: stock\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
    let mut service = stock.meet().await;
    service.head().await;
    service.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello").await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.hear("hello").await, "hello");
    assert_eq!((client.rest().await.as_str(), service.rest().await.as_str()), ("", ""));
    assert_eq!(timed_out(&proxy).await, 1);
}

#[tokio::test]
async fn a_stream_of_http2_in_which_nothing_moves_is_reset_and_others_go_on() {
    let mut stock = framed::origin().await;
    let mut config = config("shop").to("stock", stock.address);
    config.admin = Some(free());
    config.timeouts.stream_idle = Some(STILL);
    let proxy = config.start();
    let mut client = framed::connect(proxy.outbound()[0].1).await;
    let (still, _up) = client.send_request(framed::request("POST", "/still", &[]), false).unwrap();
    let mut unanswered = stock.next().await;
    let (moving, _) = client.send_request(framed::request("GET", "/moving", &[]), true).unwrap();
    let mut answering = stock.next().await.begin(200, &[]);
    let mut moving = moving.await.unwrap().into_body();
    // The other one goes on for longer than either could be still.
    let ended = tokio::spawn(still);
    while !ended.is_finished() {
        answering.send_data("x".into(), false).unwrap();
        assert_eq!(moving.data().await.unwrap().unwrap(), "x");
        moving.flow_control().release_capacity(1).unwrap();
    }
    let error = ended.await.unwrap().unwrap_err();
    assert_eq!((error.reason(), error.is_remote()), (Some(h2::Reason::CANCEL), true));
    let error = unanswered.body.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "the service hears of it");
    assert_eq!(timed_out(&proxy).await, 1);
    answering.send_data("".into(), true).unwrap();
    assert!(moving.data().await.is_none_or(|data| data.unwrap().is_empty()));
}
