//! The numbers that endpoints and callees go by. Looking one up waits for nobody.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// Numbers by hashes of names.
#[derive(Default)]
pub(super) struct Names {
    numbers: ArcSwap<HashMap<u64, u32>>,
    adding: Mutex<()>,
}

/// Names that are told apart.
const MOST: usize = 1_024;

impl Names {
    /// The number of a name, which it gets if it has none; none if no more are given out, or somebody else is being given
    /// one right now.
    pub(super) fn number(&self, name: u64) -> Option<u32> {
        if let Some(number) = self.numbers.load().get(&name) {
            return Some(*number);
        }
        let _adding = self.adding.try_lock()?;
        let known = self.numbers.load_full();
        if let Some(number) = known.get(&name) {
            return Some(*number);
        }
        let next = u32::try_from(known.len()).ok().filter(|_| known.len() < MOST)?;
        // At most so many times, so that a copy of all of them does not matter.
        let mut more = HashMap::clone(&known);
        more.insert(name, next);
        self.numbers.store(Arc::new(more));
        Some(next)
    }

    /// Whether a new name gets no number any more.
    pub(super) fn is_full(&self) -> bool {
        self.numbers.load().len() >= MOST
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        self.numbers.store(Arc::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_there_are_only_so_many() {
        let names = Names::default();
        assert_eq!([7, 9, 7].map(|name| names.number(name)), [Some(0), Some(1), Some(0)]);
        let numbered = (100..5_000).filter(|name| names.number(*name).is_some()).count();
        assert_eq!((numbered, names.is_full()), (MOST - 2, true));
        assert_eq!(names.number(9), Some(1), "who has one keeps it");
        names.clear();
        assert_eq!(names.number(4_999), Some(0));
    }

    #[test]
    fn nobody_waits_while_a_number_is_given_out() {
        let names = Names::default();
        names.number(7);
        let _adding = names.adding.lock();
        assert_eq!([7, 8].map(|name| names.number(name)), [Some(0), None]);
    }
}
