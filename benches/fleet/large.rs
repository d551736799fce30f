//! Large systems, without a single request: a tree of paths over a graph of services, and what proxies would report of it.

use std::collections::VecDeque;
use std::sync::Arc;

use couplet_telemetry::example::Trace;
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Callee, Origin, PathDefinition, Report};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Window, WindowLimits};

use super::ground::random::Random;

/// How large a system is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: usize,
    pub(crate) edges: usize,
    pub(crate) paths: usize,
}

impl Size {
    /// Services, edges and paths, with colons between.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<usize> = text.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [services, edges, paths] = *numbers else { return None };
        Some(Self { services, edges, paths })
    }
}

/// A tree of paths. Services call only services after them; the last 39 % call nobody, the first 13 % are entries, and so is
/// whoever nobody calls.
pub(crate) struct Large {
    callees: Vec<Vec<u32>>,
    nodes: Vec<Node>,
    /// The nodes of every service.
    of: Vec<Vec<u32>>,
    /// The nodes below each one.
    below: Vec<Vec<u32>>,
    traced: bool,
}

struct Node {
    service: u32,
    parent: Option<u32>,
    path: Arc<PathDefinition>,
}

const LIMITS: WindowLimits = WindowLimits { paths: 1 << 20, callees: 1 << 20 };
/// Handlings of every path in one window.
const HANDLINGS: usize = 20;
const ENDPOINT: &str = "GET /";

impl Large {
    /// The system of this size. Every edge is used by some path, as long as there are enough paths.
    pub(crate) fn new(size: Size, seed: u64) -> Self {
        let Size { services, edges, paths } = size;
        let callees = edges_between(services, edges, &mut Random::new(seed));
        let mut called = vec![false; services];
        callees.iter().flatten().for_each(|callee| called[*callee as usize] = true);
        let mut large =
            Self { callees, nodes: Vec::new(), of: vec![Vec::new(); services], below: Vec::new(), traced: false };
        // Whoever nobody calls is called from outside, and so are the first ones.
        let entries = (services * 13 / 100).max(1);
        let is_entry = |service: &usize| *service < entries || !called[*service] && !large.callees[*service].is_empty();
        let entries: Vec<usize> = (0..services).filter(is_entry).collect();
        entries.into_iter().for_each(|service| large.push(service as u32, None));
        // A service of which no path goes on yet goes first, and calls all that it can: so every edge is used. Then the
        // others, by turns.
        let (mut first, mut others) = (VecDeque::new(), VecDeque::new());
        let (mut seen, mut used) = (0, vec![0_usize; services]);
        let mut next = 0;
        while large.nodes.len() < paths {
            first.extend(seen..large.nodes.len());
            seen = large.nodes.len();
            let Some(at) = first.pop_front().or_else(|| others.pop_front()) else {
                large.push((next % services) as u32, None);
                next += 1;
                continue;
            };
            let service = large.nodes[at].service as usize;
            let own = large.callees[service].len();
            let unused = own.saturating_sub(used[service]);
            if unused == 0 && !first.is_empty() {
                others.push_back(at);
                continue;
            }
            for _ in 0..unused.max(own.min(4)) {
                let callee = large.callees[service][used[service] % own];
                used[service] += 1;
                if large.nodes.len() < paths {
                    large.push(callee, Some(at as u32));
                }
            }
        }
        large
    }

    fn push(&mut self, service: u32, parent: Option<u32>) {
        let name = name(service as usize);
        let root = PathDefinition::root(&name, ENDPOINT);
        let path = match parent.map(|parent| &self.nodes[parent as usize]) {
            None => root,
            Some(above) => PathDefinition {
                id: above.path.id.child(&name, ENDPOINT),
                parent: Some(above.path.id),
                root: above.path.root,
                caller: Some(self::name(above.service as usize)),
                depth: above.path.depth + 1,
                ..root
            },
        };
        let at = self.nodes.len() as u32;
        self.nodes.push(Node { service, parent, path: Arc::new(path) });
        self.below.push(Vec::new());
        self.of[service as usize].push(at);
        if let Some(parent) = parent {
            self.below[parent as usize].push(at);
        }
    }

    /// Whether its requests have traces, as those of proxies have: then every path comes with examples.
    pub(crate) fn traced(self, traced: bool) -> Self {
        Self { traced, ..self }
    }

    pub(crate) fn services(&self) -> usize {
        self.of.len()
    }

    /// Edges that some path uses.
    pub(crate) fn edges(&self) -> usize {
        let edge = |node: &Node| Some((self.nodes[node.parent? as usize].service, node.service));
        let edges: std::collections::HashSet<_> = self.nodes.iter().filter_map(edge).collect();
        edges.len()
    }

    pub(crate) fn paths(&self) -> usize {
        self.nodes.len()
    }

    /// What the proxy of one service reports of its window with this number, from 1.
    pub(crate) fn report(&self, service: usize, sequence: u64) -> Report {
        let mut random = Random::new(service as u64 * 1_000 + sequence);
        let mut window = Window::new(LIMITS);
        for at in &self.of[service] {
            let (node, below) = (&self.nodes[*at as usize], &self.below[*at as usize]);
            let callees: Vec<_> = below
                .iter()
                .map(|below| Arc::new(Callee::new(name(self.nodes[*below as usize].service as usize), ENDPOINT)))
                .collect();
            for _ in 0..HANDLINGS {
                handle(&mut window, &node.path, &callees, &mut random, self.traced);
            }
        }
        let name = name(service);
        let instance = format!("{name}-1");
        let origin = Origin { service: name, instance, ..Origin::default() };
        let start = 1_700_000_000_000_000_000 + sequence * 5_000_000_000;
        window.close(origin, sequence, start, start + 5_000_000_000)
    }
}

/// So many edges: for each service whom it calls.
fn edges_between(services: usize, edges: usize, random: &mut Random) -> Vec<Vec<u32>> {
    let callers = services * 61 / 100;
    let mut callees: Vec<Vec<u32>> = vec![Vec::new(); services];
    let mut made = 0;
    // Where nearly everybody calls everybody else a new edge is hard to find, and a few may be missing.
    for n in 0..edges * 4 {
        if made == edges {
            break;
        }
        let caller = n % callers;
        // Nearby, so that chains stay as short as they are in life: callees are in the next of six layers.
        let layer = services / 6;
        let low = (caller / layer + 1) * layer;
        let callee = (low + random.below(services.saturating_sub(low).clamp(1, layer))).min(services - 1) as u32;
        if !callees[caller].contains(&callee) {
            callees[caller].push(callee);
            made += 1;
        }
    }
    callees
}

fn handle(window: &mut Window, path: &Arc<PathDefinition>, callees: &[Arc<Callee>], random: &mut Random, traced: bool) {
    let mut blocked = 0;
    let mut uses = Vec::with_capacity(callees.len());
    for callee in callees {
        let duration = (random.around(4.0, 1.8) * 1e6) as u64;
        let call = Call {
            outcome: Outcome::Ok,
            duration,
            first_byte: Some(duration * 9 / 10),
            blocking: true,
            evidence: Evidence::Exact,
            attempts: 1,
            request_bytes: 200,
            response_bytes: 2_000,
        };
        window.call(path, callee, &call);
        blocked += duration;
        uses.push(CalleeUse { callee: Arc::clone(callee), calls: 1, failed: false, blocked: duration });
    }
    let count = callees.len() as u32;
    let handling = Handling {
        outcome: if random.chance(0.001) { Outcome::ServerError } else { Outcome::Ok },
        duration: blocked + (random.around(3.0, 1.8) * 1e6) as u64,
        blocked,
        busy: blocked,
        asynchronous: 0,
        calls: count,
        callees: count,
        depth_below: 2.min(count),
        calls_below: count * 2,
        services_below: count * 2,
        below: Evidence::Exact,
        retries: 0,
        origin: None,
        trace: traced.then(|| Trace { id: trace_id(random), sampled: false, at: 0 }),
        uses: &uses,
    };
    window.handling(path, &handling);
}

/// Never zero.
fn trace_id(random: &mut Random) -> u128 {
    u128::from(random.unit().to_bits()) << 64 | u128::from(random.unit().to_bits()) | 1
}

fn name(service: usize) -> String {
    format!("service-{service}")
}
