//! Services of Python and Node that forward no header at all: their chains come out as with headers, marked as inferred.

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{Analyzer, Program, couplet, eventually, free_port, get, has};

const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/services");

/// web (Python) calls api (Node) calls prices (Python).
struct System {
    analyzer: Analyzer,
    entrance: SocketAddr,
    _services: [Program; 3],
}

impl System {
    fn start(silent: bool) -> Self {
        let analyzer = Analyzer::start();
        let (web, entrance) = service("web", "python3", "web.py", silent, &analyzer);
        let (api, _) = service("api", "node", "api.mjs", silent, &analyzer);
        let (prices, _) = service("prices", "python3", "prices.py", silent, &analyzer);
        analyzer.knows_where_to_find(&["api", "prices", "web"]);
        Self { analyzer, entrance, _services: [web, api, prices] }
    }

    /// As many requests, so many side by side.
    fn serve(&self, requests: usize, side_by_side: usize) {
        let entrance = self.entrance;
        std::thread::scope(|scope| {
            for _ in 0..side_by_side {
                scope.spawn(move || {
                    for _ in 0..requests / side_by_side {
                        let (status, body) = get(entrance, "/");
                        assert_eq!((status, body.as_str()), (200, "web api prices"));
                    }
                });
            }
        });
    }

    /// The document, once everything that was requested is counted.
    fn document(&self, requests: usize) -> Value {
        self.analyzer.document_when(|document| {
            let edges = document["edges"].as_array().map(Vec::as_slice).unwrap_or_default();
            let whole = |edge: &Value| edge["calls"].as_u64() == Some(requests as u64);
            document["requests"].as_u64() == Some(requests as u64) && edges.len() == 2 && edges.iter().all(whole)
        })
    }
}

fn service(name: &str, interpreter: &str, script: &str, silent: bool, analyzer: &Analyzer) -> (Program, SocketAddr) {
    let (port, url) = (free_port(), analyzer.url());
    let line = format!("run --service {name} --port {port} --analyzer {url} -- {interpreter} {SERVICES}/{script}");
    let mut command = couplet(&line);
    command.env("BELOW", "prices");
    if silent {
        command.env("SILENT", "1");
    }
    let mut program = Program::start(&mut command);
    let inbound = program.says(|line| {
        let (_, rest) = line.split_once(&format!("{name} is reachable at http://"))?;
        rest.split(',').next()?.parse().ok()
    });
    program.says(|line| (line == "ready").then_some(()));
    (program, inbound)
}

/// Calls of both edges by how they were linked: exact, inferred, unknown.
fn links(document: &Value) -> Vec<[u64; 3]> {
    let kinds = ["exact", "inferred", "unknown"];
    let of = |edge: &Value| kinds.map(|kind| edge["links"][kind].as_u64().unwrap_or(0));
    document["edges"].as_array().map(|edges| edges.iter().map(of).collect()).unwrap_or_default()
}

/// Services of the typical chain of the only entry.
fn chain(document: &Value) -> Vec<String> {
    let steps = document["entries"][0]["deepest"].as_array().cloned().unwrap_or_default();
    steps.iter().filter_map(|step| step["service"].as_str().map(str::to_owned)).collect()
}

fn same_chain_at(test: &str, side_by_side: usize) {
    let needed = [&["python3", "-c", "import requests"][..], &["node", "-e", "fetch"]];
    if needed.map(|command| has(test, command)).contains(&false) {
        return;
    }
    let with_headers = System::start(false);
    with_headers.serve(20, 1);
    let proved = chain(&with_headers.document(20));
    assert_eq!(proved, ["web", "api", "prices"]);
    drop(with_headers);

    let system = System::start(true);
    let mut served = 0;
    // Both services learn; what they learn is handed out within seconds.
    eventually("both services learned", || {
        system.serve(100, 5);
        served += 100;
        let document = system.analyzer.document();
        let learned = links(&document);
        (learned.len() == 2 && learned.iter().all(|links| links[1] > 20)).then_some(())
    });
    let before = links(&system.document(served));
    let requests = 300 / side_by_side * side_by_side;
    system.serve(requests, side_by_side);
    let document = system.document(served + requests);
    for (before, after) in before.iter().zip(links(&document)) {
        let inferred = after[1] - before[1];
        assert_eq!(after[0], 0, "nothing proves these calls");
        assert!(inferred as f64 >= 0.95 * requests as f64, "{inferred} of {requests} at {side_by_side}: {document:#}");
    }
    assert_eq!(chain(&document), proved, "{document:#}");
    assert_eq!(document["entries"][0]["evidence"], "inferred", "{document:#}");
    assert_eq!(document["entries"].as_array().map(Vec::len), Some(1), "{document:#}");
    let expected = document["expected"].as_array().unwrap();
    let per_handling = |source: &str, destination: &str| {
        let pair = expected.iter().find(|pair| {
            pair["source"] == source && pair["destination"] == destination && pair["source_endpoint"] == "GET /"
        });
        pair.and_then(|pair| pair["per_handling"].as_f64()).unwrap_or_default()
    };
    for (source, destination) in [("web", "api"), ("api", "prices")] {
        let found = per_handling(source, destination);
        assert!((found - 1.0).abs() < 0.1, "{source} calls {destination} {found} times: {expected:#?}");
    }
}

#[test]
fn services_that_forward_nothing_have_the_chains_of_those_that_do_one_request_at_a_time() {
    same_chain_at("services_that_forward_nothing_have_the_chains_of_those_that_do_one_request_at_a_time", 1);
}

#[test]
fn services_that_forward_nothing_have_the_chains_of_those_that_do_five_requests_at_a_time() {
    same_chain_at("services_that_forward_nothing_have_the_chains_of_those_that_do_five_requests_at_a_time", 5);
}

#[test]
fn services_that_forward_nothing_have_the_chains_of_those_that_do_fifteen_requests_at_a_time() {
    same_chain_at("services_that_forward_nothing_have_the_chains_of_those_that_do_fifteen_requests_at_a_time", 15);
}
