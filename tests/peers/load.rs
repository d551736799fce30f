//! Load generators that nobody here wrote: many requests over many connections, and none fails. How fast is not asked.

use crate::compare::note;
use crate::harness::Program;
use crate::place::{command, has};
use crate::topology::{Origin, Sidecars};

/// What the generator says at its end, after it has asked an origin of this kind through two sidecars.
#[track_caller]
fn said(kind: &str, words: &[&str]) -> String {
    let origin = Origin::node("Node", "origin.mjs", &[kind]);
    let sidecars = Sidecars::before(origin.address);
    let url = format!("http://{}/hello", sidecars.outbound);
    let words: Vec<_> = words.iter().copied().chain([url.as_str()]).collect();
    let mut generator = Program::start(&mut command(&words));
    let code = generator.exit_code();
    assert_eq!(code, Some(0), "{}", generator.said());
    generator.said()
}

fn is_there(name: &str, words: &[&str]) -> bool {
    has(name, words) && has(name, &["node", "--version"])
}

#[test]
fn wrk() {
    // Its own `--version` ends with 1.
    if is_there("wrk", &["which", "wrk"]) {
        let said = said("http1", &["wrk", "-t2", "-c32", "-d3s", "--timeout", "20s"]);
        assert!(said.contains("requests in"), "{said}");
        assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
        note("wrk -c32", said.lines().find(|line| line.contains("requests in")).unwrap().trim());
    }
}

#[test]
fn ab() {
    if is_there("ab", &["ab", "-V"]) {
        for (title, options) in
            [("ab -c16 (HTTP/1.0)", &["ab", "-q"][..]), ("ab -c16 -k (HTTP/1.0)", &["ab", "-q", "-k"])]
        {
            let said = said("http1", &[options, &["-c16", "-n3000", "-s", "20"]].concat());
            let complete = said.lines().find(|line| line.starts_with("Complete requests:")).unwrap();
            assert!(complete.ends_with(" 3000") && !said.contains("Non-2xx"), "{said}");
            assert!(said.lines().any(|line| line.starts_with("Failed requests:") && line.ends_with(" 0")), "{said}");
            note(title, "3000 of 3000 requests succeeded");
        }
    }
}

#[test]
fn h2load_over_http1() {
    h2load("h2load HTTP/1.1", "http1", &["--h1"]);
}

#[test]
fn h2load_over_http2() {
    h2load("h2load HTTP/2", "http2", &["-m", "20"]);
}

#[track_caller]
fn h2load(title: &str, kind: &str, options: &[&str]) {
    if is_there(title, &["h2load", "--version"]) {
        let said = said(kind, &[&["h2load", "-c8", "-n3000"], options].concat());
        let succeeded = "3000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(said.contains(succeeded) && said.contains("status codes: 3000 2xx"), "{said}");
        note(title, succeeded);
    }
}

/// nghttp as client: it also asks with priorities and shows every frame.
#[test]
fn nghttp() {
    if is_there("nghttp", &["nghttp", "--version"]) {
        let said = said("http2", &["nghttp", "-nv", "-m", "50", "--timeout=30s"]);
        assert_eq!(said.matches(":status: 200").count(), 50, "{said}");
        note("nghttp", "50 of 50 answers");
    }
}
