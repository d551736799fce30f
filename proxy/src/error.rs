//! Why the proxy answered a request itself: a closed list, and one table that says the answer.

use couplet_telemetry::outcome::Outcome;
use http::StatusCode;

/// Why there is no answer from the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// The downstream side sent something that cannot be forwarded.
    BadRequest,
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
    /// The upstream closed or broke the connection before it answered.
    Reset,
    /// The answer's head took longer than the limit.
    RequestTimeout,
}

/// What is answered and counted for a [`Fault`].
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The word in the `couplet-error` header, in logs and metrics.
    pub(crate) reason: &'static str,
    pub(crate) outcome: Outcome,
    /// One sentence for whoever reads the body.
    pub(crate) text: &'static str,
}

impl Fault {
    pub(crate) const ALL: [Fault; 8] = [
        Fault::BadRequest,
        Fault::Loop,
        Fault::InFlight,
        Fault::Unresolved,
        Fault::Connect,
        Fault::ConnectTimeout,
        Fault::Reset,
        Fault::RequestTimeout,
    ];

    pub(crate) fn answer(self) -> Answer {
        let answer = |status, reason, outcome, text| Answer { status, reason, outcome, text };
        match self {
            Fault::BadRequest => answer(
                StatusCode::BAD_REQUEST,
                "bad_request",
                Outcome::Rejected,
                "the request cannot be forwarded: it names no valid destination",
            ),
            Fault::Loop => {
                answer(StatusCode::LOOP_DETECTED, "loop", Outcome::Rejected, "the destination is this proxy itself")
            }
            Fault::InFlight => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                "limit_in_flight",
                Outcome::Rejected,
                "more requests in flight than limits.requests_in_flight allows",
            ),
            Fault::Unresolved => answer(
                StatusCode::BAD_GATEWAY,
                "unresolved",
                Outcome::Connect,
                "the name of the destination has no address",
            ),
            Fault::Connect => {
                answer(StatusCode::BAD_GATEWAY, "connect", Outcome::Connect, "no connection to the destination")
            }
            Fault::ConnectTimeout => answer(
                StatusCode::GATEWAY_TIMEOUT,
                "connect_timeout",
                Outcome::Connect,
                "connecting to the destination took longer than timeouts.connect",
            ),
            Fault::Reset => answer(
                StatusCode::BAD_GATEWAY,
                "reset",
                Outcome::Reset,
                "the destination closed the connection before it answered",
            ),
            Fault::RequestTimeout => answer(
                StatusCode::GATEWAY_TIMEOUT,
                "request_timeout",
                Outcome::Timeout,
                "the destination did not answer within timeouts.request",
            ),
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
    }
}
