//! Strangers make up names: hosts, paths, methods, traces, calling contexts. The proxy's memory stays bounded, what the
//! limits cost is counted to the request, and the edges that are real are counted to the request too.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream as AsyncStream};

use crate::harness::{Analyzer, Program, couplet, get};

/// Destinations that are real.
const REAL: u64 = 30;

/// Most that the proxy may grow, KiB.
const MAX_GROWTH: u64 = if cfg!(debug_assertions) { 24 << 10 } else { 16 << 10 };

/// Most that a page of metrics may be, bytes.
const MAX_PAGE: usize = 2 << 20;

/// Destinations that an explicit proxy keeps apart, and callee endpoints and endpoints that it does by default.
const HOSTS: u64 = 1_024;
const CALLEES: u64 = 2_048;
const ENDPOINTS: u64 = 512;

/// Things that were asked for before: enough that their segment is known to be variable.
const KNOWN_THINGS: u64 = 100;

/// Requests on one connection that are sent before their answers are read.
const BATCH: u64 = 20;

/// How many distinct names there are in all. `COUPLET_HEAVY=1` makes it a million.
fn names() -> u64 {
    if std::env::var_os("COUPLET_HEAVY").is_some() { 1_000_000 } else { 100_000 }
}

#[test]
fn a_flood_of_names_costs_bounded_memory_and_no_count_of_what_is_real() {
    let origin = origin();
    let analyzer = Analyzer::start();
    let mut command = couplet(&format!(
        "proxy --service shop --app {origin} --inbound 127.0.0.1:0 --explicit 127.0.0.1:0 --admin 127.0.0.1:0 \
         --to noisy@127.0.0.1:0={origin} --analyzer {} --log-format json --log-level error,couplet=info",
        analyzer.url()
    ));
    command.args((0..REAL).flat_map(|n| ["--to".to_owned(), format!("real-{n}@127.0.0.1:0={origin}")]));
    let mut proxy = Program::start(&mut command);
    let (inbound, explicit, admin) = (proxy.listener("inbound"), proxy.listener("explicit"), proxy.listener("admin"));
    let noisy = outbound(&mut proxy, "noisy");
    let real: Vec<_> = (0..REAL).map(|n| outbound(&mut proxy, &format!("real-{n}"))).collect();
    let call_real = || real.iter().for_each(|address| send(*address, 0..BATCH, |_| head("GET", "/stock", "")));

    // What is there before the flood: every listener was used, every real edge is known, things have been asked for.
    call_real();
    for address in [inbound, noisy] {
        send(address, 0..BATCH, |_| head("GET", "/cart", ""));
        send(address, 0..KNOWN_THINGS, |n| head("GET", &format!("/things/{}", word(n)), ""));
    }
    let first = BATCH + KNOWN_THINGS;
    analyzer.document_when(|document| edges(document).get("noisy") == Some(&first));
    let before = proxy.memory("VmRSS:");
    let begun = Instant::now();

    let (hosts, each) = (names() / 20, names() / 5);
    // A host of its own each, that somebody answers at.
    let host = |n: u64| format!("127.{}.{}.{}:{}", 1 + n / 65_536, n / 256 % 256, n % 256, origin.port());
    send(explicit, 0..hosts, |n| format!("GET http://{0}/ HTTP/1.1\r\nhost: {0}\r\n\r\n", host(n)));
    let after_hosts = proxy.memory("VmHWM:").saturating_sub(before);
    call_real();
    for part in 0..10 {
        let part = part * each / 10..(part + 1) * each / 10;
        std::thread::scope(|scope| {
            // Paths of things that are there, and of things that nobody has: only the former may be learned from.
            scope.spawn(|| send(inbound, part.clone(), |n| head("GET", &format!("/things/{}", word(n)), "")));
            scope.spawn(|| send(inbound, part.clone(), |n| head(&word(n), &format!("/none-{}", word(n)), "")));
            scope.spawn(|| send(inbound, part.clone(), |n| head("GET", "/cart", &context(n))));
            scope.spawn(|| {
                send(noisy, part.clone(), |n| head("GET", &format!("/none-{}", word(n)), &trace(names() + n)));
            });
        });
        call_real();
    }
    // What is left of the names.
    send(noisy, 0..names() - hosts - 4 * each, |n| {
        head("GET", &format!("/things/{}", word(n)), &trace(2 * names() + n))
    });

    let (took, grown) = (begun.elapsed(), proxy.memory("VmHWM:").saturating_sub(before));
    let (_, page) = get(admin, "/metrics");
    let (_, endpoints) = get(admin, "/endpoints");
    let page_bytes = page.len();
    let metrics = Metrics::of(&page);
    // Not by `println`, which is silenced in a test that passes.
    let _ = writeln!(
        std::io::stderr(),
        "{} names in {took:.1?}: {before} KiB before, {grown} KiB more at most ({after_hosts} by {hosts} hosts), /metrics of {page_bytes} bytes",
        names()
    );

    let per_real = 12 * BATCH;
    for n in 0..REAL {
        assert_eq!(metrics.sum("couplet_calls_total", &[&format!("service_peer_name=\"real-{n}\"")]), per_real);
    }
    let (calls, handlings) = (REAL * per_real + first + names() - 3 * each, first + 3 * each);
    assert_eq!(metrics.sum("couplet_calls_total", &[]), calls);
    assert_eq!(metrics.sum("couplet_handlings_total", &[]), handlings);

    assert_eq!(metrics.sum("couplet_explicit_overflow_total", &[]), hosts - HOSTS);
    let lost = |reason| metrics.sum("couplet_telemetry_dropped_total", &[&format!("reason=\"{reason}\"")]);
    // One that lost its endpoint may find no room for the path that is left of it either.
    let without_endpoint = metrics.sum("couplet_handlings_total", &["http_route=\"OTHER (other)\""]);
    assert!((1..=lost("endpoints")).contains(&without_endpoint), "{without_endpoint} of {}", lost("endpoints"));
    assert!(lost("endpoints") - without_endpoint <= lost("paths"));
    assert!(lost("endpoints") >= each - ENDPOINTS, "{} of {each}", lost("endpoints"));
    assert_eq!(lost("paths"), metrics.sum("couplet_handlings_total", &["http_route=\"(other)\""]));
    // Those that are real, /cart and /things/{id}, the hosts, and the one name of the hosts beyond.
    let known_callees = REAL + 2 + HOSTS + 1;
    assert_eq!(lost("callees"), each - (CALLEES - known_callees));
    let endpoints: Value = serde_json::from_str(&endpoints).unwrap();
    let learned: Vec<_> = endpoints["learned"].as_array().unwrap().iter().map(|entry| &entry["template"]).collect();
    assert_eq!(learned, ["GET /things/{id}", "GET /things/{id}"], "inbound and outbound");

    // The last calls to one of them may be in another report than those to the next.
    let complete = |edges: &BTreeMap<String, u64>| {
        (0..REAL).all(|n| edges.get(&format!("real-{n}")).is_some_and(|calls| *calls >= per_real))
    };
    let document = analyzer.document_when(|document| complete(&edges(document)));
    for n in 0..REAL {
        assert_eq!(edges(&document)[&format!("real-{n}")], per_real);
    }
    assert!(page_bytes <= MAX_PAGE, "{page_bytes} bytes");
    assert!(grown <= MAX_GROWTH, "grown by {grown} KiB");
}

/// The calls to each destination, as the analyzer has them.
fn edges(document: &Value) -> BTreeMap<String, u64> {
    let edges = document["edges"].as_array().unwrap().iter();
    edges.map(|edge| (edge["destination"].as_str().unwrap().to_owned(), edge["calls"].as_u64().unwrap())).collect()
}

/// Where the proxy listens for calls to `name`, as its log tells.
fn outbound(proxy: &mut Program, name: &str) -> SocketAddr {
    proxy.says(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["to"] == name).then(|| event["address"].as_str()?.parse().ok()).flatten()
    })
}

fn head(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: service.test\r\n{fields}\r\n")
}

/// A trace that nobody has seen.
fn trace(n: u64) -> String {
    format!("traceparent: 00-{:032x}-{:016x}-01\r\n", u128::from(n) + 1, n + 1)
}

/// A calling context that nobody has sent, and a trace of its own.
fn context(n: u64) -> String {
    let (path, call) = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, n + 1);
    format!("couplet-context: 1;{path:016x};{path:016x};0;{call:016x};e;caller-{}\r\n{}", word(n), trace(n))
}

/// A word that looks like no id.
fn word(mut n: u64) -> String {
    let mut word = String::from("w");
    loop {
        word.push(char::from(b'g' + u8::try_from(n % 16).unwrap()));
        n /= 16;
        if n == 0 {
            return word;
        }
    }
}

/// Sends a request for each of `numbers` over a few connections; all must be answered with an empty body.
fn send(address: SocketAddr, numbers: std::ops::Range<u64>, request: impl Fn(u64) -> String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut next = numbers.start;
    while next < numbers.end {
        let batch = next..numbers.end.min(next + BATCH);
        let text: String = batch.clone().map(&request).collect();
        stream.write_all(text.as_bytes()).unwrap();
        let mut heads = Heads::default();
        let mut answered = 0;
        while answered < batch.end - batch.start {
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "closed in the middle of {text}");
            answered += heads.ends(&buffer[..read]);
        }
        next = batch.end;
    }
}

/// Finds the ends of heads in a stream of nothing but heads.
#[derive(Default)]
struct Heads(u32);

impl Heads {
    fn ends(&mut self, bytes: &[u8]) -> u64 {
        let mut ends = 0;
        for byte in bytes {
            self.0 = self.0 << 8 | u32::from(*byte);
            ends += u64::from(self.0 == u32::from_be_bytes(*b"\r\n\r\n"));
        }
        ends
    }
}

/// Answers at every loopback address: 404 to paths that say so, 200 to all others.
fn origin() -> SocketAddr {
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
            sender.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream));
            }
        });
    });
    SocketAddr::from(([127, 0, 0, 1], address.recv().unwrap()))
}

async fn serve(mut stream: AsyncStream) {
    let (mut head, mut buffer) = (Vec::new(), vec![0; 4 << 10]);
    while let Ok(read) = stream.read(&mut buffer).await {
        head.extend_from_slice(&buffer[..read]);
        if read == 0 {
            return;
        }
        if head.ends_with(b"\r\n\r\n") {
            let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            let status = if target.starts_with(b"/none") { "404 Not Found" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            head.clear();
        }
    }
}

/// A page of metrics, read.
struct Metrics<'a>(Vec<(&'a str, u64)>);

impl<'a> Metrics<'a> {
    fn of(page: &'a str) -> Self {
        let samples = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Self(samples.filter_map(|(series, value)| Some((series, value.parse().ok()?))).collect())
    }

    /// The sum of all series of a family that have these labels.
    fn sum(&self, family: &str, labels: &[&str]) -> u64 {
        let of_it =
            |series: &str| series.split('{').next() == Some(family) && labels.iter().all(|l| series.contains(l));
        self.0.iter().filter(|(series, _)| of_it(series)).map(|(_, value)| value).sum()
    }
}
