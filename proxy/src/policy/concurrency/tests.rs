//! An application and its callers, with a clock that only the test moves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use couplet_config::Adaptive;

use super::*;

/// An application that serves so many requests at once, and what became of those that came.
struct World {
    concurrency: Concurrency,
    start: Instant,
    now: Duration,
    /// When each of the threads of the application is free again.
    threads: BinaryHeap<Reverse<Duration>>,
    /// When answers come, and for how long they were waited for.
    answers: BinaryHeap<Reverse<(Duration, Duration)>>,
    random: fastrand::Rng,
    served: u64,
    rejected: u64,
    waits: Vec<Duration>,
}

fn settings(mode: BreakerMode) -> Settings {
    Settings { mode, limit: ConcurrencyLimit::Adaptive, adaptive: Adaptive::default() }
}

impl World {
    fn new(settings: &Settings, at_once: usize) -> Self {
        let start = Instant::now();
        Self {
            concurrency: Concurrency::new(settings, start),
            start,
            now: Duration::ZERO,
            threads: (0..at_once).map(|_| Reverse(Duration::ZERO)).collect(),
            answers: BinaryHeap::new(),
            random: fastrand::Rng::with_seed(1),
            served: 0,
            rejected: 0,
            waits: Vec::new(),
        }
    }

    /// For so long requests come by chance, so many per second, each of which keeps a thread busy for about `work`.
    fn load(&mut self, lasts: Duration, per_second: f64, work: Duration) -> &mut Self {
        (self.served, self.rejected) = (0, 0);
        self.waits.clear();
        let until = self.now + lasts;
        while self.now < until {
            self.now += Duration::from_secs_f64(-(1.0 - self.random.f64()).ln() / per_second);
            self.answer();
            if !self.concurrency.enter(false) {
                self.rejected += 1;
                continue;
            }
            let Reverse(free) = self.threads.pop().unwrap();
            let ends = free.max(self.now) + work.mul_f64(0.5 + self.random.f64());
            self.threads.push(Reverse(ends));
            self.answers.push(Reverse((ends, ends - self.now)));
        }
        self
    }

    /// The answers that have come by now.
    fn answer(&mut self) {
        while let Some(Reverse((at, took))) = self.answers.peek().copied().filter(|Reverse((at, _))| *at <= self.now) {
            self.answers.pop();
            self.concurrency.answered(took, self.start + at);
            self.concurrency.leave();
            self.served += 1;
            self.waits.push(took);
        }
    }

    fn limit(&self) -> u32 {
        self.concurrency.stands().limit.unwrap()
    }

    fn median(&mut self) -> Duration {
        self.waits.sort_unstable();
        self.waits[self.waits.len() / 2]
    }
}

const WORK: Duration = Duration::from_millis(10);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn three_times_what_it_can_do_leaves_it_as_much_as_it_can_do_and_answers_in_time() {
    // Eight at once, ten milliseconds each: 800 per second.
    let mut world = World::new(&settings(BreakerMode::Enforce), 8);
    world.load(seconds(120), 2_400.0, WORK);
    let limit = world.limit();
    assert!((8..=24).contains(&limit), "{limit}");
    world.load(seconds(60), 2_400.0, WORK);
    let per_second = world.served as f64 / 60.0;
    assert!(per_second > 0.93 * 800.0, "{per_second} per second were served");
    assert!(world.median() < 3 * WORK, "{:?}", world.median());
    assert_eq!(world.concurrency.in_flight.rejected.get() > 0, world.rejected > 0);
}

#[test]
fn without_a_limit_the_same_load_is_served_too_late() {
    let mut world = World::new(&settings(BreakerMode::Observe), 8);
    world.load(seconds(30), 2_400.0, WORK);
    assert_eq!(world.rejected, 0, "observing rejects nothing");
    assert!(world.concurrency.in_flight.would_reject.get() > 10_000);
    assert!(world.median() > seconds(5), "{:?}", world.median());
}

#[test]
fn an_application_that_is_not_asked_too_much_is_never_protected_from_anybody() {
    let mut world = World::new(&settings(BreakerMode::Enforce), 40);
    // Half of what it can do: twenty at once in the mean.
    world.load(seconds(30), 2_000.0, WORK);
    world.load(seconds(300), 2_000.0, WORK);
    let share = world.rejected as f64 / (world.rejected + world.served) as f64;
    assert!(share < 0.02, "{} of {} were rejected, the limit is {}", world.rejected, world.served, world.limit());
}

#[test]
fn one_that_becomes_slower_and_recovers_gets_what_it_can_do() {
    let mut world = World::new(&settings(BreakerMode::Enforce), 8);
    world.load(seconds(60), 1_600.0, WORK);
    world.load(seconds(120), 1_600.0, 5 * WORK);
    world.load(seconds(60), 1_600.0, 5 * WORK);
    let per_second = world.served as f64 / 60.0;
    assert!(per_second > 0.9 * 160.0, "{per_second} per second, the limit is {}", world.limit());
    world.load(seconds(60), 1_600.0, WORK).load(seconds(60), 1_600.0, WORK);
    let per_second = world.served as f64 / 60.0;
    assert!(per_second > 0.93 * 800.0, "{per_second} per second, the limit is {}", world.limit());
}

#[test]
fn a_fixed_limit_is_what_it_says_and_leaves_room_for_the_platform() {
    let fixed = Settings { limit: ConcurrencyLimit::Fixed(2), ..settings(BreakerMode::Enforce) };
    let concurrency = Concurrency::new(&fixed, Instant::now());
    assert!(!concurrency.wants_times());
    assert_eq!([1, 2, 3].map(|_| concurrency.enter(false)), [true, true, false]);
    assert!((0..RESERVE).all(|_| concurrency.enter(true)));
    assert!(!concurrency.enter(true), "but not without end");
    assert_eq!((concurrency.in_flight.rejected.get(), concurrency.in_flight.peak()), (2, 2 + RESERVE));
    (0..2 + RESERVE).for_each(|_| concurrency.leave());
    assert!(concurrency.enter(false));
}

#[test]
fn another_limit_is_in_force_at_once_and_none_is_off() {
    let concurrency = Concurrency::new(&settings(BreakerMode::Off), Instant::now());
    assert!((0..100).all(|_| concurrency.enter(false)), "off, and the peak is known all the same");
    assert_eq!((concurrency.in_flight.peak(), concurrency.stands().limit), (100, None));
    concurrency.configure(&settings(BreakerMode::Enforce));
    assert!(!concurrency.enter(false) && concurrency.wants_times());
    assert_eq!(concurrency.stands().limit, Some(20));
    concurrency.configure(&settings(BreakerMode::Off));
    assert!(concurrency.enter(false));
}
