//! WebSockets: two clients, two servers, and the verdicts of Autobahn's test suite.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::compare::{note, same_through_sidecars};
use crate::harness::Program;
use crate::place::{command, has, installed, program, python};
use crate::topology::{Origin, Sidecars};

/// The servers that are installed here.
fn origins(test: &str) -> Vec<Origin> {
    let mut origins = Vec::new();
    if has_ws(test) {
        origins.push(Origin::node("ws server", "websocket-server.mjs", &[]));
    }
    if has(test, &[&python(), "-c", "import websockets"]) {
        origins.push(Origin::python("websockets server", "websocket-server.py", &[]));
    }
    origins
}

fn has_ws(test: &str) -> bool {
    has(test, &["node", "-e", "require('ws')"])
}

#[test]
fn ws() {
    if has_ws("ws") {
        same_through_sidecars("ws", &["node", &program("websocket-client.mjs"), "URL"], &origins("ws"));
    }
}

#[test]
fn websockets() {
    if has("websockets", &[&python(), "-c", "import websockets"]) {
        let words = [&python(), &program("websocket-client.py"), "URL"];
        same_through_sidecars("websockets", &words, &origins("websockets"));
    }
}

/// Everything but large messages (9) and compression (12, 13): as proxies are usually judged.
#[test]
fn autobahn_judges_the_same_through_sidecars() {
    let wstest = installed("autobahn/wstest");
    let wstest = wstest.to_str().unwrap();
    if !has("autobahn", &[wstest, "--help"]) || !has_ws("autobahn") {
        return;
    }
    // Of this server the verdicts are the same each time.
    let origin = Origin::node("ws server", "websocket-server.mjs", &[]);
    let sidecars = Sidecars::before(origin.address);
    let direct = verdicts(wstest, origin.address);
    let through = verdicts(wstest, sidecars.outbound);
    assert_eq!(direct.len(), 247, "all cases were run");
    let different: Vec<_> = direct.iter().filter(|(case, verdict)| through.get(*case) != Some(verdict)).collect();
    note(
        "Autobahn → ws server",
        &format!("{} of {} verdicts equal to direct", direct.len() - different.len(), direct.len()),
    );
    let through: Vec<_> = different.iter().map(|(case, _)| (case, through.get(*case))).collect();
    assert!(different.is_empty(), "direct: {different:?}\nthrough: {through:?}");
}

/// Runs the suite as client of the server at `address`: what it says of each case.
fn verdicts(wstest: &str, address: SocketAddr) -> BTreeMap<String, Value> {
    let folder = tempfile::tempdir().unwrap();
    let (reports, settings) = (folder.path().join("reports"), folder.path().join("settings.json"));
    let asked = json!({
        "outdir": reports, "cases": ["*"], "exclude-cases": ["9.*", "12.*", "13.*"], "exclude-agent-cases": {},
        "servers": [{"agent": "server", "url": format!("ws://{address}")}],
    });
    std::fs::write(&settings, asked.to_string()).unwrap();
    let mut suite = Program::start(&mut command(&[wstest, "-m", "fuzzingclient", "-s", settings.to_str().unwrap()]));
    let code = suite.exit_code();
    assert_eq!(code, Some(0), "{}", suite.said());
    let index: Value = serde_json::from_str(&std::fs::read_to_string(reports.join("index.json")).unwrap()).unwrap();
    let verdict = |case: &Value| json!([case["behavior"], case["behaviorClose"], case["remoteCloseCode"]]);
    let cases = index["server"].as_object().unwrap();
    cases.iter().map(|(name, case)| (name.clone(), verdict(case))).collect()
}
