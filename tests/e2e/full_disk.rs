//! The disk of the analyzer is full, really: a small file system of its own, in a mount namespace of its own.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::crash::holds_all;
use crate::harness::{Analyzer, Program, couplet, eventually, free_port, get, has};
use crate::sender::{Senders, counted};

/// What the traffic comes from.
const SEED: u64 = 0x0c0d_e5ee_d016_0002;
/// Reports that are to pass before and after.
const REPORTS: u64 = 200;

#[test]
fn a_full_disk_costs_nothing_that_was_acknowledged_and_stops_no_question_and_room_ends_it() {
    if !has("full_disk", &["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=1m couplet /mnt && nsenter -V"]) {
        return;
    }
    let disk = Disk::new();
    let port = free_port();
    let line =
        format!("analyzer --listen 127.0.0.1:{port} --data {} --log-format json", disk.directory.path().display());
    let begin = || Analyzer::running(&mut disk.command(&line));
    let mut analyzer = begin();
    let senders = Senders::start(SocketAddr::from(([127, 0, 0, 1], port)), SEED);
    pass(&senders);

    disk.fill();
    is_failing(&analyzer, true);
    // Nothing more is acknowledged; the next snapshot shows all that was.
    let told = senders.acknowledged();
    analyzer.document_when(|document| counted(document) == told);
    assert_eq!(analyzer.api("/api/v1/findings")["findings"].as_array().map(Vec::len), Some(0));

    // Neither its death nor its end while there is no room costs anything.
    let mut slowest = Duration::ZERO;
    for signal in [Signal::KILL, Signal::TERM, Signal::KILL] {
        analyzer.program.signal(signal);
        analyzer.program.exit_code();
        let start = Instant::now();
        analyzer = begin();
        slowest = slowest.max(start.elapsed());
        is_failing(&analyzer, true);
        holds_all(&counted(&analyzer.document()), &senders.acknowledged());
    }

    let full = senders.reports();
    disk.make_room();
    is_failing(&analyzer, false);
    pass(&senders);
    let reports = senders.reports();
    let all = senders.stop();
    let document = analyzer.document_when(|document| document["requests"].as_u64() >= Some(all["shop"] + all["stock"]));
    assert_eq!(counted(&document), all, "every report once");
    let timeline = analyzer.api("/api/v1/timeline").to_string();
    assert!(timeline.contains("history_stopped") && timeline.contains("history_resumed"), "{timeline}");
    analyzer.program.signal(Signal::KILL);
    analyzer.program.exit_code();
    assert_eq!(counted(&begin().document()), all, "and so it is on disk");
    let _ = writeln!(
        std::io::stderr(),
        "seed {SEED:#x}: full after {full} reports, killed twice and ended once meanwhile, back after {slowest:?} at the \
         latest; {reports} reports acknowledged in the end, {} counts equal the senders'",
        all.len()
    );
}

/// Waits until so many more reports are acknowledged.
#[track_caller]
fn pass(senders: &Senders) {
    let enough = senders.reports() + REPORTS;
    eventually("reports are acknowledged", || (senders.reports() >= enough).then_some(()));
}

#[track_caller]
fn is_failing(analyzer: &Analyzer, failing: bool) {
    let line = format!("couplet_analyzer_history_failing {}\n", u8::from(failing));
    eventually(&line, || get(analyzer.address(), "/metrics").1.contains(&line).then_some(()));
}

/// A file system of sixteen megabytes, thrice what the log alone may take, that only its own processes see.
struct Disk {
    directory: tempfile::TempDir,
    /// Keeps the namespace.
    keeper: Program,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs -o size=16m couplet $0 && echo mounted && exec sleep 600",
        ]);
        let mut keeper = Program::start(command.arg(directory.path()).stdin(Stdio::null()));
        keeper.says(|line| (line == "mounted").then_some(()));
        Self { directory, keeper }
    }

    /// `couplet` with the words of `line`, where this file system is.
    fn command(&self, line: &str) -> Command {
        let couplet = couplet(line);
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id())).arg(couplet.get_program());
        command.args(couplet.get_args()).stdin(Stdio::null());
        for (name, value) in couplet.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// The file of somebody else that takes all the room.
    fn ballast(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.keeper.id());
        Path::new(&root).join(self.directory.path().strip_prefix("/").unwrap()).join("ballast")
    }

    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let full = std::iter::repeat_with(|| ballast.write_all(&[0; 4_096])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}
