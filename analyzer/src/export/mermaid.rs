//! The graph for Markdown: Mermaid's flowchart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::plain::{name, rate};
use crate::view::document::{Document, Edge, ServiceKind};

/// Services that are drawn; Mermaid becomes slow and unreadable beyond.
const MAX_NODES: usize = 60;

/// The document as a Mermaid flowchart from left to right: the 60 services with most traffic, the others as one node.
#[must_use]
pub fn mermaid(document: &Document) -> String {
    let shown = busiest(document);
    let id: BTreeMap<&str, String> =
        shown.iter().enumerate().map(|(number, service)| (*service, format!("s{number}"))).collect();
    let rest = document.services.len() - shown.len();
    let mut out = String::from("flowchart LR\n");
    for service in document.services.iter().filter(|service| shown.contains(service.name.as_str())) {
        let node = id.get(service.name.as_str()).map_or("", String::as_str);
        let (open, close) = if service.kind == ServiceKind::External { ("[(", ")]") } else { ("[", "]") };
        let _ = writeln!(out, "  {node}{open}\"{}\"{close}", escaped(&service.name));
    }
    if rest > 0 {
        let _ = writeln!(out, "  rest[\"… {rest} more\"]");
    }
    // Edges of services that are not drawn are drawn together, in their sums.
    let node = |service: &String| id.get(service.as_str()).map_or("rest", String::as_str).to_owned();
    let mut edges: BTreeMap<(usize, String, String), (u64, bool, bool)> = BTreeMap::new();
    for (position, edge) in document.edges.iter().enumerate() {
        let (source, destination) = (node(&edge.source), node(&edge.destination));
        if source == destination {
            continue;
        }
        let drawn = source != "rest" && destination != "rest";
        let place = if drawn { position } else { usize::MAX };
        let sums = edges.entry((place, source, destination)).or_insert((0, false, true));
        *sums = (sums.0.saturating_add(edge.calls), sums.1 || edge.circular, sums.2 && is_asynchronous(edge));
    }
    let window = document.window.end - document.window.start;
    let mut circular = Vec::new();
    for (position, ((_, source, destination), (calls, is_circular, asynchronous))) in edges.iter().enumerate() {
        let arrow = if *asynchronous { "-.->" } else { "-->" };
        let _ = writeln!(out, "  {source} {arrow}|\"{}\"| {destination}", rate(*calls, window));
        if *is_circular {
            circular.push(position.to_string());
        }
    }
    for edge in &document.opaque {
        let (source, destination) = (node(&edge.source), node(&edge.destination));
        if source != "rest" && destination != "rest" {
            let _ = writeln!(out, "  {source} -.-o|\"{}\"| {destination}", escaped(&edge.protocol));
        }
    }
    if !circular.is_empty() {
        let _ = writeln!(out, "  linkStyle {} stroke:orange", circular.join(","));
    }
    out
}

/// The services with most traffic: what they handle, or are called where they do not report, and what they call.
fn busiest(document: &Document) -> BTreeSet<&str> {
    let mut traffic: BTreeMap<&str, u64> =
        document.services.iter().map(|service| (service.name.as_str(), service.requests)).collect();
    for edge in &document.edges {
        if let Some(slot) = traffic.get_mut(edge.destination.as_str()) {
            *slot = edge.calls.max(*slot); // both sides count the same calls
        }
    }
    for edge in &document.edges {
        if let Some(slot) = traffic.get_mut(edge.source.as_str()) {
            *slot = slot.saturating_add(edge.calls);
        }
    }
    let mut all: Vec<(&str, u64)> = traffic.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    all.into_iter().take(MAX_NODES).map(|(service, _)| service).collect()
}

fn is_asynchronous(edge: &Edge) -> bool {
    edge.blocking == 0 && edge.links.coverage.is_some()
}

/// Mermaid reads entities in quoted text, and nothing else can end it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in name(text).chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | '\\' | ';' => {
                let _ = write!(out, "#{};", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}
