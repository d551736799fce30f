//! What travels with a request: W3C trace context, and the calling context and summary from proxy to proxy.
//!
//! Pure text ↔ value, bounded, for bytes from strangers: whatever is not well formed is no context.

mod calling;
pub(crate) mod foreign;
mod services;
mod summary;
mod trace;

pub(crate) use calling::Calling;
pub(crate) use services::Services;
pub(crate) use summary::{Below, MAX_BLOCKED, MAX_CALLS, Summary};
pub(crate) use trace::{Traceparent, tracestate_handler, tracestate_with, tracestate_without};

/// Longest context or summary, in bytes.
const MAX_BYTES: usize = 160;

fn hex64(text: &str) -> Option<u64> {
    couplet_telemetry::path::parse_hex64(text)
}
