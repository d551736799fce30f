//! What the estimator may use, and what keeping to it has cost.

/// Limits and patience of an [`Estimator`](super::Estimator). Times in nanoseconds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Handlers kept at a time, open or ended lately.
    pub max_handlers: usize,
    /// Calls kept at a time that are not decided yet, or whose handler still matters to others.
    pub max_calls: usize,
    /// Densities kept, and a quarter of the counts kept.
    pub max_statistics: usize,
    /// Endpoints, pairs of endpoint and callee, and a quarter of the orders kept; callees are numbered below it.
    pub max_pairs: usize,
    /// Handlers a call is weighed against, the latest first.
    pub max_candidates: usize,
    /// Calls decided together, at least.
    pub batch: usize,
    /// Calls seen before the first is decided.
    pub warm_up: usize,
    /// Calls without which there is no first decision, however long they have waited.
    pub fewest: usize,
    /// How long a call that could be decided waits for company.
    pub patience: u64,
    /// Age at which an open handler is no longer believed to make calls.
    pub longest: u64,
    /// Handlers after which an observation is worth half.
    pub half_life: f64,
    /// Probability from which a link is stated.
    pub stated: f64,
    /// How far the model is believed by the draws that doubt, 1 being fully: what only holds at more trust is not stated.
    /// What follows what is not independent in truth; docs/attribution.md says what this was chosen by.
    pub doubt: f64,
    /// How far the model is believed at the moment of a call, when nobody knows yet what follows.
    pub sight: f64,
    /// Questions to the model that a call may cost on average, each a few tens of nanoseconds; a hundred are never more
    /// than a few microseconds. Beyond it calls are linked at sight, and none of these links is stated.
    pub questions_per_call: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_handlers: 8_192,
            max_calls: 16_384,
            max_statistics: 2_048,
            max_pairs: 2_048,
            max_candidates: 256,
            batch: 64,
            warm_up: 1_000,
            fewest: 1,
            patience: 60_000_000_000,
            longest: 60_000_000_000,
            half_life: 10_000.0,
            stated: 0.9,
            doubt: 0.3,
            sight: 0.3,
            questions_per_call: 250.0,
        }
    }
}

/// What the limits cost so far, and what came that made no sense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// Handlers given up while open, because there were too many or they were too old.
    pub handlers_given_up: u64,
    /// Calls decided before all that could have made them had ended.
    pub calls_hurried: u64,
    /// Calls linked at sight, because weighing them would have cost too much.
    pub calls_at_sight: u64,
    /// Calls weighed against fewer handlers than could have made them.
    pub candidates_left_out: u64,
    /// Observations that found no room in the statistics.
    pub observations_refused: u64,
    /// Handlings and calls that found no room in what is counted by endpoint and callee.
    pub pairs_refused: u64,
    /// Events that name a handler or call that is not open, or one that already is.
    pub events_ignored: u64,
}
