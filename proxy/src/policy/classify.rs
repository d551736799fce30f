//! What the end of a call says of the destination. The status alone is not it: a refusal may come from further down, a
//! cancellation from the caller.

use std::time::{Duration, SystemTime};

use couplet_telemetry::breaker::Count;
use http::{HeaderMap, StatusCode, header};

use crate::error::Fault;
use crate::http::{code_of, is_grpc};

/// What the end of a call counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The destination did what it is there for; a refusal of what the caller asked for is that as well.
    Success,
    /// The destination failed.
    Failure,
    /// The destination said that it is too much.
    Throttled,
    /// No connection could be made.
    Local,
    /// A breaker further down is the cause, so the destination is not to blame.
    Propagated,
    /// Nothing that says anything of the destination: the caller went away, this proxy refused.
    Ignored,
}

impl Class {
    /// All of them.
    pub(crate) const ALL: [Class; 6] =
        [Class::Success, Class::Failure, Class::Throttled, Class::Local, Class::Propagated, Class::Ignored];

    /// What it is counted as.
    pub(crate) fn count(self) -> Count {
        match self {
            Class::Success => Count::Success,
            Class::Failure => Count::Failure,
            Class::Throttled => Count::Throttled,
            Class::Local => Count::Local,
            Class::Propagated => Count::Propagated,
            Class::Ignored => Count::Ignored,
        }
    }

    /// The class that is counted as this, if any is.
    pub(crate) fn of(count: Count) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.count() == count)
    }
}

/// What an answer's head or trailers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// That is it, unless the rest breaks.
    Known(Class),
    /// The trailers will say it. Where none come, the destination failed.
    InTrailers,
}

/// What is known of a gRPC call's deadline when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// What the client allowed, if it said so.
    pub(crate) allowed: Option<Duration>,
    pub(crate) spent: Duration,
}

impl Deadline {
    /// Whether the destination had a fair share of the time. A deadline that had nearly passed before says nothing of it.
    fn is_fair(&self) -> bool {
        self.allowed.is_none_or(|allowed| allowed >= LEAST_DEADLINE && self.spent * 2 >= allowed)
    }

    /// Whether the client, going away, has just waited for as long as it wanted to.
    pub(crate) fn has_passed(&self) -> bool {
        self.allowed.is_some_and(|allowed| allowed >= LEAST_DEADLINE && self.spent >= allowed.mul_f64(0.95))
    }
}

/// Of a shorter deadline nobody can say whose fault it is that it passed.
const LEAST_DEADLINE: Duration = Duration::from_millis(100);

/// What the head of an answer says. `grpc` tells whether a gRPC call is answered.
pub(crate) fn head(status: StatusCode, headers: &HeaderMap, grpc: bool, deadline: Deadline) -> Said {
    if grpc && status == StatusCode::OK && is_grpc(headers) {
        return trailers(headers, deadline);
    }
    let class = match status.as_u16() {
        429 => Class::Throttled,
        503 if headers.contains_key(header::RETRY_AFTER) => Class::Throttled,
        501 => Class::Success,
        500.. => Class::Failure,
        // To a gRPC client whatever is not gRPC is an error, and the code of one that it cannot act upon.
        _ if grpc => Class::Failure,
        _ => Class::Success,
    };
    Said::Known(class)
}

/// What the trailers of a gRPC answer say, or a head that is all there is.
pub(crate) fn trailers(headers: &HeaderMap, deadline: Deadline) -> Said {
    let Some(code) = code_of(headers) else { return Said::InTrailers };
    if headers.contains_key(PUSHBACK) {
        return Said::Known(Class::Throttled);
    }
    let class = match code {
        Some(4) if deadline.is_fair() => Class::Failure, // DEADLINE_EXCEEDED
        Some(4) => Class::Ignored,
        // UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS
        Some(2 | 13 | 14 | 15) => Class::Failure,
        Some(8) => Class::Throttled, // RESOURCE_EXHAUSTED
        Some(0..=16) => Class::Success,
        // No code that there is.
        _ => Class::Failure,
    };
    Said::Known(class)
}

/// What it says that this proxy could not get an answer.
pub(crate) fn fault(fault: Fault, deadline: Deadline) -> Class {
    match fault {
        Fault::BadRequest | Fault::Malformed | Fault::HeaderFields | Fault::Loop | Fault::InFlight => Class::Ignored,
        Fault::BreakerOpen | Fault::DestinationInFlight | Fault::Injected => Class::Ignored,
        Fault::DestinationConnections | Fault::DestinationPending | Fault::Overloaded => Class::Ignored,
        Fault::Unresolved | Fault::Connect | Fault::ConnectTimeout => Class::Local,
        Fault::ClearText | Fault::Tls | Fault::Identity | Fault::Alpn | Fault::TlsRefused => Class::Local,
        Fault::Reset | Fault::MalformedResponse => Class::Failure,
        Fault::RequestTimeout | Fault::FirstByte | Fault::TryTimeout | Fault::Idle => Class::Failure,
        Fault::Deadline if deadline.is_fair() => Class::Failure,
        Fault::Deadline => Class::Ignored,
    }
}

/// How long the destination asks not to be called: `Retry-After` in seconds or as a date, or gRPC's own way to say it.
pub(crate) fn retry_after(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    if let Some(pushback) = headers.get(PUSHBACK) {
        return pushback.to_str().ok()?.parse().ok().map(Duration::from_millis);
    }
    let after = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if after.bytes().all(|byte| byte.is_ascii_digit()) {
        return after.parse().ok().map(Duration::from_secs);
    }
    httpdate::parse_http_date(after).ok()?.duration_since(now()).ok()
}

/// The value of `grpc-timeout`: up to eight digits and a unit.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

const PUSHBACK: &str = "grpc-retry-pushback-ms";

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Deadline = Deadline { allowed: None, spent: Duration::ZERO };

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn http(status: u16, fields: &[(&'static str, &'static str)]) -> Said {
        head(StatusCode::from_u16(status).unwrap(), &headers(fields), false, LONG)
    }

    #[test]
    fn the_status_of_an_http_answer_says_whose_fault_it_is() {
        for status in [100, 101, 200, 204, 301, 304, 400, 401, 404, 409, 499, 501] {
            assert_eq!(http(status, &[]), Said::Known(Class::Success), "{status}");
        }
        for status in [500, 502, 503, 504, 505, 599] {
            assert_eq!(http(status, &[]), Said::Known(Class::Failure), "{status}");
        }
        assert_eq!(http(429, &[]), Said::Known(Class::Throttled));
        assert_eq!(http(503, &[("retry-after", "2")]), Said::Known(Class::Throttled));
        assert_eq!(http(502, &[("retry-after", "2")]), Said::Known(Class::Failure));
    }

    #[test]
    fn a_grpc_answer_is_judged_by_its_status_wherever_that_stands() {
        let grpc = ("content-type", "application/grpc");
        let said = |fields: &[(&'static str, &'static str)]| head(StatusCode::OK, &headers(fields), true, LONG);
        assert_eq!(said(&[grpc]), Said::InTrailers);
        for (code, class) in [
            ("0", Class::Success),
            ("1", Class::Success),
            ("3", Class::Success),
            ("5", Class::Success),
            ("10", Class::Success),
            ("12", Class::Success),
            ("16", Class::Success),
            ("2", Class::Failure),
            ("13", Class::Failure),
            ("14", Class::Failure),
            ("15", Class::Failure),
            ("8", Class::Throttled),
            ("17", Class::Failure),
            ("x", Class::Failure),
        ] {
            assert_eq!(said(&[grpc, ("grpc-status", code)]), Said::Known(class), "{code}");
        }
        assert_eq!(said(&[grpc, ("grpc-status", "14"), (PUSHBACK, "500")]), Said::Known(Class::Throttled));
        let page = head(StatusCode::OK, &headers(&[("content-type", "text/html")]), true, LONG);
        assert_eq!(page, Said::Known(Class::Failure), "no gRPC client can use that");
        assert_eq!(head(StatusCode::FOUND, &headers(&[]), true, LONG), Said::Known(Class::Failure));
    }

    #[test]
    fn a_deadline_blames_the_destination_only_where_that_had_the_time() {
        let said = |allowed: Option<u64>, spent| {
            let allowed = allowed.map(Duration::from_millis);
            trailers(&headers(&[("grpc-status", "4")]), Deadline { allowed, spent: Duration::from_millis(spent) })
        };
        assert_eq!(said(Some(200), 100), Said::Known(Class::Failure));
        assert_eq!(said(Some(200), 99), Said::Known(Class::Ignored));
        assert_eq!(said(Some(99), 99), Said::Known(Class::Ignored));
        assert_eq!(said(None, 0), Said::Known(Class::Failure), "the destination's own deadline");
    }

    #[test]
    fn when_to_come_back_is_read_in_every_way_it_is_written() {
        let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let after = |name, value| retry_after(&headers(&[(name, value)]), now);
        assert_eq!(after("retry-after", "120"), Some(Duration::from_secs(120)));
        assert_eq!(after("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after(PUSHBACK, "250"), Some(Duration::from_millis(250)));
        for nonsense in ["", "-1", "soon", "99999999999999999999999", "Sun, 06 Nov 1990 08:49:37 GMT"] {
            assert_eq!(retry_after(&headers(&[("retry-after", nonsense)]), now), None, "{nonsense}");
        }
        for (value, millis) in [("1S", Some(1000)), ("100m", Some(100)), ("99999999H", Some(359_999_996_400_000))] {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(grpc_timeout(&headers(&[("grpc-timeout", value)])), expected, "{value}");
        }
        for nonsense in ["", "S", "1", "1.5S", "999999999S", "1s", "1é"] {
            let mut fields = HeaderMap::new();
            fields.insert("grpc-timeout", http::HeaderValue::from_bytes(nonsense.as_bytes()).unwrap());
            assert_eq!(grpc_timeout(&fields), None, "{nonsense}");
        }
    }
}
