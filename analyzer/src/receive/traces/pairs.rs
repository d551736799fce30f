//! Which span is the caller's side of which call. Where kinds were recorded they say so; where not, names and the
//! shape of the tree must do, and internal spans must not become calls.

use super::naming::{self, Name, Names};
use super::span::Kind;
use super::tree::{Node, Tree};

/// Sets the marks of every node.
pub(super) fn mark(tree: &mut Tree, names: &Names) {
    recognise_messages(tree, names);
    tree.down(|node, before| match node.parent_in(before) {
        None => enter(node),
        Some(parent) if parent.service != node.service => {
            enter(node);
            node.marks.via = parent.marks.client.or_else(|| candidate(node, parent, names));
            let via = node.marks.via.and_then(|via| before.get(via));
            let message = node.span.kind == Some(Kind::Consumer) || kind_of(via) == Some(Kind::Producer);
            node.marks.delivered = message && via.and_then(|via| broker(via, node)).is_some();
            node.marks.called = !node.marks.delivered;
            node.marks.detached = message || node.span.follows || parent.marks.detached_inside();
        }
        Some(_) if node.span.kind == Some(Kind::Consumer) => {
            enter(node);
            node.marks.delivered = true;
        }
        Some(parent) => {
            node.marks.client = if calls(node) { Some(node.at) } else { parent.marks.client };
            node.marks.detached = node.span.follows || parent.marks.detached_inside();
        }
    });
    count_leads(tree);
    // A span from which several calls lead is none of them: each is then known from the called side alone.
    let several: Vec<bool> = tree.nodes().iter().map(|node| node.marks.leads > 1).collect();
    tree.down(|node, _| {
        node.marks.via = node.marks.via.filter(|via| several.get(*via).is_some_and(|several| !several));
    });
    tree.up(|node, parent| {
        let elsewhere = node.marks.entry || node.span.kind == Some(Kind::Server) || peer(node).is_some();
        parent.marks.answered |= elsewhere || node.marks.answered;
    });
}

/// The named peer of a client or producer span outside its own service, where the trace itself does not show it.
pub(super) fn peer(node: &Node) -> Option<Name> {
    let named = node.span.remote.filter(|remote| *remote != node.service);
    match node.span.kind {
        Some(Kind::Client) if !node.marks.answered => named,
        Some(Kind::Producer) => named,
        _ => None,
    }
}

impl super::tree::Marks {
    /// Whether nobody waits for what happens inside a handling at this point. A detached entry is waited for inside:
    /// by its own handling.
    fn detached_inside(&self) -> bool {
        self.detached && !self.entry
    }
}

fn enter(node: &mut Node) {
    node.marks.entry = true;
    node.marks.client = calls(node).then_some(node.at);
}

fn calls(node: &Node) -> bool {
    matches!(node.span.kind, Some(Kind::Client | Kind::Producer))
}

fn kind_of(node: Option<&Node>) -> Option<Kind> {
    node.and_then(|node| node.span.kind)
}

/// The broker between a sending and a receiving span, where one of them names it.
fn broker(sending: &Node, receiving: &Node) -> Option<Name> {
    let receiver = receiving.span.remote.filter(|_| receiving.span.kind == Some(Kind::Consumer));
    let producer = sending.span.kind == Some(Kind::Producer);
    sending.span.remote.or(receiver).filter(|broker| producer && *broker != sending.service)
}

/// The parent as the caller's side, where nobody recorded its kind: not the handling's own first span, and named so.
fn candidate(node: &Node, parent: &Node, names: &Names) -> Option<usize> {
    let unknown = parent.span.kind.is_none() && !parent.marks.entry;
    let named = || naming::looks_like_its_call(names.text(parent.span.endpoint), names.text(node.span.endpoint));
    (unknown && named()).then_some(parent.at)
}

/// Spans without kind that are named as sender and receiver of a message get the kinds of these; a producer that names
/// no broker takes the word of the consumer.
fn recognise_messages(tree: &mut Tree, names: &Names) {
    let named = |node: &Node, is: fn(&str) -> bool| node.span.kind.is_none() && is(names.text(node.span.endpoint));
    let mut receivers = Vec::new();
    tree.up(|node, parent| {
        let apart = node.service != parent.service;
        if apart && named(node, naming::is_receiving) && named(parent, naming::is_sending) {
            receivers.push((node.at, parent.at));
        }
        let consumer = apart && node.span.kind == Some(Kind::Consumer) && parent.span.kind == Some(Kind::Producer);
        parent.span.remote = parent.span.remote.or(node.span.remote.filter(|_| consumer));
    });
    for (receiver, sender) in receivers {
        for (at, kind) in [(receiver, Kind::Consumer), (sender, Kind::Producer)] {
            if let Some(node) = tree.get_mut(at) {
                node.span.kind = Some(kind);
            }
        }
    }
}

fn count_leads(tree: &mut Tree) {
    let leads: Vec<usize> = tree.nodes().iter().filter_map(|node| node.marks.via).collect();
    for via in leads {
        if let Some(node) = tree.get_mut(via) {
            node.marks.leads = node.marks.leads.saturating_add(1);
        }
    }
}
