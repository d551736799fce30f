//! A stretch of traffic whose calls are linked together: handlers, calls, and who may have made which.

use std::ops::Range;

/// A handler of the batch. Times in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Handler {
    pub(super) start: u64,
    /// [`OPEN_END`] while it is open.
    pub(super) end: u64,
    pub(super) endpoint: u32,
    /// Whether nothing more can be linked to it after this batch.
    pub(super) retires: bool,
}

/// A call of the batch.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) start: u64,
    /// [`OPEN_END`] while it is open.
    pub(super) end: u64,
    pub(super) callee: u32,
    /// Where its candidates stand.
    pub(super) candidates: Range<u32>,
    /// Whether nothing but the first candidate is possible.
    pub(super) settled: bool,
    /// Position of the handler that is taken to have made it; none is the background.
    pub(super) owner: Option<u32>,
    /// How likely its endpoint was when the call was given to it at sight.
    pub(super) sight: Believed,
}

/// A probability if what was learned is believed fully, and if it is believed only half as far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Believed {
    pub(super) full: f32,
    pub(super) half: f32,
}

/// Handlers in order of their start and calls in order of theirs.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) handlers: Vec<Handler>,
    pub(super) calls: Vec<Call>,
    /// Handlers that may have made each call, by position, the latest first.
    pub(super) candidates: Vec<u32>,
}

/// The end of what has not ended.
pub(super) const OPEN_END: u64 = u64::MAX;
/// How far clock ticks may put events out of order, in nanoseconds.
pub(super) const SLACK: u64 = 1_000;

impl Batch {
    /// Positions of the handlers that may have made a call, the latest first.
    #[inline]
    pub(super) fn candidates(&self, call: &Call) -> &[u32] {
        self.candidates.get(call.candidates.start as usize..call.candidates.end as usize).unwrap_or_default()
    }

    /// Where among the candidates of a call a handler stands.
    pub(super) fn place(&self, call: &Call, handler: u32) -> Option<usize> {
        self.candidates(call).binary_search_by(|candidate| handler.cmp(candidate)).ok()
    }
}

impl Call {
    /// Whether the call was over when this handler ended, give or take a tick.
    #[inline]
    pub(super) fn nested(&self, handler: &Handler) -> bool {
        handler.end == OPEN_END || self.end <= handler.end.saturating_add(SLACK)
    }
}
