//! Spans that wait for the rest of their trace, within a budget of bytes.
//!
//! Nobody says when a trace is complete. It is taken for complete when no span of it has come for a while, or when it
//! has waited for long; where the budget is used up, the trace that has waited longest goes first. A span that comes
//! later still counts, as a piece whose caller is unknown. Time is an argument.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::otlp::Exported;
use super::span::Told;

/// What a span takes beside its text, about.
const SPAN_BYTES: usize = std::mem::size_of::<Told>() + 64;
/// Spans of one trace; what is beyond is dropped and counted.
const SPANS: usize = 10_000;
/// Traces that are remembered as folded, so that late spans are known as late.
const REMEMBERED: usize = 100_000;

/// How long spans wait, and how many bytes they take at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingLimits {
    /// A trace is complete when no span of it has come for so long.
    pub(crate) quiet: Duration,
    /// No trace waits longer than this.
    pub(crate) longest: Duration,
    /// Bytes of all waiting spans.
    pub(crate) bytes: usize,
}

/// What became of spans so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PendingCounts {
    /// Spans that came after their trace was folded.
    pub(crate) late: u64,
    /// Traces that went early, for the budget was used up.
    pub(crate) early: u64,
    /// Spans beyond what one trace may have.
    pub(crate) dropped: u64,
}

/// The spans that wait.
#[derive(Debug)]
pub(crate) struct Pending {
    limits: PendingLimits,
    traces: HashMap<String, Waiting>,
    /// Traces in the order in which they began to wait.
    order: VecDeque<String>,
    bytes: usize,
    folded: HashSet<String>,
    folded_order: VecDeque<String>,
    pub(crate) counts: PendingCounts,
}

#[derive(Debug)]
struct Waiting {
    spans: Vec<Told>,
    bytes: usize,
    sampled: bool,
    since: Instant,
    last: Instant,
}

/// A trace that is taken for complete.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(super) spans: Vec<Told>,
    pub(super) sampled: bool,
}

impl Pending {
    pub(crate) fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            traces: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            folded: HashSet::new(),
            folded_order: VecDeque::new(),
            counts: PendingCounts::default(),
        }
    }

    /// Lets a span wait; one without the id of a trace is folded as it is, which sets it aside.
    pub(crate) fn add(&mut self, span: Exported, now: Instant) {
        let trace = span.told.trace.clone().unwrap_or_default();
        self.counts.late += u64::from(self.folded.contains(&trace));
        let order = &mut self.order;
        let waiting = self.traces.entry(trace).or_insert_with_key(|trace| {
            order.push_back(trace.clone());
            Waiting { spans: Vec::new(), bytes: 0, sampled: false, since: now, last: now }
        });
        (waiting.last, waiting.sampled) = (now, waiting.sampled || span.sampled);
        if waiting.spans.len() >= SPANS {
            self.counts.dropped += 1;
            return;
        }
        let bytes = SPAN_BYTES + span.told.text_bytes();
        waiting.bytes += bytes;
        self.bytes += bytes;
        waiting.spans.push(span.told);
    }

    /// The traces that are complete at `now`, and those for which there is no more room.
    pub(crate) fn complete(&mut self, now: Instant) -> Vec<Complete> {
        let PendingLimits { quiet, longest, bytes } = self.limits;
        let over = |waiting: &Waiting| {
            now.saturating_duration_since(waiting.last) >= quiet
                || now.saturating_duration_since(waiting.since) >= longest
        };
        let mut complete = Vec::new();
        for trace in std::mem::take(&mut self.order) {
            let full = self.bytes > bytes;
            match self.traces.get(&trace) {
                Some(waiting) if over(waiting) || full => {
                    self.counts.early += u64::from(!over(waiting));
                    complete.extend(self.take(trace));
                }
                Some(_) => self.order.push_back(trace),
                None => {}
            }
        }
        complete
    }

    /// Everything, complete or not.
    pub(crate) fn drain(&mut self) -> Vec<Complete> {
        std::mem::take(&mut self.order).into_iter().filter_map(|trace| self.take(trace)).collect()
    }

    /// Bytes of all waiting spans.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, trace: String) -> Option<Complete> {
        let waiting = self.traces.remove(&trace)?;
        self.bytes -= waiting.bytes;
        if self.folded.insert(trace.clone()) {
            self.folded_order.push_back(trace);
            if self.folded_order.len() > REMEMBERED
                && let Some(oldest) = self.folded_order.pop_front()
            {
                self.folded.remove(&oldest);
            }
        }
        Some(Complete { spans: waiting.spans, sampled: waiting.sampled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PendingLimits =
        PendingLimits { quiet: Duration::from_secs(10), longest: Duration::from_secs(60), bytes: 100_000 };

    fn span(trace: &str) -> Exported {
        Exported { told: Told { trace: Some(trace.to_owned()), ..Told::default() }, sampled: false }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_trace_is_complete_when_it_has_been_quiet_and_waits_no_longer_than_it_may() {
        let (mut pending, start) = (Pending::new(LIMITS), Instant::now());
        pending.add(span("a"), start);
        assert_eq!(pending.complete(after(start, 9)).len(), 0);
        pending.add(span("a"), after(start, 9));
        assert_eq!(pending.complete(after(start, 18)).len(), 0);
        let complete = pending.complete(after(start, 19));
        assert_eq!((complete.len(), complete[0].spans.len(), pending.bytes()), (1, 2, 0));
        for second in 20..=79 {
            pending.add(span("b"), after(start, second));
            assert_eq!(pending.complete(after(start, second)).len(), 0);
        }
        assert_eq!(pending.complete(after(start, 80)).len(), 1);
        assert_eq!(pending.counts, PendingCounts::default());
    }

    #[test]
    fn beyond_the_budget_the_oldest_goes_early_and_is_counted() {
        let (mut pending, start) = (Pending::new(LIMITS), Instant::now());
        let fitting = 100_000 / SPAN_BYTES;
        for n in 0..fitting + 50 {
            pending.add(span(&format!("{n:05}")), start);
        }
        let gone = pending.complete(start);
        assert!(pending.bytes() <= 100_000 && !gone.is_empty());
        assert_eq!(gone[0].spans[0].trace.as_deref(), Some("00000"));
        assert_eq!(pending.counts.early, gone.len() as u64);
    }

    #[test]
    fn late_spans_are_counted_and_a_trace_has_a_bound() {
        let (mut pending, start) = (Pending::new(PendingLimits { bytes: usize::MAX, ..LIMITS }), Instant::now());
        pending.add(span("a"), start);
        pending.complete(after(start, 10));
        pending.add(span("a"), after(start, 11));
        assert_eq!(pending.counts.late, 1);
        for _ in 0..SPANS + 7 {
            pending.add(span("b"), start);
        }
        assert_eq!(pending.counts.dropped, 7);
        assert_eq!(pending.drain().iter().map(|trace| trace.spans.len()).sum::<usize>(), SPANS + 1);
    }
}
