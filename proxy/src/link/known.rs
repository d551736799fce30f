//! The headers that are known to name a request, and how each is read.

use crate::context::foreign::{self, Foreign};

/// A header by which requests are linked: a known one, or a configured or learned one behind them. What proves more comes
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Header(pub(crate) u8);

/// Most headers, of any kind: they fit the bits of a number.
pub(crate) const MAX_HEADERS: usize = 64;

pub(crate) const TRACEPARENT: Header = Header(0);

/// `baggage` is passed on by every library that knows it, but nobody says that its values differ from request to request.
pub(crate) const BAGGAGE: Header = Header(63);

/// How a known header is read.
#[derive(Clone, Copy)]
pub(crate) enum Reading {
    /// It names the trace.
    Trace(Header, for<'a> fn(&'a [u8]) -> Option<Foreign<'a>>),
    /// It names only a span, beside another header; that one decides whether it counts.
    Span(Header, fn(&[u8]) -> Option<u64>),
    /// `traceparent`: the same as the first, and needed as it is.
    Traceparent,
    /// `tracestate`.
    State,
}

/// The known headers that name a trace, by number.
pub(crate) const NAMES: [&str; 10] = [
    "traceparent",
    "b3",
    "x-b3-traceid",
    "uber-trace-id",
    "x-datadog-trace-id",
    "x-cloud-trace-context",
    "x-amzn-trace-id",
    "grpc-trace-bin",
    "sw8",
    "x-request-id",
];

/// How the header of this name, in lower case, is read; none where it is not a known one.
pub(crate) fn reading(name: &str) -> Option<Reading> {
    use Reading::{Span, Trace};
    Some(match name {
        "traceparent" => Reading::Traceparent,
        "b3" => Trace(Header(1), foreign::b3),
        "x-b3-traceid" => Trace(Header(2), foreign::hexadecimal),
        "x-b3-spanid" | "x-b3-parentspanid" => Span(Header(2), foreign::span),
        "uber-trace-id" => Trace(Header(3), foreign::uber),
        "x-datadog-trace-id" => Trace(Header(4), foreign::decimal),
        "x-datadog-parent-id" => Span(Header(4), foreign::decimal_span),
        "x-cloud-trace-context" => Trace(Header(5), foreign::cloud),
        "x-amzn-trace-id" => Trace(Header(6), foreign::amzn),
        "grpc-trace-bin" => Trace(Header(7), foreign::grpc_bin),
        "sw8" => Trace(Header(8), foreign::sw8),
        "x-request-id" => Trace(Header(9), foreign::whole),
        "baggage" => Trace(BAGGAGE, foreign::whole),
        "tracestate" => Reading::State,
        _ => return None,
    })
}

/// The known header of this name.
pub(crate) fn header(name: &str) -> Option<Header> {
    match reading(name)? {
        Reading::Trace(header, _) | Reading::Span(header, _) => Some(header),
        Reading::Traceparent => Some(TRACEPARENT),
        Reading::State => None,
    }
}

/// Whether a header of this name says nothing of the single request, or must not be looked at: never learned.
pub(crate) fn is_never_learned(name: &str) -> bool {
    let plain = matches!(
        name,
        "host"
            | "accept"
            | "age"
            | "allow"
            | "cache-control"
            | "connection"
            | "cookie"
            | "date"
            | "dnt"
            | "etag"
            | "expect"
            | "forwarded"
            | "from"
            | "keep-alive"
            | "last-modified"
            | "max-forwards"
            | "origin"
            | "pragma"
            | "priority"
            | "range"
            | "referer"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "upgrade-insecure-requests"
            | "user-agent"
            | "via"
            | "warning"
            | "x-real-ip"
    );
    let begins = ["accept-", "content-", "couplet-", "grpc-", "if-", "proxy-", "sec-", "x-forwarded-", ":"];
    plain || begins.iter().any(|begin| name.starts_with(begin)) || is_secret(name) || reading(name).is_some()
}

/// Whether a header of this name may hold a secret.
fn is_secret(name: &str) -> bool {
    const SECRETS: [&str; 11] = [
        "auth",
        "api-key",
        "apikey",
        "cookie",
        "credential",
        "csrf",
        "passw",
        "secret",
        "session",
        "signature",
        "token",
    ];
    SECRETS.iter().any(|secret| name.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_number() {
        for (number, name) in NAMES.iter().enumerate() {
            assert_eq!(header(name), Some(Header(number as u8)), "{name}");
        }
        assert_eq!((header("tracestate"), header("x-correlation-id")), (None, None));
    }

    #[test]
    fn secrets_and_what_names_no_request_are_never_learned() {
        for name in ["authorization", "cookie", "x-api-key", "x-amz-security-token", "x-csrf-token", "user-agent"] {
            assert!(is_never_learned(name), "{name}");
        }
        for name in ["x-correlation-id", "x-transaction", "x-ot-span-context", "x-job"] {
            assert!(!is_never_learned(name), "{name}");
        }
    }
}
