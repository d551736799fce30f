//! Any tree of calls, recorded in any of the usual ways, gives the same reports.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::story::{Seen, see_file};

/// A request at a service, and the requests that it led to; one of them after the other.
#[derive(Debug, Clone)]
struct Tree {
    requests: Vec<Request>,
}

#[derive(Debug, Clone)]
struct Request {
    parent: Option<usize>,
    service: usize,
    /// Microseconds; the caller's side is one longer at both ends.
    from: u64,
    to: u64,
}

fn tree() -> impl Strategy<Value = Tree> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..5_usize), 1..25).prop_map(|picks| {
        let mut requests: Vec<Request> = Vec::new();
        for (parent, service) in picks {
            let parent = (!requests.is_empty()).then(|| parent.index(requests.len()));
            requests.push(Request { parent, service, from: 0, to: 0 });
        }
        let mut width = vec![1; requests.len()];
        for at in (0..requests.len()).rev() {
            if let Some(parent) = requests[at].parent {
                width[parent] += width[at] + 6;
            }
        }
        let mut next = vec![0; requests.len()];
        for at in 0..requests.len() {
            let from = match requests[at].parent {
                None => 1_000_000,
                Some(parent) => {
                    let from = next[parent] + 3;
                    next[parent] = from + width[at] + 3;
                    from
                }
            };
            (requests[at].from, requests[at].to, next[at]) = (from, from + width[at], from);
        }
        Tree { requests }
    })
}

/// How a tracer writes a call down.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    ClientAndServer,
    SharedIds,
    NoKinds,
    Jaeger,
}

impl Tree {
    /// The tree as a file; the clock of each service is off by `skew` microseconds.
    fn told(&self, style: Style, skew: &[i64; 5]) -> Vec<u8> {
        let mut spans = Vec::new();
        for (at, request) in self.requests.iter().enumerate() {
            // Ids: the called side of request n is 2n + 2, the calling side one less; or the same where they share.
            let own = |at: usize| 2 * at as u64 + 2;
            let called_below = request.parent.map(own);
            let calling = called_below.map(|_| if style == Style::SharedIds { own(at) } else { own(at) - 1 });
            if let (Some(parent), Some(id)) = (request.parent, calling) {
                let caller = self.requests[parent].service;
                spans.push(span(
                    style,
                    "CLIENT",
                    id,
                    called_below,
                    caller,
                    request,
                    (request.from - 1, request.to + 1),
                    skew,
                ));
            }
            let parent = if style == Style::SharedIds { called_below } else { calling };
            spans.push(span(
                style,
                "SERVER",
                own(at),
                parent,
                request.service,
                request,
                (request.from, request.to),
                skew,
            ));
        }
        let processes: BTreeMap<String, Value> =
            (0..5).map(|service| (format!("p{service}"), json!({"serviceName": format!("s{service}")}))).collect();
        let document = match style {
            Style::Jaeger => json!({"data": [{"traceID": "a1", "spans": spans, "processes": processes}]}),
            _ => Value::Array(spans),
        };
        document.to_string().into_bytes()
    }

    fn seen(&self, style: Style, skew: &[i64; 5]) -> Seen {
        see_file(&self.told(style, skew)).unwrap()
    }

    fn edges(&self) -> BTreeMap<String, u64> {
        let mut edges = BTreeMap::new();
        for (caller, callee) in self.changes() {
            *edges.entry(format!("s{caller}>s{callee}")).or_default() += 1;
        }
        edges
    }

    /// Calls from one service to another.
    fn changes(&self) -> impl Iterator<Item = (usize, usize)> {
        let pair = |request: &Request| request.parent.map(|parent| (self.requests[parent].service, request.service));
        self.requests.iter().filter_map(pair).filter(|(caller, callee)| caller != callee)
    }

    fn depth(&self) -> u32 {
        let mut depths = vec![0; self.requests.len()];
        for (at, request) in self.requests.iter().enumerate() {
            if let Some(parent) = request.parent {
                depths[at] = depths[parent] + u32::from(self.requests[parent].service != request.service);
            }
        }
        depths.into_iter().max().unwrap()
    }
}

#[expect(clippy::too_many_arguments, reason = "a span has that many parts")]
fn span(
    style: Style,
    kind: &str,
    id: u64,
    parent: Option<u64>,
    service: usize,
    request: &Request,
    (from, to): (u64, u64),
    skew: &[i64; 5],
) -> Value {
    let (id, parent) = (format!("{id:016x}"), parent.map(|parent| format!("{parent:016x}")));
    let (name, start) = (format!("GET /s{}/17", request.service), from.checked_add_signed(skew[service]).unwrap());
    if style == Style::Jaeger {
        let references: Vec<Value> =
            parent.iter().map(|parent| json!({"refType": "CHILD_OF", "traceID": "a1", "spanID": parent})).collect();
        return json!({"traceID": "a1", "spanID": id, "operationName": name, "references": references, "startTime": start,
            "duration": to - from, "processID": format!("p{service}"),
            "tags": [{"key": "span.kind", "type": "string", "value": kind.to_lowercase()}]});
    }
    let shared = style == Style::SharedIds && kind == "SERVER" && parent.is_some();
    let kind = if style == Style::NoKinds { None } else { Some(kind) };
    json!({"traceId": "a1", "id": id, "parentId": parent, "name": name, "timestamp": start, "duration": to - from,
        "kind": kind, "shared": shared, "localEndpoint": {"serviceName": format!("s{service}")}})
}

proptest! {
    #[test]
    fn a_tree_of_calls_gives_its_edges_and_counts_however_it_was_recorded(tree in tree()) {
        let seen = tree.seen(Style::ClientAndServer, &[0; 5]);
        prop_assert_eq!(seen.edges(), tree.edges());
        prop_assert_eq!(seen.blocking(), tree.changes().count() as u64);
        prop_assert_eq!(seen.summary.handlings, tree.changes().count() as u64 + 1);
        let roots: Vec<_> = seen.reports.iter().flat_map(|report| &report.paths).filter(|path| path.path.parent.is_none()).collect();
        prop_assert_eq!(roots.len(), 1);
        prop_assert_eq!(roots[0].stats.depth_below.max(), tree.depth());
        prop_assert_eq!(roots[0].stats.calls_below.sum(), tree.changes().count() as u64);
        for style in [Style::SharedIds, Style::NoKinds, Style::Jaeger] {
            let other = tree.seen(style, &[0; 5]);
            prop_assert_eq!(&other.reports, &seen.reports, "{:?}", style);
        }
    }

    #[test]
    fn clocks_that_disagree_change_neither_edges_nor_depth(tree in tree(), skew in prop::array::uniform5(-300_000..300_000_i64)) {
        for style in [Style::ClientAndServer, Style::SharedIds, Style::NoKinds, Style::Jaeger] {
            let seen = tree.seen(style, &skew);
            prop_assert_eq!(seen.edges(), tree.edges());
            prop_assert_eq!(seen.blocking(), tree.changes().count() as u64);
            let deepest = seen.reports.iter().flat_map(|report| &report.paths).map(|path| path.stats.depth_below.max()).max();
            prop_assert_eq!(deepest, Some(tree.depth()));
        }
    }
}
