//! How a handling or a call ended, how surely a call was linked: two closed lists.

use serde::{Deserialize, Serialize};

/// How a handling or a call ended. A closed list: metrics, reports and findings all use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered with a status below 400, whole.
    Ok,
    /// Answered with 4xx: the caller's mistake, not a failure of the callee.
    ClientError,
    /// Answered with 5xx.
    ServerError,
    /// No connection could be made.
    Connect,
    /// The connection broke before the answer was whole.
    Reset,
    /// A time limit of the proxy ran out.
    Timeout,
    /// The downstream side went away first.
    Cancelled,
    /// The proxy itself refused: a limit, a malformed message, a breaker.
    Rejected,
}

impl Outcome {
    /// All outcomes, in the order of their index.
    pub const ALL: [Outcome; 8] = [
        Outcome::Ok,
        Outcome::ClientError,
        Outcome::ServerError,
        Outcome::Connect,
        Outcome::Reset,
        Outcome::Timeout,
        Outcome::Cancelled,
        Outcome::Rejected,
    ];

    /// The outcome of a whole answer with this HTTP status.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        match status {
            500.. => Outcome::ServerError,
            400..500 => Outcome::ClientError,
            _ => Outcome::Ok,
        }
    }

    /// Whether this counts as a failure of the side that answered (or should have).
    ///
    /// A client error is the caller's doing, a cancellation nobody's: neither is a failure.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Outcome::Ok | Outcome::ClientError | Outcome::Cancelled => false,
            Outcome::ServerError | Outcome::Connect | Outcome::Reset | Outcome::Timeout | Outcome::Rejected => true,
        }
    }

    /// The word for labels, logs and the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ClientError => "client_error",
            Outcome::ServerError => "server_error",
            Outcome::Connect => "connect",
            Outcome::Reset => "reset",
            Outcome::Timeout => "timeout",
            Outcome::Cancelled => "cancelled",
            Outcome::Rejected => "rejected",
        }
    }

    /// The outcome that [`Outcome::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// A count per [`Outcome`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes([u64; Outcome::ALL.len()]);

impl Outcomes {
    /// Adds `count` times `outcome`.
    pub fn add(&mut self, outcome: Outcome, count: u64) {
        if let Some(slot) = self.0.get_mut(outcome as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    /// How many ended with `outcome`.
    #[must_use]
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0.get(outcome as usize).copied().unwrap_or(0)
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// How many of them are failures ([`Outcome::is_failure`]).
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.iter().filter(|(outcome, _)| outcome.is_failure()).fold(0, |sum, (_, n)| sum.saturating_add(n))
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (outcome, count) in other.iter() {
            self.add(outcome, count);
        }
    }

    /// The counts that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// How surely an outbound call was linked to the handler that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A header proves it.
    Exact,
    /// Timing makes it likely.
    Inferred,
    /// Nothing links it to a handler.
    Unknown,
}

impl Evidence {
    /// All kinds, in the order of their index.
    pub const ALL: [Evidence; 3] = [Evidence::Exact, Evidence::Inferred, Evidence::Unknown];

    /// The word for labels, logs and the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Evidence::Exact => "exact",
            Evidence::Inferred => "inferred",
            Evidence::Unknown => "unknown",
        }
    }

    /// The evidence that [`Evidence::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|evidence| evidence.as_str() == word)
    }
}

/// A count per [`Evidence`]: of calls by their own link, of handlings by the weakest one above them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Links([u64; Evidence::ALL.len()]);

impl Links {
    /// Adds `count` calls linked with `evidence`.
    pub fn add(&mut self, evidence: Evidence, count: u64) {
        if let Some(slot) = self.0.get_mut(evidence as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    /// How many calls were linked with `evidence`.
    #[must_use]
    pub fn get(&self, evidence: Evidence) -> u64 {
        self.0.get(evidence as usize).copied().unwrap_or(0)
    }

    /// How many calls there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The weakest evidence that was seen; none where nothing was.
    #[must_use]
    pub fn weakest(&self) -> Option<Evidence> {
        Evidence::ALL.into_iter().rev().find(|evidence| self.get(*evidence) > 0)
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for evidence in Evidence::ALL {
            self.add(evidence, other.get(evidence));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_as_what_it_was() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
        }
        for evidence in Evidence::ALL {
            assert_eq!(Evidence::parse(evidence.as_str()), Some(evidence));
        }
    }

    #[test]
    fn a_client_error_and_a_cancellation_are_nobodys_failure() {
        let mut outcomes = Outcomes::default();
        for outcome in Outcome::ALL {
            outcomes.add(outcome, 1);
        }
        assert_eq!(outcomes.total(), 8);
        assert_eq!(outcomes.failures(), 5);
    }
}
