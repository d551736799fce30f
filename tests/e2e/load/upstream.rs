//! Services that attack whoever calls them over HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::floods::{Row, Scene};
use super::http2::*;
use super::{figures, heavy, say};

/// Frames that a service repeats.
#[derive(Clone, Copy)]
struct Flood {
    name: &'static str,
    once: fn() -> Vec<u8>,
    unit: fn() -> Vec<u8>,
}

/// An answer's head, `200`, and one that is only interim, `103`.
const OK: &[u8] = b"\x88";
const EARLY_HINTS: &[u8] = b"\x08\x03103";

const FLOODS: [Flood; 8] = [
    Flood { name: "upstream: ping", once: Vec::new, unit: || frame(PING, 0, 0, &[0; 8]) },
    Flood { name: "upstream: settings", once: Vec::new, unit: || frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]) },
    Flood { name: "upstream: settings, empty", once: Vec::new, unit: || frame(SETTINGS, 0, 0, &[]) },
    Flood { name: "upstream: resets", once: Vec::new, unit: || frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]) },
    Flood { name: "upstream: window update", once: Vec::new, unit: || frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]) },
    Flood {
        name: "upstream: data without bytes",
        once: || frame(HEADERS, END_HEADERS, 1, OK),
        unit: || frame(DATA, 0, 1, &[]),
    },
    Flood {
        name: "upstream: header block without end",
        once: || frame(HEADERS, 0, 1, OK),
        unit: || frame(CONTINUATION, 0, 1, &[]),
    },
    Flood { name: "upstream: interim answers", once: Vec::new, unit: || frame(HEADERS, END_HEADERS, 1, EARLY_HINTS) },
];

/// How long each flood goes on.
fn duration() -> Duration {
    if heavy() { Duration::from_secs(3) } else { Duration::from_millis(300) }
}

/// What the flooding service has sent, on how many connections, at what cost to itself.
#[derive(Default)]
struct Sent {
    connections: AtomicU64,
    bytes: AtomicU64,
    cpu: AtomicU64,
}

#[test]
fn services_that_flood_are_cut_and_counted_and_nobody_else_notices() {
    let origin = origin();
    say(&format!("R8: services over HTTP/2; each flood goes on for {:?}", duration()));
    say(Row::TITLE);
    let mut wrong = Vec::new();
    for flood in FLOODS {
        let (name, sent) = (flood.name, Arc::<Sent>::default());
        let flooding = flooding(flood, Arc::clone(&sent));
        let line = format!("--app {origin} --inbound 127.0.0.1:0 --to flooding@127.0.0.1:0={flooding}");
        let mut scene = Scene::of(&line, "inbound", origin);
        let to = scene.proxy.listener("outbound");
        let measured = scene.measure(|| {
            let begun = Instant::now();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            while begun.elapsed() < duration() {
                runtime.block_on(ask(to));
            }
            let load = |of: &AtomicU64| of.load(Ordering::SeqCst);
            let cpu = Duration::from_nanos(load(&sent.cpu)).max(Duration::from_micros(1));
            (u32::try_from(load(&sent.connections)).unwrap(), load(&sent.bytes), cpu)
        });
        let row = scene.row(name, "cut".to_owned(), measured);
        say(&row.to_string());
        row.judge(&mut wrong);
        if row.counted.is_empty() {
            wrong.push(format!("{name}: nothing was counted"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Asks the flooding service, on a connection of its own.
async fn ask(to: SocketAddr) {
    let Ok(stream) = TcpStream::connect(to).await else { return };
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let Ok((mut client, connection)) = handshake else { return };
    tokio::spawn(connection);
    let request = http::Request::get("http://service.test/").body(Empty::<Bytes>::new()).unwrap();
    let asked = async {
        if let Ok(answer) = client.send_request(request).await {
            let _ = answer.into_body().collect().await;
        }
    };
    let _ = tokio::time::timeout(duration(), asked).await;
}

/// A service that floods every caller once it has asked something.
fn flooding(flood: Flood, sent: Arc<Sent>) -> SocketAddr {
    let (sender, address) = std::sync::mpsc::channel();
    apart(move || async move {
        figures::give_way();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        sender.send(listener.local_addr().unwrap()).unwrap();
        let many = (flood.unit)().repeat(50);
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            sent.connections.fetch_add(1, Ordering::SeqCst);
            let until = Instant::now() + duration();
            let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[])).await;
            asked(&mut stream).await;
            let mut bytes = (flood.once)();
            while Instant::now() < until && stream.write_all(&bytes).await.is_ok() {
                sent.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                bytes.clone_from(&many);
                let cpu = figures::own_cpu();
                sent.cpu.store(u64::try_from(cpu.as_nanos()).unwrap(), Ordering::SeqCst);
            }
        }
    });
    address.recv().unwrap()
}

/// Reads up to the head of the first request.
async fn asked(stream: &mut TcpStream) {
    if stream.read_exact(&mut [0; PREFACE.len()]).await.is_err() {
        return;
    }
    let (mut head, mut payload) = ([0; 9], Vec::new());
    while stream.read_exact(&mut head).await.is_ok() && head[3] != HEADERS {
        payload.resize(u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize, 0);
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
    }
}
