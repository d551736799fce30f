//! What the analyzer counts about itself. Every limit that bites has its counter here.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows, or that rises and falls where it counts what is open.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes one back, where it counts what is open.
    pub fn take(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets it, where it is a measure.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a request with reports was refused. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No token, or a wrong one.
    Unauthorized,
    /// A body that is not OTLP in protobuf by its own account.
    MediaType,
    /// More bytes than one report may have.
    TooLarge,
    /// The body did not arrive in time, or broke off.
    Slow,
    /// The bytes cannot be read as reports.
    Malformed,
    /// More reports are waiting than are kept waiting.
    Busy,
    /// The sender is beyond the limit of proxies.
    Proxies,
    /// The history cannot be written: a full disk, for instance.
    History,
    /// A recording is shown, and nothing is taken in.
    Recording,
    /// More spans within a second than are taken in.
    Rate,
}

impl Refusal {
    /// All of them, in the order of their index.
    pub const ALL: [Refusal; 10] = [
        Refusal::Unauthorized,
        Refusal::MediaType,
        Refusal::TooLarge,
        Refusal::Slow,
        Refusal::Malformed,
        Refusal::Busy,
        Refusal::Proxies,
        Refusal::History,
        Refusal::Recording,
        Refusal::Rate,
    ];

    /// The word for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Unauthorized => "unauthorized",
            Refusal::MediaType => "media_type",
            Refusal::TooLarge => "too_large",
            Refusal::Slow => "slow",
            Refusal::Malformed => "malformed",
            Refusal::Busy => "busy",
            Refusal::Proxies => "proxies",
            Refusal::History => "history",
            Refusal::Recording => "recording",
            Refusal::Rate => "rate",
        }
    }
}

/// Everything the analyzer counts about itself, since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reports that were applied, replayed ones not included.
    pub reports: Counter,
    /// Reports that came again and were acknowledged without being applied.
    pub duplicates: Counter,
    /// Reports that never came: gaps in the sequences.
    pub missing: Counter,
    /// Data points that were not Couplet's.
    pub foreign_points: Counter,
    /// Instances whose last sequence is remembered.
    pub instances: Counter,
    /// Connections that are open.
    pub connections: Counter,
    /// Connections that were closed at once, being beyond the limit.
    pub connections_refused: Counter,
    /// Connections that the system could not hand over.
    pub accept_errors: Counter,
    /// Pages that listen for snapshots.
    pub ui_clients: Counter,
    /// Pages that were refused, being beyond the limit.
    pub ui_clients_refused: Counter,
    /// Rows of the history that could not be read.
    pub history_damaged: Counter,
    /// Times that damage to the history was found.
    pub history_damages: Counter,
    /// Rows that retention deleted from the history.
    pub history_pruned: Counter,
    /// Bytes of the history's pages in use.
    pub history_bytes: Counter,
    /// Reports that the graph was rebuilt from at the start, those of rollups as one for every instance.
    pub replayed: Counter,
    /// 1 while the history cannot be written.
    pub history_failing: Counter,
    /// Attempts to write the history that failed.
    pub history_failures: Counter,
    /// Notes about findings and events that could not be written.
    pub notes_lost: Counter,
    /// Traces that were folded.
    pub traces: Counter,
    /// Spans received.
    pub spans: Counter,
    /// Spans that came after their trace was folded.
    pub spans_late: Counter,
    /// Traces that were folded early, for limits left them no more room.
    pub traces_early: Counter,
    /// Spans beyond what one trace may have.
    pub spans_dropped: Counter,
    /// Spans that made no sense.
    pub spans_set_aside: Counter,
    /// Bytes of the spans that wait for their trace.
    pub span_bytes: Counter,
    /// Bytes of the slots in memory.
    pub slot_bytes: Counter,
    /// Slots for which there was no room in memory.
    pub slots_dropped: Counter,
    refused: [Counter; Refusal::ALL.len()],
}

impl Counters {
    /// Counts a refused request.
    pub fn refuse(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal as usize) {
            counter.add(1);
        }
    }

    /// How many requests were refused for this reason.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused.get(refusal as usize).map_or(0, Counter::get)
    }

    /// How many requests were refused at all.
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        Refusal::ALL.into_iter().fold(0, |sum, refusal| sum.saturating_add(self.refused(refusal)))
    }
}
