//! The spans of one trace as a forest: copies removed, halves of shared spans paired, loops cut, gaps filled.
//!
//! Every node stands behind its parent in the list, so that each later step is one pass over it, forwards or backwards,
//! whatever the depth.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::naming::Name;
use super::span::{Kind, Span};
use super::summary::{Repair, SetAside, TraceSummary};

/// A span in its trace.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The span itself; its times move when clocks are corrected.
    pub(super) span: Span,
    /// Its service. Spans for which none could be found are not in the tree.
    pub(super) service: Name,
    /// Where it stands in the list.
    pub(super) at: usize,
    /// Where its parent stands.
    pub(super) parent: Option<usize>,
    /// Whether it has a parent that is not here: who called is then unknown.
    pub(super) orphan: bool,
    /// What `pairs` found out.
    pub(super) marks: Marks,
}

/// What a span is in the talk between services.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    /// The first span of a handling.
    pub(super) entry: bool,
    /// Called from another service: the caller's side of the call is `via`, or there is none.
    pub(super) called: bool,
    /// A message from a broker starts it, or one from its own service: nobody's call leads here.
    pub(super) delivered: bool,
    /// Nobody waits for what happens here.
    pub(super) detached: bool,
    /// The client or producer span in which this one happened, in the same service; itself where it is one.
    pub(super) client: Option<usize>,
    /// The caller's side of the call that leads here.
    pub(super) via: Option<usize>,
    /// How many calls lead elsewhere from this span, or through it.
    pub(super) leads: u32,
    /// Whether its peer is in the trace, somewhere below.
    pub(super) answered: bool,
}

/// The forest of one trace.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Node> {
        self.nodes.get_mut(at)
    }

    /// Visits every node after its parent; with it come all nodes before it, its ancestors among them.
    pub(super) fn down(&mut self, mut visit: impl FnMut(&mut Node, &[Node])) {
        for at in 0..self.nodes.len() {
            let (before, rest) = self.nodes.split_at_mut(at);
            if let Some(node) = rest.first_mut() {
                visit(node, before);
            }
        }
    }

    /// Visits every node that has a parent, after all that is below it, together with the parent.
    pub(super) fn up(&mut self, mut visit: impl FnMut(&Node, &mut Node)) {
        for at in (0..self.nodes.len()).rev() {
            let (before, rest) = self.nodes.split_at_mut(at);
            if let Some(node) = rest.first()
                && let Some(parent) = node.parent.and_then(|parent| before.get_mut(parent))
            {
                visit(node, parent);
            }
        }
    }
}

impl Node {
    /// The parent among the nodes before this one.
    pub(super) fn parent_in<'a>(&self, before: &'a [Node]) -> Option<&'a Node> {
        self.parent.and_then(|parent| before.get(parent))
    }
}

/// Builds the forest of `trace`: spans of one trace, sorted by id, the calling half before the called one.
pub(super) fn build(trace: &[Span], summary: &mut TraceSummary) -> Tree {
    let mut links = Links::of(trace, summary);
    links.cut_loops(summary);
    let order = links.order();
    let mut tree = place(&links, &order, summary);
    summary.orphans += tree.nodes.iter().filter(|node| node.orphan).count() as u64;
    fill_times(&mut tree, summary);
    tree
}

/// Spans with their parents, in the order of their ids.
#[derive(Default)]
struct Links {
    spans: Vec<Span>,
    links: Vec<Link>,
}

#[derive(Clone, Copy)]
enum Link {
    Root,
    Orphan,
    Child(usize),
}

impl Links {
    fn of(trace: &[Span], summary: &mut TraceSummary) -> Self {
        let mut spans: Vec<Span> = Vec::with_capacity(trace.len());
        let mut halves: HashMap<(u64, bool), usize> = HashMap::with_capacity(trace.len());
        for span in trace {
            match halves.entry((span.id, span.is_called_side())) {
                Entry::Vacant(free) => {
                    free.insert(spans.len());
                    spans.push(*span);
                }
                Entry::Occupied(taken) => {
                    if let Some(first) = spans.get_mut(*taken.get()) {
                        merge(first, span, summary);
                    }
                }
            }
        }
        let links = spans.iter().map(|span| link(span, &spans, &halves, summary)).collect();
        Self { spans, links }
    }

    fn parent(&self, at: usize) -> Option<usize> {
        match self.links.get(at) {
            Some(Link::Child(parent)) => Some(*parent),
            _ => None,
        }
    }

    /// Follows every chain upwards once; where one meets itself, its earliest span is taken off its parent.
    fn cut_loops(&mut self, summary: &mut TraceSummary) {
        let mut seen = vec![0_usize; self.spans.len()]; // the walk that came by first, counted from 1
        for start in 0..self.spans.len() {
            let mut next = Some(start);
            while let Some(at) = next {
                match seen.get_mut(at) {
                    Some(walk) if *walk == 0 => *walk = start + 1,
                    Some(walk) if *walk == start + 1 => {
                        self.cut(at);
                        summary.repair(Repair::ParentLoop, 1);
                        break;
                    }
                    _ => break,
                }
                next = self.parent(at);
            }
        }
    }

    fn cut(&mut self, start: usize) {
        let time = |at: usize| self.spans.get(at).map(|span| (span.start, span.id));
        let (mut earliest, mut at) = (start, start);
        while let Some(parent) = self.parent(at).filter(|parent| *parent != start) {
            at = parent;
            if time(at) < time(earliest) {
                earliest = at;
            }
        }
        if let Some(link) = self.links.get_mut(earliest) {
            *link = Link::Orphan;
        }
    }

    /// All positions, parents first.
    fn order(&self) -> Vec<usize> {
        let mut depths: Vec<Option<usize>> = vec![None; self.spans.len()];
        let mut chain = Vec::new();
        for start in 0..self.spans.len() {
            let mut next = Some(start);
            let mut depth = 0;
            while let Some(at) = next {
                if let Some(Some(known)) = depths.get(at) {
                    depth = known + 1;
                    break;
                }
                chain.push(at);
                next = self.parent(at);
            }
            for at in chain.drain(..).rev() {
                if let Some(slot) = depths.get_mut(at) {
                    *slot = Some(depth);
                }
                depth += 1;
            }
        }
        let mut order: Vec<usize> = (0..self.spans.len()).collect();
        order.sort_by_key(|at| depths.get(*at).copied());
        order
    }
}

/// Two spans with one id on one side: a copy, two pieces of one, or a mistake.
fn merge(first: &mut Span, span: &Span, summary: &mut TraceSummary) {
    let parent = |span: &Span| Some(span.parent).filter(|parent| *parent > 0);
    let pieces = first.service == span.service && (span.start == 0 || first.duration == 0 || span.duration == 0);
    if first == span {
        summary.set_aside(SetAside::Duplicate, 1);
    } else if pieces && agree(first.kind, span.kind) && agree(parent(first), parent(span)) {
        summary.repair(Repair::SplitSpan, 1);
        first.start = if first.start == 0 { span.start } else { first.start };
        first.duration = first.duration.max(span.duration);
        first.kind = first.kind.or(span.kind);
        first.parent = if first.parent == 0 { span.parent } else { first.parent };
        first.remote = first.remote.or(span.remote);
        first.outcome = first.outcome.max(span.outcome);
    } else {
        summary.set_aside(SetAside::IdUsedTwice, 1);
    }
}

fn agree<T: PartialEq + Copy>(a: Option<T>, b: Option<T>) -> bool {
    a.is_none() || b.is_none() || a == b
}

fn link(span: &Span, spans: &[Span], halves: &HashMap<(u64, bool), usize>, summary: &mut TraceSummary) -> Link {
    let half = |id: u64, called: bool| halves.get(&(id, called)).copied();
    if let (true, Some(client)) = (span.is_called_side(), half(span.id, false)) {
        return Link::Child(client);
    }
    if span.parent == span.id {
        summary.repair(Repair::SelfParent, 1);
        return Link::Root;
    }
    let service = |at: usize| spans.get(at).and_then(|span| span.service);
    match (half(span.parent, false), half(span.parent, true)) {
        _ if span.parent == 0 => Link::Root,
        // What the called service did is below its half; only what the caller says about its own half is not.
        (Some(client), Some(server))
            if !span.is_called_side() && service(client) == span.service && service(server) != span.service =>
        {
            Link::Child(client)
        }
        (_, Some(server)) => Link::Child(server),
        (Some(client), None) => Link::Child(client),
        (None, None) => Link::Orphan,
    }
}

/// Nodes in order, each with a service: its own, its caller's word for it, or that of its parent.
fn place(links: &Links, order: &[usize], summary: &mut TraceSummary) -> Tree {
    let mut nodes: Vec<Node> = Vec::with_capacity(order.len());
    let mut places: Vec<Option<usize>> = vec![None; order.len()];
    for from in order {
        let (Some(span), Some(link)) = (links.spans.get(*from), links.links.get(*from)) else { continue };
        let (parent, mut orphan) = match link {
            Link::Child(parent) => (places.get(*parent).copied().flatten(), false),
            Link::Root => (None, false),
            Link::Orphan => (None, true),
        };
        // Its parent was set aside: it is left without one.
        orphan |= parent.is_none() && matches!(link, Link::Child(_));
        let above = parent.and_then(|parent| nodes.get(parent));
        let Some(service) = span.service.or_else(|| above.map(|above| heir(span, above))) else {
            summary.set_aside(SetAside::NoService, 1);
            continue;
        };
        summary.repair(Repair::NoService, u64::from(span.service.is_none()));
        if let Some(place) = places.get_mut(*from) {
            *place = Some(nodes.len());
        }
        nodes.push(Node { span: *span, service, at: nodes.len(), parent, orphan, marks: Marks::default() });
    }
    Tree { nodes }
}

fn heir(span: &Span, above: &Node) -> Name {
    let named = match (span.kind, above.span.kind) {
        (Some(Kind::Server), Some(Kind::Client)) => above.span.remote,
        _ => None,
    };
    named.unwrap_or(above.service)
}

/// Fills in missing starts from above, or below where there is nothing above, and missing durations from below.
fn fill_times(tree: &mut Tree, summary: &mut TraceSummary) {
    let known = |time: u64| Some(time).filter(|time| *time > 0);
    let mut below: Vec<Option<u64>> = vec![None; tree.nodes.len()]; // per node, the earliest start below it
    tree.up(|node, parent| {
        let start = known(node.span.start).or(below.get(node.at).copied().flatten());
        if let Some(earliest) = below.get_mut(parent.at) {
            *earliest = start.into_iter().chain(*earliest).min();
        }
    });
    tree.down(|node, before| {
        let above = || node.parent_in(before).and_then(|parent| known(parent.span.start));
        if node.span.start == 0
            && let Some(start) = above().or(below.get(node.at).copied().flatten())
        {
            node.span.start = start;
            summary.repair(Repair::NoStart, 1);
        }
    });
    let lacking: Vec<bool> = tree.nodes.iter().map(|node| node.span.duration == 0).collect();
    let lacks = |node: &Node| lacking.get(node.at).is_some_and(|lacks| *lacks);
    tree.up(|node, parent| {
        // Another service's clock says nothing about when this one was done.
        if lacks(parent) && node.service == parent.service {
            let length = node.span.end().saturating_sub(parent.span.start);
            parent.span.duration = parent.span.duration.max(length);
        }
    });
    let filled = tree.nodes.iter().filter(|node| lacks(node) && node.span.duration > 0).count();
    summary.repair(Repair::NoDuration, filled as u64);
}
