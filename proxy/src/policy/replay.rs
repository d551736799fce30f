//! A breaker that is fed with calls of the past: whoever wants to know what other rules would have done asks the very code
//! that stops calls.

use std::sync::Arc;
use std::time::Duration;

use couplet_config::BreakerSettings;
use couplet_telemetry::breaker::{BreakerCounts, Count};
use tokio::time::Instant;

use super::breaker::{Breaker, Failed, Ticket};
use super::classify::Class;
use super::neighbour::Neighbour;
use super::transition::Transitions;

/// A breaker whose clock begins at zero and stands where the last call was. Calls are told in the order in which they
/// happened.
pub struct Replay {
    breaker: Breaker,
    start: Instant,
}

/// A call that passed, until it ends.
#[derive(Debug)]
#[must_use = "a call that does not end says nothing"]
pub struct Begun(Ticket);

impl Replay {
    /// A breaker with these rules that knows of no call yet. `seed` is where chance begins: jitter, ramp and
    /// `enforce_percent`.
    #[must_use]
    pub fn new(settings: &BreakerSettings, seed: u64) -> Self {
        let start = Instant::now();
        let name: Arc<str> = Arc::from("");
        let transitions = Arc::<Transitions>::default();
        let neighbour = Arc::new(Neighbour::new(settings));
        let breaker =
            Breaker::new(Arc::clone(&name), (name, None), settings.clone(), neighbour, transitions, seed, start);
        Self { breaker, start }
    }

    /// A call wants to pass. None where it is stopped.
    pub fn begin(&self, at: Duration) -> Option<Begun> {
        self.breaker.ask(self.start + at).ok().map(Begun)
    }

    /// A call has ended `at`, after `took`. `ended` is one of [`Count::ENDED`]; anything else says nothing.
    pub fn end(&self, Begun(ticket): Begun, ended: Count, took: Duration, at: Duration) {
        let class = Class::of(ended).unwrap_or(Class::Ignored);
        self.breaker.ended(ticket, class, took, Failed::default(), self.start + at);
    }

    /// What it did up to now.
    #[must_use]
    pub fn done(&self, at: Duration) -> BreakerCounts {
        self.breaker.view(self.start + at).done
    }

    /// The word for where it stands now.
    #[must_use]
    pub fn state(&self, at: Duration) -> &'static str {
        self.breaker.view(self.start + at).stands.as_str()
    }
}

#[cfg(test)]
mod tests {
    use couplet_config::{BreakerMode, OpenTime};
    use proptest::prelude::*;

    use super::*;

    const TOOK: Duration = Duration::from_millis(5);

    fn rules(mode: BreakerMode) -> BreakerSettings {
        BreakerSettings { mode, ..BreakerSettings::default() }
    }

    /// Calls `every` so often, from one moment to another; `fails` says which of them fail. How many passed, and when the
    /// first one was stopped.
    fn calls(
        replay: &Replay,
        (from, to): (Duration, Duration),
        every: Duration,
        mut fails: impl FnMut() -> bool,
    ) -> (u64, Option<Duration>) {
        let (mut at, mut passed, mut stopped) = (from, 0, None);
        while at < to {
            match replay.begin(at) {
                Some(begun) => {
                    passed += 1;
                    let ended = if fails() { Count::Failure } else { Count::Success };
                    replay.end(begun, ended, TOOK, at + TOOK.min(every));
                }
                None => stopped = stopped.or(Some(at)),
            }
            at += every;
        }
        (passed, stopped)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_that_fails_six_tenths_for_ten_seconds_is_stopped_within_a_window_and_back_after_one_round() {
        for seed in 0..50 {
            let (replay, mut random) =
                (Replay::new(&rules(BreakerMode::Enforce), seed), fastrand::Rng::with_seed(seed));
            let every = Duration::from_millis(10);
            let well = (seconds(0), seconds(30));
            assert_eq!(calls(&replay, well, every, || random.u32(..100) == 0).1, None, "seed {seed}");
            let bad = (seconds(30), seconds(40));
            let (_, stopped) = calls(&replay, bad, every, || random.u32(..10) < 6);
            let after = stopped.unwrap_or_else(|| panic!("seed {seed}: it was never stopped")) - seconds(30);
            assert!(after <= seconds(10), "seed {seed}: stopped after {after:?}");
            let opened = replay.done(seconds(40)).get(Count::Opened);
            // It has recovered. The longest that anything can still be stopped is the time it is open for.
            let (passed, _) = calls(&replay, (seconds(40), seconds(113)), every, || false);
            assert_eq!(replay.state(seconds(113)), "closed", "seed {seed}");
            assert!(passed > 0);
            let done = replay.done(seconds(113));
            assert_eq!(done.get(Count::Opened), opened, "seed {seed}: the first round after it recovered was enough");
        }
    }

    #[test]
    fn a_steady_tenth_of_failures_stops_nothing_in_a_hundred_thousand_calls() {
        for (seed, every) in [(1, 1), (2, 10), (3, 100), (4, 450)] {
            let (replay, mut random) =
                (Replay::new(&rules(BreakerMode::Enforce), seed), fastrand::Rng::with_seed(seed));
            let every = Duration::from_millis(every);
            let (passed, stopped) = calls(&replay, (seconds(0), every * 100_000), every, || random.u32(..10) == 0);
            assert_eq!((passed, stopped), (100_000, None), "one call in {every:?}");
            assert_eq!(replay.done(every * 100_000).get(Count::Opened), 0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// The prediction of observing: exact, as long as the callers and the destination do the same in both.
        #[test]
        fn what_observing_would_have_rejected_is_what_enforcing_rejects(
            seed in any::<u64>(),
            phases in prop::collection::vec((0u32..=10, 1u64..60, 1u64..200), 1..12),
            jitter in prop::sample::select(vec![0.0, 0.2]),
        ) {
            let open = OpenTime { jitter, ..OpenTime::default() };
            let run = |mode| {
                let settings = BreakerSettings { open: open.clone(), ..rules(mode) };
                let (replay, mut random) = (Replay::new(&settings, seed), fastrand::Rng::with_seed(seed));
                let mut at = Duration::ZERO;
                for (tenths, length, every) in &phases {
                    let end = at + seconds(*length);
                    while at < end {
                        // Chance moves on with every call, stopped or not.
                        let ended = if random.u32(..10) < *tenths { Count::Failure } else { Count::Success };
                        if let Some(begun) = replay.begin(at) {
                            replay.end(begun, ended, TOOK, at);
                        }
                        at += Duration::from_millis(*every);
                    }
                }
                replay.done(at)
            };
            let (observed, enforced) = (run(BreakerMode::Observe), run(BreakerMode::Enforce));
            prop_assert_eq!(observed.shadowed(), enforced.get(Count::Rejected));
            prop_assert_eq!(observed.get(Count::Rejected), 0);
            for count in [Count::Opened, Count::Stopped, Count::Probes, Count::Success, Count::Failure] {
                prop_assert_eq!(observed.get(count), enforced.get(count), "{:?}", count);
            }
        }
    }
}
