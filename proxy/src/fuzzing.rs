//! What fuzz targets need of the parts that read bytes from strangers: read, and write what was read. No part of the
//! crate's interface.

use tokio::time::Instant;

use crate::context::{self, Calling, Summary, Traceparent};
use crate::detect::hello::{Peek, server_name};
use crate::detect::{Judgement, begins_with_settings, judge};
use crate::error::Abuse;
use crate::http1::{Asked, Bounds, Method, Stream};
use crate::http2::Frames;

/// A `couplet-context`, read and written.
#[must_use]
pub fn calling(value: &[u8]) -> Option<String> {
    Calling::parse(value).map(|calling| calling.text().to_string())
}

/// A `couplet-summary`, read and written.
#[must_use]
pub fn summary(value: &[u8]) -> Option<String> {
    Summary::parse(value).map(|summary| summary.text().to_string())
}

/// How many services a `couplet-summary` counts, and how many together with those of another one.
#[must_use]
pub fn services(one: &[u8], other: &[u8]) -> Option<[u32; 2]> {
    let (mut services, other) = (Summary::parse(one)?.services, Summary::parse(other)?.services);
    let alone = services.count_without(u32::MAX);
    services.merge(&other);
    Some([alone, services.count_without(u32::MAX)])
}

/// A `traceparent`, read and written.
#[must_use]
pub fn traceparent(value: &[u8]) -> Option<String> {
    Traceparent::parse(value).map(|traceparent| traceparent.text().to_string())
}

/// The handler that a `tracestate` names.
#[must_use]
pub fn tracestate_handler(tracestate: &str) -> Option<u64> {
    context::tracestate_handler(tracestate.as_bytes())
}

/// A `tracestate` that names this handler.
#[must_use]
pub fn tracestate_with(tracestate: &str, handler: u64) -> String {
    context::tracestate_with([tracestate.as_bytes()], handler).to_string()
}

/// A `tracestate` that names no handler, and whether it did.
#[must_use]
pub fn tracestate_without(tracestate: &str) -> (String, bool) {
    let fields = [b"couplet", tracestate.as_bytes()];
    let named = context::tracestate_without(|| fields.iter().skip(1).copied()).is_some();
    let rest = context::tracestate_without(|| fields.iter().copied()).unwrap_or_default();
    (String::from_utf8_lossy(&rest).into_owned(), named)
}

/// What became of the bytes of one direction of an HTTP/1 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How many passed, from the first on.
    pub bytes: usize,
    /// Heads of requests among them.
    pub heads: u64,
    /// Why no more may pass.
    pub violation: Option<&'static str>,
}

/// Lets requests pass that come in these pieces. Whoever asks for another protocol is answered at once: `agreed` says
/// how.
#[must_use]
pub fn requests(pieces: &[&[u8]], head_bytes: usize, fields: usize, agreed: bool) -> Passed {
    passed(Stream::requests(Bounds { bytes: head_bytes, fields }), pieces, agreed)
}

/// Lets the response to one request pass that comes in these pieces.
#[must_use]
pub fn response(pieces: &[&[u8]], head_bytes: usize, fields: usize, method: &str, upgrade: bool) -> Passed {
    let mut stream = Stream::responses(Bounds { bytes: head_bytes, fields });
    stream.ask(Asked { method: Method::of(method.as_bytes()), upgrade });
    passed(stream, pieces, false)
}

fn passed(mut stream: Stream, pieces: &[&[u8]], agreed: bool) -> Passed {
    let mut kept = Vec::new();
    let mut bytes = 0;
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let count = stream.pass(&kept);
            kept.drain(..count);
            bytes += count;
            if !stream.is_held() {
                break;
            }
            stream.answered(agreed);
        }
    }
    Passed { bytes, heads: stream.begun(), violation: stream.refused().map(|(violation, _)| violation.word()) }
}

/// Reads the frames of an HTTP/2 client that come in these pieces, all at one instant: what there is too much of, if
/// anything, else whether a frame that must end in time has not ended.
///
/// # Errors
/// The word of the abuse.
pub fn frames(pieces: &[&[u8]]) -> Result<bool, &'static str> {
    let now = Instant::now();
    let mut frames = Frames::after_preface(now);
    for mut piece in pieces.iter().copied() {
        while !piece.is_empty() {
            frames.take_turn();
            let read = frames.read(piece, now).map_err(Abuse::as_str)?;
            piece = piece.get(read..).unwrap_or_default();
        }
    }
    Ok(frames.incomplete().is_some())
}

/// With so many bytes [`judged`] and [`settings`] know.
pub const JUDGED_BYTES: usize = crate::detect::ENOUGH;
/// With so many bytes [`hello`] knows.
pub const HELLO_BYTES: usize = crate::detect::hello::MOST;

/// What a client with these first bytes speaks: `http1`, `http2`, `tls`, `opaque`; nothing while more are needed.
#[must_use]
pub fn judged(bytes: &[u8]) -> Option<&'static str> {
    match judge(bytes) {
        Judgement::More => None,
        Judgement::Http1 => Some("http1"),
        Judgement::Http2 => Some("http2"),
        Judgement::Tls => Some("tls"),
        Judgement::Opaque => Some("opaque"),
    }
}

/// Whether a server with these first bytes speaks HTTP/2; nothing while more are needed.
#[must_use]
pub fn settings(bytes: &[u8]) -> Option<bool> {
    begins_with_settings(bytes)
}

/// The name that a TLS ClientHello asks for, if there is one; nothing while more bytes are needed.
#[must_use]
pub fn hello(bytes: &[u8]) -> Option<Option<String>> {
    match server_name(bytes) {
        Peek::More => None,
        Peek::Name(name) => Some(Some(name)),
        Peek::Nothing => Some(None),
    }
}
