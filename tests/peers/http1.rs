//! HTTP/1.1 (and 1.0) clients against every HTTP/1 origin.

use crate::compare::same_before;
use crate::place::{has, program, python};
use crate::topology::Origin;

/// The origins that are installed here.
fn origins(test: &str) -> Vec<Origin> {
    let node = || Origin::node("Node http", "origin.mjs", &["http1"]);
    let mut origins = Vec::new();
    if has(test, &["node", "--version"]) {
        origins.push(node());
        if has(test, &["/usr/sbin/nginx", "-v"]) {
            origins.push(Origin::nginx("", node()));
        }
        if has(test, &["/usr/sbin/haproxy", "-v"]) {
            origins.push(Origin::haproxy("h1", node()));
        }
    }
    if has(test, &[&python(), "-c", "import aiohttp"]) {
        origins.push(Origin::python("aiohttp", "origin.py", &[]));
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
            "curl HTTP/1.1",
            &[&python(), "--version"],
            &[&python(), &program("curl.py"), "URL", "http1.1", "ORIGIN"],
        );
    }
}

#[test]
fn requests() {
    everywhere("requests", &[&python(), "-c", "import requests"], &[&python(), &program("with_requests.py"), "URL"]);
}

#[test]
fn httpx() {
    let words = [&python(), &program("with_httpx.py"), "URL", "http1.1"];
    everywhere("httpx HTTP/1.1", &[&python(), "-c", "import httpx"], &words);
}

#[test]
fn aiohttp() {
    everywhere("aiohttp", &[&python(), "-c", "import aiohttp"], &[&python(), &program("with_aiohttp.py"), "URL"]);
}

#[test]
fn node_fetch() {
    everywhere("Node fetch", &["node", "-e", "fetch.name"], &["node", &program("with-fetch.mjs"), "URL"]);
}

#[test]
fn node_http_agent() {
    everywhere("Node http", &["node", "--version"], &["node", &program("with-agent.mjs"), "URL"]);
}

#[test]
fn java_http_client() {
    everywhere("Java HttpClient", &["java", "--version"], &["java", &program("Client.java"), "URL", "http1.1"]);
}

/// Java asks to upgrade to h2c on its first request; it must go on in HTTP/1.1 when nobody takes it up.
#[test]
fn java_http_client_that_asks_for_h2c() {
    everywhere("Java HttpClient h2c", &["java", "--version"], &["java", &program("Client.java"), "URL", "http2"]);
}
