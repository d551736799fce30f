//! Which endpoint gets the next request: of two that chance names, the one with fewer requests outstanding.

use std::time::Duration;

use tokio::time::Instant;

/// An endpoint is left alone for this long after a connection to it failed, and for twice as long after each further
/// failure.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// A connection to it has just failed, or it is ejected.
    pub(super) resting: bool,
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) outstanding: usize,
}

impl Candidate {
    /// Those of the lowest tier are chosen from. Where all rest, one is tried nevertheless.
    fn tier(self) -> (bool, u16) {
        (self.resting, self.priority)
    }

    /// A weight of 0 means "hardly ever" beside others; here it means the least.
    fn share(self) -> u64 {
        u64::from(self.weight.max(1))
    }
}

/// Chooses one of `count` endpoints; `candidate` says nothing about those that are out of the question. `random` gives
/// a number below its argument.
pub(super) fn choose(
    count: usize,
    candidate: impl Fn(usize) -> Option<Candidate>,
    mut random: impl FnMut(u64) -> u64,
) -> Option<usize> {
    let all = || (0..count).filter_map(|index| Some((index, candidate(index)?)));
    let tier = all().map(|(_, candidate)| candidate.tier()).min()?;
    let mut draw = |without: Option<usize>| {
        let eligible = || all().filter(|(index, candidate)| candidate.tier() == tier && Some(*index) != without);
        let total: u64 = eligible().map(|(_, candidate)| candidate.share()).sum();
        let mut at = if total == 0 { return None } else { random(total) };
        eligible().find(|(_, candidate)| {
            let here = at < candidate.share();
            at = at.saturating_sub(candidate.share());
            here
        })
    };
    let (first, one) = draw(None)?;
    match draw(Some(first)) {
        Some((second, other)) if other.outstanding < one.outstanding => Some(second),
        _ => Some(first),
    }
}

/// How connecting to an endpoint went of late.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Health {
    pub(super) fn failed(&mut self, now: Instant) {
        let rest = FIRST_REST.saturating_mul(2_u32.saturating_pow(self.failures.min(5))).min(LONGEST_REST);
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(now + rest);
    }

    pub(super) fn connected(&mut self) {
        *self = Self::default();
    }

    pub(super) fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Candidate = Candidate { resting: false, priority: 0, weight: 1, outstanding: 0 };

    /// How often each of `candidates` is chosen in 10,000 draws.
    fn shares(candidates: &[Candidate]) -> Vec<usize> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; candidates.len()];
        for _ in 0..10_000 {
            let chosen = choose(candidates.len(), |index| Some(candidates[index]), |below| random.u64(..below));
            counts[chosen.unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn with_nothing_outstanding_weights_are_shares() {
        let even = shares(&[PLAIN; 4]);
        assert!(even.iter().all(|count| (2_300..2_700).contains(count)), "{even:?}");
        let uneven = shares(&[PLAIN, Candidate { weight: 3, ..PLAIN }]);
        assert!((2_300..2_700).contains(&uneven[0]), "{uneven:?}");
    }

    #[test]
    fn the_busiest_of_all_is_never_chosen_while_there_is_another() {
        let counts = shares(&[PLAIN, Candidate { outstanding: 9, ..PLAIN }, Candidate { outstanding: 1, ..PLAIN }]);
        assert_eq!(counts[1], 0);
        assert!(counts[0] > counts[2], "{counts:?}");
    }

    #[test]
    fn an_endpoint_that_rests_is_chosen_only_where_all_rest() {
        let resting = Candidate { resting: true, ..PLAIN };
        assert_eq!(shares(&[resting, PLAIN]), [0, 10_000]);
        assert!(shares(&[resting, resting]).iter().all(|count| *count > 0));
    }

    #[test]
    fn a_higher_priority_is_a_last_resort() {
        let spare = Candidate { priority: 1, ..PLAIN };
        assert_eq!(shares(&[spare, Candidate { outstanding: 99, ..PLAIN }]), [0, 10_000]);
        assert_eq!(shares(&[spare, Candidate { resting: true, ..PLAIN }]), [10_000, 0]);
    }

    #[test]
    fn nobody_is_chosen_where_nobody_is_left() {
        assert_eq!(choose(3, |_| None, |_| 0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn rests_grow_and_end_with_the_first_success() {
        let mut health = Health::default();
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            health.failed(Instant::now());
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
            assert!(health.rests());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!health.rests());
        }
        health.failed(Instant::now());
        health.connected();
        assert!(!health.rests());
    }
}
