//! The analyzer is killed while reports arrive: what it had acknowledged is there when it is back, once. And what it
//! receives can be recorded.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use couplet_telemetry::otlp;
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Origin, PathDefinition};
use couplet_telemetry::window::{Handling, Window, WindowLimits};
use rustix::process::Signal;

use crate::harness::{Analyzer, couplet, ended, eventually, free_port};

/// Times that the analyzer is killed. The full number with `COUPLET_HEAVY=1`.
fn kills() -> u64 {
    if std::env::var_os("COUPLET_HEAVY").is_some() { 200 } else { 6 }
}

/// A report with one request.
fn report(instance: &str, sequence: u64) -> Vec<u8> {
    let mut window = Window::new(WindowLimits { paths: 10, callees: 10 });
    let path = Arc::new(PathDefinition::root("shop", "GET /"));
    let handling = Handling {
        outcome: Outcome::Ok,
        duration: 1_000_000,
        blocked: 0,
        busy: 0,
        asynchronous: 0,
        calls: 0,
        callees: 0,
        depth_below: 0,
        calls_below: 0,
        services_below: 0,
        below: Evidence::Exact,
        retries: 0,
        origin: None,
        uses: &[],
    };
    window.handling(&path, &handling);
    let origin = Origin { service: "shop".to_owned(), instance: instance.to_owned(), ..Origin::default() };
    otlp::encode(&window.close(origin, sequence, 1_700_000_000_000_000_000, 1_700_000_005_000_000_000))
}

/// Posts a report; the status, where an answer came.
fn post(address: SocketAddr, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn killed_at_any_moment_the_analyzer_loses_nothing_that_it_acknowledged_and_counts_nothing_twice() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let line = format!("analyzer --listen 127.0.0.1:{port} --data {} --log-format json", data.path().display());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut analyzer = Analyzer::of(&line);
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (stop, acknowledged) = (&stop, &acknowledged);
            scope.spawn(move || {
                // As a proxy does: one report is under way, and is sent again until it is acknowledged.
                for sequence in 1.. {
                    let body = report(&format!("s{n}"), sequence);
                    while post(address, &body) != Some(200) {
                        std::thread::yield_now();
                    }
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        for _ in 0..kills() {
            let before = acknowledged.load(Ordering::SeqCst);
            // Another moment each time: as many reports later as the last digits of the clock say.
            let more = u64::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() % 40);
            eventually("reports are acknowledged", || {
                (acknowledged.load(Ordering::SeqCst) > before + more).then_some(())
            });
            analyzer.program.signal(Signal::KILL);
            analyzer.program.exit_code();
            let told = acknowledged.load(Ordering::SeqCst);
            let start = Instant::now();
            analyzer = Analyzer::of(&line);
            slowest = slowest.max(start.elapsed());
            let kept = analyzer.document()["requests"].as_u64().unwrap();
            assert!(kept >= told, "{told} were acknowledged, {kept} are there");
        }
        stop.store(true, Ordering::SeqCst);
    });
    let all = acknowledged.load(Ordering::SeqCst);
    let document = analyzer.document_when(|document| document["requests"].as_u64() >= Some(all));
    assert_eq!(document["requests"], all, "every report once");
    println!("{} kills, {all} reports acknowledged, back after {slowest:?} at the latest", kills());
}

#[test]
fn a_recording_says_what_the_analyzer_saw_meanwhile_to_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("now.couplet");
    let file = file.display();
    let analyzer = Analyzer::start();
    let address: SocketAddr = analyzer.url().trim_start_matches("http://").parse().unwrap();
    let mut recorder = couplet(&format!("record -o {file} --for 1s --analyzer {}", analyzer.url()))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The recorder has begun when it says so.
    let mut said = std::io::BufReader::new(recorder.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("recording into"), "{line}");
    for sequence in 1..=60 {
        assert_eq!(post(address, &report("s1", sequence)), Some(200));
    }
    assert!(recorder.wait().unwrap().success());

    let findings = ended(&format!("findings --format json --recording {file}")).with(0);
    assert_eq!(findings.json()["findings"], serde_json::json!([]));
    let graph = ended(&format!("graph --format json --recording {file} --window 1m")).with(0);
    assert_eq!(graph.json()["requests"], 60);
    let blamed = ended(&format!("blame --format json --recording {file} --window 1m")).with(0);
    assert_eq!(blamed.json()["entries"][0]["requests"], 60);
    let analyzed = ended(&format!("analyze {file} --format json")).with(0);
    assert_eq!(analyzed.json()["requests"], 60);
    ended(&format!("record -o {file} --for 1s --analyzer {}", analyzer.url())).with(2).saying(&["exists"]);
    ended(&format!("graph --recording {file}x")).with(2).with_one_error().saying(&["recording"]);
}
