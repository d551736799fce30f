//! Where the time of an entry's requests goes: own time of every service on the way that is waited for.
//!
//! Own time is what a handling spends while no blocking call is open. Where calls overlap, each counts for its part of the
//! time in which any is open, so the parts add up to the whole. Following each request by itself (CRISP: Zhang et al.,
//! USENIX ATC 2022) would tell which of two parallel calls was the last to end; sums over all requests cannot.

use std::collections::BTreeMap;

use super::flow::Flow;
use crate::graph::ServiceIx;

/// Time of all requests of an entry, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spent {
    /// By service, the most first.
    pub own: Vec<(ServiceIx, f64)>,
    /// On the way between caller and callee: network, queues, proxies. By callee, the most first.
    pub way: Vec<(ServiceIx, f64)>,
    /// All of it.
    pub total: f64,
}

/// Where the time of a flow goes.
#[must_use]
pub fn spent(flow: &Flow) -> Spent {
    let (mut own, mut way) = (BTreeMap::<ServiceIx, f64>::new(), BTreeMap::<ServiceIx, f64>::new());
    // The part of a nanosecond here that the request as a whole is longer by.
    let mut parts = vec![0.0; flow.nodes.len()];
    for (at, node) in flow.nodes.iter().enumerate() {
        let above = node.parent.and_then(|parent| Some((flow.nodes.get(parent)?, *parts.get(parent)?)));
        let part = match above {
            None => 1.0,
            Some((above, part)) => {
                let overlap = if above.busy == 0 { 1.0 } else { (above.blocked as f64 / above.busy as f64).min(1.0) };
                part * overlap * node.waited()
            }
        };
        if let Some(slot) = parts.get_mut(at) {
            *slot = part;
        }
        if node.handlings == 0 && node.parent.is_some() {
            // Only its caller knows it: what is way and what is work cannot be told apart.
            *own.entry(node.service).or_default() += part * node.call_nanos as f64;
            continue;
        }
        *own.entry(node.service).or_default() += part * node.own_nanos() as f64;
        if node.parent.is_some() {
            *way.entry(node.service).or_default() += part * node.call_nanos.saturating_sub(node.nanos) as f64;
        }
    }
    let total = own.values().sum::<f64>() + way.values().sum::<f64>();
    Spent { own: descending(own), way: descending(way), total }
}

fn descending(of: BTreeMap<ServiceIx, f64>) -> Vec<(ServiceIx, f64)> {
    let mut of: Vec<_> = of.into_iter().filter(|(_, nanos)| *nanos > 0.0).collect();
    of.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupling::flow::Flows;
    use crate::graph::Snapshot;
    use crate::traffic::{Request, on, traffic};

    fn own(snapshot: &Snapshot) -> Vec<(String, f64)> {
        let flows = Flows::of(snapshot);
        let spent = spent(flows.iter().next().unwrap());
        let row = |(service, nanos): &(ServiceIx, f64)| (snapshot[*service].name.to_string(), nanos / 1e6 / 10.0);
        spent.own.iter().map(row).collect()
    }

    fn tree(root: Request) -> Snapshot {
        let b = on("b", "GET /").takes(30).calls(1, on("db", "query").takes(10).external());
        traffic().of(10, &root.takes(5).calls(1, b).calls(1, on("c", "GET /").takes(40))).snapshot()
    }

    #[test]
    fn calls_in_a_row_count_in_full() {
        let expected = [("c", 40.0), ("b", 30.0), ("db", 10.0), ("a", 5.0)].map(|(name, ms)| (name.to_owned(), ms));
        assert_eq!(own(&tree(on("a", "GET /"))), expected);
    }

    #[test]
    fn calls_side_by_side_share_the_time() {
        let expected = [("c", 20.0), ("b", 15.0), ("a", 5.0), ("db", 5.0)].map(|(name, ms)| (name.to_owned(), ms));
        assert_eq!(own(&tree(on("a", "GET /").at_once())), expected);
    }

    #[test]
    fn what_nobody_waits_for_costs_nobody_time() {
        let root = on("a", "GET /").takes(5).calls(1, on("mail", "POST /").takes(900).later());
        assert_eq!(own(&traffic().of(10, &root).snapshot()), [("a".to_owned(), 5.0)]);
    }
}
