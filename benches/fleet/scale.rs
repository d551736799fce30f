//! How much an analyzer takes in, how much memory that needs, and how long answers take meanwhile.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use couplet_analyzer::findings::findings;
use couplet_analyzer::score::score;
use couplet_analyzer::view::document::Document;
use couplet_config::{AnalyzerConfig, AnalyzerLimits, Architecture, FindingThresholds};
use couplet_telemetry::otlp;

use super::intake::intake;
use super::large::{Large, Size};

/// The first word of a process that is the analyzer.
pub(crate) const SERVE: &str = "--serve";
pub(crate) const USUAL: Size = Size { services: 2_000, edges: 10_000, paths: 20_000 };
/// As many rows in a tenth of the reports.
const LONG: Size = Size { services: 200, edges: 1_000, paths: 20_000 };
/// Each differs from the one before in one thing.
pub(crate) const LARGE: [Size; 3] = [
    Size { services: 20_000, edges: 20_000, paths: 100_000 },
    Size { services: 20_000, edges: 200_000, paths: 400_000 },
    Size { services: 20_000, edges: 200_000, paths: 1_000_000 },
];
const WINDOWS: u64 = 3;
/// Windows that take the whole way in.
const RECEIVED: u64 = 6;
/// Connections that reports come on at the same time.
const CLIENTS: usize = 8;

/// An analyzer on a free port, until its standard input ends. Snapshots as often as `millis` say; a history where there is a
/// directory for it.
pub(crate) fn serve(millis: u64, data: Option<PathBuf>) {
    let limits = AnalyzerLimits {
        services: 30_000,
        endpoints: 100_000,
        edges: 300_000,
        paths: 1_200_000,
        proxies: 30_000,
        ..AnalyzerLimits::default()
    };
    let snapshot_every = Duration::from_millis(millis);
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = AnalyzerConfig { listen, limits, snapshot_every, data, ..AnalyzerConfig::default() };
    let running = couplet_analyzer::start(config).expect("an analyzer");
    println!("{}", running.address());
    let _ = std::io::stdin().read(&mut [0]);
    running.stop();
}

/// All of it; of these sizes, where some are given, only the memory.
pub(crate) fn measure(sizes: &[Size], seed: u64, traced: bool) {
    if sizes.is_empty() {
        let usual = || Large::new(USUAL, seed).traced(traced);
        stages(&usual());
        taken_in(seed, traced);
        answers(&usual());
    }
    for size in if sizes.is_empty() { &LARGE } else { sizes } {
        memory(&Large::new(*size, seed).traced(traced));
    }
}

/// One core, step by step, in processor time: others may use the machine, too.
fn stages(large: &Large) {
    let graph = intake(large, WINDOWS);
    let (thresholds, architecture) = (FindingThresholds::default(), Architecture::default());
    for _ in 0..3 {
        let begun = processor_time();
        let snapshot = graph.snapshot();
        let took = processor_time() - begun;
        let begun = processor_time();
        let found = findings(&snapshot, &thresholds, &architecture);
        let judged = processor_time() - begun;
        let begun = processor_time();
        let _ = score(&snapshot, &thresholds, &architecture);
        let scored = processor_time() - begun;
        let begun = processor_time();
        let written = Document::new(&snapshot, &found, "fleet").to_json().map_or(0, |json| json.len());
        println!(
            "snapshot {took:.1?}, {} findings {judged:.1?}, score {scored:.1?}, document of {written} bytes {:.1?}",
            found.len(),
            processor_time() - begun
        );
    }
}

/// What comes the whole way in, in short reports and in long ones.
pub(crate) fn taken_in(seed: u64, traced: bool) {
    received(&Large::new(USUAL, seed).traced(traced));
    received(&Large::new(LONG, seed).traced(traced));
}

/// The whole way in: HTTP, history, graph, slots, and packing these. All of an analyzer's processor time but for what it
/// takes to begin with.
fn received(large: &Large) {
    let data = tempfile::tempdir().expect("a directory");
    let analyzer = Analyzer::start(60_000, Some(data.path()));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(analyzer.address)).collect();
    let windows: Vec<Vec<Vec<u8>>> = (1..=RECEIVED)
        .map(|sequence| (0..large.services()).map(|service| otlp::encode(&large.report(service, sequence))).collect())
        .collect();
    let reports = (0..large.services()).map(|service| large.report(service, 1));
    let records: usize = reports.map(|report| report.paths.len() + report.calls.len()).sum::<usize>() * windows.len();
    let (mut acknowledged, mut packed) = (0.0, 0.0);
    // Two windows of five seconds are a slot.
    for slot in windows.chunks(2) {
        let begun = Instant::now();
        let before = analyzer.all_processor_time();
        let bodies: Vec<&Vec<u8>> = slot.iter().flatten().collect();
        std::thread::scope(|scope| {
            for (client, own) in clients.iter_mut().zip(bodies.chunks(bodies.len().div_ceil(CLIENTS))) {
                scope.spawn(move || own.iter().map(|body| post(client, body)).sum::<u32>());
            }
        });
        acknowledged += analyzer.all_processor_time() - before;
        // Until it is over and packed.
        std::thread::sleep(Duration::from_secs(13).saturating_sub(begun.elapsed()));
        packed += analyzer.all_processor_time() - before;
    }
    println!(
        "\nthe whole way in: {records} records in {} reports of {} KB, {:.0} records per second of processor time until \
         they are acknowledged, {:.0} with their packing; {}",
        windows.iter().flatten().count(),
        windows.iter().flatten().map(Vec::len).sum::<usize>() / windows.iter().flatten().count() / 1_000,
        records as f64 / acknowledged,
        records as f64 / packed,
        analyzer.threads(),
    );
}

/// Posts a report until it is taken: more than can be packed at present is to come again, as proxies do. How often it was not.
fn post(client: &mut Client, body: &[u8]) -> u32 {
    let mut busy = 0;
    loop {
        let (status, _) = client.ask("POST", "/v1/metrics", body);
        if status == 200 {
            return busy;
        }
        assert_eq!(status, 503);
        busy += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What this thread has used so far.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a thread");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number"))
}

/// How long answers take while reports come and snapshots are made every second: as many as proxies with windows of five
/// seconds send, and as many as one connection takes.
pub(crate) fn answers(large: &Large) {
    answers_at(large, Some(Duration::from_secs(5)));
    answers_at(large, None);
}

fn answers_at(large: &Large, window: Option<Duration>) {
    let analyzer = Analyzer::start(1_000, None);
    let bodies: Vec<_> = (0..large.services()).map(|service| large.report(service, 1)).collect();
    let posting = AtomicBool::new(true);
    let mut client = Client::new(analyzer.address);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::new(analyzer.address);
            let (mut sequence, mut due) = (1, Instant::now());
            while posting.load(Ordering::Relaxed) {
                for report in &bodies {
                    if let Some(window) = window {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        due += window / bodies.len() as u32;
                    }
                    let report = couplet_telemetry::report::Report { sequence, ..report.clone() };
                    client.ask("POST", "/v1/metrics", &otlp::encode(&report));
                }
                sequence += 1;
            }
        });
        // All that is there before is part of what is answered.
        std::thread::sleep(window.unwrap_or(Duration::from_secs(5)));
        println!(
            "\nanswers while {} come (every 20 ms, 30 s):",
            window.map_or("reports without pause", |_| "reports every 5 s")
        );
        let paths =
            ["/api/v1/status", "/api/v1/findings", "/api/v1/services", "/api/v1/edges", "/api/v1/document", "/metrics"];
        let mut took: Vec<Vec<Duration>> = vec![Vec::new(); paths.len()];
        let mut sizes = vec![0; paths.len()];
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            for (at, path) in paths.iter().enumerate() {
                let begun = Instant::now();
                let (status, body) = client.ask("GET", path, b"");
                took[at].push(begun.elapsed());
                sizes[at] = body.len();
                assert_eq!(status, 200, "{path}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        posting.store(false, Ordering::Relaxed);
        for ((path, mut took), size) in paths.iter().zip(took).zip(sizes) {
            took.sort_unstable();
            let quantile = |q: f64| took[((took.len() - 1) as f64 * q) as usize];
            println!(
                "{path:<20}{:>6} times, {size:>9} bytes: p50 {:.1?}, p99 {:.1?}",
                took.len(),
                quantile(0.5),
                quantile(0.99)
            );
        }
    });
}

/// Memory of a process that holds a system and its snapshot, and the processor time that taking it in costs.
fn memory(large: &Large) {
    let analyzer = Analyzer::start(60_000, None);
    let empty = analyzer.resident();
    let mut client = Client::new(analyzer.address);
    println!(
        "\n{} services, {} edges, {} paths in a process of its own ({} MiB when empty):",
        large.services(),
        large.edges(),
        large.paths(),
        empty >> 20
    );
    for sequence in 1..=2 {
        let (mut records, mut busy, before) = (0, 0, analyzer.all_processor_time());
        for service in 0..large.services() {
            let report = large.report(service, sequence);
            for part in report.into_parts(2_000) {
                records += part.paths.len() + part.calls.len();
                let body = otlp::encode(&part);
                busy += post(&mut client, &body);
            }
        }
        let spent = analyzer.all_processor_time() - before;
        let resident = analyzer.resident();
        println!(
            "window {sequence}: {records} records, {:.0} records per second of its processor time, {busy} times busy; {} MiB, {} bytes \
             per path",
            records as f64 / spent,
            resident >> 20,
            (resident - empty) / large.paths() as u64
        );
    }
    // A snapshot of all of it, and the judgement of the last hour: each comes once a minute.
    std::thread::sleep(Duration::from_secs(75));
    println!("after a snapshot and a judgement: {} MiB", analyzer.resident() >> 20);
    // The connection was idle for longer than it is kept.
    let (begun, mut client) = (Instant::now(), Client::new(analyzer.address));
    let (status, _) = client.ask("GET", "/api/v1/status", b"");
    assert_eq!(status, 200);
    println!("status answered in {:.1?}; most memory ever: {} MiB", begun.elapsed(), analyzer.peak() >> 20);
}

/// This program again, as an analyzer.
struct Analyzer {
    child: Child,
    address: SocketAddr,
}

impl Analyzer {
    fn start(millis: u64, data: Option<&Path>) -> Self {
        let program = std::env::current_exe().expect("a program");
        let mut command = Command::new(program);
        command.args([SERVE, &millis.to_string()]).args(data).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("an address");
        Self { child, address: line.trim().parse().expect("an address") }
    }

    fn resident(&self) -> u64 {
        self.line("VmRSS:")
    }

    fn peak(&self) -> u64 {
        self.line("VmHWM:")
    }

    /// A line of the process's status, bytes.
    fn line(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
    }

    /// Seconds of all threads, those that have ended among them.
    fn all_processor_time(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a process");
        // Behind the name, which may hold anything, the 12th and 13th are ticks of a hundredth of a second.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
        ticks.sum::<u64>() as f64 / 100.0
    }

    /// The threads that there are, and what each has used.
    fn threads(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a process");
        let read = |task: &Path, name: &str| std::fs::read_to_string(task.join(name)).ok();
        let used = |task: std::fs::DirEntry| {
            let nanos: u64 = read(&task.path(), "schedstat")?.split(' ').next()?.parse().ok()?;
            Some(format!("{} {:.2} s", read(&task.path(), "comm")?.trim(), nanos as f64 / 1e9))
        };
        tasks.flatten().filter_map(used).collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Analyzer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// One connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Self { stream: BufReader::new(stream), address }
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat()).expect("a connection");
        let status = self.line().split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut length = None;
        loop {
            let line = self.line().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            length = line.strip_prefix("content-length:").and_then(|length| length.trim().parse().ok()).or(length);
        }
        let mut body = Vec::new();
        match length {
            Some(length) => body.resize(length, 0),
            None => panic!("{path} is answered without a length"),
        }
        self.stream.read_exact(&mut body).expect("an answer");
        (status, body)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }
}
