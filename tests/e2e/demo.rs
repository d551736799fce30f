//! The demo is a test of everything at once: services, sidecars, reports, graph and findings, over real sockets.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Output, Stdio},
};

use couplet_telemetry::path::PathId;
use serde_json::Value;

use crate::harness::{Program, couplet, eventually, free_port, get};

/// `couplet demo` with these flags, run to its end.
fn demo(flags: &str) -> std::io::Result<Output> {
    couplet_demo(flags).output()
}

fn couplet_demo(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
    command.arg("demo").args(flags.split_whitespace());
    command
}

/// What a demo says when it is wrong: beside an assertion, the whole story.
fn story(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

#[test]
fn every_planted_problem_of_the_monolith_is_found_and_every_request_is_counted() {
    let output = demo("--for 10s --format json").unwrap();
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{}", story(&output));
    assert_eq!(verdict["ok"], true);
    assert_eq!(verdict["services"], 12);
    assert_eq!(verdict["requests"]["counted"], verdict["requests"]["sent"]);
    for rule in ["SC", "FO", "CY", "NP", "RT", "PR"] {
        let mut planted = verdict["planted"].as_array().unwrap().iter();
        assert!(
            planted.any(|planted| planted["rule"] == rule && planted["found"] == true),
            "{rule}: {}",
            story(&output)
        );
    }
    let findings = verdict["findings"].as_array().unwrap();
    let chain = verdict["planted"].as_array().unwrap().iter().find(|planted| planted["rule"] == "SC").unwrap();
    let chain = findings.iter().find(|finding| finding["id"] == chain["finding"]).unwrap();
    assert_eq!(chain["depth"]["p95"], 6, "{chain}");
    // One service drops the trace headers: its calls, and only its, are not linked exactly.
    assert_eq!(verdict["links"]["forwarding_coverage"], 1.0, "{}", story(&output));
    assert!(verdict["links"]["coverage"].as_f64().unwrap() < 1.0, "{}", story(&output));
}

/// `recommendations` passes no header on. A path is named by a hash of everything from its root down, so that the one that
/// timing finds is the same as the one that headers prove exactly if it has the same name.
#[test]
fn calls_of_recommendations_which_drops_headers_join_the_chain_that_headers_would_prove_and_are_marked_as_inferred() {
    let port = free_port();
    let address = ([127, 0, 0, 1], port).into();
    let mut demo = Program::start(&mut couplet(&format!("demo --port {port} --rate 2")));
    demo.says(|line| line.contains(&format!(":{port}")).then_some(()));
    let ask = |path: &str| -> Value { serde_json::from_str(&get(address, path).1).unwrap() };
    let links = || {
        let document = ask("/api/v1/document");
        let services = document["services"].as_array().unwrap();
        let service = services.iter().find(|service| service["name"] == "recommendations")?;
        Some(["exact", "inferred", "unknown"].map(|evidence| service["links"][evidence].as_u64().unwrap()))
    };
    let before = eventually("timing has learned what recommendations does", || {
        links().filter(|[_, inferred, _]| *inferred > 20)
    });
    let after = eventually("it goes on", || links().filter(|[_, inferred, _]| *inferred > before[1] + 200));
    let [exact, inferred, unknown] = [0, 1, 2].map(|n| after[n] - before[n]);
    assert_eq!(after[0], 0, "nothing proves these calls");
    assert!(unknown * 20 <= inferred, "{exact} exact, {inferred} inferred, {unknown} unknown");

    let home = PathId::root("frontend", "GET /");
    let recommendations = home.child("recommendations", "GET /recommendations/{id}");
    let proved = recommendations.child("catalog", "GET /featured");
    let tree = ask("/api/v1/paths?entry=frontend%20GET%20/");
    let nodes = tree["paths"].as_array().unwrap();
    let below = |parent: PathId| nodes.iter().filter(move |node| node["parent"] == parent.to_string());
    let name = |node: &Value| (node["id"].as_str().unwrap().to_owned(), node["evidence"].as_str().unwrap().to_owned());
    let chain: Vec<_> = below(recommendations).map(name).collect();
    assert_eq!(chain, [(proved.to_string(), "inferred".to_owned())], "{tree:#}");
    let found = below(recommendations).next().unwrap();
    assert!(found["handlings"].as_u64().unwrap() >= 200, "{found:#}");
    let direct: Vec<_> = below(home).map(name).collect();
    assert!(direct.contains(&(recommendations.to_string(), "exact".to_owned())), "{direct:?}");
    assert!(
        direct.iter().all(|(_, evidence)| evidence == "exact"),
        "only what is below recommendations is inferred: {direct:?}"
    );
    let (exact, _) = nodes.iter().map(name).partition::<Vec<_>, _>(|(_, evidence)| evidence == "exact");
    assert_eq!(exact.len() + 1, nodes.len(), "{tree:#}");
}

#[test]
fn nothing_is_found_in_a_healthy_system() {
    let output = demo("--scenario healthy --for 10s --format json").unwrap();
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{}", story(&output));
    assert_eq!(verdict["unexpected"], serde_json::json!([]));
    assert_eq!(verdict["requests"]["counted"], verdict["requests"]["sent"]);
}

#[test]
fn a_demo_that_is_told_to_end_ends_in_order_and_loses_no_request() {
    let mut child = couplet_demo("--format json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("t+") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "the demo ended before its first finding");
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{rest}");
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(verdict["requests"]["sent"].as_u64().unwrap() > 0);
    assert_eq!(verdict["requests"]["counted"], verdict["requests"]["sent"]);
}

#[test]
fn a_wrong_flag_is_one_clear_error_and_nothing_starts() {
    for (flags, says) in [
        ("--for 20", "`20` is not a duration such as `20s`"),
        ("--for soon", "`soon` is not a duration"),
        ("--scenario monolit", "monolith"),
        ("--rate many", "must be a number between"),
        ("--enforce payment", "did you mean `payments`?"),
    ] {
        let output = demo(flags).unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", story(&output));
        assert!(story(&output).contains(says), "{}", story(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_only_when_it_was_asked_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = demo(&format!("--port {port} --for 5s")).unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", story(&output));
    assert!(story(&output).contains(&format!("port {port} is already in use")), "{}", story(&output));
    assert!(story(&output).contains("--port"), "{}", story(&output));
}

/// What the verdict says of the breaker for calls from one service to another.
fn breaker<'a>(verdict: &'a Value, from: &str, to: &str) -> &'a Value {
    let mut breakers = verdict["breakers"].as_array().unwrap().iter();
    let found = breakers.find(|breaker| breaker["from"] == from && breaker["to"] == to);
    found.unwrap_or_else(|| panic!("no breaker of {from} for {to} opened: {}", verdict["breakers"]))
}

/// The same seed makes the same requests in both, so a breaker that enforces meets the calls that it met when it observed.
/// All others observe in both: were there several in a row, the outermost would take the calls of the others.
#[test]
fn enforcing_rejects_what_observing_said_it_would_in_the_incident() {
    // It ends before payments recovers: how long a breaker stays open beyond that is chance.
    let run = |more: &str| {
        let mut demo = couplet_demo(&format!("--scenario incident --for 44s --rate 0.5 --format json {more}"));
        demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ended = [run(""), run("--enforce payments")].map(|child| child.wait_with_output().unwrap());
    let [observed, enforced] = ended
        .map(|output| serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{}", story(&output))));
    for caller in ["pricing", "billing"] {
        let (before, after) = (breaker(&observed, caller, "payments"), breaker(&enforced, caller, "payments"));
        let near = |predicted: f64, actual: f64| {
            assert!(predicted > 5.0, "{before}");
            let off = (actual - predicted).abs() / predicted;
            assert!(off <= 0.1, "{predicted} predicted, {actual} came: {before} {after}");
        };
        let number = |value: &Value| value.as_f64().unwrap();
        let (predicted, rejected) = (number(&before["would_have"]["rejected"]), number(&after["rejected"]));
        assert_eq!((&before["rejected"], &after["would_have"]["rejected"]), (&0.into(), &0.into()));
        // A machine that does not keep up makes fewer calls: the same load per second is that of all calls.
        let calls = |edge: &Value| edge["calls"].as_object().unwrap().values().map(number).sum::<f64>();
        near(predicted * (calls(after) + rejected) / (calls(before) + predicted), rejected);
        near(number(&before["stopped_seconds"]), number(&after["stopped_seconds"]));
        let precision = before["would_have"]["precision"].as_f64().unwrap();
        assert!(precision >= 0.98, "what enforcing stops would have failed anyway: {before}");
    }
}
