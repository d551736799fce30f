use couplet_config::{Architecture, FindingThresholds};

use super::{dot, mermaid, text};
use crate::findings::{Rule, findings};
use crate::graph::Snapshot;
use crate::traffic::{chain, on, traffic};
use crate::view::document::Document;

/// With the findings of one rule: what is drawn of them is the same for all.
fn document(snapshot: &Snapshot) -> Document {
    let mut found = findings(snapshot, &FindingThresholds::default(), &Architecture::default());
    found.retain(|finding| finding.rule == Rule::NP);
    Document::new(snapshot, &found, "shop")
}

fn small() -> Document {
    let cart = on("cart", "GET /cart").takes(2).calls(6, on("catalog", "GET /{id}").takes(10));
    let web = on("web", "GET /").takes(3).calls(1, cart).calls(1, on("mail", "POST /").takes(1).later());
    let back = on("catalog", "GET /all").calls(1, on("db", "query").external());
    document(&traffic().of(60, &web).of(60, &back).snapshot())
}

/// A document with names that no proxy would accept, as a file may hold them.
fn hostile() -> Document {
    let mut document = small();
    for (position, service) in document.services.iter_mut().enumerate() {
        service.name = format!("a\"];\n{position}\u{1b}[31m\\<b>|-->\u{202e}`#");
    }
    let name = |position: usize| document.services[position].name.clone();
    for edge in &mut document.edges {
        (edge.source, edge.destination) = (name(0), name(1));
    }
    document
}

#[test]
fn text_shows_findings_first_then_entries_then_who_calls_whom() {
    assert_eq!(
        text(&small()),
        r#"shop: 5 services, 4 edges, 120 requests, 1 finding, links 100 % exact

FINDINGS
! warn     NP-c67cba  cart GET /cart calls catalog GET /{id} 6 times per request
           A request that calls it at all does so 6.0 times on average; 1 of 20 does it 6 times or more. The
           calls take 60 ms of such a request, 97 % of its time; a single one takes 10 ms.

ENTRIES                                 requests       p95   depth  services     calls  (median/p95)
catalog GET /all                              60    2.0 ms     1/1       1/1       1/1
web GET /                                     60     65 ms     2/2       2/2       7/7

SERVICES
  web  60 requests, p95 65 ms
    ├─ cart  6.0/s, p95 62 ms, blocks 95 %
    └─ mail  6.0/s, p95 1.0 ms
! cart  60 requests, p95 62 ms
    └─ catalog  36.0/s, p95 10 ms, blocks 97 %
  mail  60 requests, p95 1.0 ms
! catalog  420 requests, p95 9.7 ms
    └─ db  6.0/s, p95 1.0 ms, blocks 50 %
  db  (external)
"#
    );
}

#[test]
fn dot_is_a_digraph_with_one_line_per_service_and_edge() {
    assert_eq!(
        dot(&small()),
        r#"digraph couplet {
  rankdir=LR;
  node [shape=box, style=rounded, fontname="sans-serif"];
  edge [fontname="sans-serif", fontsize=10];
  "cart" [label="cart\n1 finding"];
  "catalog" [label="catalog\n1 finding"];
  "db" [label="db", shape=cylinder, style=solid];
  "mail" [label="mail"];
  "web" [label="web"];
  "cart" -> "catalog" [label="36.0/s\nblocks 97 %"];
  "catalog" -> "db" [label="6.0/s\nblocks 50 %"];
  "web" -> "cart" [label="6.0/s\nblocks 95 %"];
  "web" -> "mail" [label="6.0/s\nblocks 0 %", style=dashed];
}
"#
    );
}

#[test]
fn mermaid_is_a_flowchart_with_one_line_per_service_and_edge() {
    assert_eq!(
        mermaid(&small()),
        r#"flowchart LR
  s0["cart"]
  s1["catalog"]
  s2[("db")]
  s3["mail"]
  s4["web"]
  s0 -->|"36.0/s"| s1
  s1 -->|"6.0/s"| s2
  s4 -->|"6.0/s"| s0
  s4 -.->|"6.0/s"| s3
"#
    );
}

#[test]
fn mermaid_draws_the_busiest_services_and_puts_the_others_together() {
    let wide = (0..80).fold(on("web", "GET /"), |web, n| web.calls(1 + n % 7, on(&format!("s{n}"), "GET /")));
    let drawing = mermaid(&document(&traffic().of(60, &wide).snapshot()));
    assert!(drawing.contains("rest[\"… 21 more\"]"), "{drawing}");
    assert_eq!(drawing.lines().filter(|line| line.contains("[\"")).count(), 61);
    assert_eq!(drawing.lines().filter(|line| line.ends_with(" rest")).count(), 1);
}

#[test]
fn names_of_strangers_stay_names() {
    let document = hostile();
    for export in [text(&document), dot(&document), mermaid(&document)] {
        assert!(!export.contains(['\u{1b}', '\u{202e}', '\r']), "{export}");
    }
    let graph = dot(&document);
    // A line of the drawing is a whole statement: every quote that opens is closed, and nothing follows the bracket.
    for line in graph.lines().filter(|line| line.contains("label=")) {
        assert!(line.ends_with("];"), "{line}");
        assert_eq!(line.replace("\\\\", "").replace("\\\"", "").matches('"').count() % 2, 0, "{line}");
    }
    for line in mermaid(&document).lines().filter(|line| line.starts_with("  s") && line.contains('[')) {
        assert_eq!(line.matches('"').count(), 2, "{line}");
        assert!(!line.contains(['<', '`', '\\']), "{line}");
    }
}

#[test]
fn services_stand_below_their_callers() {
    let snapshot =
        traffic().of(1, &on("a", "GET /").calls(1, chain(&["b", "c"])).calls(1, chain(&["c", "b"]))).snapshot();
    let layered = document(&snapshot);
    assert_eq!(super::layers::layers(&layered), [0, 1, 1]);
    let straight =
        document(&traffic().of(1, &on("z", "GET /").calls(1, chain(&["m", "a"])).calls(1, chain(&["a"]))).snapshot());
    assert_eq!(super::layers::layers(&straight), [2, 1, 0]);
}
