//! The explicit proxy: destinations that the application names in its requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

fn explicit(config: couplet_config::ProxyConfig) -> couplet_config::ProxyConfig {
    couplet_config::ProxyConfig { explicit: Some(free()), ..config }
}

#[tokio::test]
async fn an_absolute_target_reaches_a_configured_name_and_any_other_address() {
    let (stock, other) = (answers(200, "stock").await, answers(200, "other").await);
    let proxy = explicit(config("shop").to("stock", stock.address)).start();
    let mut client = client(proxy.explicit().unwrap()).await;
    assert_eq!(client.get("http://stock/items?x=1").await.text, "stock");
    assert_eq!(client.get(&format!("http://{}/", other.address)).await.text, "other");
    let seen = stock.seen();
    assert_eq!(
        (seen[0].uri().to_string(), &seen[0].headers()["host"]),
        ("/items?x=1".to_owned(), &"stock".parse().unwrap())
    );
}

#[tokio::test]
async fn connect_opens_a_tunnel() {
    let stock = answers(200, "through").await;
    let proxy = explicit(config("shop")).start();
    let mut stream = TcpStream::connect(proxy.explicit().unwrap()).await.unwrap();
    let connect = format!("CONNECT {0} HTTP/1.1\r\nhost: {0}\r\n\r\n", stock.address);
    stream.write_all(connect.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"GET / HTTP/1.1\r\nhost: stock\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("through"), "{answer}");
}

#[tokio::test]
async fn a_request_that_would_come_back_is_refused() {
    let mut config = explicit(config("shop"));
    config.admin = Some(free());
    let proxy = config.start();
    let mut client = client(proxy.explicit().unwrap()).await;
    for own in [proxy.explicit().unwrap(), proxy.admin().unwrap()] {
        let answer = client.get(&format!("http://{own}/metrics")).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["couplet-error"]), (508, &"loop".parse().unwrap()));
    }
}

#[tokio::test]
async fn a_target_that_names_no_destination_is_a_400() {
    let proxy = explicit(config("shop")).start();
    for (target, reason) in [("https://stock/", "bad_request"), ("http://user@stock/", "malformed")] {
        let answer = client(proxy.explicit().unwrap()).await.get(target).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["couplet-error"]),
            (400, &reason.parse().unwrap()),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_a_502_that_names_it() {
    let proxy = explicit(config("shop")).start();
    let answer = client(proxy.explicit().unwrap()).await.get("http://no-such-host.invalid/").await;
    assert_eq!((answer.status.as_u16(), &answer.headers["couplet-error"]), (502, &"unresolved".parse().unwrap()));
    assert!(answer.text.contains("no-such-host.invalid"), "{}", answer.text);
}

#[tokio::test]
async fn a_service_that_is_announced_while_it_is_called_is_found() {
    let stock = answers(200, "stock").await;
    let (asked, to) = (AtomicUsize::new(0), stock.address);
    // Known from the fourth question on: later than the proxy begins, and than the request asks by itself.
    let analyzer = service(move |request| {
        let registry = request.uri().path() == "/api/v1/registry";
        let known = registry && asked.fetch_add(1, Ordering::SeqCst) >= 3;
        let services = if known { format!(r#"{{"service":"stock","inbound":["{to}"]}}"#) } else { String::new() };
        async move { http::Response::new(Body::from(format!(r#"{{"services":[{services}]}}"#))) }
    })
    .await;
    let mut config = explicit(config("shop"));
    let url = format!("http://{}", analyzer.address).parse().unwrap();
    config.analyzer = Some(couplet_config::AnalyzerLink::new(url));
    config.resolve = true;
    // Nobody answers there.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    config.dns.servers = vec![closed];
    let proxy = config.start();
    assert_eq!(client(proxy.explicit().unwrap()).await.get("http://stock/").await.text, "stock");
}

/// A client that speaks HTTP/2 by prior knowledge.
async fn http2(address: std::net::SocketAddr) -> hyper::client::conn::http2::SendRequest<Body> {
    let stream = hyper_util::rt::TokioIo::new(TcpStream::connect(address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_grpc_client_is_refused_in_words_that_it_understands() {
    let proxy = explicit(config("shop")).start();
    let mut client = http2(proxy.explicit().unwrap()).await;
    for (target, status) in [("http://127.0.0.1:1/stock.Stock/Pay", "14"), ("https://stock/stock.Stock/Pay", "13")] {
        let request = http::Request::post(target).header("content-type", "application/grpc");
        let answer = client.send_request(request.body(Body::default()).unwrap()).await.unwrap();
        let headers = answer.headers();
        assert_eq!((answer.status().as_u16(), &headers["grpc-status"]), (200, &status.parse().unwrap()), "{target}");
    }
}

#[tokio::test]
async fn a_connect_over_http2_is_refused_and_other_requests_are_served() {
    let stock = crate::wire::Played::new().await;
    let proxy = explicit(config("shop").to("stock", stock.address())).start();
    let mut client = http2(proxy.explicit().unwrap()).await;
    let connect = http::Request::connect("stock:80").body(Body::default()).unwrap();
    let answer = client.send_request(connect).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["couplet-error"]), (400, &"bad_request".parse().unwrap()));
    let asked = tokio::spawn(async move {
        client.send_request(http::Request::get("http://stock/").body(Body::default()).unwrap()).await
    });
    // What came as HTTP/2 goes on as HTTP/2.
    assert!(stock.meet().await.hear("SM\r\n\r\n").await.starts_with("PRI * HTTP/2.0"));
    asked.abort();
}

#[tokio::test]
async fn an_absolute_target_counts_whatever_host_says() {
    let stock = answers(200, "stock").await;
    let proxy = explicit(config("shop").to("stock", stock.address)).start();
    let mut stream = TcpStream::connect(proxy.explicit().unwrap()).await.unwrap();
    let request = "GET http://stock:80/x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("stock"), "{answer}");
    assert_eq!(stock.seen()[0].headers()["host"], "stock:80");
}
