//! What travels with a request: W3C trace context, and the calling context and summary from proxy to proxy.
//!
//! Pure text ↔ value, bounded, for bytes from strangers: whatever is not well formed is no context.

mod calling;
pub(crate) mod foreign;
mod services;
mod summary;
mod text;
mod trace;

pub(crate) use calling::Calling;
pub(crate) use services::Services;
pub(crate) use summary::{Below, MAX_BLOCKED, MAX_CALLS, Summary};
pub(crate) use trace::{Traceparent, is_tracestate, tracestate_handler, tracestate_with, tracestate_without};

/// Longest context or summary, in bytes.
const MAX_BYTES: usize = 160;

/// The fields of a context or summary.
fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b';')
}

/// Digits only, as many as every number of 64 bits may have: `u64::from_str` would take a sign.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn hex64(text: impl AsRef<[u8]>) -> Option<u64> {
    couplet_telemetry::path::parse_hex64(text)
}
