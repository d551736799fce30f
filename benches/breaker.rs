//! What a breaker costs: asking one of a thousand, telling it how a call ended, and a rejection as a caller sees it, beside
//! a call that passes on the same connection.
//!
//! `cargo bench --bench breaker`. To hold: "ask one of 1,000" below 150 ns; "a rejection" below 1 ms.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use couplet_config::{BreakerMode, BreakerSettings, OpenTime, Outbound, ProxyConfig, Target};
use couplet_proxy::{Replay, Running};
use couplet_telemetry::breaker::Count;
use criterion::{Criterion, criterion_group, criterion_main};

const TOOK: Duration = Duration::from_millis(5);

/// A breaker for each of a thousand destinations, all of which have been called for a while.
fn edges() -> Vec<Replay> {
    let edges: Vec<Replay> = (0..1_000).map(|seed| Replay::new(&BreakerSettings::default(), seed)).collect();
    for edge in &edges {
        for n in 0..100 {
            let at = Duration::from_millis(n);
            if let Some(begun) = edge.begin(at) {
                edge.end(begun, Count::Success, TOOK, at);
            }
        }
    }
    edges
}

fn checks(c: &mut Criterion) {
    let edges = edges();
    // As calls come: neighbours in time are no neighbours in memory.
    let mut next = (0..edges.len()).map(|n| n * 619 % edges.len()).collect::<Vec<_>>().into_iter().cycle();
    let at = Duration::from_millis(100);
    c.bench_function("ask one of 1,000", |b| {
        b.iter(|| next.next().and_then(|n| edges.get(n)?.begin(at)));
    });
    c.bench_function("ask one of 1,000 and tell it how the call ended", |b| {
        b.iter(|| {
            let Some(edge) = next.next().and_then(|n| edges.get(n)) else { return };
            if let Some(begun) = edge.begin(at) {
                edge.end(begun, Count::Success, TOOK, at);
            }
        });
    });
}

/// A service that answers every request on every connection with this.
fn service(answer: &'static [u8]) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut line = Line(stream);
                while line.head().is_ok() && line.0.write_all(answer).is_ok() {}
            });
        }
    });
    Ok(address)
}

/// One connection, one exchange after the other.
struct Line(TcpStream);

impl Line {
    /// Reads one head; what messages here are about stands in it.
    fn head(&mut self) -> std::io::Result<Vec<u8>> {
        let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match self.0.read(&mut buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => head.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            }
        }
        Ok(head)
    }

    /// Asks without a body; the answer says in its head how long it is.
    fn ask(&mut self) -> std::io::Result<Vec<u8>> {
        self.0.write_all(b"HEAD / HTTP/1.1\r\nhost: stock\r\n\r\n")?;
        self.head()
    }
}

/// A sidecar that stops calls after seven failures in a row, for as long as this lasts.
fn proxy(to: SocketAddr) -> Result<Running, couplet_proxy::StartError> {
    let long = Duration::from_secs(3600);
    let mut config = ProxyConfig::new("shop");
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.inbound, config.admin) = (free, None);
    config.breakers.defaults = BreakerSettings {
        mode: BreakerMode::Enforce,
        open: OpenTime { base: long, max: long, ..OpenTime::default() },
        ..BreakerSettings::default()
    };
    let target = Target { host: to.ip().to_string(), port: to.port() };
    config.outbound = vec![Outbound::new("stock", free, target.into())];
    couplet_proxy::start(config)
}

#[expect(clippy::expect_used, reason = "without a system there is nothing to measure")]
fn rejections(c: &mut Criterion) {
    let cases: [(&str, &'static [u8]); 2] = [
        ("a call that passes", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("a rejection", b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"),
    ];
    for (name, answer) in cases {
        let proxy = proxy(service(answer).expect("a service")).expect("a proxy");
        let address = proxy.outbound().first().map(|(_, address)| *address).expect("a listener");
        let mut line = Line(TcpStream::connect(address).expect("a connection"));
        line.0.set_nodelay(true).expect("a socket");
        (0..7).for_each(|_| drop(line.ask()));
        let says = String::from_utf8_lossy(&line.ask().expect("an answer")).contains("couplet-reject");
        assert_eq!(says, name == "a rejection");
        c.bench_function(name, |b| b.iter(|| line.ask()));
        drop(line);
        proxy.stop();
    }
}

criterion_group!(all, checks, rejections);
criterion_main!(all);
