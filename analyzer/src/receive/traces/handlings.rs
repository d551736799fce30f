//! What each service handled and whom it called, from the marked forest of one trace.

use couplet_telemetry::outcome::Outcome;

use super::naming::Name;
use super::pairs;
use super::span::{Kind, Span};
use super::summary::{SetAside, TraceSummary};
use super::tree::{Node, Tree};

/// One handling of a trace.
#[derive(Debug)]
pub(super) struct Handling {
    pub(super) service: Name,
    pub(super) endpoint: Name,
    /// The trace, where its id is a number.
    pub(super) trace: Option<u128>,
    pub(super) origin: Origin,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) outcome: Outcome,
    pub(super) calls: Vec<Call>,
}

/// Who asked for a handling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody outside, or a message.
    Root,
    /// Somebody whose span is missing.
    Unknown,
    /// The handling at this place in the list; always an earlier one.
    Handling(usize),
}

/// One call that a handling made.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) callee: Callee,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) outcome: Outcome,
    /// Whether its handling waited for it.
    pub(super) blocking: bool,
}

/// Who was called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Callee {
    /// The handling at this place in the list; always a later one.
    Handling(usize),
    /// A peer without spans of its own.
    External { service: Name, endpoint: Name },
}

/// All handlings of a trace, callers before callees.
pub(super) fn find(tree: &Tree, summary: &mut TraceSummary) -> Vec<Handling> {
    let mut handlings: Vec<Handling> = Vec::new();
    let mut inside: Vec<usize> = Vec::with_capacity(tree.nodes().len()); // per node, the handling that it is part of
    let mut calls: Vec<(usize, Call)> = Vec::new();
    for node in tree.nodes() {
        let parent = node.parent.and_then(|parent| inside.get(parent)).copied();
        let at = if node.marks.entry { handlings.len() } else { parent.unwrap_or(handlings.len()) };
        inside.push(at);
        if node.marks.entry {
            handlings.push(handling(node, parent));
        }
        if let Some(caller) = parent.filter(|_| node.marks.called) {
            calls.push((caller, call(node, at, tree)));
        }
        if let Some(handling) = handlings.get_mut(at) {
            extend(handling, node, tree);
        }
        if let Some(service) = pairs::peer(node) {
            let callee = Callee::External { service, endpoint: node.span.endpoint };
            calls.push((at, timed(callee, &node.span, node.span.kind == Some(Kind::Client) && !node.marks.detached)));
        } else if is_unanswered(node) {
            summary.set_aside(SetAside::NoPeer, 1);
        }
    }
    // Only now the end of every handling is known, and with it who was waited for.
    for (caller, mut call) in calls {
        summary.calls += 1;
        if let Some(handling) = handlings.get_mut(caller) {
            call.blocking &= call.end <= handling.end.saturating_add(slack(handling));
            handling.calls.push(call);
        }
    }
    summary.handlings += handlings.len() as u64;
    summary.roots += handlings.iter().filter(|handling| handling.origin == Origin::Root).count() as u64;
    handlings
}

/// How much later than its handler a call may end and still be waited for.
///
/// Some tracers round starts down to milliseconds, and so tell an end too early. CRISP (USENIX ATC 2022) lets intervals
/// overlap by 1 % of the parent's duration for the same reason.
fn slack(handling: &Handling) -> u64 {
    const MILLISECOND: u64 = 1_000_000;
    (handling.end.saturating_sub(handling.start) / 100).min(MILLISECOND)
}

fn handling(node: &Node, caller: Option<usize>) -> Handling {
    let Span { endpoint, start, outcome, trace, named, .. } = node.span;
    let trace = named.then_some(trace);
    let origin = match caller {
        Some(caller) if node.marks.called => Origin::Handling(caller),
        // Nobody waits for a message, so it makes no difference that its sender is missing.
        _ if node.orphan && node.span.kind != Some(Kind::Consumer) => Origin::Unknown,
        _ => Origin::Root,
    };
    Handling { service: node.service, endpoint, trace, origin, start, end: node.span.end(), outcome, calls: Vec::new() }
}

/// A message is handled for as long as anything goes on in its consumer: tracers end the consumer's own span when the
/// message has arrived.
fn extend(handling: &mut Handling, node: &Node, tree: &Tree) {
    let consumes = |node: &Node| node.span.kind == Some(Kind::Consumer);
    let below_consumer = node.parent.and_then(|parent| tree.nodes().get(parent)).is_some_and(consumes);
    if below_consumer && node.span.kind.is_none() && !node.marks.entry {
        handling.end = handling.end.max(node.span.end());
        handling.outcome = worse(handling.outcome, node.span.outcome);
    }
}

fn call(node: &Node, callee: usize, tree: &Tree) -> Call {
    let via = node.marks.via.and_then(|via| tree.nodes().get(via));
    let mut call = timed(Callee::Handling(callee), &via.unwrap_or(node).span, !node.marks.detached);
    call.outcome = worse(call.outcome, node.span.outcome);
    call
}

fn timed(callee: Callee, span: &Span, blocking: bool) -> Call {
    Call { callee, start: span.start, end: span.end(), outcome: span.outcome, blocking }
}

/// What the calling side found, unless it noticed nothing.
fn worse(own: Outcome, other: Outcome) -> Outcome {
    if own == Outcome::Ok { other } else { own }
}

fn is_unanswered(node: &Node) -> bool {
    matches!(node.span.kind, Some(Kind::Client | Kind::Producer)) && !node.marks.answered && node.span.remote.is_none()
}
