//! The graph for Graphviz.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::plain::{name, percent, rate};
use crate::view::document::{Document, ServiceKind};

/// The document as a Graphviz digraph: entries to the left, external services as cylinders, circular edges in orange,
/// edges without a blocking call dashed, connections that nobody can read dotted.
#[must_use]
pub fn dot(document: &Document) -> String {
    let mut out =
        String::from("digraph couplet {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    let mut findings: BTreeMap<&str, usize> = BTreeMap::new();
    for service in document.findings.iter().flat_map(|finding| &finding.services) {
        *findings.entry(service).or_default() += 1;
    }
    for service in &document.services {
        let shape = if service.kind == ServiceKind::External { ", shape=cylinder, style=solid" } else { "" };
        let label = match findings.get(service.name.as_str()) {
            Some(count) => format!("{}\n{count} finding{}", service.name, if *count == 1 { "" } else { "s" }),
            None => service.name.clone(),
        };
        let _ = writeln!(out, "  {} [label={}{shape}];", quoted(&service.name), quoted(&label));
    }
    let window = document.window.end - document.window.start;
    for edge in &document.edges {
        let mut label = rate(edge.calls, window);
        if let Some(share) = edge.blocked_share {
            let _ = write!(label, "\nblocks {}", percent(share));
        }
        let color = if edge.circular { ", color=orange" } else { "" };
        let style = if edge.blocking == 0 && edge.links.coverage.is_some() { ", style=dashed" } else { "" };
        let (source, destination) = (quoted(&edge.source), quoted(&edge.destination));
        let _ = writeln!(out, "  {source} -> {destination} [label={}{color}{style}];", quoted(&label));
    }
    for edge in &document.opaque {
        let label = quoted(&format!("{} {}", edge.protocol, rate(edge.opened, window)));
        let (source, destination) = (quoted(&edge.source), quoted(&edge.destination));
        let _ = writeln!(out, "  {source} -> {destination} [label={label}, style=dotted, arrowhead=empty];");
    }
    out.push_str("}\n");
    out
}

/// A double-quoted string of the DOT language. A backslash would begin an escape, so it is doubled; `\n` is one that
/// Graphviz itself reads as a new line.
fn quoted(text: &str) -> String {
    let lines: Vec<String> =
        text.split('\n').map(|line| name(line).replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}
