//! What is not HTTP passes untouched, and is an edge of its own kind.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use socket2::SockRef;

use crate::harness::{eventually, get};
use crate::peers::{connect, greeter, hello, serve};
use crate::world::{APP, Families, Pod, World, say, world};

/// Names of opaque destinations that the metrics page keeps apart.
const KEPT_NAMES: usize = 2_000;

/// Most that a sidecar may grow by names that somebody makes up, KiB.
const MAX_GROWTH: u64 = if cfg!(debug_assertions) { 24 << 10 } else { 16 << 10 };

/// The opaque edge of this name, once the analyzer shows one for which `right` holds.
fn opaque_edge(document: &Value, destination: &str) -> Option<Value> {
    let edges = document["opaque"].as_array()?;
    edges.iter().find(|edge| edge["destination"] == destination).cloned()
}

fn pods(world: &World) -> (Pod, Pod) {
    (world.pods[0].clone(), world.pods[1].clone())
}

#[test]
fn tls_passes_byte_for_byte_and_its_edge_has_the_name_that_it_asks_for() {
    let Some(world) = world("TLS passes", Families::Ipv4) else { return };
    let analyzer = world.analyzer();
    let (shop, stock) = pods(&world);
    shop.init("");
    stock.init("");
    let _sidecars = (shop.sidecar("shop", ""), stock.sidecar("stock", ""));
    // Answers with exactly what it got.
    serve(&stock, APP, (stock.ipv4, 443), |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let address = stock.ipv4;
    let mut sent = hello("pay.example.org");
    sent.extend((0..100_000).map(|n: u32| n.to_le_bytes()[0]));
    let length = sent.len();
    for pieces in [length, 1_000, 3] {
        let sent = sent.clone();
        shop.inside(APP, move || {
            let mut stream = connect((address, 443));
            for piece in sent[..300].chunks(pieces).chain(std::iter::once(&sent[300..])) {
                stream.write_all(piece).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert!(back == sent, "in pieces of {pieces}");
        });
    }
    let edge = analyzer.shows("three closed connections to pay.example.org", |document| {
        opaque_edge(document, "pay.example.org").filter(|edge| edge["closed"] == 3)
    });
    assert_eq!((&edge["source"], &edge["protocol"]), (&"shop".into(), &"tls".into()), "{edge:#}");
    assert_eq!((&edge["opened"], &edge["open"], &edge["failed"]), (&3.into(), &0.into(), &0.into()), "{edge:#}");
    let bytes = Value::from(3 * length);
    assert_eq!((&edge["sent_bytes"], &edge["received_bytes"]), (&bytes, &bytes), "{edge:#}");
}

#[test]
fn connections_that_last_are_seen_while_they_last_and_failures_count() {
    let Some(world) = world("connections that last", Families::Ipv4) else { return };
    let analyzer = world.analyzer();
    let (shop, stock) = pods(&world);
    shop.init("");
    let _sidecar = shop.sidecar("shop", "");
    greeter(&stock, APP, (stock.ipv4, 3306));
    let address = stock.ipv4;
    let open = shop.inside(APP, move || {
        let mut stream = connect((address, 3306));
        let mut greeting = [0; 10];
        stream.read_exact(&mut greeting).unwrap();
        stream
    });
    let edge = analyzer.shows("an open connection with its bytes", |document| {
        opaque_edge(document, "10.77.0.2:3306").filter(|edge| edge["received_bytes"] == 10)
    });
    assert_eq!((&edge["open"], &edge["closed"]), (&1.into(), &0.into()), "{edge:#}");
    drop(open);
    analyzer.shows("a closed connection", |document| {
        opaque_edge(document, "10.77.0.2:3306").filter(|edge| edge["closed"] == 1 && edge["open"] == 0)
    });
    shop.inside(APP, move || {
        let mut byte = [0];
        TcpStream::connect((address, 3307)).unwrap().read(&mut byte).unwrap_err()
    });
    let edge = analyzer.shows("a failure", |document| opaque_edge(document, "10.77.0.2:3307"));
    assert_eq!((&edge["failed"], &edge["opened"]), (&1.into(), &0.into()), "{edge:#}");
    // They are no calls: nothing that counts calls may see them.
    let (edges, findings) = analyzer.shows("a document", |document| {
        Some((document["edges"].as_array()?.len(), document["findings"].as_array()?.len()))
    });
    assert_eq!((edges, findings), (0, 0));
}

/// A hundred thousand of them with `COUPLET_HEAVY`; five thousand without.
#[test]
fn server_names_that_somebody_makes_up_cost_bounded_memory_and_each_connection_is_counted() {
    let Some(world) = world("made-up server names", Families::Ipv4) else { return };
    let (shop, stock) = pods(&world);
    shop.init("");
    let sidecar = shop.sidecar("shop", "");
    serve(&stock, APP, (stock.ipv4, 443), |mut stream| {
        let mut hello = [0; 1_024];
        let _ = stream.read(&mut hello).unwrap();
        stream.write_all(b"!").unwrap();
        let _ = stream.read(&mut hello); // Until the client resets it: nothing is left of it then.
    });
    let (address, names) = (stock.ipv4, if std::env::var_os("COUPLET_HEAVY").is_some() { 100_000 } else { 5_000 });
    let ask = move |names: std::ops::Range<u64>| {
        for n in names {
            let mut stream = connect((address, 443));
            stream.write_all(&hello(&format!("n{n:x}.{}example.org", "made-up.".repeat(5)))).unwrap();
            stream.read_exact(&mut [0]).unwrap_or_else(|error| panic!("the {n}th name: {error}"));
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    };
    shop.inside(APP, move || ask(0..50));
    let before = sidecar.memory("VmRSS:");
    shop.inside(APP, move || ask(50..names));

    // A window is counted when it is over.
    let series = eventually("every connection is counted", || {
        let page = shop.inside(0, || get("127.0.0.1:15420".parse().unwrap(), "/metrics").1);
        let broken = page.lines().filter_map(|line| {
            let (series, count) = line.strip_prefix("couplet_opaque_connections_total{")?.rsplit_once(' ')?;
            series.contains("broken").then(|| (series.to_owned(), count.parse::<u64>().unwrap()))
        });
        let broken: Vec<_> = broken.collect();
        (broken.iter().map(|(_, count)| count).sum::<u64>() == names).then_some(broken)
    });
    let grown = sidecar.memory("VmHWM:") - before;
    say(&format!("R11: {names} server names: {} series, {grown} KiB more at most", series.len()));
    assert_eq!(series.len(), KEPT_NAMES + 1);
    assert_eq!(series.iter().find(|(name, _)| name.contains("(other)")).unwrap().1, names - KEPT_NAMES as u64);
    assert!(grown <= MAX_GROWTH, "grown by {grown} KiB");
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let Some(world) = world("a reset", Families::Ipv4) else { return };
    let (shop, stock) = pods(&world);
    shop.init("");
    stock.init("");
    let _sidecars = (shop.sidecar("shop", ""), stock.sidecar("stock", ""));
    serve(&stock, APP, (stock.ipv4, 7000), |mut stream| {
        stream.write_all(b"hi").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let address = stock.ipv4;
    let error = shop.inside(APP, move || {
        let mut stream = connect((address, 7000));
        let mut two = [0; 2];
        stream.read_exact(&mut two).unwrap();
        stream.write_all(b"!").unwrap();
        stream.read(&mut two).unwrap_err().kind()
    });
    assert_eq!(error, ErrorKind::ConnectionReset);
}

#[test]
fn a_side_that_does_not_read_holds_up_the_other() {
    let Some(world) = world("back-pressure", Families::Ipv4) else { return };
    let (shop, stock) = pods(&world);
    shop.init("");
    stock.init("");
    let _sidecars = (shop.sidecar("shop", ""), stock.sidecar("stock", ""));
    serve(&stock, APP, (stock.ipv4, 7000), |mut stream| {
        stream.write_all(b"hi").unwrap();
        std::thread::park(); // Reads nothing, ever.
    });
    let address = stock.ipv4;
    let written = shop.inside(APP, move || {
        let mut stream = connect((address, 7000));
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let block = vec![7; 1 << 20];
        let mut written = 0;
        while let Ok(count) = stream.write(&block) {
            written += count;
            assert!(written < 256 << 20, "all of this would be in somebody's memory");
        }
        written
    });
    say(&format!("{} MiB were taken for a server that does not read", written >> 20));
}

/// All of it with `COUPLET_HEAVY`; a sixteenth without.
#[test]
fn a_gibibyte_passes_identical_in_both_directions() {
    let Some(world) = world("a gibibyte", Families::Ipv4) else { return };
    let (shop, stock) = pods(&world);
    shop.init("");
    stock.init("");
    let _sidecars = (shop.sidecar("shop", ""), stock.sidecar("stock", ""));
    let bytes: u64 = if std::env::var_os("COUPLET_HEAVY").is_some() { 1 << 30 } else { 64 << 20 };
    // Sums up what it gets, then sends as much of its own, from another seed.
    serve(&stock, APP, (stock.ipv4, 7000), move |mut stream| {
        stream.write_all(b"ready\n").unwrap();
        let sum = checksum(&mut (&mut stream).take(bytes));
        stream.write_all(sum.as_bytes()).unwrap();
        write_noise(&mut stream, 2, bytes);
    });
    let address = stock.ipv4;
    let (took, there, back) = shop.inside(APP, move || {
        let began = Instant::now();
        let mut stream = connect((address, 7000));
        let mut ready = [0; 6];
        stream.read_exact(&mut ready).unwrap();
        write_noise(&mut stream, 1, bytes);
        let mut there = [0; 64];
        stream.read_exact(&mut there).unwrap();
        let back = checksum(&mut (&mut stream).take(bytes));
        (began.elapsed(), String::from_utf8(there.to_vec()).unwrap(), back)
    });
    let expected = |seed| checksum(&mut Noise::new(seed, bytes));
    assert_eq!((there, back), (expected(1), expected(2)));
    let rate = 2.0 * bytes as f64 / took.as_secs_f64() / f64::from(1 << 20);
    say(&format!("{} MiB in each direction through two sidecars, identical, {rate:.0} MiB/s", bytes >> 20));
}

/// Bytes that repeat nowhere near, from a seed.
struct Noise {
    state: u64,
    left: u64,
}

impl Noise {
    fn new(seed: u64, bytes: u64) -> Self {
        Self { state: seed, left: bytes }
    }
}

impl Read for Noise {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = usize::try_from(self.left).unwrap().min(buf.len()) / 8 * 8;
        for eight in buf[..count].chunks_exact_mut(8) {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            eight.copy_from_slice(&self.state.rotate_left(29).to_le_bytes());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn write_noise(stream: &mut TcpStream, seed: u64, bytes: u64) {
    std::io::copy(&mut Noise::new(seed, bytes), stream).unwrap();
}

fn checksum(from: &mut impl Read) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            count => hash.update(&buffer[..count]),
        }
    }
}
