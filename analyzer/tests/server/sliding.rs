//! Sliding windows, what is remembered of findings, and what people may say about them.

use crate::harness::{analyzer, report};

#[test]
fn a_window_that_does_not_exist_is_answered_with_those_that_do() {
    let analyzer = analyzer().start();
    let answer = analyzer.get("/api/v1/document?window=2h");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("1m, 15m, 1h and 24h"), "{}", answer.text());
    assert_eq!(analyzer.get("/api/v1/document?widnow=1h").status, 400);
    for window in ["1m", "15m", "1h", "24h", "all"] {
        assert_eq!(analyzer.json(&format!("/api/v1/document?window={window}"))["requests"], 0);
    }
}

#[test]
fn a_finding_has_a_life_and_can_be_acknowledged_by_who_may() {
    let analyzer = analyzer().token("secret").with(|config| config.findings.min_samples = 1).start();
    let with_token = "Authorization: Bearer secret\r\n";
    let body = couplet_telemetry::otlp::encode(&crate::harness::wide(60));
    assert_eq!(analyzer.post(&body, with_token).status, 200);
    let mut events = analyzer.events();
    while events.next().unwrap().1["findings"] == 0 {}
    let finding = analyzer.json("/api/v1/findings")["findings"][0].clone();
    assert_eq!(finding["status"], "new");
    assert!(finding["first_seen"].as_f64().unwrap() > 1.7e9);
    let path = format!("/api/v1/findings/{}/acknowledgement", finding["id"].as_str().unwrap());
    assert_eq!(analyzer.change("PUT", &path, "{}", "").status, 401);
    assert_eq!(analyzer.change("PUT", &path, r#"{"untill": 1}"#, with_token).status, 400);
    assert_eq!(analyzer.change("PUT", &path, r#"{"note": "known"}"#, with_token).status, 204);
    assert_eq!(analyzer.change("PUT", "/api/v1/findings/SC-0/acknowledgement", "{}", with_token).status, 404);
    let finding = analyzer.json("/api/v1/findings")["findings"][0].clone();
    assert_eq!((&finding["status"], &finding["acknowledged"]["note"]), (&"accepted".into(), &"known".into()));
    assert_eq!(analyzer.change("DELETE", &path, "", with_token).status, 204);
    assert_eq!(analyzer.json("/api/v1/cases")["cases"][0]["status"], "new");
    let kinds: Vec<_> = analyzer.json("/api/v1/timeline")["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect();
    for kind in ["started", "service", "edge", "finding_opened", "acknowledged", "unacknowledged"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind} in {kinds:?}");
    }
}

#[test]
fn a_page_of_another_origin_cannot_acknowledge() {
    let analyzer = analyzer().start();
    analyzer.report(&report("s1", 1, 1));
    let head = "PUT /api/v1/findings/SC-0/acknowledgement HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(analyzer.send(head.as_bytes()).status, 400, "only JSON is read, which no form can send");
}
