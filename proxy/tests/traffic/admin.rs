//! The admin listener bears clients that open many connections, and those that say nothing on them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;
use crate::secured::reached;

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_counted_and_make_room_when_they_end() {
    let mut config = config("shop");
    (config.admin, config.limits.admin_connections) = (Some(free()), 3);
    let proxy = config.start();
    let address = proxy.admin().unwrap();
    let mut watching = client(address).await;
    assert_eq!(watching.get("/livez").await.text, "ok\n");
    let silent = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    let mut beyond = TcpStream::connect(address).await.unwrap();
    assert_eq!(beyond.read(&mut [0]).await.unwrap_or(0), 0);
    let page = watching.get("/metrics").await.text;
    for line in ["couplet_admin_refused_total 1", "couplet_admin_connections 3"] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    drop(silent);
    while !watching.get("/metrics").await.text.contains("couplet_admin_connections 1\n") {}
    assert_eq!(client(address).await.get("/livez").await.text, "ok\n");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let mut config = config("shop");
    (config.admin, config.timeouts.header) = (Some(free()), Duration::from_millis(200));
    let proxy = config.start();
    let mut slow = TcpStream::connect(proxy.admin().unwrap()).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let mut silent = TcpStream::connect(proxy.admin().unwrap()).await.unwrap();
    for stream in [&mut slow, &mut silent] {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert!(!String::from_utf8_lossy(&said).contains("200 OK"));
    }
    reached(&proxy, "couplet_admin_connections", 1).await;
}

#[tokio::test]
async fn what_is_changed_over_it_is_changed_from_this_host_alone() {
    let mut config = config("shop");
    config.admin = Some(free());
    let mut proxy = config.start();
    let mut client = client(proxy.admin().unwrap()).await;
    let post = http::Request::builder().method("POST").uri("/shutdown").header("host", "a");
    let (answer, ask) = tokio::join!(client.ask(post.body(Body::default()).unwrap()), proxy.asked());
    assert_eq!(answer.status.as_u16(), 202, "it knows where a client comes from");
    assert!(matches!(ask, couplet_proxy::Ask::ShutDown));
}
