//! The page of metrics is what Prometheus takes: read here line by line, and in `tests/peers` by Prometheus' own tool.

use std::collections::{HashMap, HashSet};

use crate::harness::*;

#[tokio::test]
async fn metrics_are_well_formed_after_requests_of_all_kinds_and_hostile_names() {
    let stock = answers(503, "").await;
    let analyzer = analyzer().await;
    let shop = answers(200, "fine").await;
    let mut config = config("shop").app(&shop).to("stock", stock.address).reports_to(&analyzer);
    config.admin = Some(free());
    let proxy = config.start();
    let mut inbound = client(proxy.inbound().unwrap()).await;
    for target in ["/", "/a%22b", "/%0a%5c", "/{id}", "/items/1", "/items/2"] {
        inbound.get(target).await;
    }
    let mut outbound = client(proxy.outbound().remove(0).1).await;
    for n in 0..30 {
        outbound.get(&format!("/items/{n}")).await;
    }
    let mut admin = client(proxy.admin().unwrap()).await;
    // What was measured shows when its window is over.
    let measured = ["http_client_request_duration_seconds_count{", "http_server_request_duration_seconds_count{"];
    let page = loop {
        let page = admin.get("/metrics").await;
        if measured.iter().all(|series| page.text.contains(series)) {
            break page;
        }
    };
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let families = check(&page.text);
    for (name, kind) in [
        ("http_server_request_duration_seconds", "histogram"),
        ("couplet_infra_requests_total", "counter"),
        ("process_resident_memory_bytes", "gauge"),
    ] {
        assert_eq!(families.get(name).map(String::as_str), Some(kind), "{name} in {:?}", families.keys());
    }
    stop(proxy).await;
}

/// What Prometheus would refuse, and what it would take for something else. The families with their kinds.
fn check(text: &str) -> HashMap<String, String> {
    let (mut families, mut samples) = (HashMap::new(), HashSet::new());
    let (mut family, mut explained) = (String::new(), String::new());
    // The last bucket of a histogram, by its labels without the bound, and its count.
    let (mut buckets, mut counts): (HashMap<String, (f64, f64)>, HashMap<String, f64>) = Default::default();
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, what) = rest.split_once(' ').unwrap();
            assert!(what.ends_with('.') && !what.contains('\\'), "{line}");
            explained = name.to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, explained, "a family is explained before anything else");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            family = name.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0 && samples.insert(series.to_owned()), "{line}");
        let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest));
        let labels = labels_of(labels, line);
        let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} in {family}"));
        let histogram = families.get(&family).is_some_and(|kind| kind == "histogram");
        assert!(if histogram { ["_bucket", "_sum", "_count"].contains(&suffix) } else { suffix.is_empty() }, "{line}");
        let of: Vec<_> = labels.iter().filter(|(label, _)| label != "le").collect();
        let of = format!("{family} {of:?}");
        match suffix {
            "_bucket" => {
                let bound = &labels.iter().find(|(label, _)| label == "le").unwrap().1;
                let bound: f64 = bound.parse().unwrap();
                let (last_bound, last) = buckets.insert(of, (bound, value)).unwrap_or((0.0, 0.0));
                assert!(bound > last_bound && value >= last, "{line}");
            }
            "_count" => drop(counts.insert(of, value)),
            _ => {}
        }
    }
    for (of, count) in &counts {
        assert_eq!(buckets.get(of), Some(&(f64::INFINITY, *count)), "{of}: the last bucket holds all");
    }
    assert_eq!(buckets.len(), counts.len());
    families
}

/// Labels as names and values; each name is one, and every quote inside a value is escaped.
fn labels_of(text: &str, line: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && rest != "}" {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        let mut escaped = false;
        let end = after.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            assert!(!escaped || matches!(byte, b'"' | b'\\' | b'n'), "{line}");
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let (value, behind) = after.split_at(end.unwrap_or_else(|| panic!("{line}")));
        labels.push((name.to_owned(), value.to_owned()));
        rest = behind.strip_prefix("\",").or_else(|| behind.strip_prefix('"')).unwrap();
    }
    let names: HashSet<_> = labels.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), labels.len(), "{line}");
    labels
}
