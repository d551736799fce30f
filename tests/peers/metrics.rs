//! Prometheus' own tool reads what analyzer and proxy say of themselves, and has nothing to object to.

use std::io::Write as _;
use std::process::Stdio;

use crate::harness::{Analyzer, Program, couplet, get};
use crate::place::{command, has};
use crate::topology::Origin;

#[test]
fn promtool_finds_no_fault_with_either_page() {
    if !has("promtool", &["promtool", "--version"]) || !has("Node", &["node", "--version"]) {
        return;
    }
    let origin = Origin::node("node:http", "origin.mjs", &["http1"]);
    let analyzer = Analyzer::start();
    let mut proxy = Program::start(&mut couplet(&format!(
        "proxy --service stock --app {} --inbound 127.0.0.1:0 --admin 127.0.0.1:0 --analyzer {} --log-format json",
        origin.address,
        analyzer.url()
    )));
    let (inbound, admin) = (proxy.listener("inbound"), proxy.listener("admin"));
    for _ in 0..3 {
        get(inbound, "/");
    }
    analyzer.document_when(|document| document["requests"] == 3);
    let address = analyzer.url().trim_start_matches("http://").parse().unwrap();
    for (whose, page) in [("analyzer", get(address, "/metrics").1), ("proxy", get(admin, "/metrics").1)] {
        assert!(page.lines().filter(|line| !line.starts_with('#')).count() > 20, "{whose}: {page}");
        let mut tool = command(&["promtool", "check", "metrics"]);
        let mut tool = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let said = tool.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(said.status.success() && text.is_empty(), "{whose}: {}\n{text}", said.status);
    }
}
