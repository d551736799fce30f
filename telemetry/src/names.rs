//! Names that both sides of a wire must spell alike: headers, ports, OTLP attributes and metrics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Request header from proxy to proxy: the calling context.
pub const CONTEXT_HEADER: &str = "couplet-context";
/// Response header from proxy to proxy: the summary of everything below a call.
pub const SUMMARY_HEADER: &str = "couplet-summary";
/// The member of W3C `tracestate` that carries the id of the handler a request belongs to.
pub const TRACESTATE_MEMBER: &str = "couplet";
/// Response header on answers that the proxy made itself: why there is no answer from the service.
pub const ERROR_HEADER: &str = "couplet-error";
/// Response header, set by a proxy alone: which breaker stopped a call, and why.
pub const REJECT_HEADER: &str = "couplet-reject";

/// Response header, set by a proxy alone: which injected faults this answer met.
pub const FAULT_HEADER: &str = "couplet-fault";

/// Name that stands for everything beyond a limit: services, endpoints, callees.
pub const OTHER: &str = "(other)";
/// Endpoint of the path that holds calls which could not be linked to a handler.
pub const UNLINKED: &str = "(unlinked)";

/// Addresses of nobody (RFC 5737, RFC 3849), IPv4 and IPv6. A proxy answers a captured connection to one of them with
/// [`CAPTURE_ANSWER`] and the destination that it saw: so `couplet intercept check` finds out whether capture works.
pub const CAPTURE_PROBES: [(IpAddr, u16); 2] = [
    (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 113)), ports::OUTBOUND),
    (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 113)), ports::OUTBOUND),
];
/// What that answer begins with.
pub const CAPTURE_ANSWER: &str = "couplet captured ";

/// Default TCP ports.
pub mod ports {
    /// Analyzer: page, API and OTLP/HTTP.
    pub const ANALYZER: u16 = 15400;
    /// Proxy: captured outbound connections.
    pub const OUTBOUND: u16 = 15401;
    /// Proxy: inbound listener.
    pub const INBOUND: u16 = 15406;
    /// Proxy: explicit (forward) proxy listener.
    pub const EXPLICIT: u16 = 15408;
    /// Proxy: admin listener.
    pub const ADMIN: u16 = 15420;
}

/// Longest service name that is accepted, in bytes.
pub const MAX_SERVICE_BYTES: usize = 63;
/// Longest endpoint that is accepted, in bytes.
pub const MAX_ENDPOINT_BYTES: usize = 200;

/// Whether `name` can be a service name: 1 to 63 bytes of letters, digits, `.`, `_`, `-`, `:`, or the name [`OTHER`].
///
/// The colon is there because an outside peer that nobody named is called by its `host:port`.
#[must_use]
pub fn is_service_name(name: &str) -> bool {
    name == OTHER
        || (1..=MAX_SERVICE_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
}
