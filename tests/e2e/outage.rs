//! The analyzer hangs, dies and comes back while requests pass: none fails, none waits for it, and in the end every
//! one is counted once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Analyzer, Program, couplet, free_port};

/// Requests that pass during each outage.
const DURING: u64 = 2_000;

/// How long each outage lasts at least. `COUPLET_OUTAGE_SECONDS=60` makes it a long one.
fn outage() -> Duration {
    let seconds = std::env::var("COUPLET_OUTAGE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

#[test]
fn no_request_notices_that_the_analyzer_is_away_and_none_is_lost_or_counted_twice() {
    let data = tempfile::tempdir().unwrap();
    let line =
        format!("analyzer --listen 127.0.0.1:{} --data {} --log-format json", free_port(), data.path().display());
    let mut analyzer = Analyzer::of(&line);
    let proxy = |arguments: &str| {
        let url = analyzer.url();
        let line = format!(
            "proxy {arguments} --admin 127.0.0.1:0 --analyzer {url} --set telemetry.window=200ms --log-format json"
        );
        Program::start(&mut couplet(&line))
    };
    let mut shop = proxy(&format!("--service shop --app {} --inbound 127.0.0.1:0", application()));
    let mut front = proxy(&format!("--service front --to shop@127.0.0.1:0={}", shop.listener("inbound")));
    let load = Load::start(front.listener("outbound"), 3);

    analyzer.document_when(|document| calls(document) > 0);
    analyzer.program.signal(Signal::STOP);
    load.goes_on("hung");
    analyzer.program.signal(Signal::CONT);
    let before = analyzer.document_when(|document| calls(document) > DURING);

    analyzer.program.signal(Signal::KILL);
    analyzer.program.exit_code();
    load.goes_on("gone");
    analyzer = Analyzer::of(&line);
    assert!(calls(&analyzer.document()) >= calls(&before), "what was acknowledged survives the death of the process");

    let sent = load.stop();
    for proxy in [&mut front, &mut shop] {
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.exit_code(), Some(0), "{}", proxy.said());
    }
    let document = analyzer.document_when(|document| calls(document) >= sent);
    assert_eq!(calls(&document), sent, "as the caller's side counts");
    let handled = document["services"].as_array().unwrap().iter().find(|service| service["name"] == "shop").unwrap();
    assert_eq!(handled["requests"], sent, "as the callee's side counts");
    assert_eq!(handled["failures"], 0);
}

/// The calls from `front` to `shop`.
fn calls(document: &Value) -> u64 {
    document["edges"].as_array().unwrap().first().map_or(0, |edge| edge["calls"].as_u64().unwrap())
}

/// Answers every request at once.
fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                while read_head(&mut stream).is_some() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                }
            });
        }
    });
    address
}

/// Clients that send one request after another until they are told to stop.
struct Load {
    sent: Arc<AtomicU64>,
    /// Longest that a request took since the last look, microseconds.
    longest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let (sent, longest, stop): (Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let client = || {
            let (sent, longest, stop) = (Arc::clone(&sent), Arc::clone(&longest), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    stream.write_all(b"GET /item HTTP/1.1\r\nhost: shop\r\n\r\n").unwrap();
                    let head = read_head(&mut stream).unwrap();
                    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                    stream.read_exact(&mut [0; 2]).unwrap();
                    longest.fetch_max(u64::try_from(begun.elapsed().as_micros()).unwrap(), Ordering::SeqCst);
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let clients = (0..clients).map(|_| client()).collect();
        Self { sent, longest, stop, clients }
    }

    /// Waits until so many more requests have passed, for as long as the outage is to last.
    fn goes_on(&self, what: &str) {
        let (begun, before) = (Instant::now(), self.sent.load(Ordering::SeqCst));
        self.longest.store(0, Ordering::SeqCst);
        while self.sent.load(Ordering::SeqCst) < before + DURING || begun.elapsed() < outage() {
            assert!(self.clients.iter().all(|client| !client.is_finished()), "a request failed");
            std::thread::yield_now();
        }
        let passed = self.sent.load(Ordering::SeqCst) - before;
        let longest = Duration::from_micros(self.longest.load(Ordering::SeqCst));
        // Not by `println`, which is silenced in a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "analyzer {what} for {:?}: {passed} requests passed, the longest took {longest:?}",
            begun.elapsed()
        );
    }

    /// Ends the load; how many requests were answered.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        self.sent.load(Ordering::SeqCst)
    }
}

/// Reads up to the end of a head; `None` where the other side has gone.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    String::from_utf8(head).ok()
}
