//! Starting, stopping, and what happens when there are too many.

use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use couplet_analyzer::start;

use crate::harness::{analyzer, report};

#[test]
fn a_port_in_use_is_named_together_with_the_option_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = start(analyzer().with(|config| config.listen = address).0).unwrap_err().to_string();
    assert!(error.contains(&format!("port {} ", address.port())) && error.contains("--listen"), "{error}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let error = start(analyzer().data(&file).0).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains("--data"), "{error}");
}

#[test]
fn two_analyzers_do_not_share_a_data_directory() {
    let data = tempfile::tempdir().unwrap();
    let first = analyzer().data(data.path()).start();
    let error = start(analyzer().data(data.path()).0).unwrap_err().to_string();
    assert!(error.contains("another analyzer"), "{error}");
    first.stop();
    analyzer().data(data.path()).start().stop();
}

#[test]
fn stopping_ends_open_pages_and_idle_connections_at_once_and_leaves_one_file() {
    let data = tempfile::tempdir().unwrap();
    let analyzer = analyzer().data(data.path()).start();
    analyzer.report(&report("s1", 1, 1));
    let mut events = analyzer.events();
    assert!(events.next().is_some());
    let mut idle = analyzer.connect();
    let begun = Instant::now();
    analyzer.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    while events.next().is_some() {}
    assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(!data.path().join("history.db-wal").exists());
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted_and_room_is_used_again() {
    let analyzer = analyzer()
        .with(|config| {
            config.limits.proxies = 1;
            config.limits.ui_clients = 1;
        })
        .start();
    let mut connections: Vec<_> = (0..300).map(|_| analyzer.connect()).collect();
    let mut last = connections.pop().unwrap();
    assert_eq!(last.read(&mut [0; 1]).unwrap_or(0), 0, "closed at once");
    drop(connections);
    // The analyzer sees them go in its own time; new ones are closed until then.
    let refused = loop {
        let mut stream = analyzer.connect();
        let _ = std::io::Write::write_all(&mut stream, b"GET /api/v1/status HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        if stream.read_to_string(&mut answer).is_ok() && answer.contains("connections_refused") {
            let body = answer.split("\r\n\r\n").nth(1).unwrap();
            let status: serde_json::Value = serde_json::from_str(body).unwrap();
            break status["limits"]["connections_refused"].as_u64().unwrap();
        }
    };
    assert!(refused >= 300 - 258, "{refused}");
}
