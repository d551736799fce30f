//! Why the proxy answered a request itself: a closed list, and one table that says the answer.

use couplet_telemetry::outcome::Outcome;
use http::StatusCode;

/// Why there is no answer from the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// The downstream side sent something that cannot be forwarded.
    BadRequest,
    /// The request breaks the rules of its protocol: whoever reads it next might read another one.
    Malformed,
    /// The head of the request has more fields than the limit.
    HeaderFields,
    /// The request would come back to this very proxy.
    Loop,
    /// More requests in flight than the limit.
    InFlight,
    /// The name of the upstream has no address.
    Unresolved,
    /// No connection to the upstream.
    Connect,
    /// Connecting took longer than the limit.
    ConnectTimeout,
    /// What answers at the upstream does not speak TLS, or no version of it that is safe.
    Tls,
    /// The upstream's certificate is not the one that is expected.
    Identity,
    /// The upstream does not speak the request's protocol over TLS.
    Alpn,
    /// The upstream refused the certificate that it was shown.
    TlsRefused,
    /// The upstream takes clear text alone, and may not get any.
    ClearText,
    /// The upstream closed or broke the connection before it answered.
    Reset,
    /// The answer took longer than the limit.
    RequestTimeout,
    /// The answer's head took longer than the limit.
    FirstByte,
    /// The last try took longer than the limit of each.
    TryTimeout,
    /// Nothing of the answer came for longer than the limit.
    Idle,
    /// The time that the client of a gRPC call allows is over.
    Deadline,
    /// The answer breaks the rules of its protocol.
    MalformedResponse,
    /// The breaker of the destination stops calls.
    BreakerOpen,
    /// Somebody injects faults on purpose. Which status is answered is theirs to say.
    Injected,
    /// More calls to the destination are under way than its limit.
    DestinationInFlight,
    /// A call needs a connection to the destination beyond its limit.
    DestinationConnections,
    /// More calls wait for a connection to the destination than its limit.
    DestinationPending,
    /// The application has as many requests as it may have at the same time.
    Overloaded,
}

/// What is answered and counted for a [`Fault`].
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// What a gRPC client is told instead of the status. Only what another attempt may cure is UNAVAILABLE (14):
    /// clients retry that by themselves.
    pub(crate) grpc: u8,
    /// The word in the `couplet-error` header, in logs and metrics.
    pub(crate) reason: &'static str,
    pub(crate) outcome: Outcome,
    /// One sentence for whoever reads the body.
    pub(crate) text: &'static str,
}

impl Fault {
    pub(crate) const ALL: [Fault; 26] = [
        Fault::BadRequest,
        Fault::Malformed,
        Fault::HeaderFields,
        Fault::Loop,
        Fault::InFlight,
        Fault::Unresolved,
        Fault::Connect,
        Fault::ConnectTimeout,
        Fault::Tls,
        Fault::Identity,
        Fault::Alpn,
        Fault::TlsRefused,
        Fault::ClearText,
        Fault::Reset,
        Fault::RequestTimeout,
        Fault::FirstByte,
        Fault::TryTimeout,
        Fault::Idle,
        Fault::Deadline,
        Fault::MalformedResponse,
        Fault::BreakerOpen,
        Fault::Injected,
        Fault::DestinationInFlight,
        Fault::DestinationConnections,
        Fault::DestinationPending,
        Fault::Overloaded,
    ];

    pub(crate) fn answer(self) -> Answer {
        let answer = |status, grpc, reason, outcome, text| Answer { status, grpc, reason, outcome, text };
        match self {
            Fault::BadRequest => answer(
                StatusCode::BAD_REQUEST,
                13,
                "bad_request",
                Outcome::Rejected,
                "the request cannot be forwarded: it names no valid destination",
            ),
            Fault::Malformed => answer(
                StatusCode::BAD_REQUEST,
                13,
                "malformed",
                Outcome::Rejected,
                "the request breaks the rules of its protocol",
            ),
            Fault::HeaderFields => answer(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                8,
                "header_fields",
                Outcome::Rejected,
                "the request has more header fields than limits.header_fields allows",
            ),
            Fault::Loop => {
                answer(StatusCode::LOOP_DETECTED, 13, "loop", Outcome::Rejected, "the destination is this proxy itself")
            }
            Fault::InFlight => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                8,
                "limit_in_flight",
                Outcome::Rejected,
                "more requests in flight than limits.requests_in_flight allows",
            ),
            Fault::Unresolved => answer(
                StatusCode::BAD_GATEWAY,
                14,
                "unresolved",
                Outcome::Connect,
                "the name of the destination has no address",
            ),
            Fault::Connect => {
                answer(StatusCode::BAD_GATEWAY, 14, "connect", Outcome::Connect, "no connection to the destination")
            }
            Fault::ConnectTimeout => answer(
                StatusCode::GATEWAY_TIMEOUT,
                14,
                "connect_timeout",
                Outcome::Connect,
                "connecting to the destination took longer than timeouts.connect",
            ),
            Fault::Tls => answer(
                StatusCode::BAD_GATEWAY,
                14,
                "tls",
                Outcome::Connect,
                "the TLS handshake with the destination failed",
            ),
            Fault::Identity => answer(
                StatusCode::BAD_GATEWAY,
                14,
                "tls_identity",
                Outcome::Connect,
                "the destination's certificate is not valid, or not the one that is expected",
            ),
            Fault::Alpn => answer(
                StatusCode::BAD_GATEWAY,
                13,
                "tls_protocol",
                Outcome::Connect,
                "the destination does not speak the request's protocol over TLS",
            ),
            Fault::TlsRefused => answer(
                StatusCode::BAD_GATEWAY,
                14,
                "tls_refused",
                Outcome::Connect,
                "the destination refused the TLS handshake, or the certificate of this proxy",
            ),
            Fault::ClearText => answer(
                StatusCode::BAD_GATEWAY,
                14,
                "tls_required",
                Outcome::Connect,
                "no sidecar answers mutual TLS at the destination, and tls.outbound is strict: nothing was sent",
            ),
            Fault::Reset => answer(
                StatusCode::BAD_GATEWAY,
                14,
                "reset",
                Outcome::Reset,
                "the destination closed the connection before it answered",
            ),
            Fault::RequestTimeout => answer(
                StatusCode::GATEWAY_TIMEOUT,
                4,
                "request_timeout",
                Outcome::Timeout,
                "the destination did not answer within timeouts.request",
            ),
            Fault::FirstByte => answer(
                StatusCode::GATEWAY_TIMEOUT,
                4,
                "first_byte_timeout",
                Outcome::Timeout,
                "the destination did not begin to answer within timeouts.first_byte",
            ),
            Fault::TryTimeout => answer(
                StatusCode::GATEWAY_TIMEOUT,
                4,
                "per_try_timeout",
                Outcome::Timeout,
                "the destination did not begin to answer within retry.per_try_timeout, the last time as well",
            ),
            Fault::Idle => answer(
                StatusCode::GATEWAY_TIMEOUT,
                4,
                "idle_timeout",
                Outcome::Timeout,
                "nothing came from the destination for longer than timeouts.idle",
            ),
            Fault::Deadline => answer(
                StatusCode::GATEWAY_TIMEOUT,
                4,
                "deadline_exceeded",
                Outcome::Timeout,
                "the time that the client allows is over",
            ),
            Fault::MalformedResponse => answer(
                StatusCode::BAD_GATEWAY,
                13,
                "malformed_response",
                Outcome::Reset,
                "the destination's answer breaks the rules of its protocol",
            ),
            Fault::DestinationInFlight => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                14,
                "destination_in_flight",
                Outcome::Rejected,
                "more calls to the destination are under way than max_in_flight allows",
            ),
            Fault::Overloaded => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                14,
                "overloaded",
                Outcome::Rejected,
                "the service has as many requests at the same time as concurrency allows",
            ),
            Fault::DestinationConnections => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                14,
                "destination_connections",
                Outcome::Rejected,
                "the call needs more connections to the destination than max_connections allows",
            ),
            Fault::DestinationPending => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                14,
                "destination_pending",
                Outcome::Rejected,
                "more calls wait for a connection to the destination than max_pending allows",
            ),
            Fault::BreakerOpen => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                14,
                "breaker_open",
                Outcome::Rejected,
                "calls to the destination are stopped, since too many of them failed",
            ),
            Fault::Injected => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                14,
                "fault_injected",
                Outcome::Rejected,
                "faults are injected into calls to the destination, on purpose",
            ),
        }
    }
}

/// Why a call that could have been tried again is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It was tried as often as allowed.
    Attempts,
    /// Too many are tried again already.
    Budget,
    /// Too much of its body has passed, or too much is kept of others.
    Body,
    /// The breaker of the destination stops it.
    Breaker,
    /// There is no time left for it.
    Time,
    /// The destination asks to be left alone.
    Asked,
}

impl Denied {
    pub(crate) const ALL: [Denied; 6] =
        [Denied::Attempts, Denied::Budget, Denied::Body, Denied::Breaker, Denied::Time, Denied::Asked];

    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Denied::Attempts => "attempts",
            Denied::Budget => "budget",
            Denied::Body => "body",
            Denied::Breaker => "breaker",
            Denied::Time => "time",
            Denied::Asked => "asked",
        }
    }
}

/// Why an HTTP/2 connection was cut: more frames of one kind than anything but a flood needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// Requests that were reset at once.
    Reset,
    Ping,
    Settings,
    Priority,
    WindowUpdate,
    /// Data frames without data.
    EmptyData,
    /// Frames of kinds that nobody knows.
    Unknown,
    /// Heads of answers before the last one: `100 Continue` again and again.
    Interim,
    /// A header block that went on in too many frames.
    Continuation,
    /// Requests at once whose heads are too much together, each of which is within its limit.
    Heads,
    /// What the HTTP/2 library found to be too much: streams that had to be reset for the peer's errors, header
    /// lists far over the limit.
    Calm,
}

impl Abuse {
    /// The first so many are found out by a budget of their own.
    pub(crate) const BUDGETS: usize = 8;

    pub(crate) const ALL: [Abuse; 11] = [
        Abuse::Reset,
        Abuse::Ping,
        Abuse::Settings,
        Abuse::Priority,
        Abuse::WindowUpdate,
        Abuse::EmptyData,
        Abuse::Unknown,
        Abuse::Interim,
        Abuse::Continuation,
        Abuse::Heads,
        Abuse::Calm,
    ];

    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Abuse::Reset => "reset",
            Abuse::Ping => "ping",
            Abuse::Settings => "settings",
            Abuse::Priority => "priority",
            Abuse::WindowUpdate => "window_update",
            Abuse::EmptyData => "empty_data",
            Abuse::Unknown => "unknown",
            Abuse::Interim => "interim",
            Abuse::Continuation => "continuation",
            Abuse::Heads => "heads",
            Abuse::Calm => "calm",
        }
    }
}

/// Why there is no TLS with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It speaks in the clear where that is not allowed.
    ClearText,
    /// Too many handshakes at the same time.
    Limit,
    Timeout,
    /// It went away.
    Closed,
    /// What it sent is no TLS, or breaks its rules.
    Malformed,
    /// Its ClientHello is too long.
    Hello,
    /// No version, cipher or key exchange in common.
    Incompatible,
    /// No application protocol in common.
    Alpn,
    /// It said that it does not want to go on.
    Alert,
    NoCertificate,
    Expired,
    NotYetValid,
    /// None of the roots has issued its certificate.
    Issuer,
    /// Its certificate has not the name that was asked for.
    Name,
    /// Its certificate has no SPIFFE ID.
    NoIdentity,
    /// Its SPIFFE ID is of a trust domain that is not accepted.
    TrustDomain,
    /// Its SPIFFE ID is not the one that is expected.
    Identity,
    /// Anything else that is wrong with its certificate.
    Certificate,
}

impl Refusal {
    pub(crate) const ALL: [Refusal; 18] = [
        Refusal::ClearText,
        Refusal::Limit,
        Refusal::Timeout,
        Refusal::Closed,
        Refusal::Malformed,
        Refusal::Hello,
        Refusal::Incompatible,
        Refusal::Alpn,
        Refusal::Alert,
        Refusal::NoCertificate,
        Refusal::Expired,
        Refusal::NotYetValid,
        Refusal::Issuer,
        Refusal::Name,
        Refusal::NoIdentity,
        Refusal::TrustDomain,
        Refusal::Identity,
        Refusal::Certificate,
    ];

    /// The word in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Refusal::ClearText => "clear_text",
            Refusal::Limit => "limit",
            Refusal::Timeout => "timeout",
            Refusal::Closed => "closed",
            Refusal::Malformed => "malformed",
            Refusal::Hello => "hello_too_long",
            Refusal::Incompatible => "incompatible",
            Refusal::Alpn => "alpn",
            Refusal::Alert => "refused_by_peer",
            Refusal::NoCertificate => "no_certificate",
            Refusal::Expired => "expired",
            Refusal::NotYetValid => "not_yet_valid",
            Refusal::Issuer => "unknown_issuer",
            Refusal::Name => "wrong_name",
            Refusal::NoIdentity => "no_identity",
            Refusal::TrustDomain => "wrong_trust_domain",
            Refusal::Identity => "wrong_identity",
            Refusal::Certificate => "bad_certificate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_word_of_its_own_and_an_answer_that_is_an_error() {
        let words: std::collections::HashSet<_> = Fault::ALL.iter().map(|fault| fault.answer().reason).collect();
        assert_eq!(words.len(), Fault::ALL.len());
        assert!(Fault::ALL.iter().all(|fault| fault.answer().status.as_u16() >= 400));
        assert!(Fault::ALL.iter().all(|fault| (1..=16).contains(&fault.answer().grpc)));
    }

    #[test]
    fn every_list_is_in_the_order_of_its_index() {
        assert!(Fault::ALL.iter().enumerate().all(|(index, fault)| *fault as usize == index));
        assert!(Abuse::ALL.iter().enumerate().all(|(index, abuse)| *abuse as usize == index));
        assert!(Denied::ALL.iter().enumerate().all(|(index, denied)| *denied as usize == index));
        assert!(Refusal::ALL.iter().enumerate().all(|(index, refusal)| *refusal as usize == index));
    }
}
