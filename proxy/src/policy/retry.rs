//! Whether a call that may have been heard is tried again. Decided from the head of its answer, or from why there is none;
//! never after the head was passed on.

use std::time::Duration;

use couplet_config::{Retry, RetryBudget, RetryOn};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::time::Instant;
use tower::retry::budget::{Budget as _, TpsBudget};

use super::patience::Patience;
use crate::error::{Denied, Fault};
use crate::http::code_of;

/// What a try came to.
#[derive(Clone, Copy)]
pub(crate) enum Came<'a> {
    /// The head of an answer; whether a gRPC call is answered; and whether a breaker further down is the cause.
    Head { status: StatusCode, headers: &'a HeaderMap, grpc: bool, rejected: bool },
    /// None.
    Nothing(Fault),
}

/// Whether requests of this method are tried again at all.
pub(crate) fn is_for(retry: &Retry, method: &Method) -> bool {
    retry.methods.iter().any(|known| known == method.as_str())
}

/// Whether it is one that is tried again; if so, whether it may be: after `tries` of them, and how long to wait first.
/// `draw` is from 0 up to 1.
pub(crate) fn decide(
    retry: &Retry,
    came: Came<'_>,
    tries: u32,
    patience: &Patience,
    now: Instant,
    draw: impl FnOnce() -> f64,
) -> Option<Result<Duration, Denied>> {
    if !is_wanted(retry, came) {
        return None;
    }
    if asks_not_to(came) {
        return Some(Err(Denied::Asked));
    }
    if tries > retry.attempts {
        return Some(Err(Denied::Attempts));
    }
    let wait = retry.backoff.saturating_mul(2_u32.saturating_pow(tries - 1).min(MOST_BACKOFF)).mul_f64(draw());
    let in_time = patience.head(now).is_none_or(|(left, _)| wait < left);
    Some(if in_time { Ok(wait) } else { Err(Denied::Time) })
}

/// The longest wait, by the first.
const MOST_BACKOFF: u32 = 10;

fn is_wanted(retry: &Retry, came: Came<'_>) -> bool {
    match came {
        Came::Head { status, headers, grpc, .. } => {
            let code = grpc.then(|| code_of(headers)).flatten().flatten();
            retry.on.iter().any(|on| on.is_met(status.as_u16(), code))
        }
        Came::Nothing(fault) => match fault {
            Fault::Unresolved | Fault::Connect | Fault::ConnectTimeout => retry.on.contains(&RetryOn::Connect),
            Fault::Tls | Fault::TlsRefused => retry.on.contains(&RetryOn::Connect),
            Fault::Reset => retry.on.contains(&RetryOn::Reset),
            Fault::TryTimeout => retry.on.contains(&RetryOn::Timeout),
            _ => false,
        },
    }
}

/// Whether somebody says that it is of no use, or not yet: the destination itself, or a breaker further down.
fn asks_not_to(came: Came<'_>) -> bool {
    match came {
        Came::Head { headers, rejected, .. } => {
            rejected || headers.contains_key(header::RETRY_AFTER) || headers.contains_key("grpc-retry-pushback-ms")
        }
        Came::Nothing(_) => false,
    }
}

/// How many tries there may be beside the requests of a route.
pub(crate) struct Budget(TpsBudget);

impl Budget {
    pub(crate) fn new(settings: &RetryBudget) -> Self {
        let share = (settings.percent / 100.0) as f32;
        Self(TpsBudget::new(settings.interval, settings.min_per_second, share))
    }

    /// A request came.
    pub(crate) fn deposit(&self) {
        self.0.deposit();
    }

    /// Whether one may be tried again.
    pub(crate) fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

#[cfg(test)]
mod tests {
    use couplet_config::{RouteTimeouts, TimeLimit, Timeouts};
    use http::HeaderValue;

    use super::*;

    fn retry(on: &[RetryOn]) -> Retry {
        Retry { on: on.to_vec(), attempts: 2, backoff: Duration::from_millis(100), ..Retry::default() }
    }

    fn patience(limit: Option<u64>, now: Instant) -> Patience {
        let request = limit.map(|millis| TimeLimit::After(Duration::from_millis(millis)));
        Patience::new(&Timeouts::default(), RouteTimeouts { request, ..RouteTimeouts::default() }, None, now)
    }

    /// What becomes of the first try, without limits of time and with the longest wait.
    fn first(retry: &Retry, came: Came<'_>) -> Option<Result<Duration, Denied>> {
        let now = Instant::now();
        decide(retry, came, 1, &patience(None, now), now, || 1.0)
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn answer(status: u16, headers: &HeaderMap, grpc: bool) -> Came<'_> {
        Came::Head { status: StatusCode::from_u16(status).unwrap(), headers, grpc, rejected: false }
    }

    #[test]
    fn only_what_was_named_is_tried_again() {
        let none = HeaderMap::new();
        let status = |on, status| first(&retry(&[on]), answer(status, &none, false)).is_some();
        assert!(status(RetryOn::Status(503), 503) && !status(RetryOn::Status(503), 502));
        assert!(status(RetryOn::GatewayError, 502) && status(RetryOn::GatewayError, 504));
        assert!(!status(RetryOn::GatewayError, 500) && status(RetryOn::ServerError, 500));
        assert!(!status(RetryOn::ServerError, 404) && !status(RetryOn::Connect, 503));
        let fault = |on, fault| first(&retry(&[on]), Came::Nothing(fault)).is_some();
        assert!(fault(RetryOn::Connect, Fault::Connect) && fault(RetryOn::Reset, Fault::Reset));
        assert!(fault(RetryOn::Timeout, Fault::TryTimeout));
        assert!(!fault(RetryOn::Connect, Fault::Reset) && !fault(RetryOn::Reset, Fault::Connect));
        // Those say that there is no time left, that it was answered wrongly, or that it is the request's own fault.
        for over in
            [Fault::RequestTimeout, Fault::FirstByte, Fault::Deadline, Fault::MalformedResponse, Fault::Malformed]
        {
            assert!(!fault(RetryOn::Timeout, over) && !fault(RetryOn::Reset, over), "{over:?}");
        }
    }

    #[test]
    fn a_status_of_grpc_is_seen_where_it_is_all_of_the_answer() {
        let unavailable = retry(&[RetryOn::Grpc(14)]);
        let fields = headers(&[("grpc-status", "14")]);
        assert!(first(&unavailable, answer(200, &fields, true)).is_some());
        assert_eq!(first(&unavailable, answer(200, &fields, false)), None, "nobody speaks gRPC there");
        assert_eq!(first(&unavailable, answer(200, &headers(&[("grpc-status", "13")]), true)), None);
        assert_eq!(first(&unavailable, answer(200, &HeaderMap::new(), true)), None, "the trailers come too late");
    }

    #[test]
    fn a_destination_that_asks_to_be_left_alone_is() {
        let on = retry(&[RetryOn::Status(503), RetryOn::Grpc(14)]);
        let denied = Some(Err(Denied::Asked));
        assert_eq!(first(&on, answer(503, &headers(&[("retry-after", "1")]), false)), denied);
        let pushback = headers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "10")]);
        assert_eq!(first(&on, answer(200, &pushback, true)), denied);
        let none = HeaderMap::new();
        let below = Came::Head { status: StatusCode::SERVICE_UNAVAILABLE, headers: &none, grpc: false, rejected: true };
        assert_eq!(first(&on, below), denied, "a breaker further down will not let it pass either");
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_is_longer_within_bounds_and_there_are_so_many() {
        let (now, reset) = (Instant::now(), Came::Nothing(Fault::Reset));
        let many = Retry { attempts: 9, ..retry(&[RetryOn::Reset]) };
        let wait = |tries, draw| decide(&many, reset, tries, &patience(None, now), now, || draw).unwrap();
        let waits: Vec<_> = (1..=6).map(|tries| wait(tries, 1.0).unwrap().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(wait(2, 0.5), Ok(Duration::from_millis(100)));
        assert_eq!((wait(9, 0.0), wait(10, 0.0)), (Ok(Duration::ZERO), Err(Denied::Attempts)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_longer_than_what_is_left_is_not_begun() {
        let (now, reset, on) = (Instant::now(), Came::Nothing(Fault::Reset), retry(&[RetryOn::Reset]));
        let within = |limit| decide(&on, reset, 1, &patience(Some(limit), now), now, || 1.0).unwrap();
        assert_eq!((within(101), within(100)), (Ok(Duration::from_millis(100)), Err(Denied::Time)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_allows_its_share_and_a_few_beside_it() {
        let settings = RetryBudget { percent: 20.0, interval: Duration::from_secs(10), min_per_second: 3 };
        let allowed = |budget: &Budget| (0..1_000).take_while(|_| budget.withdraw()).count();
        assert_eq!(allowed(&Budget::new(&settings)), 30, "three a second, for ten seconds");
        let budget = Budget::new(&settings);
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!(allowed(&budget), 230);
        assert_eq!(allowed(&budget), 0);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(allowed(&budget), 30, "what was long ago counts no more");
        let none = Budget::new(&RetryBudget { min_per_second: 0, ..settings });
        assert!(!none.withdraw());
        (0..5).for_each(|_| none.deposit());
        assert!(none.withdraw() && !none.withdraw());
    }

    #[test]
    fn what_may_be_done_twice_is_named() {
        let post = Retry { methods: vec!["POST".to_owned()], ..Retry::default() };
        assert!(is_for(&Retry::default(), &Method::GET) && is_for(&Retry::default(), &Method::PUT));
        assert!(!is_for(&Retry::default(), &Method::POST) && !is_for(&Retry::default(), &Method::PATCH));
        assert!(is_for(&post, &Method::POST) && !is_for(&post, &Method::GET));
    }
}
