//! What became of the spans: how many were understood, what had to be repaired, what was left out and why.

use std::collections::BTreeMap;
use std::fmt;

/// What was read from trace files, and what it cost to make sense of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceSummary {
    /// Files read.
    pub files: u64,
    /// Distinct trace ids.
    pub traces: u64,
    /// Spans read, those that were set aside included.
    pub spans: u64,
    /// Handlings: inbound requests and consumed messages.
    pub handlings: u64,
    /// Calls between services and to external peers.
    pub calls: u64,
    /// Handlings that nobody in the trace called: requests from outside and consumed messages.
    pub roots: u64,
    /// Spans whose parent is not in the trace; each starts a piece of its own that is no entry.
    pub orphans: u64,
    /// What was repaired, and how often.
    pub repaired: BTreeMap<Repair, u64>,
    /// What was left out, and how often.
    pub set_aside: BTreeMap<SetAside, u64>,
    /// Sentences about whole files, such as one without any span.
    pub warnings: Vec<String>,
}

/// A contradiction or gap in the files that has one sensible reading. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repair {
    /// A host's clock differs from its caller's: its spans were moved.
    ClockSkew,
    /// Parent links run in a circle: cut at the earliest span.
    ParentLoop,
    /// A span names itself as its parent: taken as a root.
    SelfParent,
    /// One span was reported in two pieces: put together.
    SplitSpan,
    /// A span has no start: taken from its parent, or its earliest child.
    NoStart,
    /// A span has no duration: lasts until its last child ends.
    NoDuration,
    /// A span has no service name: taken from its caller's word for it, or its parent.
    NoService,
    /// A service name has characters that a service name cannot have: each became `-`.
    Renamed,
}

/// Why something in a file counts for nothing. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetAside {
    /// An exact copy of another span.
    Duplicate,
    /// The same id as another span of the trace, but other contents.
    IdUsedTwice,
    /// No trace id or span id.
    NoId,
    /// No service name, and no parent to take one from.
    NoService,
    /// A client or producer span whose peer is neither in the trace nor named: no call.
    NoPeer,
}

impl TraceSummary {
    pub(super) fn repair(&mut self, repair: Repair, count: u64) {
        add(&mut self.repaired, repair, count);
    }

    pub(super) fn set_aside(&mut self, reason: SetAside, count: u64) {
        add(&mut self.set_aside, reason, count);
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, count: u64) {
    if count > 0 {
        let slot = counts.entry(key).or_default();
        *slot = slot.saturating_add(count);
    }
}

impl Repair {
    /// A few words, for people to read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Repair::ClockSkew => "clock skew",
            Repair::ParentLoop => "parent loops",
            Repair::SelfParent => "spans that are their own parent",
            Repair::SplitSpan => "spans in two pieces",
            Repair::NoStart => "spans without start",
            Repair::NoDuration => "spans without duration",
            Repair::NoService => "spans without service name",
            Repair::Renamed => "service names with odd characters",
        }
    }
}

impl SetAside {
    /// A few words, for people to read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SetAside::Duplicate => "copies of spans",
            SetAside::IdUsedTwice => "spans whose id is taken",
            SetAside::NoId => "spans without id",
            SetAside::NoService => "spans without service name",
            SetAside::NoPeer => "calls to nobody named",
        }
    }
}

impl fmt::Display for TraceSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, traces, spans, handlings, calls, roots, orphans, .. } = self;
        write!(f, "files {files}, traces {traces}, spans {spans}")?;
        write!(f, "\nhandlings {handlings} (roots {roots}), calls {calls}")?;
        if *orphans > 0 {
            write!(f, "\norphans {orphans}: their parent is not in the trace, so who called is unknown")?;
        }
        let list = |counts: Vec<(&str, u64)>| -> String {
            counts.into_iter().map(|(words, count)| format!("{words} {count}")).collect::<Vec<_>>().join(", ")
        };
        if !self.repaired.is_empty() {
            write!(f, "\nrepaired: {}", list(self.repaired.iter().map(|(k, n)| (k.as_str(), *n)).collect()))?;
        }
        if !self.set_aside.is_empty() {
            write!(f, "\nset aside: {}", list(self.set_aside.iter().map(|(k, n)| (k.as_str(), *n)).collect()))?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}
