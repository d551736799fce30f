//! What the endpoints of a service were found to call, where no header links calls to handlings: sums over handlings
//! that say nothing of any single one.

/// Sums of what timing says. Calls are in thousandths, so that they add up to the same in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpectedStats {
    /// Handlings of the endpoint, calling or not.
    pub handlings: u64,
    /// Thousandths of calls that are nearly certain.
    pub stated: u64,
    /// Thousandths of calls by how likely they are, where that is in doubt.
    pub doubtful: u64,
    /// Thousandths of both that were counted while another way to find them found something else.
    pub disputed: u64,
    /// Thousandths of both that were counted while more handlings ran side by side than single links make sense for.
    pub crowded: u64,
    /// Handlings, known whole, in which a call to the callee ran beside another call.
    pub together: u64,
    /// Such handlings in which none did.
    pub alone: u64,
}

/// Share of disputed or crowded calls from which that is said of the whole.
const MOSTLY: f64 = 0.5;

impl ExpectedStats {
    /// The numbers with their words on the wire.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, u64); 7] {
        [
            ("handlings", self.handlings),
            ("stated", self.stated),
            ("doubtful", self.doubtful),
            ("disputed", self.disputed),
            ("crowded", self.crowded),
            ("together", self.together),
            ("alone", self.alone),
        ]
    }

    /// The number that goes by this word; none where a later release's word is not known.
    pub fn part(&mut self, word: &str) -> Option<&mut u64> {
        match word {
            "handlings" => Some(&mut self.handlings),
            "stated" => Some(&mut self.stated),
            "doubtful" => Some(&mut self.doubtful),
            "disputed" => Some(&mut self.disputed),
            "crowded" => Some(&mut self.crowded),
            "together" => Some(&mut self.together),
            "alone" => Some(&mut self.alone),
            _ => None,
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (word, n) in other.parts() {
            if let Some(slot) = self.part(word) {
                *slot = slot.saturating_add(n);
            }
        }
    }

    /// Calls, nearly certain or likely.
    #[must_use]
    pub fn calls(&self) -> f64 {
        (self.stated as f64 + self.doubtful as f64) / 1_000.0
    }

    /// Share of the calls that are nearly certain, 0 to 1; 0 where there are none.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        let calls = self.calls();
        if calls > 0.0 { (self.stated as f64 / 1_000.0 / calls).min(1.0) } else { 0.0 }
    }

    /// Whether most of it was disputed by another way to find it.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        self.calls() > 0.0 && self.disputed as f64 / 1_000.0 >= MOSTLY * self.calls()
    }

    /// Whether most of it was counted with too many handlings side by side.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.calls() > 0.0 && self.crowded as f64 / 1_000.0 >= MOSTLY * self.calls()
    }

    /// Share of the handlings in which calls to the callee run beside others, 0 to 1; none where no handling is known
    /// whole.
    #[must_use]
    pub fn parallel(&self) -> Option<f64> {
        let known = self.together.saturating_add(self.alone);
        (known > 0).then(|| self.together as f64 / known as f64)
    }
}

/// Calls that are in doubt go to the endpoints that make such calls for certain, in proportion to how certain that is: an
/// endpoint to which only doubt ever points does not make the call. `pairs` are the endpoints of one service that may
/// call one callee; what comes back are the calls of each, together as many.
#[must_use]
pub fn shared(pairs: &[ExpectedStats]) -> Vec<f64> {
    let doubtful = |pair: &ExpectedStats| pair.doubtful as f64 / 1_000.0;
    let all: f64 = pairs.iter().map(doubtful).sum();
    let confirmed: f64 = pairs.iter().map(|pair| doubtful(pair) * pair.confidence()).sum();
    let share = |pair: &ExpectedStats| {
        let doubt = match confirmed > 0.0 {
            true => doubtful(pair) * pair.confidence() * all / confirmed,
            false => doubtful(pair),
        };
        pair.stated as f64 / 1_000.0 + doubt
    };
    pairs.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubtful_calls_go_where_such_calls_are_certain() {
        let certain = ExpectedStats { handlings: 10, stated: 6_000, doubtful: 2_000, ..ExpectedStats::default() };
        let doubted = ExpectedStats { handlings: 10, doubtful: 2_000, ..ExpectedStats::default() };
        assert_eq!(shared(&[certain, doubted]), [10.0, 0.0]);
        assert_eq!(shared(&[doubted, doubted]), [2.0, 2.0], "where nothing is certain, each keeps what is likely");
        assert_eq!(certain.confidence(), 0.75);
    }

    #[test]
    fn every_word_reads_back_as_what_it_was() {
        let mut stats = ExpectedStats::default();
        for (n, (word, _)) in stats.parts().into_iter().enumerate() {
            *stats.part(word).unwrap() = n as u64 + 1;
        }
        assert_eq!(stats.parts().map(|(_, n)| n), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(stats.part("later"), None);
    }
}
