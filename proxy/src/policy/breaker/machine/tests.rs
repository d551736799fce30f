//! Every transition and every rule, with a clock that only the test moves.

use couplet_config::{HalfOpen, OpenTime, SlowCall};
use proptest::prelude::*;

use super::*;

const OK: Ended = Ended { class: Class::Success, slow: false, retry_after: None };
const FAILS: Ended = Ended { class: Class::Failure, ..OK };
const THROTTLES: Ended = Ended { class: Class::Throttled, ..OK };
const REFUSES: Ended = Ended { class: Class::Local, ..OK };
const SAYS_NOTHING: Ended = Ended { class: Class::Ignored, ..OK };
const SLOW: Ended = Ended { slow: true, ..OK };

/// A breaker and its clock.
struct Bench {
    settings: BreakerSettings,
    machine: Machine,
    now: Instant,
    changes: Vec<Change>,
}

/// The defaults, but with times that nobody has to compute.
fn bench() -> Bench {
    with(|_| ())
}

fn with(change: impl FnOnce(&mut BreakerSettings)) -> Bench {
    let mut settings =
        BreakerSettings { open: OpenTime { jitter: 0.0, ..OpenTime::default() }, ..BreakerSettings::default() };
    change(&mut settings);
    let now = Instant::now();
    Bench { machine: Machine::new(&settings, 7, now), settings, now, changes: Vec::new() }
}

impl Bench {
    fn ask(&mut self) -> Permit {
        let (permit, change) = self.machine.ask(&self.settings, self.now);
        self.changes.extend(change);
        permit
    }

    fn end(&mut self, permit: Permit, ended: Ended) -> bool {
        let (decides, change) = self.machine.ended(&self.settings, permit, ended, self.now);
        self.changes.extend(change);
        decides
    }

    /// One call after the other, `every` apart. Says how many passed.
    fn calls(&mut self, count: usize, every: Duration, ended: Ended) -> usize {
        let mut passed = 0;
        for _ in 0..count {
            let permit = self.ask();
            if !matches!(permit, Permit::Reject(_)) {
                passed += 1;
                self.end(permit, ended);
            }
            self.now += every;
        }
        passed
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn stands(&self) -> Stands {
        self.machine.stands()
    }

    fn opened_for(&self) -> Duration {
        self.changes.iter().rev().find_map(|change| change.open_for).unwrap()
    }

    fn reason(&self) -> Reason {
        self.changes.last().unwrap().reason
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn open() -> Bench {
    let mut bench = bench();
    bench.calls(7, ms(10), FAILS);
    assert_eq!(bench.stands(), Stands::Open);
    bench
}

fn half_open() -> (Bench, Permit) {
    let mut bench = open();
    let time = bench.opened_for();
    let permit = bench.wait(time).ask();
    assert_eq!(bench.stands(), Stands::HalfOpen);
    (bench, permit)
}

#[test]
fn it_opens_after_exactly_so_many_failures_in_a_row_where_there_is_nothing_else() {
    let mut bench = bench();
    assert_eq!(bench.calls(100, ms(10), FAILS), 7);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::Consecutive));
}

#[test]
fn it_opens_when_half_of_twenty_calls_fail() {
    let mut bench = with(|settings| settings.consecutive_failures = None);
    for _ in 0..9 {
        bench.calls(1, ms(10), OK);
        bench.calls(1, ms(10), FAILS);
    }
    bench.calls(1, ms(10), OK);
    assert_eq!(bench.stands(), Stands::Closed, "nineteen calls say nothing yet");
    bench.calls(1, ms(10), FAILS);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::FailureRate));
    let change = bench.changes.last().unwrap();
    assert_eq!((change.counts.total, change.counts.failed, change.epoch), (20, 10, 2));
}

#[test]
fn failures_of_a_time_long_past_do_not_count() {
    let mut bench = with(|settings| settings.consecutive_failures = None);
    bench.calls(19, ms(10), FAILS);
    bench.wait(Duration::from_secs(10)).calls(1, ms(10), FAILS);
    assert_eq!(bench.stands(), Stands::Closed);
}

#[test]
fn a_run_of_failures_says_nothing_where_nearly_all_calls_succeed() {
    let mut bench = bench();
    bench.calls(900, ms(10), OK);
    assert_eq!(bench.calls(8, ms(10), FAILS), 8);
    assert_eq!(bench.stands(), Stands::Closed, "8 of 900 are chance");
}

#[test]
fn a_run_must_last_unless_it_is_half_of_all() {
    let mut bench = bench();
    // Of ten calls that overlap seven fail at the same moment: most of them. It opens.
    bench.calls(3, ms(0), OK);
    bench.calls(7, ms(0), FAILS);
    assert_eq!(bench.stands(), Stands::Open);
    let mut bench = with(|settings| settings.min_requests = 100);
    bench.calls(20, ms(0), OK);
    bench.calls(8, ms(0), FAILS);
    assert_eq!(bench.stands(), Stands::Closed, "one hiccup");
    bench.wait(ms(1_000)).calls(1, ms(0), FAILS);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::Consecutive));
}

#[test]
fn it_opens_after_three_connections_that_could_not_be_made() {
    let mut bench = bench();
    bench.calls(2, ms(10), REFUSES);
    bench.calls(1, ms(10), FAILS);
    assert_eq!(bench.calls(5, ms(10), REFUSES), 3, "a failure shows that there was a connection");
    assert_eq!(bench.reason(), Reason::ConnectFailures);
}

#[test]
fn slow_calls_count_only_where_somebody_says_what_slow_is() {
    let mut bench = bench();
    bench.calls(100, ms(10), SLOW);
    assert_eq!(bench.stands(), Stands::Closed);
    let slow_call = SlowCall { duration: Some(ms(500)), rate: 0.8 };
    let mut bench = with(|settings| settings.slow_call = slow_call);
    bench.calls(4, ms(10), OK);
    bench.calls(15, ms(10), SLOW);
    assert_eq!(bench.stands(), Stands::Closed);
    bench.calls(1, ms(10), SLOW);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::SlowCallRate));
}

#[test]
fn being_throttled_counts_in_the_rate_and_in_no_run() {
    let mut bench = bench();
    assert_eq!(bench.calls(19, ms(10), THROTTLES), 19);
    bench.calls(1, ms(10), THROTTLES);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::FailureRate));
}

#[test]
fn what_says_nothing_of_the_destination_is_counted_nowhere() {
    let mut bench = bench();
    for class in [Class::Ignored, Class::Propagated] {
        assert_eq!(bench.calls(1_000, ms(1), Ended { class, ..OK }), 1_000);
    }
    assert_eq!(bench.machine.observed(bench.now).0, Counts::default());
    bench.calls(6, ms(10), FAILS);
    bench.calls(100, ms(1), SAYS_NOTHING);
    bench.calls(1, ms(10), FAILS);
    assert_eq!(bench.stands(), Stands::Open, "and it breaks no run");
}

#[test]
fn calls_are_stopped_at_once_and_told_for_how_long() {
    let mut bench = open();
    let Permit::Reject(rejection) = bench.wait(ms(990)).ask() else { panic!("it passed") };
    assert_eq!((rejection.state, rejection.reason), (Stands::Open, Reason::Consecutive));
    // The seventh failure was 10 ms ago.
    assert_eq!(rejection.retry_in, Duration::from_secs(5) - ms(1_000));
    assert_eq!(bench.calls(1_000, ms(1), OK), 0);
}

#[test]
fn each_time_is_longer_than_the_one_before_up_to_a_limit() {
    let mut bench = open();
    let mut times = vec![bench.opened_for().as_secs()];
    for _ in 0..5 {
        let time = bench.opened_for();
        bench.wait(time).calls(1, ms(0), FAILS);
        assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::ProbeFailed));
        times.push(bench.opened_for().as_secs());
    }
    assert_eq!(times, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn time_in_which_calls_pass_makes_the_next_time_shorter_again() {
    let (mut bench, permit) = half_open();
    bench.end(permit, FAILS);
    assert_eq!(bench.opened_for().as_secs(), 10);
    bench.wait(Duration::from_secs(10)).calls(3, ms(0), OK);
    assert_eq!(bench.stands(), Stands::Closed);
    bench.wait(Duration::from_secs(59)).calls(7, ms(0), FAILS);
    assert_eq!(bench.opened_for().as_secs(), 20, "the third time in a row");
    bench.wait(Duration::from_secs(20)).calls(3, ms(0), OK);
    bench.wait(Duration::from_secs(125)).calls(7, ms(0), FAILS);
    assert_eq!(bench.opened_for().as_secs(), 10, "two steps have decayed");
}

#[test]
fn callers_do_not_all_come_back_at_the_same_moment() {
    let time = |seed| {
        let settings = BreakerSettings::default();
        let now = Instant::now();
        let mut machine = Machine::new(&settings, seed, now);
        let opened = (0..7).find_map(|_| {
            let (permit, _) = machine.ask(&settings, now);
            machine.ended(&settings, permit, FAILS, now).1?.open_for
        });
        opened.unwrap().as_secs_f64()
    };
    let times: Vec<f64> = (0..200).map(time).collect();
    assert!(times.iter().all(|time| (4.0..=6.0).contains(time)));
    assert!(times.iter().any(|time| *time < 4.3) && times.iter().any(|time| *time > 5.7));
}

#[test]
fn a_destination_that_says_when_to_come_back_is_believed_within_bounds() {
    let asks = |seconds| Ended { retry_after: Some(Duration::from_secs(seconds)), ..THROTTLES };
    let mut bench = bench();
    bench.calls(20, ms(0), asks(90));
    assert_eq!(bench.opened_for().as_secs(), 90);
    bench.wait(Duration::from_secs(90)).calls(1, ms(0), asks(1_000_000));
    assert_eq!(bench.opened_for().as_secs(), 300, "but not for days");
}

#[test]
fn one_call_at_a_time_shows_whether_the_destination_works_again() {
    let (mut bench, first) = half_open();
    assert!(matches!(first, Permit::Probe { .. }));
    let Permit::Reject(rejection) = bench.ask() else { panic!("a second one passed") };
    assert_eq!((rejection.state, rejection.reason), (Stands::HalfOpen, Reason::Consecutive));
    bench.end(first, OK);
    for _ in 0..2 {
        let next = bench.ask();
        assert!(matches!(next, Permit::Probe { .. }));
        bench.end(next, OK);
    }
    assert_eq!((bench.stands(), bench.reason()), (Stands::Closed, Reason::ProbesSucceeded));
    assert_eq!(bench.machine.observed(bench.now).0, Counts::default(), "it begins anew");
}

#[test]
fn one_that_does_not_answer_has_failed() {
    let (mut bench, permit) = half_open();
    assert!(matches!(bench.wait(ms(9_999)).ask(), Permit::Reject(_)));
    assert_eq!(bench.stands(), Stands::HalfOpen);
    assert!(matches!(bench.wait(ms(1)).ask(), Permit::Reject(_)));
    assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::ProbeTimeout));
    let time = bench.opened_for();
    assert!(!bench.end(permit, OK), "whatever it says now");
    assert_eq!((bench.stands(), time.as_secs()), (Stands::Open, 10));
}

#[test]
fn being_throttled_slow_or_refused_is_no_sign_that_it_works_again() {
    let slow_call = SlowCall { duration: Some(ms(500)), rate: 0.8 };
    for ended in [THROTTLES, REFUSES, SLOW] {
        let (mut bench, permit) = half_open();
        bench.settings.slow_call = slow_call.clone();
        bench.end(permit, ended);
        assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::ProbeFailed), "{ended:?}");
    }
}

#[test]
fn calls_that_say_nothing_do_not_use_up_the_destination_s_patience_for_ever() {
    let (mut bench, mut permit) = half_open();
    for _ in 0..4 {
        bench.end(permit, SAYS_NOTHING);
        permit = bench.ask();
    }
    assert_eq!(bench.stands(), Stands::HalfOpen);
    bench.end(permit, SAYS_NOTHING);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::ProbesUndecided));
    assert_eq!(bench.opened_for().as_secs(), 5, "nothing was learned, so it waits no longer than before");
}

#[test]
fn what_was_asked_before_a_change_decides_nothing_after_it() {
    let mut bench = bench();
    let old: Vec<Permit> = (0..100).map(|_| bench.ask()).collect();
    bench.calls(7, ms(0), FAILS);
    let (epoch, time) = (bench.machine.epoch(), bench.opened_for());
    for permit in &old {
        assert!(!bench.end(*permit, OK));
        assert!(!bench.end(*permit, FAILS));
    }
    assert_eq!((bench.stands(), bench.machine.epoch()), (Stands::Open, epoch));
    bench.wait(time);
    let probe = bench.ask();
    assert!(!bench.end(old[0], OK) && !bench.end(old[1], FAILS));
    assert_eq!(bench.stands(), Stands::HalfOpen);
    bench.end(probe, OK);
}

#[test]
fn a_ramp_lets_more_and_more_calls_through() {
    let mut bench = with(|settings| settings.ramp = Duration::from_secs(10));
    bench.calls(7, ms(0), FAILS);
    bench.wait(Duration::from_secs(5)).calls(3, ms(0), OK);
    assert_eq!(bench.stands(), Stands::Ramp);
    let passed: Vec<usize> = (0..10).map(|_| bench.calls(1_000, ms(1), OK)).collect();
    for (second, passed) in passed.iter().enumerate() {
        let expected = 50 + 100 * second;
        assert!(passed.abs_diff(expected) < 60, "{passed} of 1000 in second {second}");
    }
    bench.calls(1, ms(0), OK);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Closed, Reason::RampEnded));
}

#[test]
fn a_failure_during_the_ramp_stops_it() {
    let mut bench = with(|settings| settings.ramp = Duration::from_secs(10));
    bench.calls(7, ms(0), FAILS);
    bench.wait(Duration::from_secs(5)).calls(3, ms(0), OK);
    bench.wait(Duration::from_secs(9)).calls(20, ms(0), FAILS);
    assert_eq!((bench.stands(), bench.opened_for().as_secs()), (Stands::Open, 10));
}

#[test]
fn what_somebody_wants_holds_until_its_time_is_over() {
    let mut bench = bench();
    bench.machine.force(true, Duration::from_secs(60), bench.now);
    assert_eq!(bench.calls(59, Duration::from_secs(1), OK), 0);
    assert_eq!(bench.wait(Duration::from_secs(1)).calls(1, ms(0), OK), 1);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Closed, Reason::Released));
    bench.machine.force(false, Duration::from_secs(60), bench.now);
    assert_eq!(bench.calls(1_000, ms(1), FAILS), 1_000);
    assert!(bench.machine.release(&bench.settings, bench.now).is_some());
    assert!(bench.machine.release(&bench.settings, bench.now).is_none());
    assert_eq!(bench.calls(1_000, ms(1), FAILS), 7);
}

#[test]
fn a_probe_whose_answer_comes_and_comes_has_succeeded_unless_it_breaks_off_at_once() {
    let lasting = |bench: &mut Bench, permit| {
        bench.machine.answers(permit, bench.now);
        bench.wait(LASTING);
    };
    let (mut bench, mut permit) = half_open();
    for probe in 1..=3 {
        // Silent from then on, for longer than a probe may take that does not answer.
        lasting(&mut bench, permit);
        assert!(matches!(bench.stands(), Stands::HalfOpen), "{probe}");
        permit = bench.wait(ms(20_000)).ask();
    }
    assert_eq!((bench.stands(), bench.reason()), (Stands::Closed, Reason::ProbesSucceeded));
    assert!(matches!(permit, Permit::Pass { .. }));

    let (mut bench, permit) = half_open();
    bench.machine.answers(permit, bench.now);
    assert_eq!(
        bench.wait(LASTING - ms(1)).ask(),
        Permit::Reject(Rejection { state: Stands::HalfOpen, reason: Reason::Consecutive, retry_in: Duration::ZERO })
    );
    bench.end(permit, FAILS);
    assert_eq!((bench.stands(), bench.reason()), (Stands::Open, Reason::ProbeFailed), "it broke off");

    let (mut bench, permit) = half_open();
    lasting(&mut bench, permit);
    let next = bench.ask();
    assert!(!bench.end(permit, FAILS), "it had succeeded by then");
    assert!(bench.end(next, OK) && bench.stands() == Stands::HalfOpen);

    let (mut bench, permit) = half_open();
    bench.wait(ms(10_000));
    bench.machine.answers(permit, bench.now);
    bench.ask();
    assert_eq!(bench.reason(), Reason::ProbeTimeout, "its first word came too late");
}

#[test]
fn a_steady_tenth_of_failures_never_stops_calls() {
    let mut bench = bench();
    let mut random = fastrand::Rng::with_seed(1);
    for every in [ms(1), ms(10), ms(100), ms(450)] {
        for _ in 0..100_000 {
            bench.calls(1, every, if random.u32(..10) == 0 { FAILS } else { OK });
        }
        assert_eq!(bench.changes, [], "one call in {every:?}");
    }
}

#[test]
fn six_tenths_of_failures_stop_calls_within_one_window() {
    for seed in 0..200 {
        let mut bench = bench();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut calls = 0;
        while bench.stands() == Stands::Closed {
            bench.calls(1, ms(10), if random.u32(..10) < 6 { FAILS } else { OK });
            calls += 1;
        }
        assert!(calls <= 1_000, "{calls} calls, 10 ms apart, with seed {seed}");
    }
}

/// Anything that may happen.
#[derive(Debug, Clone)]
enum Step {
    Ask,
    End(usize, Class, bool),
    Answers(usize),
    Wait(u64),
    Force(bool),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop::sample::select(Class::ALL.to_vec());
    prop_oneof![
        8 => Just(Step::Ask),
        8 => (any::<usize>(), class, any::<bool>()).prop_map(|(which, class, slow)| Step::End(which, class, slow)),
        3 => any::<usize>().prop_map(Step::Answers),
        3 => (0u64..12_000).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Force),
        1 => Just(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_keeps_its_promises(
        steps in prop::collection::vec(step(), 1..400),
        probes in 1u32..6,
        max_concurrent in 1u32..4,
        ramp in prop::sample::select(vec![0u64, 3_000]),
        slow in any::<bool>(),
    ) {
        let half_open = HalfOpen { probes, successes_needed: probes.min(3), max_concurrent, probe_timeout: ms(5_000) };
        let mut bench = with(|settings| {
            settings.half_open = half_open;
            settings.ramp = ms(ramp);
            settings.slow_call = SlowCall { duration: slow.then_some(ms(1)), rate: 0.8 };
        });
        let mut under_way: Vec<Permit> = Vec::new();
        // Of the present round: let through, and not yet ended.
        let (mut round, mut let_through, mut not_ended) = (0, 0, Vec::new());
        // Those that answer, and since when.
        let mut answering: Vec<(Permit, Instant)> = Vec::new();
        for step in steps {
            let (before, epoch) = (bench.stands(), bench.machine.epoch());
            let changes = bench.changes.len();
            match step {
                Step::Ask => {
                    let permit = bench.ask();
                    // What has lasted is under way no more.
                    let now = bench.now;
                    answering.retain(|(known, since)| {
                        let lasts = now < *since + LASTING;
                        not_ended.retain(|other| lasts || other != known);
                        lasts
                    });
                    match permit {
                        Permit::Probe { epoch, .. } => {
                            if epoch != round {
                                (round, let_through) = (epoch, 0);
                                not_ended.clear();
                            }
                            let_through += 1;
                            not_ended.push(permit);
                            prop_assert!(let_through <= probes, "more probes than allowed");
                            prop_assert!(not_ended.len() <= max_concurrent as usize, "too many at the same time");
                            prop_assert_eq!(bench.stands(), Stands::HalfOpen);
                        }
                        Permit::Pass { .. } => prop_assert!(
                            matches!(bench.stands(), Stands::Closed | Stands::Ramp | Stands::ForcedClosed)
                        ),
                        Permit::Reject(rejection) => prop_assert_eq!(rejection.state, bench.stands()),
                    }
                    if !matches!(permit, Permit::Reject(_)) {
                        under_way.push(permit);
                    }
                }
                Step::End(which, class, slow) if !under_way.is_empty() => {
                    let permit = under_way.swap_remove(which % under_way.len());
                    not_ended.retain(|known| *known != permit);
                    let stale = match permit {
                        Permit::Pass { epoch } | Permit::Probe { epoch, .. } => epoch != bench.machine.epoch(),
                        Permit::Reject(_) => true,
                    };
                    let by_time = bench.machine.until().is_some_and(|until| until <= bench.now)
                        || before == Stands::HalfOpen;
                    let decides = bench.end(permit, Ended { class, slow, retry_after: None });
                    prop_assert!(!(stale && decides), "a stale result decided something");
                    if stale && !by_time {
                        prop_assert_eq!((bench.stands(), bench.machine.epoch()), (before, epoch));
                    }
                    if matches!(class, Class::Ignored | Class::Propagated) && matches!(before, Stands::Closed) {
                        prop_assert_eq!(bench.stands(), before, "nothing was said, and it changed");
                    }
                }
                Step::Answers(which) if !under_way.is_empty() => {
                    let permit = under_way[which % under_way.len()];
                    bench.machine.answers(permit, bench.now);
                    if !answering.iter().any(|(known, _)| *known == permit) {
                        answering.push((permit, bench.now));
                    }
                }
                Step::End(..) | Step::Answers(_) => {}
                Step::Wait(millis) => drop(bench.wait(ms(millis))),
                Step::Force(open) => {
                    let change = bench.machine.force(open, ms(4_000), bench.now);
                    bench.changes.push(change);
                }
                Step::Release => {
                    let change = bench.machine.release(&bench.settings, bench.now);
                    bench.changes.extend(change);
                }
            }
            prop_assert!(bench.changes.len() - changes <= 1, "more than one change for one cause");
            let steps = bench.changes.len() - changes;
            prop_assert_eq!(bench.machine.epoch(), epoch + steps as u64, "the epoch counts changes");
        }
        let chained = bench.changes.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].epoch + 1 == pair[1].epoch);
        prop_assert!(chained, "each change begins where the one before ended");
    }
}
