//! Whatever happens to the file: the analyzer starts, says what was lost, and goes on.

use std::io::Write as _;
use std::path::Path;

use couplet_analyzer::history::recording;

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

/// Requests in the history, each a report of its own.
const REQUESTS: u64 = 120;
/// What places and bytes come from.
const SEED: u64 = 0x0c0d_e5ee_d016_0003;

/// Starts on what is left, and records on. How many requests are still there; a loss must have been told.
fn survives(data: &Path) -> u64 {
    let analyzer = analyzer().data(data).start();
    let left = analyzer.json("/api/v1/document")["requests"].as_u64().unwrap();
    assert!(left <= REQUESTS, "nothing is counted twice: {left}");
    // A sequence that damage made larger must not make later reports look like repetitions.
    for instance in ["s1", "s2", "s3"] {
        assert_eq!(analyzer.report(&report(instance, 41, 1)), 200);
    }
    assert_eq!(analyzer.document_with_requests(left + 3)["requests"], left + 3);
    let told = &analyzer.json("/api/v1/status")["limits"];
    let told: u64 =
        ["history_damages", "history_damaged", "missing_reports"].iter().filter_map(|n| told[n].as_u64()).sum();
    assert!(left == REQUESTS || told > 0, "{left} are left, and nothing was said");
    analyzer.stop();
    left
}

/// All files of a history that hold something, the lock and the shared memory excepted.
fn files(data: &Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| std::fs::metadata(path).unwrap().len() > 0).collect();
    files.retain(|path| !path.to_str().unwrap().ends_with("-shm"));
    files.sort();
    files
}

/// Few in CI; a thousand of both kinds with `COUPLET_HEAVY=1`.
fn cases() -> u32 {
    if std::env::var_os("COUPLET_HEAVY").is_some() { 500 } else { 12 }
}

const PAGE: usize = 4_096;
const LOG_HEAD: usize = 32;
const FRAME: usize = 24 + PAGE;

/// How many requests lie in what is damaged: in a leaf, its rows; in a log, the transactions from there on. All of them
/// where the page is one that leads to the others.
fn at_stake(file: &Path, bytes: &[u8], damaged: std::ops::Range<usize>) -> u64 {
    let number = |at: usize, length: usize| bytes[at..at + length].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let stake = if file.to_str().unwrap().ends_with("-wal") {
        let frame = damaged.start.saturating_sub(LOG_HEAD) / FRAME;
        // The size of the database stands in the last frame of a transaction alone.
        (frame..(bytes.len() - LOG_HEAD) / FRAME).filter(|n| number(LOG_HEAD + n * FRAME + 4, 4) > 0).count() as u64
    } else {
        let of_page = |page: usize| match bytes[page * PAGE] {
            _ if page == 0 => REQUESTS,
            5 => REQUESTS,
            13 => number(page * PAGE + 3, 2),
            2 | 10 => 0,
            _ => 1,
        };
        (damaged.start / PAGE..damaged.end.div_ceil(PAGE)).map(of_page).sum()
    };
    stake.min(REQUESTS)
}

/// Damages copies of histories and starts on them. `damage` changes the bytes, and says which were.
fn endure(what: &str, mut damage: impl FnMut(&mut fastrand::Rng, &mut Vec<u8>) -> std::ops::Range<usize>) {
    let histories = [history(true), history(false)];
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut lost, mut harmless, mut started) = (0, 0, 0);
    for _ in 0..cases() {
        let data = copy(random.choice(&histories).unwrap().path());
        let path = random.choice(files(data.path())).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let damaged = damage(&mut random, &mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let stake = at_stake(&path, &whole, damaged.clone());
        let left = survives(data.path());
        assert!(left + stake >= REQUESTS, "{}: {left} are left, {stake} lay in {damaged:?}", path.display());
        (lost, started) = (lost + REQUESTS - left, started + 1);
        harmless += u32::from(left == REQUESTS);
    }
    let _ = writeln!(
        std::io::stderr(),
        "seed {SEED:#x}: {started} histories of {REQUESTS} requests {what}: all opened, {harmless} lost nothing, \
         {lost} requests lost in all, none beyond the damage, none without a word"
    );
}

#[test]
fn flipped_bytes_never_stop_the_analyzer_and_cost_only_what_they_hit() {
    endure("with a flipped byte", |random, bytes| {
        let at = random.usize(0..bytes.len());
        bytes[at] ^= random.u8(1..);
        at..at + 1
    });
}

#[test]
fn truncated_files_never_stop_the_analyzer_and_cost_only_what_was_cut() {
    endure("cut", |random, bytes| {
        let (at, length) = (random.usize(0..bytes.len()), bytes.len());
        bytes.truncate(at);
        at..length
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
