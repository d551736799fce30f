//! Reports as OTLP: one `ExportMetricsServiceRequest` with delta temporality.
//!
//! | metric | type, unit | attributes |
//! |---|---|---|
//! | `http.server.request.duration` | exponential histogram, s | `couplet.path` and what defines it |
//! | exemplars of these | s, with the trace | `couplet.outcome`, `couplet.example.calls`, `couplet.example.sampled` |
//! | `couplet.handlings` | sum | `couplet.path`, `couplet.outcome` |
//! | `couplet.handling.{links,below}` | sum | `couplet.path`, `couplet.evidence` |
//! | `couplet.handling.origins` | sum | `couplet.path`, `couplet.origin` |
//! | `couplet.handling.{blocked,busy}` | sum, ns | `couplet.path` |
//! | `couplet.handling.{asynchronous,retries}` | sum | `couplet.path` |
//! | `couplet.handling.{calls,callees,depth_below,calls_below,services_below}` | histogram | `couplet.path` |
//! | `http.client.request.duration`, `couplet.call.first_byte` | exponential histogram, s | path, peer, endpoint |
//! | `couplet.calls` | sum | path, peer, endpoint, `couplet.outcome` |
//! | `couplet.call.links` | sum | path, peer, endpoint, `couplet.evidence` |
//! | `couplet.call.{blocking,attempts,delayed,aborted,request_bytes,response_bytes}`, `couplet.call.blocked` (ns) | sum | path, peer, endpoint |
//! | `couplet.call.per_handling` | histogram | path, peer, endpoint |
//! | `couplet.call.joint` | sum | path, peer, endpoint, `couplet.call_failed`, `couplet.handling_failed` |
//! | `couplet.opaque.duration` | exponential histogram, s | peer, `network.protocol.name` |
//! | `couplet.opaque.connections` | sum | peer, protocol, `couplet.opaque.event`: opened, closed, failed, broken |
//! | `couplet.opaque.io` | sum, By | peer, protocol, `network.io.direction` |
//! | `couplet.headers` | sum | `couplet.header`, `couplet.header.event`: inbound, outbound, linked |
//! | `couplet.clients` | sum | `couplet.client`, `couplet.evidence` |
//! | `couplet.breaker.peak` | gauge, calls | peer, `couplet.breaker.state`, `couplet.breaker.mode` |
//! | `couplet.breaker.counts` | sum | peer, `couplet.breaker.count`; times in ns |
//! | `couplet.breaker.transitions` | sum | peer, `couplet.breaker.record`: the record as JSON |
//! | all of a breaker | | `couplet.breaker.class`, where it is for a class of calls |
//! | `couplet.expected` | sum | `couplet.endpoint`, peer, peer endpoint, `couplet.expected.part`: handlings; thousandths of calls; see [`ExpectedStats`](crate::expected::ExpectedStats) |
//! | `couplet.losses` | sum | `couplet.loss` |
//!
//! The resource names the sender (`service.name`, `service.instance.id`, `service.version`) and the report
//! (`couplet.sequence`). Any Collector or backend can read it; only an analyzer puts it together again. Histograms of
//! whole numbers list the values that occurred as their bounds, so that nothing is rounded on the way.

mod decode;
mod encode;
mod schema;
mod wire;
mod write;

pub use decode::{Bounds, DecodeError, Decoded, decode};
pub use encode::encode;

/// Names of metrics and attributes, spelled once for both directions.
mod words {
    pub(super) const SEQUENCE: &str = "couplet.sequence";
    pub(super) const WINDOW_START: &str = "couplet.window.start";
    pub(super) const WINDOW_END: &str = "couplet.window.end";
    pub(super) const INBOUND: &str = "couplet.inbound";
    pub(super) const SERVICE: &str = "service.name";
    pub(super) const INSTANCE: &str = "service.instance.id";
    pub(super) const VERSION: &str = "service.version";

    pub(super) const PATH: &str = "couplet.path";
    pub(super) const PARENT: &str = "couplet.path.parent";
    pub(super) const ROOT: &str = "couplet.path.root";
    pub(super) const CALLER: &str = "couplet.path.caller";
    pub(super) const DEPTH: &str = "couplet.path.depth";
    pub(super) const KIND: &str = "couplet.path.kind";
    pub(super) const EVIDENCE: &str = "couplet.evidence";
    pub(super) const ENDPOINT: &str = "couplet.endpoint";
    pub(super) const PEER: &str = "service.peer.name";
    pub(super) const PEER_ENDPOINT: &str = "couplet.peer.endpoint";
    pub(super) const OUTCOME: &str = "couplet.outcome";
    pub(super) const EXAMPLE_CALLS: &str = "couplet.example.calls";
    pub(super) const EXAMPLE_SAMPLED: &str = "couplet.example.sampled";
    pub(super) const CALL_FAILED: &str = "couplet.call_failed";
    pub(super) const HANDLING_FAILED: &str = "couplet.handling_failed";
    pub(super) const PROTOCOL: &str = "network.protocol.name";
    pub(super) const DIRECTION: &str = "network.io.direction";
    pub(super) const TRANSMIT: &str = "transmit";
    pub(super) const RECEIVE: &str = "receive";
    pub(super) const EVENT: &str = "couplet.opaque.event";
    pub(super) const OPENED: &str = "opened";
    pub(super) const CLOSED: &str = "closed";
    pub(super) const FAILED: &str = "failed";
    pub(super) const BROKEN: &str = "broken";
    pub(super) const HEADER: &str = "couplet.header";
    pub(super) const HEADER_EVENT: &str = "couplet.header.event";
    pub(super) const INBOUND_REQUEST: &str = "inbound";
    pub(super) const OUTBOUND_CALL: &str = "outbound";
    pub(super) const LINKED_CALL: &str = "linked";
    pub(super) const CLIENT: &str = "couplet.client";
    pub(super) const LOSS: &str = "couplet.loss";
    pub(super) const BREAKER_STATE: &str = "couplet.breaker.state";
    pub(super) const BREAKER_MODE: &str = "couplet.breaker.mode";
    pub(super) const BREAKER_CLASS: &str = "couplet.breaker.class";
    pub(super) const BREAKER_COUNT: &str = "couplet.breaker.count";
    pub(super) const BREAKER_RECORD: &str = "couplet.breaker.record";
    pub(super) const PART: &str = "couplet.expected.part";

    pub(super) const SERVER_DURATION: &str = "http.server.request.duration";
    pub(super) const HANDLINGS: &str = "couplet.handlings";
    pub(super) const HANDLING_LINKS: &str = "couplet.handling.links";
    pub(super) const HANDLING_BELOW: &str = "couplet.handling.below";
    pub(super) const HANDLING_RETRIES: &str = "couplet.handling.retries";
    pub(super) const HANDLING_ORIGINS: &str = "couplet.handling.origins";
    pub(super) const ORIGIN: &str = "couplet.origin";
    pub(super) const HANDLING_BLOCKED: &str = "couplet.handling.blocked";
    pub(super) const HANDLING_BUSY: &str = "couplet.handling.busy";
    pub(super) const HANDLING_ASYNCHRONOUS: &str = "couplet.handling.asynchronous";
    pub(super) const HANDLING_CALLS: &str = "couplet.handling.calls";
    pub(super) const HANDLING_CALLEES: &str = "couplet.handling.callees";
    pub(super) const DEPTH_BELOW: &str = "couplet.handling.depth_below";
    pub(super) const CALLS_BELOW: &str = "couplet.handling.calls_below";
    pub(super) const SERVICES_BELOW: &str = "couplet.handling.services_below";

    pub(super) const CLIENT_DURATION: &str = "http.client.request.duration";
    pub(super) const FIRST_BYTE: &str = "couplet.call.first_byte";
    pub(super) const CALLS: &str = "couplet.calls";
    pub(super) const CALL_LINKS: &str = "couplet.call.links";
    pub(super) const CALL_BLOCKING: &str = "couplet.call.blocking";
    pub(super) const CALL_BLOCKED: &str = "couplet.call.blocked";
    pub(super) const CALL_ATTEMPTS: &str = "couplet.call.attempts";
    pub(super) const CALL_DELAYED: &str = "couplet.call.delayed";
    pub(super) const CALL_ABORTED: &str = "couplet.call.aborted";
    pub(super) const CALL_REQUEST_BYTES: &str = "couplet.call.request_bytes";
    pub(super) const CALL_RESPONSE_BYTES: &str = "couplet.call.response_bytes";
    pub(super) const CALL_PER_HANDLING: &str = "couplet.call.per_handling";
    pub(super) const CALL_JOINT: &str = "couplet.call.joint";
    pub(super) const OPAQUE_DURATION: &str = "couplet.opaque.duration";
    pub(super) const OPAQUE_CONNECTIONS: &str = "couplet.opaque.connections";
    pub(super) const OPAQUE_IO: &str = "couplet.opaque.io";
    pub(super) const HEADERS: &str = "couplet.headers";
    pub(super) const CLIENTS: &str = "couplet.clients";
    pub(super) const BREAKER_PEAK: &str = "couplet.breaker.peak";
    pub(super) const BREAKER_COUNTS: &str = "couplet.breaker.counts";
    pub(super) const BREAKER_TRANSITIONS: &str = "couplet.breaker.transitions";
    pub(super) const EXPECTED: &str = "couplet.expected";
    pub(super) const LOSSES: &str = "couplet.losses";
}

#[cfg(test)]
mod tests;
