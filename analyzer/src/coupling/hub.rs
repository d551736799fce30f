//! Hubs: services that many call and that call many.
//!
//! AIS: how many services call it; ADS: how many it calls; ACS = AIS · ADS (Rud et al. 2006; survey: Bogner et al. 2017,
//! doi 10.1145/3143434.3143443). A degree is *far out* when the robust z-score of log(1 + degree) is above 3.5
//! (Iglewicz, Hoaglin 1993).

use std::collections::{BTreeMap, HashMap};

use super::flow::EachFlow;
use crate::graph::{ServiceIx, Snapshot};

/// How much of the traffic goes through a service.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Share of the requests from outside whose flow waits for the service, 0 to 1.
    pub flows: f64,
    /// Calls that it makes ÷ all calls in the flows through it, 0 to 1.
    pub orchestration: f64,
}

/// The shares of all services that are on any flow.
#[must_use]
pub fn shares(flows: &dyn EachFlow) -> BTreeMap<ServiceIx, Share> {
    let total = flows.requests();
    let mut through: HashMap<ServiceIx, (f64, u64, u64)> = HashMap::new();
    flows.each(&mut |flow| {
        let all = flow.nodes.iter().skip(1).fold(0_u64, |sum, node| sum.saturating_add(node.calls));
        for node in &flow.nodes {
            if let Some(above) = flow.parent(node) {
                let slot = through.entry(above.service).or_default();
                slot.1 = slot.1.saturating_add(node.calls);
            }
        }
        let root = flow.root().map(|root| (root.service, 1.0));
        for (service, reach) in flow.reach().into_iter().chain(root) {
            let slot = through.entry(service).or_default();
            slot.0 += reach * flow.requests as f64;
            slot.2 = slot.2.saturating_add(all);
        }
    });
    let ratio = |part: f64, whole: u64| if whole == 0 { 0.0 } else { (part / whole as f64).min(1.0) };
    let share = |(service, (requests, made, all))| {
        (service, Share { flows: ratio(requests, total), orchestration: ratio(made as f64, all) })
    };
    through.into_iter().map(share).collect()
}

/// The robust z-score of every service's degree (callers and callees together), in their order. Services without any
/// connection are not compared with.
#[must_use]
pub fn scores(snapshot: &Snapshot) -> Vec<f64> {
    let degree = |service: &crate::graph::Service| ((service.fan_in + service.fan_out) as f64).ln_1p();
    let degrees: Vec<f64> = snapshot.services().iter().map(degree).collect();
    let connected = || degrees.iter().copied().filter(|degree| *degree > 0.0);
    let middle = median(connected().collect());
    let deviations: Vec<f64> = connected().map(|value| (value - middle).abs()).collect();
    let mean = deviations.iter().sum::<f64>() / deviations.len().max(1) as f64;
    let mad = median(deviations);
    // Where more than half are equal, the mean deviation stands in: the factors make both estimate one sigma.
    let sigma = if mad > 0.0 { mad * 1.482_6 } else { mean * 1.253_3 };
    degrees.iter().map(|value| if sigma > 0.0 { (value - middle) / sigma } else { 0.0 }).collect()
}

/// From this score on a degree is far out.
pub const FAR_OUT: f64 = 3.5;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(high)) => *high,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupling::flow::Flows;
    use crate::traffic::{chain, on, traffic};

    #[test]
    fn a_star_in_a_crowd_is_far_out() {
        let mut all = traffic();
        let hub = || (0..20).fold(on("hub", "GET /"), |hub, n| hub.calls(1, on(&format!("leaf{n}"), "GET /")));
        for n in 0..20 {
            all = all.of(1, &on(&format!("caller{n}"), "GET /").calls(1, hub()));
        }
        let snapshot = all.snapshot();
        let scores = scores(&snapshot);
        let far: Vec<&str> = snapshot
            .services()
            .iter()
            .zip(scores)
            .filter(|(_, score)| *score > FAR_OUT)
            .map(|(service, _)| &*service.name)
            .collect();
        assert_eq!(far, ["hub"]);
    }

    #[test]
    fn nobody_is_far_out_where_all_are_alike() {
        assert!(scores(&traffic().of(1, &chain(&["a", "b", "c", "d"])).snapshot()).iter().all(|z| z.abs() < FAR_OUT));
        assert!(scores(&Snapshot::default()).is_empty());
    }

    #[test]
    fn a_share_says_how_many_requests_pass_and_how_many_calls_it_makes() {
        let snapshot = traffic().of(60, &chain(&["a", "b", "c"])).of(40, &on("x", "GET /")).snapshot();
        let shares = shares(&Flows::of(&snapshot));
        let of = |name: &str| shares.iter().find(|(at, _)| &*snapshot[**at].name == name).map(|(_, share)| *share);
        assert_eq!(of("b"), Some(Share { flows: 0.6, orchestration: 0.5 }));
        assert_eq!(of("c"), Some(Share { flows: 0.6, orchestration: 0.0 }));
    }
}
