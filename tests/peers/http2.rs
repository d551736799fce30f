//! HTTP/2 clients in the clear, by prior knowledge, against every HTTP/2 origin.

use crate::compare::same_before;
use crate::place::{has, program, python};
use crate::topology::Origin;

/// The origins that are installed here.
fn origins(test: &str) -> Vec<Origin> {
    let mut origins = Vec::new();
    if has(test, &["node", "--version"]) {
        origins.push(Origin::node("Node http2", "origin.mjs", &["http2"]));
        if has(test, &["/usr/sbin/nginx", "-v"]) {
            origins.push(Origin::nginx("http2", Origin::node("Node http", "origin.mjs", &["http1"])));
        }
        if has(test, &["/usr/sbin/haproxy", "-v"]) {
            origins.push(Origin::haproxy("h2", Origin::node("Node http2", "origin.mjs", &["http2"])));
        }
    }
    origins
}

#[track_caller]
fn everywhere(client: &str, is_there: &[&str], words: &[&str]) {
    same_before(origins, client, is_there, words);
}

#[test]
fn curl() {
    if has("curl", &["curl", "--version"]) {
        everywhere(
            "curl HTTP/2",
            &[&python(), "--version"],
            &[&python(), &program("curl.py"), "URL", "http2", "ORIGIN"],
        );
    }
}

#[test]
fn httpx() {
    let words = [&python(), &program("with_httpx.py"), "URL", "http2"];
    everywhere("httpx HTTP/2", &[&python(), "-c", "import httpx, h2"], &words);
}

#[test]
fn node_http2() {
    everywhere("Node http2", &["node", "--version"], &["node", &program("with-http2.mjs"), "URL", "ORIGIN"]);
}
