//! What is known of who makes a call: what its headers prove, and what was made of that.

use std::sync::Arc;

use couplet_telemetry::outcome::Evidence;

use super::Handler;
use super::known::Header;

/// What the headers of an outbound request say of the handler that makes it.
pub(crate) enum Found {
    /// They prove this one.
    One(Arc<Handler>, How),
    /// They prove that it is one of these; two or more, at most [`FEW`].
    Several(Vec<Arc<Handler>>),
    /// They prove nothing.
    None,
}

/// What proves a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The id that the application was given in `tracestate`, beside a value of this header.
    Handler(Header),
    /// A value of this header, which no other handler has.
    Value(Header),
    /// A value of this header, which several handlers have, and a span that was given to this one.
    Parent(Header),
}

/// Most handlers that a value is said to be narrowed down to; what more of them share tells nothing.
pub(crate) const FEW: usize = 32;

/// The handler that a call is counted in, and how surely.
pub(crate) struct Link {
    handler: Option<Arc<Handler>>,
    evidence: Evidence,
}

impl Link {
    /// A header proves it.
    pub(crate) fn exact(handler: Arc<Handler>) -> Self {
        Self { handler: Some(handler), evidence: Evidence::Exact }
    }

    /// Timing makes it likely.
    pub(crate) fn inferred(handler: Arc<Handler>) -> Self {
        Self { handler: Some(handler), evidence: Evidence::Inferred }
    }

    /// Nothing is claimed.
    pub(crate) fn unknown() -> Self {
        Self { handler: None, evidence: Evidence::Unknown }
    }

    pub(crate) fn handler(&self) -> Option<&Arc<Handler>> {
        self.handler.as_ref()
    }

    pub(crate) fn evidence(&self) -> Evidence {
        self.evidence
    }
}
