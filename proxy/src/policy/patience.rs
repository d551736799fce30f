//! How long one request may take: in all, until its answer begins, and until something moves. What a gRPC client allows
//! is honoured, and told to the next one less what has passed.

use std::time::Duration;

use couplet_config::{RouteTimeouts, TimeLimit, Timeouts};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::classify::grpc_timeout;
use crate::error::Fault;
use crate::metrics::Metrics;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time that one request has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    began: Instant,
    /// For a connection to be there.
    pub(crate) connect: Duration,
    first_byte: Option<Duration>,
    whole: Option<Duration>,
    /// For anything to move once the answer has begun.
    pub(crate) idle: Option<Duration>,
    /// What the client of a gRPC call allows.
    allowed: Option<Duration>,
    /// For the head of the answer, from the beginning of the try on.
    per_try: Option<Duration>,
}

impl Patience {
    /// For a request that came at `began`. What its route does not say is as in general.
    pub(crate) fn new(general: &Timeouts, route: RouteTimeouts, allowed: Option<Duration>, began: Instant) -> Self {
        let limit = |own: Option<TimeLimit>, general| own.map_or(general, TimeLimit::get);
        Self {
            began,
            connect: route.connect.and_then(TimeLimit::get).unwrap_or(general.connect),
            first_byte: limit(route.first_byte, general.first_byte),
            whole: limit(route.request, general.request),
            idle: limit(route.idle, None),
            allowed,
            per_try: None,
        }
    }

    /// The same, of which each try has so much.
    pub(crate) fn with(self, per_try: Option<Duration>) -> Self {
        Self { per_try, ..self }
    }

    /// Until when all of the answer must be there, and what it is where it is not.
    pub(crate) fn until(&self) -> Option<(Instant, Fault)> {
        let limits = [(self.whole, Fault::RequestTimeout), (self.allowed, Fault::Deadline)];
        let ends = limits.into_iter().filter_map(|(limit, fault)| Some((self.began.checked_add(limit?)?, fault)));
        ends.min_by_key(|(end, _)| *end)
    }

    /// Whether the head of the answer may take as long as it likes.
    pub(crate) fn is_endless(&self) -> bool {
        let limits = [self.first_byte, self.whole, self.allowed, self.per_try];
        limits.iter().all(Option::is_none)
    }

    /// How long the head of the answer may still be waited for by a try that begins now, and what it is where it has not
    /// come by then.
    pub(crate) fn head(&self, now: Instant) -> Option<(Duration, Fault)> {
        let first_byte = self.first_byte.and_then(|limit| Some((self.began.checked_add(limit)?, Fault::FirstByte)));
        let per_try = self.per_try.and_then(|limit| Some((now.checked_add(limit)?, Fault::TryTimeout)));
        let ends = [self.until(), first_byte, per_try];
        let (end, fault) = ends.into_iter().flatten().min_by_key(|(end, _)| *end)?;
        Some((end.saturating_duration_since(now), fault))
    }

    /// Tells the next one what is left of the time that the client of a gRPC call allows: never more than it said.
    pub(crate) fn shorten(&self, headers: &mut HeaderMap, now: impl FnOnce() -> Instant) {
        let (Some(allowed), Some((until, _))) = (self.allowed, self.until()) else { return };
        let left = until.saturating_duration_since(now());
        if left >= allowed {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(&timeout(left)) {
            headers.insert(GRPC_TIMEOUT, value);
        }
    }
}

/// What the client of a gRPC call allows. What cannot be read is no limit, is counted, and passes as it is: so do others.
pub(crate) fn allowed(headers: &HeaderMap, metrics: &Metrics) -> Option<Duration> {
    headers.get(GRPC_TIMEOUT)?;
    let allowed = grpc_timeout(headers);
    if allowed.is_none() {
        metrics.grpc_timeouts_malformed.add(1);
    }
    allowed
}

/// A time as gRPC writes it: up to eight digits and a unit, rounded down. Never nothing at all: that has no meaning there.
fn timeout(left: Duration) -> String {
    let nanos = left.as_nanos().max(1);
    let units: [(&str, u128); 6] = [
        ("n", 1),
        ("u", 1_000),
        ("m", 1_000_000),
        ("S", 1_000_000_000),
        ("M", 60_000_000_000),
        ("H", 3_600_000_000_000),
    ];
    let fits = units.into_iter().find(|(_, unit)| nanos / unit <= MOST);
    let (unit, size) = fits.unwrap_or(("H", 3_600_000_000_000));
    format!("{}{unit}", (nanos / size).min(MOST))
}

/// The largest number of eight digits.
const MOST: u128 = 99_999_999;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn general() -> Timeouts {
        Timeouts { first_byte: Some(millis(2_000)), request: Some(millis(10_000)), ..Timeouts::default() }
    }

    fn patience(route: RouteTimeouts, allowed: Option<Duration>) -> (Patience, Instant) {
        let began = Instant::now();
        (Patience::new(&general(), route, allowed, began), began)
    }

    fn after(limit: u64) -> Option<TimeLimit> {
        Some(TimeLimit::After(millis(limit)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_has_its_own_limits_and_those_in_general_for_the_rest() {
        let (general, began) = patience(RouteTimeouts::default(), None);
        assert_eq!(general.until(), Some((began + millis(10_000), Fault::RequestTimeout)));
        assert_eq!(general.head(began + millis(500)), Some((millis(1_500), Fault::FirstByte)));
        assert_eq!(general.idle, None);
        let own = RouteTimeouts { request: Some(TimeLimit::Off), idle: after(300), ..RouteTimeouts::default() };
        let (own, began) = patience(own, None);
        assert_eq!((own.until(), own.idle), (None, Some(millis(300))));
        assert_eq!(own.head(began), Some((millis(2_000), Fault::FirstByte)));
        let none = RouteTimeouts {
            request: Some(TimeLimit::Off),
            first_byte: Some(TimeLimit::Off),
            ..RouteTimeouts::default()
        };
        assert_eq!(patience(none, None).0.head(began), None, "nothing is set up where there is no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_limit_that_is_over_says_what_it_was() {
        let (mut patience, began) = patience(RouteTimeouts::default(), Some(millis(1_000)));
        assert_eq!(patience.head(began), Some((millis(1_000), Fault::Deadline)));
        patience.per_try = Some(millis(400));
        assert_eq!(patience.head(began + millis(500)), Some((millis(400), Fault::TryTimeout)));
        assert_eq!(patience.head(began + millis(700)), Some((millis(300), Fault::Deadline)));
        assert_eq!(patience.head(began + millis(1_200)), Some((Duration::ZERO, Fault::Deadline)));
    }

    fn told(patience: &Patience, said: &'static str, now: Instant) -> String {
        let mut headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(said))]);
        patience.shorten(&mut headers, || now);
        headers[GRPC_TIMEOUT].to_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_is_told_what_is_left() {
        let (patience, began) = patience(RouteTimeouts::default(), Some(millis(1_000)));
        assert_eq!(told(&patience, "1S", began), "1S", "nothing has passed: it stays as it was written");
        assert_eq!(told(&patience, "1S", began + millis(250)), "750000u");
        assert_eq!(told(&patience, "1S", began + millis(1_500)), "1n", "it is over, and no new one begins");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_the_route_shortens_what_the_client_allows_and_never_lengthens_it() {
        let own = RouteTimeouts { request: after(500), ..RouteTimeouts::default() };
        let (shorter, began) = patience(own, Some(millis(1_000)));
        assert_eq!(told(&shorter, "1S", began), "500000u");
        let (longer, began) = patience(own, Some(millis(100)));
        assert_eq!(told(&longer, "100m", began), "100m");
        let (silent, began) = patience(own, None);
        let mut headers = HeaderMap::new();
        silent.shorten(&mut headers, || began + millis(100));
        assert!(headers.is_empty(), "a client that says nothing is not spoken for");
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_no_limit() {
        let metrics = Metrics::default();
        let read = |value: &'static str| {
            allowed(&HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(value))]), &metrics)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!((read("5s"), read(""), read("123456789m")), (None, None, None));
        assert_eq!(allowed(&HeaderMap::new(), &metrics), None);
        assert_eq!(metrics.grpc_timeouts_malformed.get(), 3);
    }

    proptest! {
        #[test]
        fn what_is_told_is_never_more_and_hardly_less(nanos in 1..=u64::MAX) {
            let left = Duration::from_nanos(nanos);
            let text = timeout(left);
            prop_assert!(text.len() <= 9);
            let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_str(&text).unwrap())]);
            let told = grpc_timeout(&headers).unwrap();
            prop_assert!(told <= left, "{text}");
            prop_assert!(told.as_secs_f64() >= left.as_secs_f64() * 0.999_999, "{text} of {left:?}");
        }
    }
}
