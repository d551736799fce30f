//! What a breaker with other rules would have done with the calls that were recorded.
//!
//! Of each step it is known how many calls ended how, and how long calls took; not when in the step each was made. They are
//! taken to be spread evenly, and mixed evenly. So an outage that is shorter than a step is thinner here than it was, and
//! when a breaker opens is right within a step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use couplet_analyzer::breakers::{EdgeHistory, Step};
use couplet_config::{BreakerMode, BreakerSettings};
use couplet_proxy::{Begun, Replay};
use couplet_telemetry::breaker::{BreakerCounts, Count};

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rehearsed {
    /// All replicas together.
    pub(super) counts: BreakerCounts,
    /// Calls that were replayed.
    pub(super) calls: u64,
    /// Calls that a breaker stopped when they were recorded: nobody knows what would have become of them.
    pub(super) unknown: u64,
}

/// Replays the calls of every replica, each with a breaker of its own. Nothing is stopped, so that what becomes of every
/// call is seen.
pub(super) fn rehearse(edge: &EdgeHistory, settings: &BreakerSettings) -> Rehearsed {
    let settings = BreakerSettings { mode: BreakerMode::Observe, ..settings.clone() };
    let mut rehearsed = Rehearsed::default();
    for (seed, steps) in edge.replicas.values().enumerate() {
        let Some(first) = steps.first() else { continue };
        let replay = Replay::new(&settings, seed as u64);
        let mut stage = Stage { replay: &replay, under_way: BinaryHeap::new(), begun: BTreeMap::new(), number: 0 };
        for step in steps {
            let at = Duration::from_millis(step.start.saturating_sub(first.start));
            let durations = edge.durations.get(&step.start).map_or(&[][..], Vec::as_slice);
            rehearsed.calls += stage.play(step, at, durations);
            rehearsed.unknown += step.get(Count::Rejected);
        }
        let end = steps.last().map_or(0, |step| step.end).saturating_sub(first.start);
        let end = Duration::from_millis(end);
        stage.until(Duration::MAX);
        rehearsed.counts.merge(&replay.done(end.max(stage.last_end(end))));
    }
    rehearsed
}

/// One breaker, and the calls that it has let through.
struct Stage<'a> {
    replay: &'a Replay,
    /// When each of them ends, the next one first.
    under_way: BinaryHeap<Reverse<(Duration, u64)>>,
    begun: BTreeMap<u64, (Begun, Count, Duration)>,
    number: u64,
}

impl Stage<'_> {
    /// Makes the calls of a step that begins `at`; how many.
    fn play(&mut self, step: &Step, at: Duration, durations: &[(f64, u64)]) -> u64 {
        let ended = [
            (Count::Success, [Count::Success, Count::ShadowSucceeded, Count::ShadowSlow].as_slice()),
            (Count::Failure, &[Count::Failure, Count::ShadowFailed]),
            (Count::Throttled, &[Count::Throttled]),
            (Count::Local, &[Count::Local]),
            (Count::Propagated, &[Count::Propagated]),
            (Count::Ignored, &[Count::Ignored, Count::ShadowUnknown]),
        ];
        let sum = |counts: &[Count]| counts.iter().map(|count| step.get(*count)).sum::<u64>();
        let mut left = ended.map(|(ended, counts)| Kind { ended, all: sum(counts), made: 0 });
        let total: u64 = left.iter().map(|kind| kind.all).sum();
        let length = Duration::from_millis(step.end.saturating_sub(step.start));
        for n in 0..total.min(MAX_CALLS) {
            let begin = at + length.mul_f64((n as f64 + 0.5) / total as f64);
            self.until(begin);
            // Whichever is the furthest behind its share.
            let behind = |kind: &Kind| kind.all as f64 * (n + 1) as f64 / total as f64 - kind.made as f64;
            let next = left.iter_mut().max_by(|one, other| behind(one).total_cmp(&behind(other)));
            let Some(kind) = next else { break };
            kind.made += 1;
            let took = spread(durations, self.number);
            if let Some(begun) = self.replay.begin(begin) {
                self.begun.insert(self.number, (begun, kind.ended, took));
                self.under_way.push(Reverse((begin + took, self.number)));
            }
            self.number += 1;
        }
        total.min(MAX_CALLS)
    }

    /// Ends the calls that end by then.
    fn until(&mut self, then: Duration) {
        while let Some(Reverse((end, number))) = self.under_way.peek().copied().filter(|Reverse((end, _))| *end <= then)
        {
            self.under_way.pop();
            if let Some((begun, ended, took)) = self.begun.remove(&number) {
                self.replay.end(begun, ended, took, end);
            }
        }
    }

    fn last_end(&self, otherwise: Duration) -> Duration {
        self.under_way.iter().map(|Reverse((end, _))| *end).max().unwrap_or(otherwise)
    }
}

/// Calls of a step that end alike.
struct Kind {
    ended: Count,
    all: u64,
    made: u64,
}

/// The duration of the call with this number: one of those that were measured, in even shares and no order (multiples of the
/// golden ratio).
fn spread(durations: &[(f64, u64)], number: u64) -> Duration {
    let total: u64 = durations.iter().map(|(_, n)| n).sum();
    let share = (number as f64 * 0.618_033_988_749_895).fract();
    let mut left = (share * total as f64) as u64;
    let found = durations.iter().find(|(_, n)| {
        let here = left < *n;
        left = left.saturating_sub(*n);
        here
    });
    Duration::try_from_secs_f64(found.map_or(0.0, |(seconds, _)| *seconds)).unwrap_or_default().min(LONGEST)
}

/// Calls of one step and replica that are replayed at most.
const MAX_CALLS: u64 = 10_000_000;
/// What took longer took this long.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn step(start: u64, success: u64, failure: u64) -> Step {
        let counts = [("success".to_owned(), success), ("failure".to_owned(), failure)];
        Step { start, end: start + 10_000, counts: counts.into_iter().filter(|(_, n)| *n > 0).collect() }
    }

    fn edge(steps: Vec<Step>, durations: &[(f64, u64)]) -> EdgeHistory {
        let durations = steps.iter().map(|step| (step.start, durations.to_vec())).collect();
        let replicas = BTreeMap::from([("a".to_owned(), steps)]);
        EdgeHistory { from: "shop".to_owned(), to: "stock".to_owned(), class: None, replicas, durations }
    }

    fn settings() -> BreakerSettings {
        let mut settings = BreakerSettings::default();
        settings.open.jitter = 0.0;
        settings
    }

    const WELL: &[(f64, u64)] = &[(0.01, 100)];

    #[test]
    fn an_outage_opens_it_and_the_calls_in_it_are_what_it_would_have_rejected() {
        let steps = vec![step(0, 200, 0), step(10_000, 0, 200), step(20_000, 0, 200), step(30_000, 200, 0)];
        let rehearsed = rehearse(&edge(steps, WELL), &settings());
        let counts = rehearsed.counts;
        assert_eq!((rehearsed.calls, rehearsed.unknown, counts.get(Count::Opened)), (800, 0, 1));
        // The run makes up a quarter of the window after 2.5 s, at 12.5 s. Stopped for 5, 10 and 20 s: up to the end.
        let seconds = counts.get(Count::Stopped) as f64 / 1e9;
        assert!((27.0..=28.0).contains(&seconds), "{seconds}");
        let shadowed = counts.shadowed();
        assert!((535..=560).contains(&shadowed), "{shadowed}");
        // The last ten seconds would have been well.
        let precision = counts.precision().unwrap();
        assert!((0.62..=0.65).contains(&precision), "{precision}");
    }

    #[test]
    fn calls_are_slow_as_often_as_they_were() {
        let mut settings = settings();
        settings.slow_call.duration = Some(Duration::from_millis(500));
        settings.slow_call.rate = 0.25;
        let steps = || vec![step(0, 300, 0), step(10_000, 300, 0)];
        let opened = |slow| {
            let durations = [(0.1, 100 - slow), (0.9, slow)];
            rehearse(&edge(steps(), &durations), &settings).counts.get(Count::Opened)
        };
        assert_eq!((opened(20) > 0, opened(30) > 0), (false, true));
    }

    #[test]
    fn a_steady_share_of_failures_is_no_outage_and_every_replica_has_a_breaker_of_its_own() {
        let steady = rehearse(&edge((0..60).map(|n| step(n * 10_000, 90, 10)).collect(), WELL), &settings());
        assert_eq!((steady.calls, steady.counts.get(Count::Opened)), (6_000, 0));
        let mut two = edge(vec![step(0, 100, 0)], WELL);
        two.replicas.insert("b".to_owned(), vec![step(0, 0, 100)]);
        let counts = rehearse(&two, &settings()).counts;
        assert_eq!(counts.get(Count::Opened), 1, "the one that fails, not half of both");
    }

    #[test]
    fn what_was_rejected_when_it_was_recorded_is_not_invented() {
        let mut stopped = step(0, 10, 0);
        stopped.counts.insert("rejected".to_owned(), 50);
        let rehearsed = rehearse(&edge(vec![stopped], WELL), &settings());
        assert_eq!((rehearsed.calls, rehearsed.unknown), (10, 50));
    }
}
