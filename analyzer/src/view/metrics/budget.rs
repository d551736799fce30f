//! How many label sets a family may have. Who comes first stays: a series that comes and goes with its rank would look
//! to Prometheus like a counter that was reset.

use std::collections::HashSet;

use xxhash_rust::xxh3::Xxh3;

/// Label sets of one family.
const LABEL_SETS: usize = 2_000;
/// Label sets beyond the budget that are told apart, so that they are counted once each.
const COUNTED: usize = 100_000;
/// Label that stands for everything beyond the budget.
pub(in crate::view) const REST: &str = "other";

/// The budgets of one analyzer, for as long as it runs.
#[derive(Debug, Default)]
pub(in crate::view) struct Budgets {
    pub(super) edges: Budget,
    pub(super) entries: Budget,
    pub(super) endpoints: Budget,
    pub(super) services: Budget,
}

impl Budgets {
    /// How many label sets are beyond the budget, by what the families are about.
    pub(super) fn overflow(&self) -> [(&'static str, usize); 4] {
        [
            ("edges", self.edges.beyond.len()),
            ("entries", self.entries.beyond.len()),
            ("endpoints", self.endpoints.beyond.len()),
            ("services", self.services.beyond.len()),
        ]
    }
}

/// The budget of the families about one kind of thing.
#[derive(Debug, Default)]
pub(super) struct Budget {
    admitted: HashSet<u64>,
    beyond: HashSet<u64>,
}

impl Budget {
    /// Whether these labels have a series of their own.
    pub(super) fn admits(&mut self, labels: &[&str]) -> bool {
        let key = key(labels);
        if self.admitted.contains(&key) {
            return true;
        }
        if self.admitted.len() < LABEL_SETS {
            return self.admitted.insert(key);
        }
        if self.beyond.len() < COUNTED {
            self.beyond.insert(key);
        }
        false
    }
}

fn key(labels: &[&str]) -> u64 {
    let mut hash = Xxh3::new();
    for label in labels {
        hash.update(label.as_bytes());
        hash.update(&[0]);
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_stays_and_the_rest_is_counted_once() {
        let mut budget = Budget::default();
        for _ in 0..2 {
            let admitted = (0..LABEL_SETS + 7).filter(|n| budget.admits(&["client", &n.to_string()])).count();
            assert_eq!((admitted, budget.beyond.len()), (LABEL_SETS, 7));
        }
        assert!(budget.admits(&["client", "0"]));
        assert!(!budget.admits(&["client0", ""]), "labels are told apart by where they end");
    }
}
