//! Clients that send slowly: each is let go by its deadline, drip as it may, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

use crate::harness::{HEAD, proxy, proxy_with, recorder, send};

/// Clients of each kind at once.
const EACH: usize = 20;
/// Between two bytes of a client that drips; far less than a head may take.
const DRIP: Duration = Duration::from_millis(40);
/// How long a head may take where that is what a test is about.
const LONG: Duration = Duration::from_secs(2);
/// What is asked at once, and of what a byte comes with each drip from then on.
const KINDS: [(&str, &[u8], &[u8]); 8] = [
    ("silent", b"", b""),
    (
        "head, dripped",
        b"",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    ("head, half of it", b"GET / HTTP/1.1\r\nHos", b""),
    ("preface, dripped", b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (
        "second head, dripped",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    ("second head, half of it", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT", b""),
    (
        "after an upgrade that was not taken up",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET / HT",
        b"",
    ),
    ("refused, and does not go away", b"GET / HTTP/1.1\r\n\r\n", b""),
];

/// How long the proxy let the client be.
async fn held(to: SocketAddr, at_once: &[u8], drip: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let began = Instant::now();
    stream.write_all(at_once).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut ticks = interval(DRIP);
    let (mut rest, mut piece) = (drip, [0; 1024]);
    // The answer itself is no end: a client that does not go away holds its side open.
    loop {
        tokio::select! {
            got = read.read(&mut piece) => match got {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            },
            _ = ticks.tick(), if !rest.is_empty() => {
                if write.write_all(&rest[..1]).await.is_err() {
                    break;
                }
                rest = &rest[1..];
            }
        }
    }
    began.elapsed()
}

#[tokio::test]
async fn slow_clients_are_let_go_by_their_deadline_and_nobody_else_notices() {
    let (origin, _record) = recorder().await;
    let proxy = proxy(origin);
    let to = proxy.outbound()[0].1;
    let clients = KINDS.iter().flat_map(|kind| std::iter::repeat_n(*kind, EACH));
    let clients: Vec<_> = clients
        .map(|(name, at_once, drip)| {
            tokio::spawn(async move { (name, timeout(HEAD * 10, held(to, at_once, drip)).await.unwrap_or(HEAD * 10)) })
        })
        .collect();
    let bystander = tokio::spawn(async move {
        let (mut failures, mut slowest) = (0, Duration::ZERO);
        for _ in 0..100 {
            let began = Instant::now();
            let got = send(to, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", |got| got.ends_with(b"ok")).await;
            failures += usize::from(!got.bytes.starts_with(b"HTTP/1.1 200 "));
            slowest = slowest.max(began.elapsed());
        }
        (failures, slowest)
    });
    let mut longest = std::collections::BTreeMap::new();
    for client in clients {
        let (name, held) = client.await.unwrap();
        let longest = longest.entry(name).or_insert(held);
        *longest = held.max(*longest);
    }
    let (failures, slowest) = bystander.await.unwrap();
    for (name, held) in &longest {
        eprintln!("R9: {EACH} clients, {name}: the last one let go after {held:?}; heads may take {HEAD:?}");
    }
    eprintln!("R9: bystander: {failures} failures of 100, slowest {slowest:?}");
    // A connection that was served before is looked at once in that time, so its head may take up to twice as long.
    // A client that can go on by dripping goes on for ever; ten limits leave room for a machine that is busy.
    assert!(longest.values().all(|held| *held < HEAD * 10), "{longest:?}");
    assert_eq!(failures, 0);
}

#[tokio::test]
async fn the_time_for_a_head_begins_with_the_connection_and_not_once_it_is_known_to_be_http() {
    let (origin, _record) = recorder().await;
    let proxy = proxy_with(origin, LONG);
    let to = proxy.outbound()[0].1;
    // What it speaks is seen just before its time is over; then nothing more comes.
    let late = tokio::spawn(async move {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let began = Instant::now();
        stream.write_all(b"G").await.unwrap();
        let mut piece = [0; 64];
        if timeout(LONG * 9 / 10, stream.read(&mut piece)).await.is_err() {
            stream.write_all(b"ET / HTTP/1.1\r\n").await.unwrap();
            while !matches!(stream.read(&mut piece).await, Ok(0) | Err(_)) {}
        }
        began.elapsed()
    });
    // Both suffer alike where the machine is busy.
    let (silent, late) = (held(to, b"", b"").await, late.await.unwrap());
    assert!(late < silent + LONG / 2, "{late:?}, and one who says nothing {silent:?}");
}
