//! The explicit proxy: destinations that the application names in its requests.

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
