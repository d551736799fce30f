//! What the estimator makes of services whose truth is known, and of events that make no sense.

use std::collections::{BTreeMap, HashMap};

use couplet_proxy::attribution::{Estimator, Link, Open, Settings};
use proptest::prelude::*;

const MILLISECOND: u64 = 1_000_000;

/// A service in which things happen at times that are drawn, and what truly called what.
#[derive(Default)]
struct Service {
    events: Vec<(u64, u8, Event)>,
    truth: HashMap<u64, u64>,
    handlers: u64,
    random: fastrand::Rng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Handler(u64, u32),
    HandlerEnd(u64),
    Call(u64, u32, Option<u64>),
    CallEnd(u64),
}

impl Service {
    fn new() -> Self {
        Self { random: fastrand::Rng::with_seed(7), ..Self::default() }
    }

    /// Between 80 % and 120 % of it.
    fn about(&mut self, time: u64) -> u64 {
        time * self.random.u64(80..=120) / 100
    }

    /// A handling that makes these calls one after the other.
    fn handle(&mut self, at: u64, endpoint: u32, callees: &[u32]) -> u64 {
        let id = self.handlers;
        self.handlers += 1;
        self.events.push((at, 0, Event::Handler(id, endpoint)));
        let mut now = at;
        for &callee in callees {
            now += self.about(MILLISECOND);
            let took = 5 * MILLISECOND + self.random.u64(0..40 * MILLISECOND);
            self.call(now, now + took, callee, Some(id), false);
            now += took;
        }
        now += self.about(MILLISECOND);
        self.events.push((now, 4, Event::HandlerEnd(id)));
        id
    }

    fn call(&mut self, start: u64, end: u64, callee: u32, handler: Option<u64>, proved: bool) -> u64 {
        let id = 1_000_000 + self.events.len() as u64;
        self.events.push((start, 2, Event::Call(id, callee, handler.filter(|_| proved))));
        self.events.push((end, 1, Event::CallEnd(id)));
        self.truth.extend(handler.map(|handler| (id, handler)));
        id
    }

    /// Lets the estimator see it all, in order of time.
    fn shown_to(&mut self, estimator: &mut Estimator) -> Vec<Link> {
        self.events.sort_unstable();
        let mut links = Vec::new();
        for (at, _, event) in self.events.drain(..) {
            show(estimator, at, event);
            links.append(&mut estimator.take_links());
        }
        estimator.finish();
        links.append(&mut estimator.take_links());
        links
    }

    fn right(&self, link: &Link) -> bool {
        link.handler == self.truth.get(&link.call).copied()
    }
}

fn show(estimator: &mut Estimator, at: u64, event: Event) {
    match event {
        Event::Handler(id, endpoint) => estimator.handler_started(id, endpoint, at),
        Event::HandlerEnd(id) => estimator.handler_ended(id, at),
        Event::Call(id, callee, handler) => estimator.call_started(id, callee, at, handler),
        Event::CallEnd(id) => estimator.call_ended(id, at),
    }
}

fn settings() -> Settings {
    Settings { warm_up: 300, ..Settings::default() }
}

fn per_handling(estimator: &Estimator) -> BTreeMap<(u32, u32), f64> {
    estimator.expectations().iter().map(|e| ((e.endpoint, e.callee), e.per_handling)).collect()
}

#[test]
fn calls_of_a_sequential_service_are_linked_with_five_handlers_in_flight() {
    let mut service = Service::new();
    for n in 0..600 {
        let at = service.about(15 * MILLISECOND * n + MILLISECOND);
        service.handle(n * 15 * MILLISECOND + at % (10 * MILLISECOND), 0, &[1, 2, 3]);
    }
    let mut estimator = Estimator::new(settings());
    let links = service.shown_to(&mut estimator);
    assert_eq!(links.len(), 1_800);
    let stated: Vec<&Link> = links.iter().filter(|link| estimator.states(link.probability)).collect();
    let right = stated.iter().filter(|link| service.right(link)).count();
    assert!(stated.len() > 1_500, "only {} of 1800 stated", stated.len());
    assert!(right as f64 >= 0.97 * stated.len() as f64, "{right} of {} right", stated.len());
    assert!(estimator.order(0, 1, 2).sequential());
    assert!(estimator.order(0, 1, 2).before > 100);
    assert_eq!(estimator.order(0, 2, 1).after, estimator.order(0, 1, 2).before);
}

#[test]
fn callees_stand_in_the_order_in_which_they_are_called() {
    let mut service = Service::new();
    for n in 0..600 {
        service.handle(n * 200 * MILLISECOND, 0, &[3, 1, 1, 2]);
    }
    let mut estimator = Estimator::new(settings());
    service.shown_to(&mut estimator);
    let positions: BTreeMap<u32, f64> = estimator
        .counted()
        .map(|counted| {
            let known = counted.together + counted.alone;
            assert!(known > 300, "{counted:?}");
            (counted.callee, counted.earlier as f64 / known as f64)
        })
        .collect();
    for (callee, position) in [(3, 0.0), (1, 1.0), (2, 2.0)] {
        assert!((positions[&callee] - position).abs() < 0.1, "{positions:?}");
    }
}

#[test]
fn an_endpoint_that_does_what_was_not_to_be_expected_fits_poorly() {
    let mut service = Service::new();
    for n in 0..1_000 {
        service.handle(n * 200 * MILLISECOND, 0, &[1, 2, 3]);
        service.handle((n * 200 + 150) * MILLISECOND, 1, &[4]);
    }
    let mut estimator = Estimator::new(settings());
    service.shown_to(&mut estimator);
    assert!(estimator.counted().all(|counted| counted.fits), "all goes as it always does");
    let mut service = Service { handlers: service.handlers, ..Service::new() };
    for n in 1_000..1_200 {
        let mut callees = [0; 3];
        callees.fill_with(|| service.random.u32(5..60));
        service.handle(n * 200 * MILLISECOND, 0, &callees);
        service.handle((n * 200 + 150) * MILLISECOND, 1, &[4]);
    }
    service.shown_to(&mut estimator);
    let fits: BTreeMap<u32, bool> = estimator.counted().map(|counted| (counted.endpoint, counted.fits)).collect();
    assert_eq!(fits, BTreeMap::from([(0, false), (1, true)]));
}

/// About nine handlers at a time, of three endpoints.
#[test]
fn with_many_in_flight_neither_nobody_nor_another_endpoint_is_said_to_call() {
    let mut service = Service::new();
    for n in 0..3_000 {
        let (endpoint, callees): (u32, &[u32]) = [(0, &[1, 2][..]), (1, &[3]), (2, &[])][n as usize % 3];
        let at = service.about(2 * MILLISECOND);
        service.handle(n * 3 * MILLISECOND + at, endpoint, callees);
    }
    let mut estimator = Estimator::new(settings());
    service.shown_to(&mut estimator);
    let told: Vec<_> = estimator.expectations().iter().filter(|e| e.told).map(|e| (e.endpoint, e.callee)).collect();
    assert_eq!(told, [(0, 1), (0, 2), (1, 3)], "{:?}", estimator.expectations());
    for (callee, certain, _) in estimator.background_calls() {
        assert!(certain < 10.0, "{certain} calls of {callee} are said to be nobody's");
    }
}

#[test]
fn several_calls_of_one_callee_belong_to_one_handler() {
    let mut service = Service::new();
    for n in 0..400 {
        let (endpoint, callees): (u32, &[u32]) = if n % 3 == 0 { (0, &[5, 5, 5, 5]) } else { (1, &[6]) };
        service.handle(n * 40 * MILLISECOND, endpoint, callees);
    }
    let mut estimator = Estimator::new(settings());
    service.shown_to(&mut estimator);
    let expected = per_handling(&estimator);
    assert!((expected[&(0, 5)] - 4.0).abs() < 0.1, "{expected:?}");
    assert!((expected[&(1, 6)] - 1.0).abs() < 0.1, "{expected:?}");
    assert!(expected.get(&(1, 5)).is_none_or(|calls| *calls < 0.05), "{expected:?}");
}

#[test]
fn what_is_proved_is_not_weighed() {
    let mut service = Service::new();
    let (early, late) = (service.handle(10 * MILLISECOND, 0, &[1]), service.handle(11 * MILLISECOND, 0, &[1]));
    let call = service.call(12 * MILLISECOND, 13 * MILLISECOND, 9, Some(early), true);
    let links = service.shown_to(&mut Estimator::new(settings()));
    let link = links.iter().find(|link| link.call == call).unwrap();
    assert_eq!((link.handler, link.probability, link.exact), (Some(early), 1.0, true), "{late} was open too");
}

#[test]
fn a_call_while_nothing_is_handled_is_of_the_background() {
    let mut service = Service::new();
    for n in 0..200 {
        service.handle(n * 200 * MILLISECOND, 0, &[1]);
        service.call(
            n * 200 * MILLISECOND + 150 * MILLISECOND,
            n * 200 * MILLISECOND + 151 * MILLISECOND,
            8,
            None,
            false,
        );
    }
    let mut estimator = Estimator::new(settings());
    let links = service.shown_to(&mut estimator);
    assert!(links.iter().all(|link| service.right(link)));
    assert_eq!(estimator.background(8), Some(1.0));
    assert!(estimator.background(1).unwrap() < 0.01);
    assert_eq!(estimator.background(77), None);
}

#[test]
fn expectations_follow_a_change() {
    let mut service = Service::new();
    for n in 0..2_000 {
        service.handle(n * 30 * MILLISECOND, 0, if n < 1_000 { &[1] } else { &[2] });
    }
    let mut estimator = Estimator::new(Settings { half_life: 100.0, ..settings() });
    let links = service.shown_to(&mut estimator);
    let expected = per_handling(&estimator);
    assert!(expected[&(0, 1)] < 0.02 && expected[&(0, 2)] > 0.95, "{expected:?}");
    let late = links.iter().rev().take(500);
    assert!(late.filter(|link| service.right(link)).count() > 490);
}

#[test]
fn least_squares_find_the_same_expectations_from_counts_alone() {
    let mut service = Service::new();
    let mut random = fastrand::Rng::with_seed(3);
    for second in 0..120 {
        for n in 0..random.u64(1..12) {
            service.handle(second * 1_000 * MILLISECOND + n * 60 * MILLISECOND, 0, &[1, 1]);
        }
        for n in 0..random.u64(1..12) {
            service.handle(second * 1_000 * MILLISECOND + n * 70 * MILLISECOND, 1, &[2]);
        }
    }
    let mut estimator = Estimator::new(settings());
    service.shown_to(&mut estimator);
    let solved: BTreeMap<_, _> = estimator.cross_check().into_iter().collect();
    for (key, calls) in [((0, 1), 2.0), ((0, 2), 0.0), ((1, 1), 0.0), ((1, 2), 1.0)] {
        assert!((solved[&key] - calls).abs() < 0.1, "{key:?} in {solved:?}");
    }
}

#[test]
fn nothing_that_stays_open_makes_it_grow() {
    let limits = Settings { max_handlers: 64, max_calls: 64, max_statistics: 16, max_pairs: 8, ..settings() };
    let mut estimator = Estimator::new(limits);
    for n in 0..5_000 {
        estimator.handler_started(n, (n % 50) as u32, n * 1_000);
        estimator.call_started(n, (n % 60) as u32, n * 1_000 + 500, None);
        let (handlers, calls, statistics) = estimator.kept();
        assert!(handlers <= 64 && calls <= 64 && statistics <= 5 * 16, "{:?}", estimator.kept());
    }
    let costs = estimator.costs();
    assert!(costs.handlers_given_up > 4_000 && costs.pairs_refused > 0 && costs.observations_refused > 0, "{costs:?}");
    assert!(estimator.expectations().len() <= 8);
}

#[test]
fn what_would_cost_too_much_is_linked_at_sight_and_not_stated() {
    let mut service = Service::new();
    for n in 0..600 {
        service.handle(n * 15 * MILLISECOND, 0, &[1, 2, 3]);
    }
    let mut estimator = Estimator::new(Settings { questions_per_call: 0.0, ..settings() });
    let links = service.shown_to(&mut estimator);
    let at_sight = estimator.costs().calls_at_sight as usize;
    assert!(at_sight >= 1_000, "{at_sight} of 1800 at sight");
    let unstated = links.iter().filter(|link| link.probability == 0.0);
    assert!(unstated.clone().count() >= at_sight);
    let right = unstated.filter(|link| service.right(link)).count();
    assert!(right as f64 > 0.7 * at_sight as f64, "{right} of {at_sight} right");
    let expected = per_handling(&estimator);
    assert!((expected[&(0, 2)] - 1.0).abs() < 0.1, "{expected:?}");
}

#[test]
fn two_ways_to_find_expectations_agree_on_plain_traffic_and_say_nothing_too_early() {
    let mut estimator = Estimator::new(settings());
    let mut random = fastrand::Rng::with_seed(9);
    let mut service = Service::new();
    service.handle(0, 0, &[1]);
    service.shown_to(&mut estimator);
    assert_eq!(estimator.disagreement(), None);
    let mut service = Service { handlers: 10, ..Service::new() };
    for second in 1..60 {
        for n in 0..random.u64(2..10) {
            let endpoint = random.u32(0..2);
            service.handle((second * 1_000 + n * 80) * MILLISECOND, endpoint, &[endpoint + 1]);
        }
    }
    service.shown_to(&mut estimator);
    assert!(estimator.disagreement().unwrap() < 0.1, "{:?}", estimator.disagreement());
    assert!(!estimator.is_uncertain());
}

#[test]
fn a_call_does_not_wait_for_company_for_ever() {
    let mut estimator = Estimator::new(settings());
    estimator.handler_started(1, 0, 0);
    estimator.call_started(2, 0, MILLISECOND, None);
    estimator.call_ended(2, 2 * MILLISECOND);
    estimator.handler_ended(1, 3 * MILLISECOND);
    estimator.passed(4 * MILLISECOND);
    assert!(estimator.take_links().is_empty());
    estimator.passed(settings().patience + 4 * MILLISECOND);
    let links = estimator.take_links();
    assert_eq!(links.iter().map(|link| (link.call, link.handler)).collect::<Vec<_>>(), [(2, Some(1))]);
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..40u64, 0..3u32).prop_map(|(id, endpoint)| Event::Handler(id, endpoint)),
        (0..40u64).prop_map(Event::HandlerEnd),
        (0..60u64, 0..4u32, prop::option::weighted(0.1, 0..40u64))
            .prop_map(|(id, callee, by)| Event::Call(id, callee, by)),
        (0..60u64).prop_map(Event::CallEnd),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn events_in_any_order_break_nothing(
        events in prop::collection::vec((any::<u32>(), event()), 0..200),
        huge in prop::bool::weighted(0.1),
        caps in 4..80usize,
    ) {
        let limits =
            Settings { max_handlers: caps, max_calls: caps, max_statistics: caps, batch: 4, warm_up: 8, ..settings() };
        let mut estimator = Estimator::new(limits);
        let mut open: HashMap<u64, i64> = HashMap::new();
        for (at, event) in events {
            let at = if huge { u64::MAX - u64::from(at) } else { u64::from(at) };
            if let Event::Call(id, ..) = event {
                *open.entry(id).or_default() += 1;
            }
            show(&mut estimator, at, event);
            let (handlers, calls, _) = estimator.kept();
            prop_assert!(handlers <= caps && calls <= caps);
        }
        estimator.finish();
        for link in estimator.take_links() {
            prop_assert!((0.0..=1.0).contains(&link.probability));
            let starts = open.entry(link.call).or_default();
            *starts -= 1;
            prop_assert!(*starts >= 0, "decided more often than started");
        }
        for expectation in estimator.expectations() {
            prop_assert!(expectation.per_handling.is_finite() && expectation.calls >= 0.0);
        }
    }
}

#[test]
fn at_the_moment_of_a_call_the_endpoint_is_known_where_each_endpoint_calls_its_own() {
    let mut service = Service::new();
    for n in 0..400 {
        service.handle(n * 15 * MILLISECOND, n as u32 % 2, &[1 + n as u32 % 2, 3]);
    }
    let mut estimator = Estimator::new(settings());
    assert!(estimator.sight().is_none());
    service.shown_to(&mut estimator);
    let (sight, mut open) = (estimator.sight().unwrap(), Open::default());
    assert_eq!(open.guess(&sight, 1, 0, |_| true), None, "nobody is there to call");
    (0..6).for_each(|id| assert!(open.handler_started(id, 0, id as u32 % 2, MILLISECOND)));
    let guess = open.guess(&sight, 2, 2 * MILLISECOND, |_| true).unwrap();
    assert!(guess.probability > 0.9 && guess.handler % 2 == 1, "{guess:?}");
    assert!(guess.handler_probability < 0.5, "three handlers are alike: {guess:?}");
    open.call_started(guess.handler, 2, 2 * MILLISECOND);
    open.call_ended(guess.handler, 2, 7 * MILLISECOND);
    let next = open.guess(&sight, 3, 8 * MILLISECOND, |_| true).unwrap();
    assert_eq!(next.handler, guess.handler, "it has done what comes before");
}

#[test]
fn with_more_handlers_than_are_kept_nobody_is_sure() {
    let mut service = Service::new();
    for n in 0..200 {
        service.handle(n * 15 * MILLISECOND, 0, &[1, 2]);
    }
    let mut estimator = Estimator::new(settings());
    service.shown_to(&mut estimator);
    let (sight, mut open) = (estimator.sight().unwrap(), Open::default());
    let kept = (0..100).filter(|&id| open.handler_started(id, 0, 0, 0)).count() as u64;
    assert!((32..100).contains(&kept));
    assert_eq!(open.guess(&sight, 1, MILLISECOND, |_| true), None);
    (0..100).for_each(|id| assert_eq!(open.handler_ended(id), id < kept));
    assert!(open.is_empty());
    open.handler_started(1, 0, 0, 0);
    assert_eq!(open.guess(&sight, 1, MILLISECOND, |_| true).map(|guess| guess.handler), Some(1));
}

#[test]
fn paths_of_one_endpoint_are_not_told_apart_by_numbers() {
    let mut service = Service::new();
    for n in 0..200 {
        service.handle(n * 15 * MILLISECOND, 0, &[1, 2]);
    }
    let mut estimator = Estimator::new(settings());
    service.shown_to(&mut estimator);
    let (sight, mut open) = (estimator.sight().unwrap(), Open::default());
    (0..8).for_each(|id| assert!(open.handler_started(id, id % 2, 0, 0)));
    let guess = open.guess(&sight, 1, MILLISECOND, |_| true).unwrap();
    assert!(guess.probability < 0.6, "{guess:?}");
}
