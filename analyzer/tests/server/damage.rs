//! Whatever happens to the file: the analyzer starts, says what was lost, and goes on.

use std::path::Path;

use couplet_analyzer::history::recording;
use proptest::prelude::*;

use crate::harness::{analyzer, report};

/// Reports of three proxies in a history as it is left behind by a process that was killed, or by one that ended.
fn history(clean: bool) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let alive = analyzer().data(data.path()).start();
    for sequence in 1..=40 {
        for instance in ["s1", "s2", "s3"] {
            assert_eq!(alive.report(&report(instance, sequence, 1)), 200);
        }
    }
    if clean {
        alive.stop();
        return data;
    }
    let left = copy(data.path());
    alive.stop();
    left
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

/// Starts on what is left, and records on. How many requests are still there.
fn survives(data: &Path) -> u64 {
    let analyzer = analyzer().data(data).start();
    let left = analyzer.json("/api/v1/document")["requests"].as_u64().unwrap();
    assert!(left <= 120, "nothing is counted twice: {left}");
    // A sequence that damage made larger must not make later reports look like repetitions.
    for instance in ["s1", "s2", "s3"] {
        assert_eq!(analyzer.report(&report(instance, 41, 1)), 200);
    }
    assert_eq!(analyzer.document_with_requests(left + 3)["requests"], left + 3);
    analyzer.stop();
    left
}

/// All files of a history that hold something, the lock excepted.
fn files(data: &Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| std::fs::metadata(path).unwrap().len() > 0).collect();
    files.retain(|path| !path.to_str().unwrap().ends_with("-shm"));
    files.sort();
    files
}

/// Few in CI; a thousand with `COUPLET_HEAVY=1`.
fn cases() -> u32 {
    if std::env::var_os("COUPLET_HEAVY").is_some() { 500 } else { 12 }
}

#[test]
fn flipped_bytes_never_stop_the_analyzer_and_cost_only_what_they_hit() {
    let histories = [history(true), history(false)];
    let least = std::cell::Cell::new(u64::MAX);
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let damage = (0usize..2, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1u8..);
    proptest!(config, |((which, file, at, with) in damage)| {
        let data = copy(histories[which].path());
        let files = files(data.path());
        let path = &files[file.index(files.len())];
        let mut bytes = std::fs::read(path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        std::fs::write(path, bytes).unwrap();
        least.set(least.get().min(survives(data.path())));
    });
    println!("at least {} of 120 requests were left after one flipped byte", least.get());
}

#[test]
fn truncated_files_never_stop_the_analyzer() {
    let histories = [history(true), history(false)];
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let damage = (0usize..2, any::<prop::sample::Index>(), any::<prop::sample::Index>());
    proptest!(config, |((which, file, at) in damage)| {
        let data = copy(histories[which].path());
        let files = files(data.path());
        let path = &files[file.index(files.len())];
        let mut bytes = std::fs::read(path).unwrap();
        bytes.truncate(at.index(bytes.len()));
        std::fs::write(path, bytes).unwrap();
        survives(data.path());
    });
}

#[test]
fn a_history_can_be_read_as_a_recording_while_it_is_written() {
    let data = tempfile::tempdir().unwrap();
    let writing = analyzer().data(data.path()).start();
    writing.report(&report("s1", 1, 7));
    let showing = analyzer().with(|config| config.recording = Some(data.path().join("history.db"))).start();
    assert_eq!(showing.json("/api/v1/document")["requests"], 7);
    assert_eq!(showing.json("/api/v1/document?window=1m")["requests"], 7, "its last minute, not today's");
    assert_eq!(showing.report(&report("s1", 2, 1)), 409, "it is only shown");
    assert_eq!(writing.report(&report("s1", 2, 1)), 200);
}

#[test]
fn other_peoples_databases_are_no_recordings() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("theirs.db");
    let theirs = rusqlite::Connection::open(&path).unwrap();
    theirs.execute_batch("CREATE TABLE x (y)").unwrap();
    assert!(recording::read(&path).unwrap_err().to_string().contains("neither a recording"));
    let views = "CREATE VIEW report AS SELECT 1 AS id, '' AS body, 0 AS checksum; CREATE VIEW instance AS SELECT 1";
    theirs.execute_batch(views).unwrap();
    assert!(recording::read(&path).unwrap_err().to_string().contains("neither a recording"));
    assert!(recording::read(&data.path().join("none")).is_err());
}
