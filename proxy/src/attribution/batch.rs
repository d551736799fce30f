//! A stretch of traffic whose calls are linked together: handlers, calls, and who may have made which.

/// A handler of the batch. Times in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Handler {
    pub(super) start: u64,
    /// None while it is open.
    pub(super) end: Option<u64>,
    pub(super) endpoint: u32,
    /// Whether nothing more can be linked to it after this batch.
    pub(super) retires: bool,
}

/// A call of the batch.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) start: u64,
    /// None while it is open.
    pub(super) end: Option<u64>,
    pub(super) callee: u32,
    /// Positions of the handlers that may have made it.
    pub(super) candidates: Vec<u32>,
    /// Whether nothing but the first candidate is possible.
    pub(super) settled: bool,
    /// Position of the handler that is taken to have made it; none is the background.
    pub(super) owner: Option<u32>,
}

/// Handlers in order of their start and calls in order of theirs.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) handlers: Vec<Handler>,
    pub(super) calls: Vec<Call>,
}

impl Call {
    /// Whether the call was over when this handler ended, give or take a tick.
    pub(super) fn nested(&self, handler: &Handler) -> bool {
        match (self.end, handler.end) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(call), Some(handler)) => call <= handler.saturating_add(SLACK),
        }
    }
}

/// How far clock ticks may put events out of order, in nanoseconds.
pub(super) const SLACK: u64 = 1_000;
