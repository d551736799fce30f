//! Starts a real analyzer, sends it real reports, and asks it what it shows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use couplet_analyzer::{Running, start};
use couplet_config::{AnalyzerConfig, Secret};
use couplet_telemetry::otlp;
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{Callee, Origin, PathDefinition, PathKind, Report};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Window, WindowLimits};
use serde_json::Value;

/// Nothing here takes so long; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: u64 = 1_000_000_000;

pub(crate) fn analyzer() -> Setup {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Setup(AnalyzerConfig { listen, snapshot_every: Duration::from_millis(100), ..AnalyzerConfig::default() })
}

pub(crate) struct Setup(pub(crate) AnalyzerConfig);

impl Setup {
    pub(crate) fn data(mut self, directory: &Path) -> Self {
        self.0.data = Some(directory.to_owned());
        self
    }

    pub(crate) fn token(mut self, token: &str) -> Self {
        self.0.token = Some(Secret::new(token));
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut AnalyzerConfig)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn start(self) -> Analyzer {
        Analyzer(start(self.0).expect("the analyzer starts"))
    }
}

pub(crate) struct Analyzer(Running);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }
}

impl Analyzer {
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    pub(crate) fn stop(self) {
        self.0.stop();
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Sends a report as a proxy does; the status of the answer.
    pub(crate) fn report(&self, report: &Report) -> u16 {
        self.post(&otlp::encode(report), "").status
    }

    /// Posts a body with additional header lines, each ended by `\r\n`.
    pub(crate) fn post(&self, body: &[u8], headers: &str) -> Answer {
        self.post_as("application/x-protobuf", body, headers)
    }

    pub(crate) fn post_as(&self, media_type: &str, body: &[u8], headers: &str) -> Answer {
        let length = body.len();
        let head = format!(
            "POST /v1/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: {media_type}\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    /// Asks for a change, with JSON and additional header lines, each ended by `\r\n`.
    pub(crate) fn change(&self, method: &str, path: &str, body: &str, headers: &str) -> Answer {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        self.send(head.as_bytes())
    }

    /// Sends bytes on a connection of their own and reads to its end.
    pub(crate) fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // An answer may come, and the connection be closed, before all is sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer with a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_ascii_lowercase(), body: answer[end + 4..].to_vec() }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn events(&self) -> Events {
        let mut stream = self.connect();
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Events(BufReader::new(stream))
    }

    /// The document as soon as it shows so many requests.
    pub(crate) fn document_with_requests(&self, requests: u64) -> Value {
        let mut events = self.events();
        while events.next().expect("an event").1["requests"] != requests {}
        self.json("/api/v1/document")
    }
}

/// An open stream of events.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// The status line, if nothing was read yet.
    pub(crate) fn status(&mut self) -> String {
        self.line().unwrap_or_default()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).expect("a line in time") > 0).then_some(line)
    }
}

impl Iterator for Events {
    type Item = (String, Value);

    /// The next event, as its id and data; none when the stream has ended.
    fn next(&mut self) -> Option<Self::Item> {
        let mut id = String::new();
        loop {
            let line = self.line()?;
            if let Some(found) = line.strip_prefix("id: ") {
                id = found.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                // In the order of the stream the id may come after the data.
                let data = serde_json::from_str(data).expect("data in JSON");
                while id.is_empty() {
                    id = self.line()?.strip_prefix("id: ").unwrap_or_default().trim().to_owned();
                }
                return Some((id, data));
            }
        }
    }
}

/// A report of `shop`: so many root requests, each with one call to `stock`.
pub(crate) fn report(instance: &str, sequence: u64, requests: u32) -> Report {
    report_of("shop", instance, sequence, requests)
}

pub(crate) fn report_of(service: &str, instance: &str, sequence: u64, requests: u32) -> Report {
    let mut window = Window::new(WindowLimits { paths: 100, callees: 100 });
    let id = PathId::root(service, "GET /");
    let path = Arc::new(PathDefinition {
        id,
        parent: None,
        root: id,
        caller: None,
        endpoint: "GET /".to_owned(),
        depth: 0,
        kind: PathKind::Handler,
        evidence: Evidence::Exact,
    });
    let callee = Arc::new(Callee::new("stock", "GET /items/{id}"));
    for _ in 0..requests {
        window.call(&path, &callee, &call());
        let uses = [CalleeUse { callee: Arc::clone(&callee), calls: 1, failed: false, blocked: 2_000_000 }];
        window.handling(&path, &handling(&uses));
    }
    let origin = Origin {
        service: service.to_owned(),
        instance: instance.to_owned(),
        version: Some("1.0".to_owned()),
        inbound: None,
    };
    let start = 1_700_000_000 * SECOND + sequence * 5 * SECOND;
    window.close(origin, sequence, start, start + 5 * SECOND)
}

/// A report of `shop` whose handlings call sixteen services each: a fan-out hotspot.
pub(crate) fn wide(requests: u32) -> Report {
    let mut window = Window::new(WindowLimits { paths: 100, callees: 100 });
    let path = Arc::new(PathDefinition::root("shop", "GET /"));
    let callees: Vec<_> = (0..16).map(|n| Arc::new(Callee::new(format!("stock{n}"), "GET /"))).collect();
    let used =
        |callee: &Arc<Callee>| CalleeUse { callee: Arc::clone(callee), calls: 1, failed: false, blocked: 100_000 };
    let uses: Vec<_> = callees.iter().map(used).collect();
    for _ in 0..requests {
        callees.iter().for_each(|callee| window.call(&path, callee, &call()));
        window.handling(
            &path,
            &Handling { calls: 16, callees: 16, calls_below: 16, services_below: 16, ..handling(&uses) },
        );
    }
    let origin = Origin { service: "shop".to_owned(), instance: "w1".to_owned(), version: None, inbound: None };
    window.close(origin, 1, 1_700_000_000 * SECOND, 1_700_000_005 * SECOND)
}

fn call() -> Call {
    Call {
        outcome: Outcome::Ok,
        duration: 2_000_000,
        first_byte: Some(1_500_000),
        blocking: true,
        evidence: Evidence::Exact,
        attempts: 1,
        request_bytes: 0,
        response_bytes: 100,
    }
}

fn handling(uses: &[CalleeUse]) -> Handling<'_> {
    Handling {
        outcome: Outcome::Ok,
        duration: 5_000_000,
        blocked: 2_000_000,
        busy: 2_000_000,
        asynchronous: 0,
        calls: 1,
        callees: 1,
        depth_below: 1,
        calls_below: 1,
        services_below: 1,
        below: Evidence::Exact,
        retries: 0,
        origin: None,
        trace: None,
        uses,
    }
}
