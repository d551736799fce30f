//! What gRPC says of how a call ended: in its trailers, or in the head where the answer has nothing else.

use couplet_telemetry::outcome::Outcome;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// What the head of an answer says of the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Known(Outcome),
    /// The trailers will say it. Where none come, the call failed.
    InTrailers,
}

impl Verdict {
    /// The verdict of an answer's head; `grpc` tells whether the request was a gRPC call.
    pub(crate) fn of(grpc: bool, status: StatusCode, headers: &HeaderMap) -> Self {
        let by_status = Verdict::Known(Outcome::from_status(status.as_u16()));
        match (grpc, status) {
            (false, _) => by_status,
            (true, StatusCode::OK) => status_of(headers).map_or(Verdict::InTrailers, Verdict::Known),
            // Whatever is not 200 is an error to a gRPC client, a redirect too.
            (true, status) if status.as_u16() < 400 => Verdict::Known(Outcome::ServerError),
            (true, _) => by_status,
        }
    }

    /// The outcome when the answer is whole and nothing more was said.
    pub(crate) fn at_end(self) -> Outcome {
        match self {
            Verdict::Known(outcome) => outcome,
            Verdict::InTrailers => Outcome::ServerError,
        }
    }
}

/// Whether the head is one of gRPC. gRPC-Web carries its trailers in the body and is HTTP like any other.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The outcome by `grpc-status`, where there is one.
pub(crate) fn status_of(headers: &HeaderMap) -> Option<Outcome> {
    Some(code_of(headers)?.map_or(Outcome::ServerError, outcome))
}

/// The code in `grpc-status`, where there is one; inside, none where what stands there is no code.
pub(crate) fn code_of(headers: &HeaderMap) -> Option<Option<u8>> {
    let status = headers.get("grpc-status")?;
    Some(status.to_str().ok().and_then(|code| code.parse().ok()))
}

/// The codes, by whose doing they are. The caller's: what it asked for was wrong or is not there. Nobody's: it was
/// cancelled, or two writers met (ABORTED) and the caller is to begin anew. Everything else, and every code that does
/// not exist, is the callee's.
fn outcome(code: u8) -> Outcome {
    match code {
        0 => Outcome::Ok,
        1 => Outcome::Cancelled,
        3 => Outcome::ClientError,  // INVALID_ARGUMENT
        5 => Outcome::ClientError,  // NOT_FOUND
        6 => Outcome::ClientError,  // ALREADY_EXISTS
        7 => Outcome::ClientError,  // PERMISSION_DENIED
        9 => Outcome::ClientError,  // FAILED_PRECONDITION
        10 => Outcome::ClientError, // ABORTED
        11 => Outcome::ClientError, // OUT_OF_RANGE
        12 => Outcome::ClientError, // UNIMPLEMENTED: like 404 and 405
        16 => Outcome::ClientError, // UNAUTHENTICATED
        4 => Outcome::Timeout,      // DEADLINE_EXCEEDED
        // UNKNOWN 2, RESOURCE_EXHAUSTED 8, INTERNAL 13, UNAVAILABLE 14, DATA_LOSS 15
        _ => Outcome::ServerError,
    }
}

/// `grpc-message`: percent-encoded, as the protocol wants it.
pub(crate) fn message(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&encoded).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"] {
            assert!(is_grpc(&headers("content-type", kind)), "{kind}");
        }
        for kind in ["application/grpc-web", "application/json", "application/grpcx"] {
            assert!(!is_grpc(&headers("content-type", kind)), "{kind}");
        }
    }

    #[test]
    fn the_outcome_of_a_grpc_call_is_its_status_not_200() {
        let of = |code| Verdict::of(true, StatusCode::OK, &headers("grpc-status", code));
        assert_eq!(of("0"), Verdict::Known(Outcome::Ok));
        assert_eq!(of("5"), Verdict::Known(Outcome::ClientError));
        assert_eq!(of("4"), Verdict::Known(Outcome::Timeout));
        for code in ["2", "13", "14", "99", "x"] {
            assert_eq!(of(code), Verdict::Known(Outcome::ServerError), "{code}");
        }
    }

    #[test]
    fn a_grpc_answer_without_a_status_failed() {
        let verdict = Verdict::of(true, StatusCode::OK, &HeaderMap::new());
        assert_eq!((verdict, verdict.at_end()), (Verdict::InTrailers, Outcome::ServerError));
        let redirect = Verdict::of(true, StatusCode::FOUND, &HeaderMap::new());
        assert_eq!(redirect, Verdict::Known(Outcome::ServerError));
        let plain = Verdict::of(false, StatusCode::OK, &HeaderMap::new());
        assert_eq!(plain, Verdict::Known(Outcome::Ok));
    }

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(message("100 % größer\n"), "100 %25 gr%C3%B6%C3%9Fer%0A");
    }
}
