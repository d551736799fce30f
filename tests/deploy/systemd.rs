//! The units: systemd accepts them, finds them confined, and their commands are such as the program understands.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use couplet_config::ProxyConfig;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Ended, Program, couplet, has};
use crate::place::{AFTER_DRAIN_SECONDS, UID, file, say, seconds, text};

const SIDECAR: &str = "couplet@.service";
const ANALYZER: &str = "couplet-analyzer.service";
/// Where the units say that the program is.
const PROGRAM: &str = "/usr/local/bin/couplet";

/// Of ten; systemd itself says "OK" up to 2.
const MOST_EXPOSURE: &str = "--threshold=15";

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has("systemd", &["systemd-analyze", "--version"]) {
        return;
    }
    // As they are, but for the program, which is not installed here.
    let folder = tempfile::tempdir().unwrap();
    for unit in [SIDECAR, ANALYZER] {
        std::fs::write(folder.path().join(unit), unit_text(unit).replace(PROGRAM, env!("CARGO_BIN_EXE_couplet")))
            .unwrap();
    }
    let units = [SIDECAR.replace('@', "@orders"), ANALYZER.to_owned()];
    std::fs::copy(folder.path().join(SIDECAR), folder.path().join(&units[0])).unwrap();
    for unit in &units {
        let verified = analyze(&["verify", "--man=no"], &folder, unit);
        assert_eq!(verified.stderr(), "", "{verified}");
        analyze(&["security", "--offline=true", "--no-pager", MOST_EXPOSURE], &folder, unit);
    }
}

#[test]
fn the_user_of_the_units_has_the_uid_that_the_rules_let_pass() {
    if !has("systemd users", &["systemd-sysusers", "--version"]) {
        return;
    }
    let users = file("deploy/systemd/couplet.sysusers");
    let said = Ended::of("sysusers", Command::new("systemd-sysusers").arg("--dry-run").arg(users)).with(0);
    let said = format!("{}{}", said.stdout(), said.stderr());
    assert!(!said.contains("gnoring"), "{said}");
    assert!(text("deploy/systemd/couplet.sysusers").contains(&format!("u couplet {UID}:{UID} ")));
    for unit in [SIDECAR, ANALYZER] {
        assert_eq!(values(unit, "User"), ["couplet"]);
    }
}

#[test]
fn systemd_waits_longer_than_a_drain_can_take() {
    let drain = ProxyConfig::new("orders").timeouts.drain.as_secs();
    let patience = seconds(&values(SIDECAR, "TimeoutStopSec")[0]);
    assert!(patience > drain + AFTER_DRAIN_SECONDS, "{patience} s for {drain} s and {AFTER_DRAIN_SECONDS} s");
}

#[test]
fn the_commands_of_the_units_are_understood() {
    let place = tempfile::tempdir().unwrap();
    let etc = place.path().join("etc");
    std::fs::create_dir_all(etc.join("sidecars")).unwrap();
    let proxy = "service: orders\nadmin: 127.0.0.1:0\nexplicit: 127.0.0.1:0\nlog: {format: json}\n";
    std::fs::write(etc.join("sidecars/orders.yaml"), proxy).unwrap();
    std::fs::write(etc.join("analyzer.yaml"), "listen: 127.0.0.1:0\nlog: {format: json}\n").unwrap();
    let command = |line: &str| {
        let here = |word: &str| word.replace("%i", "orders").replace("/etc/couplet", etc.to_str().unwrap());
        let line = here(line.strip_prefix(PROGRAM).unwrap().trim());
        couplet(&line.replace("/var/lib/couplet", place.path().join("data").to_str().unwrap()))
    };
    let reload = values(SIDECAR, "ExecReload");
    assert_eq!(reload.len(), 2);
    Ended::of(&reload[0], &mut command(&reload[0])).with(0);
    assert_eq!(reload[1], "/bin/kill -HUP $MAINPID");
    for (unit, listener) in [(SIDECAR, "admin"), (ANALYZER, "analyzer")] {
        let mut program = Program::start(&mut command(&values(unit, "ExecStart")[0]));
        program.listener(listener);
        program.signal(Signal::TERM);
        assert_eq!(program.exit_code(), Some(0), "{}", program.said());
    }
}

#[test]
fn systemd_runs_the_units_as_confined_as_they_say() {
    // Whether namespaces can be had differs from machine to machine.
    let namespaces = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "true"];
    let works = |words: &[&str]| Command::new(words[0]).args(&words[1..]).output().is_ok_and(|o| o.status.success());
    if !works(&namespaces) || !works(&["/lib/systemd/systemd", "--version"]) {
        say("SKIPPED systemd units: systemd cannot be started in namespaces here, which takes root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = folder.path().join("root").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for unit in [SIDECAR, ANALYZER] {
        put(&format!("etc/systemd/system/{unit}"), &unit_text(unit));
    }
    put("etc/sysusers.d/couplet.conf", &text("deploy/systemd/couplet.sysusers"));
    put("etc/couplet/analyzer.yaml", "token: ${COUPLET_TOKEN}\n");
    let sidecar = "service: orders\napp: 127.0.0.1:8080\ntelemetry: {window: 100ms}\n\
                   analyzer: {url: 'http://127.0.0.1:15400', token: '${COUPLET_TOKEN}'}\n";
    put("etc/couplet/sidecars/orders.yaml", sidecar);
    for name in ["analyzer.env", "sidecars/orders.env"] {
        put(&format!("etc/couplet/{name}"), "COUPLET_TOKEN=secret\n");
        let path = folder.path().join("root/etc/couplet").join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    put(
        "etc/systemd/system/test.target",
        "[Unit]\nWants=couplet@orders.service couplet-analyzer.service test.service\n",
    );
    put("etc/systemd/system/test.service", "[Service]\nType=oneshot\nExecStart=/bin/bash /test\n");
    put("test", include_str!("look"));
    put(&PROGRAM[1..], "");
    std::fs::copy(env!("CARGO_BIN_EXE_couplet"), folder.path().join("root").join(&PROGRAM[1..])).unwrap();

    Ended::of("boot", Command::new(file("tests/deploy/boot")).arg(folder.path())).with(0);
    let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
    let count = |line: &str| said.lines().filter(|said| *said == line).count();
    assert_eq!(count("delivered"), 1, "{said}");
    // What is right is taken over; what is wrong does not reach the running sidecar.
    for line in ["reloaded", "refused", "active", "the same process"] {
        assert_eq!(count(line), 1, "{line}: {said}");
    }
    let uids = format!("Uid: {UID} {UID} {UID} {UID}");
    for line in [&uids, "CapBnd: 0000000000000000", "CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"] {
        assert_eq!(count(line), 2, "{line}: {said}");
    }
    assert_eq!(count("history.db couplet 600"), 1, "{said}");
    for line in ["Result=success", "ExecMainStatus=0", "NRestarts=0"] {
        assert_eq!(count(line), 2, "{line}: {said}");
    }
}

fn unit_text(unit: &str) -> String {
    text(&format!("deploy/systemd/{unit}"))
}

/// What a unit says for this key, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let unit = unit_text(unit);
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

#[track_caller]
fn analyze(words: &[&str], folder: &TempDir, unit: &str) -> Ended {
    let mut command = Command::new("systemd-analyze");
    Ended::of(unit, command.args(words).arg(folder.path().join(unit)).env("SYSTEMD_LOG_LEVEL", "warning")).with(0)
}
