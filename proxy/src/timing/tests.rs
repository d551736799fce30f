//! Who looks things up never waits, and what is not needed any more is forgotten.

use std::time::Duration;

use couplet_telemetry::endpoint::{Learner, Templates};
use couplet_telemetry::outcome::Outcome;
use couplet_telemetry::report::{Origin, Report};
use couplet_telemetry::window::WindowLimits;
use http::HeaderMap;

use super::*;
use crate::aggregate::{Limits, Local};
use crate::link::{Headers, How, TRACEPARENT};

/// A service that calls `stock` once for each request, and what is known of it.
struct Service {
    timing: Arc<Timing>,
    follower: Follower,
    local: Arc<Local>,
    now: Instant,
    next: u64,
}

impl Service {
    fn new() -> Self {
        let timing = Arc::new(Timing::new(true, Arc::default()));
        let limits = Limits { window: WindowLimits { paths: 100, callees: 100 }, endpoints: 100, depth: 8 };
        let local = Arc::new(Local::new("shop", Learner::new(Templates::default(), None), limits));
        let follower = Follower::new(Arc::clone(&timing), vec![Arc::clone(&local)]);
        Self { now: timing.epoch, timing, follower, local, next: 0 }
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.follower.round(self.now, Duration::ZERO);
    }

    fn handler(&mut self, endpoint: &str) -> Arc<Handler> {
        self.next += 1;
        let (carried, _) = Headers::new(&couplet_config::Linking::default()).inbound(&HeaderMap::new());
        let path = Arc::new(PathDefinition::root("shop", endpoint));
        Arc::new(Handler::new(self.next, 1, &carried, path, 0, self.now))
    }

    fn report(&self) -> Report {
        self.local.take().close(Origin::default(), 1, 0, 0)
    }

    /// Serves so many requests one after the other, and says how many calls were linked at once, by how it was found.
    fn serve(&mut self, requests: usize, found: impl Fn(&Arc<Handler>) -> Found) -> [usize; 3] {
        let callee = Arc::new(Callee::new("stock", "GET /"));
        let mut links = [0; 3];
        for _ in 0..requests {
            let handler = self.handler("GET /");
            self.timing.handler_started(0, &handler, self.now);
            self.now += Duration::from_millis(2);
            let (link, timed) = self.timing.link(0, found(&handler), &callee, self.now);
            links[link.evidence() as usize] += 1;
            self.now += Duration::from_millis(5);
            let call = window::Call { evidence: link.evidence(), ..CALL };
            let call = match &timed {
                Some(timed) => self.timing.call_ended(0, timed, &callee, call, self.now),
                None => Some(call),
            };
            if let Some(call) = call {
                self.local.call(link.handler().map_or(self.local.unlinked(), |by| &by.path), &callee, &call);
            }
            self.now += Duration::from_millis(1);
            self.timing.handler_ended(0, &handler, self.now);
            self.passes(Duration::from_millis(1));
        }
        links
    }
}

const CALL: window::Call = window::Call {
    outcome: Outcome::Ok,
    duration: 5_000_000,
    first_byte: None,
    blocking: false,
    evidence: Evidence::Unknown,
    attempts: 1,
    request_bytes: 0,
    response_bytes: 0,
};
const MINUTE: Duration = Duration::from_secs(60);

fn nobody(_: &Arc<Handler>) -> Found {
    Found::None
}

fn proof(handler: &Arc<Handler>) -> Found {
    Found::One(Arc::clone(handler), How::Handler(TRACEPARENT))
}

/// Calls in a report, by how they were linked.
fn links(report: &Report) -> [u64; 3] {
    Evidence::ALL.map(|evidence| report.calls.iter().map(|call| call.stats.links.get(evidence)).sum())
}

#[test]
fn once_headers_link_all_calls_for_a_while_everything_learned_is_forgotten_and_every_call_counted() {
    let mut service = Service::new();
    assert_eq!(service.serve(1, nobody), [0, 0, 1], "the first one makes timing needed");
    assert!(service.timing.needed.load(Ordering::Relaxed));
    service.follower.begin();
    service.serve(700, nobody);
    service.passes(Duration::from_secs(6));
    service.passes(Duration::from_secs(6));
    let [exact, inferred, unknown] = service.serve(100, nobody);
    assert_eq!((exact, unknown), (0, 0), "{inferred} of 100");

    assert!(service.follower.is_needed(service.now));
    for _ in 0..9 {
        assert_eq!(service.serve(5, proof), [5, 0, 0]);
        service.passes(MINUTE);
        assert!(service.follower.is_needed(service.now));
    }
    service.serve(1, nobody);
    service.passes(MINUTE);
    assert!(service.follower.is_needed(service.now), "a single call that no header links makes it go on");
    service.passes(9 * MINUTE);
    assert!(service.follower.is_needed(service.now));
    service.passes(MINUTE);
    assert!(!service.follower.is_needed(service.now), "ten minutes without one");

    service.follower.end();
    assert!(!service.timing.on.load(Ordering::Relaxed) && service.timing.sight.load().is_none());
    assert_eq!((service.timing.endpoints.number(1), service.timing.callees.number(1)), (Some(0), Some(0)));
    assert_eq!(service.serve(5, proof), [5, 0, 0], "which costs nothing any more");
    let report = service.report();
    assert_eq!(links(&report).iter().sum::<u64>(), 1 + 700 + 100 + 45 + 1 + 5, "{:?}", links(&report));
    let told: f64 = report.expected.iter().map(|pair| pair.stats.calls()).sum();
    assert!((told - 846.0).abs() < 5.0, "what was found is told: {told}");

    assert_eq!(service.serve(1, nobody), [0, 0, 1]);
    assert!(service.timing.needed.load(Ordering::Relaxed), "it begins anew when it is needed");
    service.follower.begin();
    assert_eq!(service.serve(10, nobody), [0, 0, 10], "with nothing known");
    service.follower.end();
    assert_eq!(links(&service.report()).iter().sum::<u64>(), 11);
}

#[test]
fn names_that_strangers_make_up_do_not_take_the_room_for_ever() {
    let mut service = Service::new();
    service.serve(1, nobody);
    service.follower.begin();
    assert!(service.follower.is_needed(service.now));
    for n in 0..2_000 {
        let handler = service.handler(&format!("GET /{n}"));
        service.timing.handler_started(0, &handler, service.now);
        service.timing.handler_ended(0, &handler, service.now);
    }
    assert_eq!(service.timing.metrics.timing_names_refused.get(), 2_000 - 1_024);
    service.serve(1, nobody);
    assert!(service.follower.is_needed(service.now), "what was learned just now is kept");
    for _ in 0..9 {
        service.passes(MINUTE);
        service.serve(1, nobody);
        assert!(service.follower.is_needed(service.now));
    }
    service.passes(MINUTE);
    assert!(!service.follower.is_needed(service.now));
    service.follower.end();
    service.follower.begin();
    assert!(!service.timing.endpoints.is_full());
}

#[test]
fn nobody_waits_for_another_worker_and_what_it_did_meanwhile_is_known_afterwards() {
    let mut service = Service::new();
    service.serve(1, nobody);
    service.follower.begin();
    service.serve(700, nobody);
    service.passes(Duration::from_secs(6));
    let callee = Arc::new(Callee::new("stock", "GET /"));
    let handler = service.handler("GET /");
    let held = service.timing.book.pages.lock();
    service.timing.handler_started(0, &handler, service.now);
    let other = service.timing.link(0, Found::None, &callee, service.now + Duration::from_millis(2));
    drop(held);
    assert_eq!(other.0.evidence(), Evidence::Unknown);
    assert!(other.1.is_some_and(|timed| timed.waits), "it may turn out later");
    assert_eq!(service.timing.metrics.timing_busy.get(), 1);
    let (link, _) = service.timing.link(0, Found::None, &callee, service.now + Duration::from_millis(2));
    assert!(link.handler().is_some_and(|known| known.id == handler.id), "the handler was left on a slip");
}

#[test]
fn where_slips_are_lost_nobody_is_sure_of_anything_until_every_handler_of_then_has_ended() {
    let mut service = Service::new();
    service.serve(1, nobody);
    service.follower.begin();
    service.serve(700, nobody);
    service.passes(Duration::from_secs(6));
    let handler = service.handler("GET /");
    let held = service.timing.book.pages.lock();
    (0..2_000).for_each(|_| service.timing.handler_started(0, &handler, service.now));
    drop(held);
    assert_eq!(service.timing.metrics.timing_events_lost.get(), 2_000 - 1_024);
    assert_eq!(service.serve(10, nobody), [0, 0, 10]);
    service.now += MINUTE;
    assert_eq!(service.serve(10, nobody), [0, 10, 0]);
}
