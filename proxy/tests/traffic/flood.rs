//! Clients that attack over HTTP/2, frame by frame. The proxy cuts and counts each flood (after how many frames is
//! tested beside the budgets themselves), serves in bounded memory what is none, and fails nobody who asks meanwhile.

#![expect(clippy::print_stdout, reason = "the figures of an attack are what the test is for")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::framed;
use crate::harness::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// `GET / HTTP/2` of `http://a`, as one header block.
const GET: &[u8] = b"\x82\x86\x84\x01\x01a";
/// The same as `POST`.
const POST: &[u8] = b"\x83\x86\x84\x01\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The n-th stream of a client.
fn nth(n: u32) -> u32 {
    2 * n + 1
}

/// A client that only writes frames; what comes back is read and counted, as far as `reads` says.
struct Attacker {
    writing: OwnedWriteHalf,
    ended: tokio::task::JoinHandle<bool>,
}

impl Attacker {
    async fn on(address: SocketAddr, settings: &[u8], reads: bool) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reading, mut writing) = stream.into_split();
        writing.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
        Self { writing, ended: tokio::spawn(drain(reading, reads)) }
    }

    /// Sends units until the proxy has had enough; how many were sent, and whether it did.
    async fn flood(mut self, units: u32, unit: impl Fn(u32) -> Vec<u8>) -> (u32, bool) {
        for n in 0..units {
            if self.ended.is_finished() || self.writing.write_all(&unit(n)).await.is_err() {
                return (n, true);
            }
            // A proxy that shares the processor gets its turn, and its answer a chance to be seen.
            if n % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let _ = self.writing.flush().await;
        let cut = tokio::time::timeout(Duration::from_millis(300), &mut self.ended).await;
        (units, matches!(cut, Ok(Ok(true))))
    }
}

/// Reads to the end; true where there is one, or a GOAWAY that names an error.
async fn drain(mut reading: OwnedReadHalf, reads: bool) -> bool {
    if !reads {
        std::future::pending::<()>().await;
    }
    let mut head = [0; 9];
    loop {
        if reading.read_exact(&mut head).await.is_err() {
            return true;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if reading.read_exact(&mut payload).await.is_err() {
            return true;
        }
        if head[3] == 7 && payload.get(4..8) != Some(&[0; 4]) {
            return true;
        }
    }
}

/// A proxy in front of a service that answers everything, with a bystander who keeps asking until told to stop.
struct Scene {
    proxy: couplet_proxy::Running,
    bystander: tokio::task::JoinHandle<(u64, u64)>,
    enough: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

async fn scene() -> Scene {
    let address = framed::answering(|_, mut asking| {
        tokio::spawn(async move {
            let Ok(mut body) = asking.answer.send_response(framed::head(200, &[]), false) else { return };
            while let Some(Ok(data)) = asking.body.data().await {
                let _ = asking.body.flow_control().release_capacity(data.len());
            }
            let _ = body.send_data(Bytes::from_static(b"ok"), true);
        });
    })
    .await;
    let mut config = config("shop");
    config.app = Some(address);
    config.admin = Some(free());
    let proxy = config.start();
    let enough: std::sync::Arc<std::sync::atomic::AtomicBool> = std::sync::Arc::default();
    let (stop, to) = (std::sync::Arc::clone(&enough), proxy.inbound().unwrap());
    let bystander = tokio::spawn(async move {
        let client = framed::connect(to).await;
        let (mut served, mut failed) = (0, 0);
        while !stop.load(std::sync::atomic::Ordering::SeqCst) || served == 0 {
            let mut ready = client.clone().ready().await.unwrap();
            let (answer, _) = ready.send_request(framed::request("GET", "/", &[]), true).unwrap();
            let answer = match answer.await {
                Ok(answer) if answer.status() == 200 => framed::read(answer.into_body()).await.ok(),
                _ => None,
            };
            if answer.is_some() { served += 1 } else { failed += 1 }
        }
        (served, failed)
    });
    Scene { proxy, bystander, enough }
}

impl Scene {
    fn to(&self) -> SocketAddr {
        self.proxy.inbound().unwrap()
    }

    /// No request of the bystander failed; and how many floods of these kinds the proxy counts.
    async fn end(self, kinds: &[&str]) -> f64 {
        self.enough.store(true, std::sync::atomic::Ordering::SeqCst);
        let (served, failed) = self.bystander.await.unwrap();
        assert_eq!(failed, 0, "of {} requests of a bystander", served + failed);
        let kinds: std::collections::BTreeSet<_> = kinds.iter().collect();
        // The attacker may hear of the end before the connection has ended.
        for _ in 0..100 {
            let page = metrics(&self.proxy).await;
            let of = |kind: &&str| {
                let name = format!("couplet_http2_floods_total{{kind=\"{kind}\"}} ");
                page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0.0)
            };
            let counted: f64 = kinds.iter().copied().map(of).sum();
            if counted > 0.0 || kinds.is_empty() {
                return counted;
            }
        }
        0.0
    }
}

/// Floods that must be cut, and under which name they are counted: that of the flood, or that of the library, which
/// counts some of them as well and may be the first to have enough.
async fn is_cut(kind: &str, unit: impl Fn(u32) -> Vec<u8>) {
    let scene = scene().await;
    // Units that were on their way already when the proxy cut the connection are not held against it.
    let (sent, cut) = Attacker::on(scene.to(), &[], true).await.flood(20_000, unit).await;
    assert!(cut, "{kind}: {sent} units and no end");
    let counted = scene.end(&[kind, "calm"]).await;
    println!("R8 {kind}: cut, counted {counted}");
    assert_eq!(counted, 1.0, "{kind}");
}

/// What is no flood by number, but must not cost memory or anybody else's service.
async fn is_borne(name: &str, settings: &[u8], reads: bool, units: u32, unit: impl Fn(u32) -> Vec<u8>) -> bool {
    let scene = scene().await;
    let before = resident();
    let attacker = Attacker::on(scene.to(), settings, reads).await;
    let (sent, cut) = attacker.flood(units, unit).await;
    let grown = growth(before).map(|bytes| bytes >> 10);
    scene.end(&[]).await;
    println!("R8 {name}: {sent} units, cut: {cut}, {grown:?} KiB more");
    assert!(grown.unwrap_or(0) < 16 << 10, "{name}: {grown:?} KiB for one connection (attacker and service included)");
    cut
}

#[tokio::test]
async fn rapid_reset_is_cut() {
    is_cut("reset", |n| {
        [frame(HEADERS, END_STREAM | END_HEADERS, nth(n), GET), frame(RST_STREAM, 0, nth(n), &[0, 0, 0, 8])].concat()
    })
    .await;
}

#[tokio::test]
async fn streams_that_the_proxy_is_made_to_reset_are_cut() {
    // A window that is wider than windows can be: the stream has to be reset, and it is the proxy that does it.
    is_cut("calm", |n| {
        [frame(HEADERS, END_HEADERS, nth(n), POST), frame(WINDOW_UPDATE, 0, nth(n), &[127, 255, 255, 255])].concat()
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_taken_back_in_the_same_breath_costs_the_service_nothing() {
    let mut origin = framed::origin().await;
    let mut config = config("shop");
    config.app = Some(origin.address);
    let proxy = config.start();
    let mut client = TcpStream::connect(proxy.inbound().unwrap()).await.unwrap();
    let asks = |n: u32, method: &[u8]| frame(HEADERS, END_HEADERS, nth(n), method);
    client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &asks(0, GET)].concat()).await.unwrap();
    let first = origin.next().await;
    assert_eq!(first.head.method, http::Method::GET);
    // Now there is a connection to the service.
    let breath = [
        asks(1, POST),
        frame(RST_STREAM, 0, nth(1), &[0, 0, 0, 8]),
        asks(2, POST),
        frame(WINDOW_UPDATE, 0, nth(2), &[127, 255, 255, 255]),
        asks(3, GET),
    ];
    client.write_all(&breath.concat()).await.unwrap();
    assert_eq!(origin.next().await.head.method, http::Method::GET, "the only one that somebody waits for");
}

/// Uploads that never end, with heads of 60 KB in a few bytes: the first puts a value of 4,000 bytes into the table.
fn bomb(n: u32) -> Vec<u8> {
    match n {
        0 => frame(HEADERS, END_HEADERS, nth(0), &[POST, b"\x40\x01x\x7f\xa1\x1e", &[b'v'; 4_000]].concat()),
        _ => frame(HEADERS, END_HEADERS, nth(n), &[POST, &[0xbe; 14]].concat()),
    }
}

#[tokio::test]
async fn heads_that_are_too_much_together_are_cut() {
    let scene = scene().await;
    let (sent, cut) = Attacker::on(scene.to(), &[], true).await.flood(20_000, bomb).await;
    assert!(cut, "{sent} heads of 60 KB");
    assert_eq!(scene.end(&["heads"]).await, 1.0);
    // So many are not too much.
    assert!(!is_borne("60 heads of 60 KB", &[], true, 60, bomb).await);
}

#[tokio::test]
async fn pings_are_cut() {
    is_cut("ping", |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes())).await;
}

#[tokio::test]
async fn settings_are_cut() {
    is_cut("settings", |n| frame(SETTINGS, 0, 0, &[&[0, 4], n.to_be_bytes().as_slice()].concat())).await;
}

#[tokio::test]
async fn empty_settings_are_cut() {
    is_cut("settings", |_| frame(SETTINGS, 0, 0, &[])).await;
}

#[tokio::test]
async fn priorities_are_cut() {
    is_cut("priority", |n| frame(PRIORITY, 0, nth(n), &[0, 0, 0, 0, 16])).await;
}

#[tokio::test]
async fn window_updates_are_cut() {
    is_cut("window_update", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
}

#[tokio::test]
async fn frames_of_unknown_kinds_are_cut() {
    is_cut("unknown", |_| frame(0xfa, 0, 0, b"grease")).await;
}

#[tokio::test]
async fn empty_data_is_cut() {
    is_cut("empty_data", |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, POST),
        _ => frame(DATA, 0, 1, &[]),
    })
    .await;
}

#[tokio::test]
async fn data_that_is_nothing_but_padding_is_cut() {
    is_cut("empty_data", |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, POST),
        _ => frame(DATA, PADDED, 1, &[3, 0, 0, 0]),
    })
    .await;
}

#[tokio::test]
async fn a_header_block_that_goes_on_and_on_is_cut() {
    is_cut("continuation", |n| match n {
        0 => frame(HEADERS, 0, 1, GET),
        _ => frame(CONTINUATION, 0, 1, &[]),
    })
    .await;
}

#[tokio::test]
async fn a_header_block_that_is_too_large_is_cut() {
    let field = [b"\x00\x01x\x7f\xfb\x7e".as_slice(), &[b'v'; 16_384 - 6]].concat();
    is_cut("calm", |n| match n {
        0 => frame(HEADERS, 0, 1, GET),
        _ => frame(CONTINUATION, 0, 1, &field),
    })
    .await;
}

#[tokio::test]
async fn a_header_bomb_is_borne() {
    // One large field goes into the table; every following byte asks for it again.
    let fill = [GET, b"\x40\x01x\x7f\xa1\x1e".as_slice(), &[b'v'; 4_000]].concat();
    let bomb = [GET, &[0xbe; 16_000]].concat();
    is_borne("header bomb", &[], true, 200, |n| match n {
        0 => frame(HEADERS, END_STREAM | END_HEADERS, 1, &fill),
        _ => frame(HEADERS, END_STREAM | END_HEADERS, nth(n), &bomb),
    })
    .await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_borne() {
    is_borne("streams", &[], true, 5_000, |n| frame(HEADERS, END_HEADERS, nth(n), POST)).await;
}

#[tokio::test]
async fn a_window_that_never_opens_is_borne() {
    // SETTINGS_INITIAL_WINDOW_SIZE 0: every answer waits.
    is_borne("closed window", &[0, 4, 0, 0, 0, 0], true, 1_000, |n| {
        frame(HEADERS, END_STREAM | END_HEADERS, nth(n), GET)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_borne() {
    is_borne("reads nothing", &[], false, 900, |n| frame(HEADERS, END_STREAM | END_HEADERS, nth(n), GET)).await;
}

#[tokio::test]
async fn data_byte_by_byte_is_served() {
    // As many bytes as the window has without an update.
    let cut = is_borne("one-byte data", &[], true, 65_000, |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, POST),
        _ => frame(DATA, 0, 1, b"x"),
    })
    .await;
    assert!(!cut, "small messages are no attack");
}

#[tokio::test]
async fn an_upstream_that_floods_is_cut_and_the_others_are_served() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flooding = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (_reading, mut writing) = stream.split();
                writing.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
                loop {
                    writing.write_all(&frame(PING, 0, 0, &[0; 8]).repeat(100)).await?;
                    tokio::task::yield_now().await;
                }
                #[expect(unreachable_code, reason = "says what the loop ends with")]
                Ok::<_, std::io::Error>(())
            });
        }
    });
    let good = framed::answering(|_, mut asking| {
        drop(asking.answer.send_response(framed::head(204, &[]), true));
    })
    .await;
    let mut config = config("shop").to("flooding", flooding).to("good", good);
    config.admin = Some(free());
    let proxy = config.start();
    let mut to_flooding = framed::connect(proxy.outbound()[0].1).await;
    let mut to_good = framed::connect(proxy.outbound()[1].1).await;
    let (answer, _) = to_flooding.send_request(framed::request("GET", "/", &[]), true).unwrap();
    assert_eq!(answer.await.unwrap().status().as_u16(), 502);
    let (answer, _) = to_good.send_request(framed::request("GET", "/", &[]), true).unwrap();
    assert_eq!(answer.await.unwrap().status().as_u16(), 204);
    let page = metrics(&proxy).await;
    assert!(!page.contains("couplet_http2_floods_total{kind=\"ping\"} 0"), "{page}");
}
