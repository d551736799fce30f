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
    /// Thousandths of the nearly certain calls that are so even if what was learned is believed only half as far.
    pub firm: u64,
    /// Thousandths of both that were counted while another way to find them found something else.
    pub disputed: u64,
    /// Thousandths of both that were counted while more handlings ran side by side than single links make sense for.
    pub crowded: u64,
    /// Thousandths of the doubtful ones that were counted while handlings of the endpoint did what was not to be expected.
    pub misfit: u64,
    /// Handlings, known whole, in which a call to the callee ran beside another call.
    pub together: u64,
    /// Such handlings in which none did.
    pub alone: u64,
    /// Other callees that had answered before the callee was first called, summed over the handlings known whole.
    pub earlier: u64,
}

/// Share of disputed or crowded calls from which that is said of the whole.
const MOSTLY: f64 = 0.5;

impl ExpectedStats {
    /// The numbers with their words on the wire.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, u64); 10] {
        [
            ("handlings", self.handlings),
            ("stated", self.stated),
            ("doubtful", self.doubtful),
            ("firm", self.firm),
            ("disputed", self.disputed),
            ("crowded", self.crowded),
            ("misfit", self.misfit),
            ("together", self.together),
            ("alone", self.alone),
            ("earlier", self.earlier),
        ]
    }

    /// The number that goes by this word; none where a later release's word is not known.
    pub fn part(&mut self, word: &str) -> Option<&mut u64> {
        match word {
            "handlings" => Some(&mut self.handlings),
            "stated" => Some(&mut self.stated),
            "doubtful" => Some(&mut self.doubtful),
            "firm" => Some(&mut self.firm),
            "disputed" => Some(&mut self.disputed),
            "crowded" => Some(&mut self.crowded),
            "misfit" => Some(&mut self.misfit),
            "together" => Some(&mut self.together),
            "alone" => Some(&mut self.alone),
            "earlier" => Some(&mut self.earlier),
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

    /// Whether most of it is in doubt and what the endpoint does fits badly with what is known of it.
    #[must_use]
    pub fn is_misfit(&self) -> bool {
        self.calls() > 0.0 && self.misfit as f64 / 1_000.0 >= MOSTLY * self.calls()
    }

    /// How many other callees have answered before the callee is first called, on average; none where no handling is
    /// known whole. The order of these numbers is that of the calls.
    #[must_use]
    pub fn position(&self) -> Option<f64> {
        let known = self.together.saturating_add(self.alone);
        (known > 0).then(|| self.earlier as f64 / known as f64)
    }

    /// Share of the handlings in which calls to the callee run beside others, 0 to 1; none where no handling is known
    /// whole.
    #[must_use]
    pub fn parallel(&self) -> Option<f64> {
        let known = self.together.saturating_add(self.alone);
        (known > 0).then(|| self.together as f64 / known as f64)
    }
}

/// Calls of an endpoint to a callee, and how much of that is certain.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Calls.
    pub calls: f64,
    /// Calls that are left if what was learned is believed only half as far; at most as many.
    pub at_least: f64,
}

/// Calls that are in doubt go to the endpoints that make such calls for certain, in proportion to how certain that is: an
/// endpoint to which only doubt ever points does not make the call. `pairs` are the endpoints of one service that may
/// call one callee; what comes back are the calls of each, together as many.
#[must_use]
pub fn shared(pairs: &[ExpectedStats]) -> Vec<Share> {
    let by = |certain: fn(&ExpectedStats) -> u64| {
        let certain = |pair: &ExpectedStats| (certain(pair) as f64 / 1_000.0).min(pair.calls());
        let doubtful = |pair: &ExpectedStats| pair.calls() - certain(pair);
        let confirmed = |pair: &ExpectedStats| match pair.calls() {
            calls if calls > 0.0 => doubtful(pair) * certain(pair) / calls,
            _ => 0.0,
        };
        let all: f64 = pairs.iter().map(doubtful).sum();
        let sum: f64 = pairs.iter().map(confirmed).sum();
        let certainly: f64 = pairs.iter().map(certain).sum();
        let doubt = |pair: &ExpectedStats| match (sum > 0.0, certainly > 0.0) {
            (true, _) => confirmed(pair) * all / sum,
            // Nobody who doubts is certain of anything, but others are.
            (false, true) => certain(pair) * all / certainly,
            (false, false) => doubtful(pair),
        };
        pairs.iter().map(|pair| certain(pair) + doubt(pair)).collect::<Vec<f64>>()
    };
    let (calls, firm) = (by(|pair| pair.stated), by(|pair| pair.firm));
    calls.into_iter().zip(firm).map(|(calls, firm)| Share { calls, at_least: calls.min(firm) }).collect()
}

/// Calls per handling from which a pair is told.
const TOLD: f64 = 0.05;
/// Calls per handling from which a pair is told that is nearly certain: so much of it, and so many calls of it, are.
const RARE: f64 = 0.01;
const CERTAIN: f64 = 0.9;
const CERTAIN_CALLS: f64 = 10.0;
/// Standard deviations below which 10 % of a normal distribution lie: so sure single links are, too, that are stated.
const DEVIATIONS: f64 = 1.281_6;

impl Share {
    /// Whether the endpoint is said to make the call, in so many handlings and with so many firm calls: an error of a few
    /// links is not told, and neither is what only full trust in what was learned makes likely. All of it stands on the
    /// firm calls, so it is as uncertain as a count of those: its lower bound must be enough.
    #[must_use]
    pub fn is_told(&self, handlings: u64, firm: f64) -> bool {
        let handlings = (handlings as f64).max(1.0);
        let certain = firm >= CERTAIN_CALLS && firm >= CERTAIN * self.calls;
        let bound = if firm > 0.0 { self.at_least * (1.0 - DEVIATIONS / firm.sqrt()) } else { 0.0 };
        bound >= TOLD * handlings || certain && self.at_least >= RARE * handlings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(stated: u64, firm: u64, doubtful: u64) -> ExpectedStats {
        ExpectedStats { handlings: 10, stated, firm, doubtful, ..ExpectedStats::default() }
    }

    fn calls(pairs: &[ExpectedStats]) -> Vec<(f64, f64)> {
        shared(pairs).iter().map(|share| (share.calls, share.at_least)).collect()
    }

    #[test]
    fn doubtful_calls_go_where_such_calls_are_certain() {
        let (certain, doubted) = (stats(6_000, 6_000, 2_000), stats(0, 0, 2_000));
        assert_eq!(calls(&[certain, doubted]), [(10.0, 10.0), (0.0, 0.0)]);
        assert_eq!(
            calls(&[doubted, doubted]),
            [(2.0, 2.0), (2.0, 2.0)],
            "where nothing is certain, each keeps what is likely"
        );
        assert_eq!(certain.confidence(), 0.75);
    }

    #[test]
    fn what_only_full_trust_makes_certain_is_not_told() {
        let (firm, not_firm) = (stats(8_000, 8_000, 0), stats(2_000, 0, 1_000));
        let [first, second] = shared(&[firm, not_firm])[..] else { panic!("two come back") };
        assert_eq!((first.calls, first.at_least), (8.0, 8.0), "at most what full trust says");
        assert_eq!((second.calls, second.at_least), (3.0, 0.0));
        assert!(!second.is_told(10, 0.0));
        let doubted = stats(8_000, 8_000, 10);
        let [_, second] = shared(&[doubted, not_firm])[..] else { panic!("two come back") };
        assert!(second.calls > 2.9 && second.at_least == 0.0, "{second:?}");
        assert!(!second.is_told(10, 0.0));
    }

    #[test]
    fn a_rare_pair_is_told_if_nearly_all_of_it_is_certain() {
        let share = |calls| Share { calls, at_least: calls };
        assert!(share(12.0).is_told(100, 12.0) && !share(6.0).is_told(100, 6.0), "a few links more or less are chance");
        assert!(!share(12.0).is_told(100, 2.0), "it stands on two links");
        assert!(share(20.0).is_told(1_000, 19.0) && !share(20.0).is_told(1_000, 17.0));
        assert!(!share(20.0).is_told(10_000, 20.0), "an error of a few links");
    }

    #[test]
    fn every_word_reads_back_as_what_it_was() {
        let mut stats = ExpectedStats::default();
        for (n, (word, _)) in stats.parts().into_iter().enumerate() {
            *stats.part(word).unwrap() = n as u64 + 1;
        }
        assert_eq!(stats.parts().map(|(_, n)| n), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(stats.part("later"), None);
    }
}
