//! What people ask after a day of traffic: what is this finding, who is to blame, what to cut, what would that gain.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use couplet_telemetry::example::Trace;
use couplet_telemetry::otlp;
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Callee, Origin, PathDefinition};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Window, WindowLimits};

use crate::harness::{Analyzer, ended};

/// `web` asks `stock` twelve times for one page; every tenth page fails with it.
fn day_of_traffic(analyzer: &Analyzer) {
    let mut window = Window::new(WindowLimits { paths: 10, callees: 10 });
    let path = Arc::new(PathDefinition::root("web", "GET /"));
    let callee = Arc::new(Callee::new("stock", "GET /items/{id}"));
    for page in 0..1_000_u128 {
        let failed = page % 10 == 0;
        let outcome = if failed { Outcome::ServerError } else { Outcome::Ok };
        for item in 0..12 {
            let outcome = if item == 0 { outcome } else { Outcome::Ok };
            let call = Call {
                outcome,
                duration: 5_000_000,
                first_byte: None,
                blocking: true,
                evidence: Evidence::Exact,
                attempts: 1,
                request_bytes: 0,
                response_bytes: 0,
            };
            window.call(&path, &callee, &call);
        }
        let uses = [CalleeUse { callee: Arc::clone(&callee), calls: 12, failed, blocked: 60_000_000 }];
        let handling = Handling {
            outcome,
            duration: 80_000_000,
            blocked: 60_000_000,
            busy: 60_000_000,
            asynchronous: 0,
            calls: 12,
            callees: 1,
            depth_below: 1,
            calls_below: 12,
            services_below: 1,
            below: Evidence::Exact,
            retries: 0,
            origin: failed.then_some("stock"),
            trace: Some(Trace { id: page + 1, sampled: true, at: 0 }),
            uses: &uses,
        };
        window.handling(&path, &handling);
    }
    let origin = Origin { service: "web".to_owned(), instance: "web-1".to_owned(), version: None, inbound: None };
    let body = otlp::encode(&window.close(origin, 1, 1_000_000_000, 6_000_000_000));
    let address = analyzer.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    analyzer.document_when(|document| document["requests"] == 1_000);
}

#[test]
fn after_a_day_of_traffic_every_question_has_an_answer() {
    let analyzer = Analyzer::start();
    day_of_traffic(&analyzer);
    let ask = |question: &str| ended(&format!("{question} --analyzer {}", analyzer.url())).with(0);

    let findings = ask("findings --format json").json();
    let repeated = findings["findings"].as_array().unwrap().iter().find(|finding| finding["rule"] == "NP").unwrap();
    let id = repeated["id"].as_str().unwrap();
    let explained = ask(&format!("explain {id}"));
    for part in ["12 times per request", "EVIDENCE", "n = 1000", "EXAMPLE REQUESTS", "WHY IT MATTERS", "WAYS OUT"] {
        assert!(explained.stdout().contains(part), "{part}: {explained}");
    }
    // All made as many calls and took as long; of equals the last one is shown.
    let trace = format!("{:032x}", 1_000);
    let shown = format!("{trace}\n    busiest: web GET / ok in 80 ms, calls waited for: 12, 1970-01-01T00:00:06Z");
    assert!(explained.stdout().contains(&shown), "{explained}");
    assert_eq!(repeated["examples"][0]["trace"], trace);
    assert_eq!(repeated["examples"][1]["trace"], format!("{:032x}", 991), "the last one that failed");
    assert_eq!(ask(&format!("explain {id} --format json")).json(), *repeated);

    let blamed = ask("blame").stdout().to_owned();
    assert!(blamed.contains("web GET /: 100 of 1000 requests failed"), "{blamed}");
    assert!(blamed.contains("100.0 %  of the failures began in stock"), "{blamed}");
    assert!(blamed.contains("75.0 %  of the time (60 ms) is work of stock"), "{blamed}");

    let cuts = ask("cuts --format json").json();
    let best: Vec<&str> = cuts["cuts"].as_array().unwrap().iter().map(|cut| cut["cut"].as_str().unwrap()).collect();
    assert!(best.contains(&"batch web->stock") || best.contains(&"async web->stock"), "{best:?}");
    assert!(ask("cuts").stdout().contains("couplet whatif --"));

    let told = ask("whatif --batch web->stock --format json").json();
    let entry = &told["entries"][0];
    assert_eq!(entry["calls"], serde_json::json!({ "before": 12.0, "after": 1.0 }));
    // 55 of 80 ms.
    assert!((entry["saved"][1].as_f64().unwrap() - 0.6875).abs() < 0.01, "{entry}");
    assert!(ask("whatif --breaker web->stock").stdout().contains("availability 90.00 % → 100.00 %"));
}
