//! What circuit breakers do, or would do: counts that merge, where they stand, and the record of every change.

use serde::{Deserialize, Serialize};

use crate::histogram::seconds;
use crate::names::MAX_SERVICE_BYTES;

/// What a breaker counts. A closed list; times are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Count {
    /// Calls that were let through and succeeded.
    Success,
    /// The destination failed.
    Failure,
    /// The destination said that it is too much.
    Throttled,
    /// No connection could be made.
    Local,
    /// A breaker further down was the cause.
    Propagated,
    /// Nothing that says anything of the destination.
    Ignored,
    /// Those of the above that began before the last change of state, and decided nothing.
    Stale,
    /// Calls that were stopped.
    Rejected,
    /// Calls that were let through to see how they fare.
    Probes,
    /// Calls that would have been stopped and failed anyway.
    ShadowFailed,
    /// The same, but they were only slow.
    ShadowSlow,
    /// The same, but they succeeded.
    ShadowSucceeded,
    /// The same, but nothing is known of them.
    ShadowUnknown,
    /// Times that calls were stopped, or would have been.
    Opened,
    /// For how long.
    Stopped,
    /// The time that calls took that would have been stopped.
    ShadowTime,
}

impl Count {
    /// All of them, in the order of their index.
    pub const ALL: [Count; 16] = [
        Count::Success,
        Count::Failure,
        Count::Throttled,
        Count::Local,
        Count::Propagated,
        Count::Ignored,
        Count::Stale,
        Count::Rejected,
        Count::Probes,
        Count::ShadowFailed,
        Count::ShadowSlow,
        Count::ShadowSucceeded,
        Count::ShadowUnknown,
        Count::Opened,
        Count::Stopped,
        Count::ShadowTime,
    ];

    /// What the end of a call that was let through counts as: one of these.
    pub const ENDED: [Count; 6] =
        [Count::Success, Count::Failure, Count::Throttled, Count::Local, Count::Propagated, Count::Ignored];

    /// What became of a call that would have been stopped and was not: one of these.
    pub const SHADOWED: [Count; 4] =
        [Count::ShadowFailed, Count::ShadowSlow, Count::ShadowSucceeded, Count::ShadowUnknown];

    /// The word for labels and the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Count::Success => "success",
            Count::Failure => "failure",
            Count::Throttled => "throttled",
            Count::Local => "local",
            Count::Propagated => "propagated",
            Count::Ignored => "ignored",
            Count::Stale => "stale",
            Count::Rejected => "rejected",
            Count::Probes => "probes",
            Count::ShadowFailed => "shadow_failed",
            Count::ShadowSlow => "shadow_slow",
            Count::ShadowSucceeded => "shadow_succeeded",
            Count::ShadowUnknown => "shadow_unknown",
            Count::Opened => "opened",
            Count::Stopped => "stopped",
            Count::ShadowTime => "shadow_time",
        }
    }

    /// The count that [`Count::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|count| count.as_str() == word)
    }
}

/// A number for each [`Count`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BreakerCounts([u64; Count::ALL.len()]);

impl BreakerCounts {
    /// Adds `n`.
    pub fn add(&mut self, count: Count, n: u64) {
        if let Some(slot) = self.0.get_mut(count as usize) {
            *slot = slot.saturating_add(n);
        }
    }

    /// The number of one of them.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0.get(count as usize).copied().unwrap_or(0)
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine = mine.saturating_add(theirs));
    }

    /// What is in here and was not yet in `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = *self;
        since.0.iter_mut().zip(before.0).for_each(|(now, then)| *now = now.saturating_sub(then));
        since
    }

    /// The numbers that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Count, u64)> + '_ {
        Count::ALL.into_iter().zip(self.0).filter(|(_, n)| *n > 0)
    }

    /// Calls that were let through, by what their end counted as; zeros as well.
    pub fn ended(&self) -> impl Iterator<Item = (Count, u64)> + '_ {
        Count::ENDED.into_iter().map(|count| (count, self.get(count)))
    }

    /// Calls that would have been stopped and were not.
    #[must_use]
    pub fn shadowed(&self) -> u64 {
        Count::SHADOWED.into_iter().fold(0, |sum, count| sum.saturating_add(self.get(count)))
    }

    /// The share of what would have been stopped that failed anyway, 0 to 1; of what is known. None where nothing is.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        let known = self.shadowed().saturating_sub(self.get(Count::ShadowUnknown));
        (known > 0).then(|| self.get(Count::ShadowFailed) as f64 / known as f64)
    }
}

/// What became of calls that would have been stopped and were not, for people and tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WouldHave {
    /// All of them.
    pub rejected: u64,
    /// They failed anyway.
    pub failed: u64,
    /// They were slow.
    pub slow: u64,
    /// They succeeded: what enforcing would have cost.
    pub succeeded: u64,
    /// Nothing is known of them.
    pub unknown: u64,
    /// The time that all of them took: what callers would have been spared.
    pub seconds: f64,
    /// The share of what is known that failed anyway, 0 to 1; none where nothing is.
    pub precision: Option<f64>,
}

impl From<&BreakerCounts> for WouldHave {
    fn from(counts: &BreakerCounts) -> Self {
        Self {
            rejected: counts.shadowed(),
            failed: counts.get(Count::ShadowFailed),
            slow: counts.get(Count::ShadowSlow),
            succeeded: counts.get(Count::ShadowSucceeded),
            unknown: counts.get(Count::ShadowUnknown),
            seconds: seconds(counts.get(Count::ShadowTime)),
            precision: counts.precision(),
        }
    }
}

/// One breaker in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerReport {
    /// The service whose calls it stops: the destination's name.
    pub to: String,
    /// The class of calls that it is for; none where it is for all that are of none.
    pub class: Option<String>,
    /// Where it stands at the end of the window: `closed`, `open`, `half_open`, `ramp`, `forced_open`, `forced_closed`.
    pub state: String,
    /// `observe` or `enforce`.
    pub mode: String,
    /// The most calls that were under way at the same time since the proxy began.
    pub peak: u64,
    /// What it counted in the window.
    pub counts: BreakerCounts,
    /// Its changes in the window.
    pub transitions: Vec<Transition>,
}

/// The record of one change of state, with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// When, RFC 3339 in UTC.
    pub ts: String,
    /// Counts the changes of all breakers of one proxy, from 1.
    pub number: u64,
    /// `caller→destination`.
    pub edge: String,
    /// What kind of breaker.
    pub breaker: String,
    /// Counts the changes of this breaker.
    pub epoch: u64,
    /// The state before.
    pub from: String,
    /// The state now.
    pub to: String,
    /// `observe` or `enforce`.
    pub mode: String,
    /// Whether calls really are stopped, or only would be.
    pub stops: bool,
    /// Why, in one word.
    pub reason: String,
    /// The rule behind it, with its numbers.
    pub rule: Option<String>,
    /// What it was decided on.
    pub observed: Observed,
    /// The failures of late, the most frequent first.
    pub causes: Vec<Cause>,
    /// For how long calls are stopped.
    pub open_for_ms: Option<u64>,
    /// How many times they have been, without a longer time in between when they passed.
    pub attempt: u32,
    /// Who wants it, where somebody does.
    pub by: Option<String>,
    /// What for.
    pub why: Option<String>,
    /// Hash of the rules in force.
    pub config: String,
}

/// What a change was decided on: calls within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// All of them.
    pub total: u32,
    /// The destination failed.
    pub failed: u32,
    /// It said that it is too much.
    pub throttled: u32,
    /// No connection could be made.
    pub no_connection: u32,
    /// Took longer than what is slow.
    pub slow: u32,
    /// Failures in a row.
    pub consecutive: u32,
    /// The share that was no success, 0 to 1.
    pub rate: f64,
    /// Calls under way.
    pub in_flight: u64,
    /// Of the last one or two windows.
    pub p99_ms: Option<f64>,
}

/// Failures of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Which: `http_503`, `grpc_14`, `connect_timeout`.
    pub class: String,
    /// How many of the last 64.
    pub n: u32,
    /// The address that failed, where one was reached.
    pub endpoint: Option<String>,
    /// The trace of the last one, where it is known.
    pub trace: Option<String>,
}

impl Transition {
    /// Reads a record that came from outside: of a bounded length, and every text in it fit to be shown.
    #[must_use]
    pub fn read(json: &str) -> Option<Self> {
        let record: Self = (json.len() <= MAX_RECORD_BYTES).then(|| serde_json::from_str(json).ok()).flatten()?;
        let texts =
            [&record.ts, &record.breaker, &record.from, &record.to, &record.mode, &record.reason, &record.config];
        let short = texts.into_iter().all(|text| text.len() <= MAX_WORD_BYTES && is_plain(text));
        let longer = [Some(&record.edge), record.rule.as_ref(), record.by.as_ref(), record.why.as_ref()];
        let plain = longer.into_iter().flatten().all(|text| !text.chars().any(char::is_control));
        let causes = record.causes.iter().all(|cause| {
            let texts = [Some(&cause.class), cause.endpoint.as_ref(), cause.trace.as_ref()];
            texts.into_iter().flatten().all(|text| text.len() <= 2 * MAX_SERVICE_BYTES && is_plain(text))
        });
        (short && plain && causes && record.observed.rate.is_finite()).then_some(record)
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Longest record that is read.
const MAX_RECORD_BYTES: usize = 8 << 10;
/// Longest word in it.
const MAX_WORD_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_as_what_it_was() {
        for (index, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(Count::parse(count.as_str()), Some(count));
            assert_eq!(count as usize, index);
        }
    }

    #[test]
    fn the_share_that_failed_anyway_is_one_of_what_is_known() {
        let mut counts = BreakerCounts::default();
        assert_eq!(counts.precision(), None);
        for (count, n) in [(Count::ShadowFailed, 90), (Count::ShadowSucceeded, 10), (Count::ShadowUnknown, 100)] {
            counts.add(count, n);
        }
        assert_eq!((counts.shadowed(), counts.precision()), (200, Some(0.9)));
    }

    #[test]
    fn a_record_that_no_proxy_writes_is_none() {
        let record = Transition {
            ts: "2026-01-01T00:00:00.000Z".to_owned(),
            number: 1,
            edge: "shop→stock".to_owned(),
            breaker: "edge".to_owned(),
            epoch: 2,
            from: "closed".to_owned(),
            to: "open".to_owned(),
            mode: "observe".to_owned(),
            stops: false,
            reason: "failure_rate".to_owned(),
            rule: Some("failures/total >= 0.5".to_owned()),
            observed: Observed::default(),
            causes: vec![Cause { class: "http_503".to_owned(), n: 3, endpoint: None, trace: None }],
            open_for_ms: Some(5_000),
            attempt: 1,
            by: None,
            why: None,
            config: "xxh3:0".to_owned(),
        };
        let read = |record: &Transition| Transition::read(&serde_json::to_string(record).unwrap());
        assert_eq!(read(&record), Some(record.clone()));
        let long = "x".repeat(MAX_RECORD_BYTES);
        for wrong in [
            Transition { reason: "a\u{1b}[2J".to_owned(), ..record.clone() },
            Transition { why: Some("a\nb".to_owned()), ..record.clone() },
            Transition { rule: Some(long), ..record.clone() },
            Transition {
                causes: vec![Cause { class: "\u{7}".to_owned(), n: 1, endpoint: None, trace: None }],
                ..record
            },
        ] {
            assert_eq!(read(&wrong), None);
        }
        assert_eq!(Transition::read("{}"), None);
    }
}
