//! Fleets of which everything is known: what is wrong with them is found, and nothing else. `just bench-fleet` is the long
//! form of this.

#[path = "../../benches/fleet/ground.rs"]
mod ground;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use couplet_analyzer::findings::Finding;
use couplet_telemetry::otlp;

use crate::harness::{Analyzer, ended};
use ground::judge::{self, RULES, Tally};
use ground::traffic;

#[test]
fn what_is_planted_in_a_fleet_is_found_and_nothing_else() {
    let (mut all, mut remarks) = (Tally::default(), Vec::new());
    let (mut planted, mut decoys) = (std::collections::BTreeSet::new(), 0);
    for (seed, services) in [(1, 12), (2, 30), (3, 60), (4, 60), (5, 120), (6, 120), (7, 180), (8, 60)] {
        let fleet = ground::fleet(seed, services);
        let (tallies, wrong) = judge::judge(&fleet, &traffic::reports(&fleet.system, seed));
        tallies.values().for_each(|tally| all.add(tally));
        planted.extend(fleet.truth.into_keys().map(|(rule, _)| rule));
        decoys += fleet.decoys;
        remarks.extend(wrong);
    }
    assert_eq!(planted.len(), RULES.len(), "every rule is put to the test: {planted:?}");
    assert!(all.right >= 20 && decoys >= 20, "{all:?}, {decoys} decoys");
    assert!(all.precision() >= 0.98 && all.recall() >= 0.98, "{all:?}\n{}", remarks.join("\n"));
    assert_eq!(all.misgraded, 0, "{}", remarks.join("\n"));
}

#[test]
fn availability_comes_out_as_it_was_predicted() {
    let (right, all) = (0..8).map(|seed| ground::availability(seed, 1_000)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(all >= 30 && right * 10 >= all * 9, "{right} of {all}");
}

#[test]
fn a_cut_does_what_was_predicted() {
    let all: Vec<_> = (0..5).flat_map(|seed| ground::what_if(seed, 1_000)).collect();
    let wrong = all.iter().filter(|prediction| prediction.error.abs() > 0.1);
    let wrong: Vec<String> = wrong.map(|it| format!("{} {} {:+.2}", it.kind, it.measure, it.error)).collect();
    assert!(all.len() >= 50 && wrong.len() * 10 <= all.len(), "{} of {}: {wrong:?}", wrong.len(), all.len());
}

#[test]
fn a_live_analyzer_finds_what_is_planted() {
    let fleet = ground::fleet(7, 180);
    let folder = tempfile::tempdir().unwrap();
    let architecture = folder.path().join("architecture.yaml");
    std::fs::write(&architecture, &fleet.architecture).unwrap();
    let analyzer = Analyzer::of(&format!(
        "analyzer --listen 127.0.0.1:0 --log-format json --set snapshot_every=100ms --architecture {}",
        architecture.display()
    ));
    let address: SocketAddr = analyzer.url().trim_start_matches("http://").parse().unwrap();
    for report in traffic::reports(&fleet.system, fleet.seed) {
        assert_eq!(post(address, &otlp::encode(&report)), 200);
    }
    let requests: u32 = fleet.system.entries.iter().map(|entry| entry.requests).sum();
    let document = analyzer.document_when(|document| document["requests"] == requests);
    let found: Vec<Finding> = serde_json::from_value(document["findings"].clone()).unwrap();
    let (tallies, remarks) = judge::compare(&fleet, &found);
    let right: u32 = tallies.values().map(|tally| tally.right).sum();
    assert!(right >= 5 && remarks.is_empty(), "{tallies:?} {remarks:?}");
}

#[test]
fn traces_and_reports_of_the_same_traffic_give_the_same_findings() {
    let mut fleet = ground::fleet(7, 180);
    // Whoever has no sidecar, and calls that no header links, cannot look the same in both.
    fleet.system.unlinked = 0.0;
    fleet.system.services.iter_mut().for_each(|service| service.reports = true);
    fleet.system.entries.iter_mut().for_each(|entry| entry.requests /= 6);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("traces.json");
    std::fs::write(&file, traffic::traces(&fleet.system, fleet.seed)).unwrap();
    let recorded = ended(&format!("analyze --format json {}", file.display())).with(0).json();

    let analyzer = Analyzer::of("analyzer --listen 127.0.0.1:0 --log-format json --set snapshot_every=100ms");
    let address: SocketAddr = analyzer.url().trim_start_matches("http://").parse().unwrap();
    for report in traffic::reports(&fleet.system, fleet.seed) {
        assert_eq!(post(address, &otlp::encode(&report)), 200);
    }
    let requests: u32 = fleet.system.entries.iter().map(|entry| entry.requests).sum();
    let live = analyzer.document_when(|document| document["requests"] == requests);
    assert_eq!(recorded["requests"], live["requests"]);
    let found = |document: &serde_json::Value| {
        let found: Vec<Finding> = serde_json::from_value(document["findings"].clone()).unwrap();
        let mut found: Vec<_> = found.into_iter().map(|it| (it.rule, it.severity, it.id, it.services)).collect();
        found.sort();
        found
    };
    let (recorded, live) = (found(&recorded), found(&live));
    assert!(live.len() >= 15, "{live:?}");
    let only_recorded: Vec<_> = recorded.iter().filter(|it| !live.contains(it)).collect();
    let only_live: Vec<_> = live.iter().filter(|it| !recorded.contains(it)).collect();
    assert!(
        only_recorded.is_empty() && only_live.is_empty(),
        "only recorded {only_recorded:#?}, only live {only_live:#?}"
    );
}

fn post(address: SocketAddr, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
