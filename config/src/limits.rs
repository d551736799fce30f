//! What a proxy carries at most, and how long it waits.

use std::time::Duration;

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{overlay::keys, units, units::ByteSize};

/// What the proxy carries at most at the same time. What exceeds a limit is refused and counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct ProxyLimits {
    /// Open downstream connections, over all listeners.
    #[garde(range(min = 1, max = 1_000_000))]
    pub connections: usize,

    /// Requests being carried, over all listeners.
    #[garde(range(min = 1, max = 1_000_000))]
    pub requests_in_flight: usize,

    /// Size of the head of a request or response: 8KiB to 1MiB.
    #[garde(custom(units::bytes_between(ByteSize::kib(8), ByteSize::mib(1))))]
    pub header_bytes: ByteSize,

    /// Header fields of a request or response.
    #[garde(range(min = 16, max = 10_000))]
    pub header_fields: usize,

    /// Idle connections kept per upstream address.
    #[garde(range(min = 1, max = 65_536))]
    pub connections_per_upstream: usize,

    /// Idle HTTP/1 connections kept over all upstream addresses. Each holds some 20 KiB.
    #[garde(range(min = 1, max = 1_000_000))]
    pub idle_upstream_connections: usize,

    /// Open connections to the admin listener. Each ends after a minute at most.
    #[garde(range(min = 1, max = 10_000))]
    pub admin_connections: usize,

    /// TLS handshakes of clients under way. They cost more than requests do.
    #[garde(range(min = 1, max = 65_536))]
    pub tls_handshakes: usize,
}

keys!(ProxyLimits {
    connections,
    requests_in_flight,
    header_bytes,
    header_fields,
    connections_per_upstream,
    idle_upstream_connections,
    admin_connections,
    tls_handshakes,
});

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            requests_in_flight: 10_000,
            header_bytes: ByteSize::kib(64),
            header_fields: 128,
            connections_per_upstream: 64,
            idle_upstream_connections: 128,
            admin_connections: 64,
            tls_handshakes: 1_024,
        }
    }
}

/// How long the proxy waits: 1ms to 24h each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Timeouts {
    /// For a connection to an upstream to be established, with its TLS handshake.
    #[garde(custom(units::between(SHORTEST, LONGEST)))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub connect: Duration,

    /// For the head of a request to arrive once its first byte has; before it, for a client's TLS handshake.
    #[garde(custom(units::between(SHORTEST, LONGEST)))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub header: Duration,

    /// For the next request on a downstream connection that is kept alive.
    #[garde(custom(units::between(SHORTEST, LONGEST)))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub idle: Duration,

    /// For an idle upstream connection before it is closed. Keep it below the keep-alive timeout of the upstreams.
    #[garde(custom(units::between(SHORTEST, LONGEST)))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub pool_idle: Duration,

    /// For anything to pass, in either direction, within a request that is being carried or a tunnel (CONNECT, WebSocket);
    /// `off` for no limit. A response that is waited for counts as well. Of an HTTP/2 connection the stream is reset, and
    /// the others go on.
    #[garde(inner(custom(units::between(SHORTEST, LONGEST))))]
    #[serde(serialize_with = "units::serialize_duration_or_off")]
    #[schemars(schema_with = "units::duration_or_off_schema")]
    pub stream_idle: Option<Duration>,

    /// For the head of the response, from the head of the request on; `off` leaves that to the application.
    #[garde(inner(custom(units::between(SHORTEST, LONGEST))))]
    #[serde(serialize_with = "units::serialize_duration_or_off")]
    #[schemars(schema_with = "units::duration_or_off_schema")]
    pub first_byte: Option<Duration>,

    /// For the whole response, from the head of the request on, tries of the proxy included; `off` leaves that to the
    /// application. Not for tunnels (CONNECT, WebSocket).
    #[garde(inner(custom(units::between(SHORTEST, LONGEST))))]
    #[serde(serialize_with = "units::serialize_duration_or_off")]
    #[schemars(schema_with = "units::duration_or_off_schema")]
    pub request: Option<Duration>,

    /// For requests in flight to end once the proxy is told to stop.
    #[garde(custom(units::between(SHORTEST, LONGEST)))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub drain: Duration,
}

keys!(Timeouts { connect, header, idle, pool_idle, stream_idle, first_byte, request, drain });

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            // Who is let go then is gone within 15 s, whatever else the machine has to do.
            header: Duration::from_secs(14),
            idle: Duration::from_secs(15 * 60),
            pool_idle: Duration::from_secs(4),
            stream_idle: Some(Duration::from_secs(60 * 60)),
            first_byte: None,
            request: None,
            drain: Duration::from_secs(25),
        }
    }
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
