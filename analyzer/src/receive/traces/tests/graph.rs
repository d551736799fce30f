//! What the graph and its views make of the reports of trace files.

use couplet_config::{Architecture, FindingThresholds};
use serde_json::Value;

use super::story::{Seen, client, see, server, span};
use crate::findings::findings;
use crate::graph::{Graph, GraphLimits};
use crate::view::document::Document;

fn document(seen: &Seen) -> Value {
    let mut graph = Graph::new(GraphLimits::default());
    seen.reports.iter().for_each(|report| graph.apply(report));
    let snapshot = graph.snapshot();
    let findings = findings(&snapshot, &FindingThresholds::default(), &Architecture::default());
    serde_json::to_value(Document::new(&snapshot, &findings, "traces")).unwrap()
}

/// `service kind` of all services, then `source>destination calls` of all edges, then `service endpoint` of all entries.
fn told(document: &Value) -> Vec<String> {
    let each = |key: &str, line: &dyn Fn(&Value) -> String| -> Vec<String> {
        document[key].as_array().unwrap().iter().map(line).collect()
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    [
        each("services", &|s| format!("{} {}", text(&s["name"]), text(&s["kind"]))),
        each("edges", &|e| format!("{}>{} {}", text(&e["source"]), text(&e["destination"]), e["calls"])),
        each("entries", &|e| format!("{} {}", text(&e["service"]), text(&e["endpoint"]))),
    ]
    .concat()
}

#[test]
fn the_graph_has_the_services_edges_and_entries_of_the_traces_and_no_others() {
    let document = document(&see(&[
        server("shop", 1).named("GET /a").during(0, 100),
        client("shop", 2).below(1).during(10, 60),
        server("stock", 3).below(2).during(20, 50),
        client("stock", 4).below(3).during(30, 40).to("db"),
        server("lost", 9).below(77),
        client("lost", 10).below(9).to("db"),
        span("mail", 11).with("kind", "CONSUMER").named("poll").to("kafka"),
    ]));
    let services = ["db external", "lost observed", "mail observed", "shop observed", "stock observed"];
    let edges = ["lost>db 1", "shop>stock 1", "stock>db 1"];
    assert_eq!(told(&document), [services.as_slice(), &edges, &["mail poll", "shop GET /a"]].concat());
    assert_eq!(document["requests"], 2);
    assert_eq!(document["entries"][1]["depth"]["max"], 2);
}
