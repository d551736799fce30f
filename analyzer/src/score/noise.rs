//! What chance could have made of the counts: flows resampled around what was seen.
//!
//! A parametric bootstrap: requests of an entry vary as Poisson counts, shares of them as binomial ones, both in the normal
//! approximation, independently of one another. What varies from hour to hour is not in it: for that, windows are needed.

use couplet_telemetry::report::Joint;

use crate::coupling::flow::{EachFlow, Flow, Flows, Node};

/// Resamples of a system of ordinary size.
const TIMES: usize = 40;
/// Nodes that are resampled in all, at most: a large system is resampled less often, and needs it less.
const MOST_NODES: usize = 200_000;

/// How often flows are resampled.
pub(super) fn times(flows: &dyn EachFlow) -> usize {
    TIMES.min(MOST_NODES / flows.paths().max(1))
}

/// A resample; one after the other they are always the same for the same flows.
pub(super) fn resampled(flows: &dyn EachFlow, random: &mut Random) -> Flows {
    let mut resampled = Vec::new();
    flows.each(&mut |flow| resampled.push(resample(flow, random)));
    resampled.into_iter().collect()
}

fn resample(flow: &Flow, random: &mut Random) -> Flow {
    let requests = random.around(flow.requests, flow.requests as f64);
    let scale = if flow.requests == 0 { 1.0 } else { requests as f64 / flow.requests as f64 };
    let mut nodes: Vec<Node> = Vec::with_capacity(flow.nodes.len());
    for node in &flow.nodes {
        let mut new = node.clone();
        let of = node.parent.and_then(|parent| flow.nodes.get(parent)).map_or(node.calls, |above| above.handlings);
        let users = random.share(node.users, of);
        // All that is counted per handling that calls goes up and down with their number.
        let by = scale * if node.users == 0 { 1.0 } else { users as f64 / node.users as f64 };
        new.users = scaled(users, scale);
        for count in [&mut new.calls, &mut new.blocking, &mut new.call_nanos, &mut new.blocked_on] {
            *count = scaled(*count, by);
        }
        for count in [&mut new.handlings, &mut new.nanos, &mut new.blocked, &mut new.busy] {
            *count = scaled(*count, by);
        }
        new.failures = scaled(random.share(node.failures, node.calls), by);
        new.handling_failures = scaled(random.share(node.handling_failures, node.handlings), by);
        new.explained = scaled(random.share(node.explained, node.handlings), by).min(new.handling_failures);
        new.joint = joint(&node.joint, by, random);
        if let Some(above) = node.parent.and_then(|parent| nodes.get(parent)) {
            new.reach = above.reach * new.used(above);
        }
        nodes.push(new);
    }
    Flow { entry: flow.entry, requests, nodes }
}

fn joint(joint: &Joint, by: f64, random: &mut Random) -> Joint {
    let failed = joint.both.saturating_add(joint.call_only);
    let both = random.share(joint.both, failed);
    Joint {
        neither: scaled(joint.neither, by),
        handling_only: scaled(joint.handling_only, by),
        call_only: scaled(failed - both, by),
        both: scaled(both, by),
    }
}

fn scaled(count: u64, by: f64) -> u64 {
    (count as f64 * by).round() as u64
}

/// SplitMix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
pub(super) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Nearly normal, mean 0, variance 1: how many of 64 coins show heads, and a uniform number between them.
    fn normal(&mut self) -> f64 {
        let heads = f64::from(self.bits().count_ones());
        let between = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        (heads + between - 32.5) / (16.0_f64 + 1.0 / 12.0).sqrt()
    }

    fn around(&mut self, mean: u64, variance: f64) -> u64 {
        (mean as f64 + self.normal() * variance.sqrt()).round().max(0.0) as u64
    }

    /// A binomial count of `of`, where `seen` were seen.
    fn share(&mut self, seen: u64, of: u64) -> u64 {
        let share = if of == 0 { 0.0 } else { (seen as f64 / of as f64).min(1.0) };
        let varied = self.around(seen, seen as f64 * (1.0 - share));
        if seen <= of { varied.min(of) } else { varied }
    }
}
