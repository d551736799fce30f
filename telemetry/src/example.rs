//! Requests that stand for others: which trace to look at where a figure is doubted.
//!
//! No request is kept. Of each path a window remembers the traces of at most three of its handlings, chosen so that they
//! say most and so that it makes no difference in which order they came: the slowest, the failed one that was seen last,
//! and the one that made most calls. They are exemplars of the path's durations on the wire.

use crate::outcome::Outcome;

/// The trace of a request that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Never zero.
    pub id: u128,
    /// Whether it was said to be recorded: others are hardly found anywhere but in logs.
    pub sampled: bool,
    /// When the request ended, nanoseconds since the Unix epoch; 0 where only its window is known.
    pub at: u64,
}

/// One request, by its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// Which trace, and when.
    pub trace: Trace,
    /// How long it took, nanoseconds.
    pub duration: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Blocking calls that its handler made.
    pub calls: u32,
}

/// What an example is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It took longest.
    Slowest,
    /// It failed, the last one that did.
    Failed,
    /// Its handler made most calls.
    Busiest,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Slowest, Kind::Failed, Kind::Busiest];

    /// The word for documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Slowest => "slowest",
            Kind::Failed => "failed",
            Kind::Busiest => "busiest",
        }
    }

    /// What examples of this kind are compared by: one that somebody recorded is better than any that nobody did. None
    /// where the example is not of this kind.
    fn rank(self, example: &Example) -> Option<impl Ord + use<>> {
        let Example { trace: Trace { id, sampled, at }, duration, outcome, calls } = *example;
        let rank = match self {
            Kind::Slowest => (duration, at),
            Kind::Failed if outcome.is_failure() => (at, duration),
            Kind::Busiest if calls > 0 => (u64::from(calls), duration),
            Kind::Failed | Kind::Busiest => return None,
        };
        // The rest only says which of two equals it is, whatever order they came in.
        Some((sampled, rank, at, id, duration, outcome, calls))
    }
}

/// At most one example of each kind. Of most paths one request is all of them: each is held once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examples(Box<[Held]>);

/// An example and what it is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    example: Example,
    kinds: Kinds,
}

/// A set of kinds, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kinds(u8);

impl Kinds {
    fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

impl Examples {
    /// Takes an example in where it is better than what is there. One without a trace is none.
    pub fn add(&mut self, example: &Example) {
        if example.trace.id == 0 {
            return;
        }
        let better = |kind: Kind| {
            let rank = kind.rank(example);
            rank.is_some() && rank > self.get(kind).and_then(|known| kind.rank(known))
        };
        let won = Kind::ALL.into_iter().filter(|kind| better(*kind)).fold(0, |won, kind| won | 1 << kind as u8);
        if won == 0 {
            return;
        }
        self.0.iter_mut().for_each(|held| held.kinds.0 &= !won);
        let new = Held { example: *example, kinds: Kinds(won) };
        let mut beaten = self.0.iter_mut().filter(|held| held.kinds.0 == 0);
        match (beaten.next(), beaten.next()) {
            (Some(place), None) => *place = new,
            _ => {
                let others = self.0.iter().filter(|held| held.kinds.0 != 0).copied();
                self.0 = others.chain([new]).collect();
            }
        }
        // In one order, whatever order they came in.
        self.0.sort_unstable_by_key(|held| held.kinds.0.trailing_zeros());
    }

    /// Takes in all of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
        } else {
            other.distinct().for_each(|example| self.add(&example));
        }
    }

    /// Says when those ended of which only the window was known.
    pub fn date(&mut self, at: u64) {
        for Held { example, .. } in &mut self.0 {
            if example.trace.at == 0 {
                example.trace.at = at;
            }
        }
    }

    /// The example of this kind.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&Example> {
        self.0.iter().find(|held| held.kinds.has(kind)).map(|held| &held.example)
    }

    /// Every example once, whatever it is one of.
    pub fn distinct(&self) -> impl Iterator<Item = Example> + use<'_> {
        self.0.iter().map(|held| held.example)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(id: u128, at: u64, duration: u64) -> Example {
        Example { trace: Trace { id, sampled: false, at }, duration, outcome: Outcome::Ok, calls: 0 }
    }

    fn of(all: &[Example]) -> Examples {
        let mut examples = Examples::default();
        all.iter().for_each(|one| examples.add(one));
        examples
    }

    #[test]
    fn the_slowest_the_last_that_failed_and_the_busiest_are_kept_whatever_order_they_come_in() {
        let slow = example(1, 10, 900);
        let failed = Example { outcome: Outcome::ServerError, ..example(2, 20, 100) };
        let failed_later = Example { outcome: Outcome::Timeout, ..example(3, 30, 50) };
        let busy = Example { calls: 40, ..example(4, 5, 10) };
        let mut all = [slow, failed, failed_later, busy, example(5, 50, 20)];
        let examples = of(&all);
        all.reverse();
        assert_eq!(of(&all), examples);
        let kinds = Kind::ALL.map(|kind| examples.get(kind).map(|example| example.trace.id));
        assert_eq!(kinds, [Some(1), Some(3), Some(4)]);
        let mut merged = of(&all[..2]);
        merged.merge(&of(&all[2..]));
        assert_eq!(merged, examples, "nor does it matter what was put together first");
        merged.merge(&examples);
        assert_eq!(merged, examples, "nor that something was told twice");
    }

    #[test]
    fn one_that_somebody_recorded_is_better_than_any_that_nobody_did() {
        let recorded = Example { trace: Trace { id: 1, sampled: true, at: 1 }, ..example(1, 1, 5) };
        assert_eq!(of(&[recorded, example(2, 9, 900)]).get(Kind::Slowest), Some(&recorded));
    }

    #[test]
    fn a_request_that_is_several_of_them_is_told_once_and_one_without_a_trace_never() {
        let all = Example { outcome: Outcome::ServerError, calls: 3, ..example(1, 1, 5) };
        assert_eq!(of(&[all]).distinct().collect::<Vec<_>>(), [all]);
        assert!(of(&[example(0, 1, 5)]).is_empty());
    }
}
