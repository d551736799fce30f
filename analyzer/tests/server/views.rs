//! What can be looked at.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use couplet_analyzer::export;
use couplet_analyzer::view::document::Document;
use couplet_telemetry::opaque::{OpaqueReport, OpaqueStats, Protocol};

use crate::harness::{analyzer, report, report_of};

#[test]
fn a_page_hears_of_every_new_snapshot() {
    let analyzer = analyzer().start();
    let mut events = analyzer.events();
    let (id, data) = events.next().unwrap();
    assert_eq!((id.as_str(), &data["requests"]), ("0", &0.into()), "where it stands, at once");
    analyzer.report(&report("s1", 1, 10));
    let (id, data) = events.next().unwrap();
    assert_eq!(id, "1");
    assert_eq!((&data["requests"], &data["services"], &data["edges"]), (&10.into(), &2.into(), &1.into()));
    analyzer.report(&report("s1", 2, 1));
    assert_eq!(events.next().unwrap().1["requests"], 11);
}

#[test]
fn pages_beyond_the_limit_are_refused_and_counted_and_leave_room_when_they_close() {
    let analyzer = analyzer().with(|config| config.limits.ui_clients = 1).start();
    let mut first = analyzer.events();
    assert!(first.next().is_some());
    assert!(analyzer.events().status().contains("503"));
    assert_eq!(analyzer.json("/api/v1/status")["limits"]["ui_clients_refused"], 1);
    drop(first);
    while !analyzer.events().status().contains("200") {}
}

#[test]
fn the_parts_of_the_api_agree_with_the_document() {
    let analyzer = analyzer().with(|config| config.name = Some("shop & co".to_owned())).start();
    analyzer.report(&report("s1", 1, 10));
    let document = analyzer.document_with_requests(10);
    assert_eq!(document["name"], "shop & co");
    for part in ["services", "edges", "entries", "findings"] {
        assert_eq!(analyzer.json(&format!("/api/v1/{part}"))[part], document[part], "{part}");
    }
    let id = document["entries"][0]["id"].as_str().unwrap();
    let tree = analyzer.json(&format!("/api/v1/paths?entry={id}"));
    assert_eq!(tree, analyzer.json("/api/v1/paths?entry=shop%20GET%20%2F"));
    assert_eq!(tree, analyzer.json("/api/v1/paths"));
    assert_eq!(tree["truncated"], false);
    let root = &tree["paths"][0];
    assert_eq!((&root["id"], &root["handlings"], &root["share"]), (&id.into(), &10.into(), &1.0.into()));
    assert_eq!((&root["parent"], &root["blocked_share"]), (&serde_json::Value::Null, &0.4.into()));
}

#[test]
fn what_is_not_there_is_a_404_that_says_so_and_what_cannot_be_asked_a_4xx() {
    let analyzer = analyzer().start();
    for path in [
        "/api/v1/findings/SC-000000",
        "/api/v1/paths?entry=nobody",
        "/api/v1/registry/nobody",
        "/api/v1/nothing",
        "/api/v1/",
    ] {
        let answer = analyzer.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["error"].as_str().unwrap().len() > 10, "{path}");
    }
    assert_eq!(analyzer.get("/nothing").status, 404);
    assert_eq!(analyzer.get("/v1/metrics").status, 405);
    let answer = analyzer
        .send(b"POST /api/v1/document HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.status, 405);
    assert!(answer.json()["error"].is_string());
}

#[test]
fn sidecars_that_ask_for_it_are_found_by_name() {
    let analyzer = analyzer().start();
    let mut announced = report("s1", 1, 0);
    announced.origin.inbound = Some("127.0.0.1:15406".to_owned());
    analyzer.report(&announced);
    analyzer.report(&report_of("silent", "q1", 1, 0));
    let shop = serde_json::json!({ "service": "shop", "inbound": ["127.0.0.1:15406"] });
    assert_eq!(analyzer.json("/api/v1/registry"), serde_json::json!({ "services": [shop] }));
    assert_eq!(analyzer.json("/api/v1/registry/shop"), shop);
    assert_eq!(analyzer.json("/api/v1/status")["proxies"], 2);
}

#[test]
fn the_page_may_load_nothing_from_elsewhere_and_is_kept_by_the_browser() {
    let analyzer = analyzer().start();
    let page = analyzer.get("/");
    assert_eq!(page.status, 200);
    for header in
        ["content-security-policy: default-src 'self'", "x-content-type-options: nosniff", "content-type: text/html"]
    {
        assert!(page.head.contains(header), "{header} in {}", page.head);
    }
    assert!(!page.head.contains("access-control-"), "no other origin may read");
    let text = page.text();
    // Everything that the page names is there.
    let names: HashSet<_> =
        text.split(['"', '\'']).filter(|word| word.ends_with(".js") || word.ends_with(".css")).collect();
    assert!(!names.is_empty());
    for name in names {
        assert_eq!(analyzer.get(&format!("/{name}")).status, 200, "{name}");
    }
    let tag = page.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let known = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIf-None-Match: {tag}\r\n\r\n");
    assert_eq!(analyzer.send(known.as_bytes()).status, 304);
}

#[test]
fn who_has_an_answer_already_is_told_so_until_the_next_snapshot() {
    let analyzer = analyzer().start();
    analyzer.report(&report("s1", 1, 10));
    analyzer.document_with_requests(10);
    let parts = ["document", "services", "edges", "entries", "findings"];
    let ask = |part: &str, known: &str| {
        let head = format!("GET /api/v1/{part} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        analyzer.send(format!("{head}If-None-Match: \"0\", {known}\r\n\r\n").as_bytes())
    };
    let tag = |head: &str| head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let tags = parts.map(|part| tag(&ask(part, "\"1\"").head));
    for (part, tag) in parts.iter().zip(&tags) {
        let again = ask(part, &format!("W/{tag}"));
        assert_eq!((again.status, again.body.len()), (304, 0), "{part}");
    }
    analyzer.report(&report("s1", 2, 5));
    analyzer.document_with_requests(15);
    for (part, tag) in parts.iter().zip(&tags).filter(|(part, _)| **part != "findings") {
        assert_eq!(ask(part, tag).status, 200, "{part}");
    }
}

#[test]
fn all_views_show_the_same_snapshot() {
    let analyzer = analyzer().start();
    // What has been asked for is written before the snapshot is shown: nobody is told of a snapshot and gets an older answer.
    for part in ["document", "services", "edges", "entries", "findings"] {
        analyzer.json(&format!("/api/v1/{part}"));
    }
    analyzer.get("/metrics");
    let mut events = analyzer.events();
    events.next().unwrap();
    for sequence in 1..=5 {
        analyzer.report(&report("s1", sequence, 10));
        let (_, data) = events.next().unwrap();
        let requests = data["requests"].as_u64().unwrap();
        let at_least = |seen: u64, what: &str| assert!(seen >= requests, "{what}: {seen} < {requests}");
        at_least(analyzer.json("/api/v1/document")["requests"].as_u64().unwrap(), "document");
        at_least(analyzer.json("/api/v1/entries")["entries"][0]["requests"].as_u64().unwrap(), "entries");
        at_least(analyzer.json("/api/v1/edges")["edges"][0]["calls"].as_u64().unwrap(), "edges");
        let text = analyzer.get("/metrics").text();
        let line = text.lines().find(|line| line.starts_with("traces_service_graph_request_total{client=\"shop\""));
        at_least(line.unwrap().rsplit(' ').next().unwrap().parse().unwrap(), "metrics");
    }
}

#[test]
fn a_page_of_a_stranger_that_points_its_name_here_reads_nothing() {
    let analyzer = analyzer().start();
    for path in ["/", "/api/v1/document", "/metrics"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example:15400\r\nConnection: close\r\n\r\n");
        let answer = analyzer.send(request.as_bytes());
        assert_eq!(answer.status, 421, "{path}");
        assert!(answer.text().contains("loopback"));
    }
}

#[test]
fn probes_answer() {
    let analyzer = analyzer().start();
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!((analyzer.get(path).status, analyzer.get(path).text().as_str()), (200, "ok\n"));
    }
}

#[test]
fn metrics_are_well_formed_and_hold_the_service_graph() {
    let analyzer = analyzer().start();
    let mut hostile = report("s\"1\n", 1, 3);
    hostile.origin.version = Some("\"}\n".to_owned());
    analyzer.report(&report("s1", 1, 10));
    analyzer.report(&hostile);
    analyzer.report(&report("s1", 1, 10));
    analyzer.document_with_requests(13);
    let answer = analyzer.get("/metrics");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    let text = answer.text();
    check(&text);
    for sample in [
        "traces_service_graph_request_total{client=\"shop\",server=\"stock\",connection_type=\"virtual_node\"} 13",
        "traces_service_graph_request_failed_total{client=\"shop\",server=\"stock\",connection_type=\"virtual_node\"} 0",
        "traces_service_graph_request_client_seconds_count{client=\"shop\",server=\"stock\",connection_type=\"virtual_node\"} 13",
        "traces_service_graph_request_total{client=\"user\",server=\"shop\",connection_type=\"virtual_node\"} 13",
        "traces_service_graph_request_server_seconds_count{client=\"user\",server=\"shop\",connection_type=\"virtual_node\"} 13",
        "traces_service_graph_unpaired_spans_total{client=\"shop\",server=\"stock\",connection_type=\"virtual_node\"} 0",
        "traces_service_graph_dropped_spans_total{client=\"\",server=\"\",connection_type=\"\"} 0",
        "couplet_chain_depth{entry=\"shop GET /\"} 1",
        "couplet_fan_out{service=\"shop\",endpoint=\"GET /\"} 1",
        "couplet_blocked_share{client=\"shop\",server=\"stock\"} 0.4",
        "couplet_link_coverage_ratio{service=\"shop\"} 1",
        "couplet_findings{rule=\"SC\",severity=\"critical\"} 0",
        "couplet_analyzer_reports_total 2",
        "couplet_analyzer_duplicates_total 1",
        "couplet_analyzer_rejected_total{reason=\"history\"} 0",
        "couplet_analyzer_lag_seconds 0",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample} is missing in\n{text}");
    }
    for name in ["couplet_build_info{", "process_cpu_seconds_total ", "process_resident_memory_bytes "] {
        assert!(text.contains(&format!("\n{name}")), "{name}");
    }
}

#[test]
fn calls_to_a_store_are_those_of_a_database_in_the_service_graph() {
    let mut architecture = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut architecture, b"services: {stock: {role: store}}").unwrap();
    let path = architecture.path().to_owned();
    let analyzer = analyzer().with(|config| config.architecture = Some(path)).start();
    analyzer.report(&report("s1", 1, 10));
    let document = analyzer.document_with_requests(10);
    let roles: Vec<_> =
        document["services"].as_array().unwrap().iter().map(|service| service["role"].as_str()).collect();
    assert_eq!(roles, [None, Some("store")]);
    let text = analyzer.get("/metrics").text();
    let sample = "traces_service_graph_request_total{client=\"shop\",server=\"stock\",connection_type=\"database\"} 10";
    assert!(text.lines().any(|line| line == sample), "{sample} is missing in\n{text}");
}

/// What Prometheus would refuse, and what it would take for something else.
fn check(text: &str) {
    let (mut families, mut samples) = (HashSet::new(), HashSet::new());
    let mut family = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            assert!(families.insert(name.to_owned()), "{name} twice");
            family = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
            assert!(series.starts_with(&family), "{line} in {family}");
            assert!(samples.insert(series.to_owned()), "{series} twice");
            if let Some((_, labels)) = series.split_once('{') {
                let labels = labels.strip_suffix('}').expect(line);
                for label in labels.split("\",") {
                    let (name, value) = label.split_once("=\"").expect(line);
                    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
                    assert!(!value.trim_end_matches('"').contains('"'), "{line}");
                }
            }
        }
    }
    assert!(families.len() > 15, "{families:?}");
}

#[test]
fn connections_that_nobody_can_read_are_edges_of_their_own_in_every_view() {
    let analyzer = analyzer().start();
    let mut report = report("s1", 1, 10);
    for (peer, protocol) in [("10.0.0.9:3306", Protocol::Tcp), ("stock", Protocol::Tls)] {
        let stats = OpaqueStats { opened: 3, closed: 2, sent: 500, received: 7_000, ..OpaqueStats::default() };
        report.opaque.push(OpaqueReport { peer: peer.to_owned(), protocol, stats });
    }
    analyzer.report(&report);
    let document = analyzer.document_with_requests(10);
    let calls: Vec<_> = document["edges"].as_array().unwrap().iter().map(|edge| &edge["destination"]).collect();
    assert_eq!(calls, ["stock"], "they are no calls");
    let read: Document = serde_json::from_value(document.clone()).unwrap();
    let dot = export::dot(&read);
    let line = |text: &str, words: &[&str]| {
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} in\n{text}");
    };
    line(&dot, &["\"shop\" -> \"10.0.0.9:3306\"", "tcp", "style=dotted"]);
    line(&dot, &["\"shop\" -> \"stock\"", "tls", "style=dotted"]);
    line(&export::mermaid(&read), &["10.0.0.9:3306"]);
    line(&export::mermaid(&read), &["tcp"]);
    line(&export::text(&read), &["10.0.0.9:3306", "tcp"]);
    line(&export::text(&read), &["stock", "tls"]);

    // The page draws one edge between two services, that of the calls where there are any.
    let script = analyzer.get("/opaque.js").text();
    if Command::new("node").arg("--version").output().is_err() {
        return writeln!(std::io::stderr(), "SKIPPED the page's part: `node --version` does not work here").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("opaque.mjs"), script).unwrap();
    let program = "import { allEdges, opaqueOf } from './opaque.mjs'; import { readFileSync } from 'node:fs';\n\
        const doc = JSON.parse(readFileSync(0));\n\
        console.log(JSON.stringify({ edges: allEdges(doc).map((e) => [e.source, e.destination, (e.opaque ?? []).length]),\n\
        of: opaqueOf(doc, 'shop').length }));";
    std::fs::write(folder.path().join("page.mjs"), program).unwrap();
    let mut node = Command::new("node")
        .arg(folder.path().join("page.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let drawn: serde_json::Value = serde_json::from_slice(&node.wait_with_output().unwrap().stdout).unwrap();
    let expected = serde_json::json!({ "edges": [["shop", "stock", 0], ["shop", "10.0.0.9:3306", 1]], "of": 2 });
    assert_eq!(drawn, expected);
}

#[test]
fn what_faults_on_purpose_held_up_and_answered_is_shown_beside_the_calls() {
    let analyzer = analyzer().start();
    let mut report = report("s1", 1, 10);
    (report.calls[0].stats.delayed, report.calls[0].stats.aborted) = (3, 4);
    analyzer.report(&report);
    let document = analyzer.document_with_requests(10);
    let edge = &document["edges"][0];
    assert_eq!((&edge["delayed"], &edge["aborted"]), (&3.into(), &4.into()), "{edge}");
    assert_eq!(edge["calls"], 10, "they are no calls");
}
