//! The caller's sidecar as explicit proxy, as `HTTP_PROXY` leads to it: absolute form, and tunnels by CONNECT.

use std::net::SocketAddr;

use crate::compare::note;
use crate::harness::Program;
use crate::place::{command, has, program, python};
use crate::topology::{Origin, Sidecars};

/// What the client says on its standard output, by itself and by way of the proxy.
#[track_caller]
fn same(client: &str, origin: SocketAddr, words: impl Fn(Option<&str>) -> Vec<String>) {
    let sidecars = Sidecars::before(origin);
    let proxy = format!("http://{}", sidecars.explicit);
    let said = |proxy: Option<&str>| {
        let words = words(proxy);
        let mut client = Program::start(&mut command(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        let code = client.exit_code();
        assert_eq!(code, Some(0), "{words:?}: {}", client.said());
        client.said()
    };
    let (direct, through) = (said(None), said(Some(&proxy)));
    assert!(!direct.is_empty());
    assert_eq!(direct, through, "{client}");
    note(&format!("{client} → explicit proxy"), "equal to direct");
}

fn origin(test: &str) -> Option<Origin> {
    has(test, &["node", "--version"]).then(|| Origin::node("Node http", "origin.mjs", &["http1"]))
}

/// A command line of curl for one upload and one download, and what it prints of each.
fn curl(origin: SocketAddr, more: &[&str]) -> Vec<String> {
    let mut words: Vec<_> =
        ["curl", "-sSf", "-m", "40", "-w", "%{http_code} %{size_download} %{content_type}\n"].map(str::to_owned).into();
    words.extend(more.iter().map(|&word| word.to_owned()));
    words.extend(["-d", "abc"].map(str::to_owned));
    words.extend([format!("http://{origin}/upload"), format!("http://{origin}/echo")]);
    words
}

#[test]
fn curl_with_absolute_targets() {
    let Some(origin) = origin("curl -x").filter(|_| has("curl -x", &["curl", "--version"])) else { return };
    same("curl -x", origin.address, |proxy| {
        curl(origin.address, &proxy.map_or_else(Vec::new, |proxy| vec!["-x", proxy]))
    });
}

#[test]
fn curl_through_a_tunnel() {
    let Some(origin) = origin("curl -p").filter(|_| has("curl -p", &["curl", "--version"])) else { return };
    same("curl -p", origin.address, |proxy| {
        curl(origin.address, &proxy.map_or_else(Vec::new, |proxy| vec!["-p", "-x", proxy]))
    });
}

#[test]
fn requests_with_a_proxy() {
    let Some(origin) = origin("requests").filter(|_| has("requests", &[&python(), "-c", "import requests"])) else {
        return;
    };
    same("requests", origin.address, |proxy| {
        let script = "import sys, requests; s = requests.Session(); s.trust_env = False\n\
                      if len(sys.argv) > 2: s.proxies = {'http': sys.argv[2]}\n\
                      for path in ('/hello', '/bytes/300000', '/redirect'):\n  \
                        a = s.get(sys.argv[1] + path, timeout=40); print(a.status_code, len(a.content), a.headers.get('x-origin'))";
        let words = [python(), "-c".to_owned(), script.to_owned(), format!("http://{}", origin.address)];
        words.into_iter().chain(proxy.map(str::to_owned)).collect()
    });
}

/// An own protocol inside a tunnel: HTTP/2 by prior knowledge, with Node's client on a socket that CONNECT has opened.
#[test]
fn http2_inside_a_tunnel() {
    if !has("Node http2 by CONNECT", &["node", "--version"]) {
        return;
    }
    let origin = Origin::node("Node http2", "origin.mjs", &["http2"]);
    same("Node http2 by CONNECT", origin.address, |proxy| {
        let words = ["node".to_owned(), program("through-tunnel.mjs"), origin.address.to_string()];
        words.into_iter().chain(proxy.map(str::to_owned)).collect()
    });
}
