//! An origin that records bytes, one that plays bytes, and a client that sends them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use couplet_config::{Outbound, ProxyConfig, Target};
use couplet_proxy::Running;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::judge;

/// How long a head may take in these tests.
pub(crate) const HEAD: Duration = Duration::from_millis(400);
/// After that long without a byte nothing more is expected; longer than a head may take.
const QUIET: Duration = Duration::from_millis(700);

/// A sidecar in front of `origin`.
pub(crate) fn proxy(origin: SocketAddr) -> Running {
    proxy_with(origin, HEAD)
}

/// The same, with so much time for a head.
pub(crate) fn proxy_with(origin: SocketAddr, head: Duration) -> Running {
    let mut config = ProxyConfig::new("shop");
    config.admin = None;
    config.workers = 1;
    config.timeouts.header = head;
    let target = Target { host: origin.ip().to_string(), port: origin.port() };
    let listen = "127.0.0.1:0".parse().unwrap();
    config.outbound.push(Outbound::new("stock", listen, target.into()));
    couplet_proxy::start(config).unwrap()
}

/// All bytes that an origin got, by connection.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Vec<u8>>>>);

impl Record {
    /// Whether these bytes have come, on any connection.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        self.0.lock().iter().any(|got| judge::find(got, bytes).is_some())
    }

    /// What it got since the last time.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        let mut all = self.0.lock();
        all.iter_mut().map(std::mem::take).filter(|bytes| !bytes.is_empty()).collect()
    }
}

/// Answers every request that it can read with `ok`, and records all bytes.
pub(crate) async fn recorder() -> (SocketAddr, Record) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let record = Record::default();
    let kept = record.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let index = {
                let mut all = kept.0.lock();
                all.push(Vec::new());
                all.len() - 1
            };
            tokio::spawn(record_one(stream, kept.clone(), index));
        }
    });
    (address, record)
}

async fn record_one(mut stream: TcpStream, kept: Record, index: usize) {
    let (mut unread, mut piece) = (Vec::new(), vec![0; 16 * 1024]);
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        unread.extend_from_slice(&piece[..count]);
        kept.0.lock()[index].extend_from_slice(&piece[..count]);
        while let judge::Read::Whole { end, head, .. } = judge::request(&unread) {
            unread.drain(..end);
            let answer: &[u8] = if head.starts_with("HEAD ") {
                b"HTTP/1.1 200 OK\r\n\r\n"
            } else {
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            };
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// What an origin answers on its next connections.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Option<Play>>>);

/// Bytes, and whether the stream ends after them.
type Play = (Vec<u8>, bool);

impl Script {
    /// The next answer is these bytes, and after them the end of the stream or not.
    pub(crate) fn play(&self, bytes: &[u8], close: bool) {
        *self.0.lock() = Some((bytes.to_vec(), close));
    }
}

/// What [`player`] answers to a request for which nothing is to be played.
pub(crate) const NEXT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext";

/// An origin that answers what is to be played, and then [`NEXT`].
pub(crate) async fn player() -> (SocketAddr, Script) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = Script::default();
    let shared = script.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(play_one(stream, shared.clone()));
        }
    });
    (address, script)
}

async fn play_one(mut stream: TcpStream, script: Script) {
    let (mut unread, mut piece) = (Vec::new(), vec![0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        unread.extend_from_slice(&piece[..count]);
        while let judge::Read::Whole { end, .. } = judge::request(&unread) {
            unread.drain(..end);
            let (bytes, close) = script.0.lock().take().unwrap_or_else(|| (NEXT.to_vec(), false));
            if stream.write_all(&bytes).await.is_err() || close {
                // Whatever is still to be read would make a reset of the end.
                let _ = stream.shutdown().await;
                return;
            }
        }
    }
}

/// What a client got, and whether the connection was closed.
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    pub(crate) closed: bool,
}

/// Sends these bytes at once on a new connection and reads until it is closed, `enough` says so, or all is quiet.
pub(crate) async fn send(to: SocketAddr, bytes: &[u8], enough: impl Fn(&[u8]) -> bool) -> Got {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut got = Got { bytes: Vec::new(), closed: false };
    // Large ones may be refused before they are written whole.
    let _ = stream.write_all(bytes).await;
    let mut piece = vec![0; 16 * 1024];
    while !enough(&got.bytes) {
        match timeout(QUIET, stream.read(&mut piece)).await {
            Err(_) => break,
            Ok(Ok(0) | Err(_)) => {
                got.closed = true;
                break;
            }
            Ok(Ok(count)) => got.bytes.extend_from_slice(&piece[..count]),
        }
    }
    got
}
