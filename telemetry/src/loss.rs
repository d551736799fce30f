//! What limits cost: a closed list.

/// What a limit cost. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Handlings or calls that were counted on the overflow path.
    Paths,
    /// Calls that were counted without their callee endpoint.
    Callees,
    /// Requests whose endpoint was counted as [`OTHER`](crate::names::OTHER).
    Endpoints,
    /// Requests whose chain was deeper than the limit.
    Depth,
    /// Calls beyond the number of callee endpoints that one handling keeps apart.
    Uses,
    /// Opaque connections that were counted without their peer.
    Opaque,
    /// Handlings of traces that a sampler chose: they stand for others that nobody sent.
    Sampled,
    /// Thousandths of calls that timing found and that had no room among what endpoints are expected to call.
    Expected,
}

impl Loss {
    /// All of them.
    pub const ALL: [Loss; 8] = [
        Loss::Paths,
        Loss::Callees,
        Loss::Endpoints,
        Loss::Depth,
        Loss::Uses,
        Loss::Opaque,
        Loss::Sampled,
        Loss::Expected,
    ];

    /// The word for labels and the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Loss::Paths => "paths",
            Loss::Callees => "callees",
            Loss::Endpoints => "endpoints",
            Loss::Depth => "depth",
            Loss::Uses => "uses",
            Loss::Opaque => "opaque",
            Loss::Sampled => "sampled",
            Loss::Expected => "expected",
        }
    }

    /// The loss that [`Loss::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|loss| loss.as_str() == word)
    }
}
