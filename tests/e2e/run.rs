//! `couplet run` wraps services that know nothing of it.

use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;

use crate::analyze::edges;
use crate::harness::{Analyzer, Ended, Program, couplet, ended, free_port, get, has};

const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/services");

#[test]
fn python_node_and_curl_talk_to_one_another_and_the_chain_is_in_the_graph() {
    let test = "python_node_and_curl_talk_to_one_another_and_the_chain_is_in_the_graph";
    let needed = [&["python3", "-c", "import requests"][..], &["node", "-e", "fetch"], &["curl", "--version"]];
    // Every missing program is named, not only the first.
    if needed.map(|command| has(test, command)).contains(&false) {
        return;
    }
    let analyzer = Analyzer::start();
    let web = Service::start("web", "python3", "web.py", &analyzer);
    let _api = Service::start("api", "node", "api.mjs", &analyzer);
    let _stock = Service::start("stock", "python3", "stock.py", &analyzer);
    let _prices = Service::start("prices", "python3", "prices.py", &analyzer);
    analyzer.knows_where_to_find(&["api", "prices", "stock", "web"]);

    for request in 0..REQUESTS {
        let (status, body) = get(web.inbound, "/");
        assert_eq!((status, body.as_str()), (200, "web api stock prices"), "request {request}");
    }

    let complete = |document: &serde_json::Value| {
        document["requests"] == REQUESTS
            && edges(document).iter().map(|(_, _, calls)| calls).sum::<u64>() == 3 * REQUESTS
    };
    let document = analyzer.document_when(complete);
    let edge = |source: &str, destination: &str| (source.to_owned(), destination.to_owned(), REQUESTS);
    assert_eq!(edges(&document), [edge("api", "stock"), edge("stock", "prices"), edge("web", "api")]);
    assert_eq!(document["entries"].as_array().unwrap().len(), 1, "{document:#}");
    assert_eq!(document["entries"][0]["service"], "web");
    assert_eq!(document["entries"][0]["depth"]["max"], 3, "{document:#}");
    assert_eq!(document["links"]["exact"], 3 * REQUESTS);
    assert_eq!(document["links"]["coverage"], 1.0);

    let doctor = ended(&format!("doctor --require 100 --format json --analyzer {}", analyzer.url())).with(0).json();
    assert_eq!(doctor["breaks"], serde_json::json!([]), "{doctor:#}");
    let services: Vec<_> = doctor["services"].as_array().unwrap().iter().map(|service| &service["service"]).collect();
    assert_eq!(services, ["api", "stock", "web"], "those that call");
    assert_eq!(doctor["services"][2]["clients"][0]["name"], "requests", "{doctor:#}");
    assert_eq!(doctor["services"][2]["headers"][0]["name"], "traceparent", "{doctor:#}");
    ended(&format!("doctor --analyzer {}", analyzer.url())).with(0);
}

/// How often the chain is walked.
const REQUESTS: u64 = 20;

/// A wrapped service that is ready.
struct Service {
    _program: Program,
    inbound: SocketAddr,
}

impl Service {
    fn start(name: &str, interpreter: &str, script: &str, analyzer: &Analyzer) -> Self {
        let (port, url) = (free_port(), analyzer.url());
        let line = format!("run --service {name} --port {port} --analyzer {url} -- {interpreter} {SERVICES}/{script}");
        let mut program = Program::start(&mut couplet(&line));
        let inbound = program.says(|line| {
            let (_, rest) = line.split_once(&format!("{name} is reachable at http://"))?;
            rest.split(',').next()?.parse().ok()
        });
        program.says(|line| (line == "ready").then_some(()));
        Self { _program: program, inbound }
    }
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 128 + 9)] {
        let mut command = couplet("run --service job --analyzer off -- sh -c");
        Ended::of(script, command.arg(script)).with(code);
    }
}

#[test]
fn a_command_that_cannot_be_started_is_named_and_nothing_keeps_running() {
    ended("run --service job --analyzer off -- no-such-command-here")
        .with(127)
        .with_one_error()
        .saying(&["`no-such-command-here`", "no such command"]);
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("notes.txt");
    std::fs::write(&plain, "hello").unwrap();
    ended(&format!("run --service job --analyzer off -- {}", plain.display()))
        .with(126)
        .with_one_error()
        .saying(&["notes.txt", "executed"]);
}

#[test]
fn signals_reach_the_command_and_its_own_way_of_ending_counts() {
    for (signal, name, code) in [(Signal::TERM, "TERM", 41), (Signal::HUP, "HUP", 42), (Signal::USR1, "USR1", 43)] {
        // Short naps in a row: a long one would have to be killed by the trap, and may not have begun by then.
        let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.05; done");
        let mut command = couplet("run --service job --analyzer off -- sh -c");
        let mut program = Program::start(command.arg(script));
        program.says(|line| (line == "ready").then_some(()));
        program.signal(signal);
        assert_eq!(program.exit_code(), Some(code), "{}", program.said());
    }
}

#[test]
fn the_command_finds_its_way_in_its_environment() {
    let mut command = couplet("run --service job --port 8123 --analyzer off -- sh -c");
    let show = "echo $PORT; echo $http_proxy; echo $HTTP_PROXY; echo $NO_PROXY; echo $NODE_USE_ENV_PROXY; cat \
                \"$(echo \"$NODE_OPTIONS\" | cut -d '\"' -f 2)\" | wc -l";
    let output = command.arg(show).output().unwrap();
    let lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim().to_owned()).collect();
    let [port, lower, upper, direct, node, shim] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((port.as_str(), node.as_str()), ("8123", "1"));
    assert!(lower.starts_with("http://127.0.0.1:") && lower == upper, "{lines:?}");
    assert_eq!(direct, "127.0.0.1,localhost,::1");
    assert!(shim.parse::<usize>().unwrap() > 10, "the shim for Node.js is there: {lines:?}");
}

#[test]
fn an_analyzer_that_is_away_is_mentioned_once_and_stops_nothing() {
    let port = free_port();
    let mut command = couplet(&format!("run --service job --analyzer http://127.0.0.1:{port} -- sh -c"));
    let mut program = Program::start(command.arg("read line; echo got $line").stdin(std::process::Stdio::piped()));
    program.says(|line| line.contains("no analyzer at http://127.0.0.1:").then_some(()));
    program.writes("hello\n");
    assert_eq!(program.exit_code(), Some(0), "{}", program.said());
    assert!(program.said().contains("got hello"));
    assert_eq!(program.said().matches("no analyzer").count(), 1, "{}", program.said());
}

#[test]
fn old_node_sends_http_through_the_proxy_and_nothing_else() {
    let test = "old_node_sends_http_through_the_proxy_and_nothing_else";
    if !has(test, &["node", "-e", "fetch"]) {
        return;
    }
    let shim = concat!(env!("CARGO_MANIFEST_DIR"), "/src/run/env-proxy.cjs");
    let output = Command::new("node").args([&format!("{SERVICES}/through-proxy.mjs"), shim]).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim() == "ok", "{said}{errors}");
}

#[test]
fn ctrl_c_at_a_terminal_reaches_the_command_once() {
    let test = "ctrl_c_at_a_terminal_reaches_the_command_once";
    if !has(test, &["python3", "-c", "import pty"]) {
        return;
    }
    // Takes the first interrupt, then gives a second one half a second to arrive.
    let count = "import signal, sys\n\
                 signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n\
                 print('ready', flush=True)\n\
                 signal.sigwait([signal.SIGINT])\n\
                 again = signal.sigtimedwait([signal.SIGINT], 0.5)\n\
                 sys.exit(61 if again is None else 62)";
    let run = couplet("run --service job --analyzer off -- python3 -c");
    let output = Command::new("python3")
        .arg(format!("{SERVICES}/at-a-terminal.py"))
        .arg(run.get_program())
        .args(run.get_args())
        .arg(count)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(61), "{}", String::from_utf8_lossy(&output.stdout));
}
