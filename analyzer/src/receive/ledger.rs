//! Which reports were applied: the reason that a report delivered twice counts once.
//!
//! A proxy has one report in flight and repeats it unchanged until it is acknowledged, so the last sequence of every
//! instance is all that has to be remembered. Time is an argument: milliseconds since the Unix epoch.

use std::collections::HashMap;

/// An instance is kept this long after its last report, whatever the pressure: a proxy that was cut off for a night
/// must not have its last report counted again.
const KEPT_IDLE_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// At the limit, idle instances are looked for this often at most: looking costs a walk over all of them.
const SWEEP_MILLIS: u64 = 10_000;

/// What is to be done with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Apply it. `missing` reports of the same instance, between the last one and this one, never came.
    Fresh {
        /// How many.
        missing: u64,
    },
    /// It was applied before: acknowledge it and do nothing.
    Duplicate,
    /// It comes from an instance beyond the limit: refuse it.
    Full,
}

/// The last sequence of every instance, with a way back while a batch of reports is not safe yet.
#[derive(Debug)]
pub struct Ledger {
    limit: usize,
    instances: HashMap<String, Entry>,
    /// What the entries were before the open batch touched them, oldest first.
    before: Vec<(String, Option<Entry>)>,
    next_sweep: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    sequence: u64,
    seen: u64,
}

impl Ledger {
    /// An empty ledger for at most `limit` instances.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, instances: HashMap::new(), before: Vec::new(), next_sweep: 0 }
    }

    /// Takes over what was remembered before a restart.
    pub fn remember(&mut self, instance: String, sequence: u64, seen: u64) {
        self.instances.insert(instance, Entry { sequence, seen });
    }

    /// Decides about a report and enters it into the open batch.
    pub fn enter(&mut self, instance: &str, sequence: u64, now: u64) -> Verdict {
        let known = self.instances.get(instance).copied();
        let missing = match known {
            Some(entry) if sequence <= entry.sequence => return Verdict::Duplicate,
            Some(entry) => sequence - entry.sequence - 1,
            // What an instance said before this ledger began is not known to be missing.
            None if !self.has_room(now) => return Verdict::Full,
            None => 0,
        };
        self.before.push((instance.to_owned(), known));
        self.instances.insert(instance.to_owned(), Entry { sequence, seen: now });
        Verdict::Fresh { missing }
    }

    /// The open batch is safe: there is no way back any more.
    pub fn settle(&mut self) {
        self.before.clear();
    }

    /// The open batch is lost: its reports will come again, and must then be fresh.
    pub fn undo(&mut self) {
        while let Some((instance, entry)) = self.before.pop() {
            match entry {
                Some(entry) => self.instances.insert(instance, entry),
                None => self.instances.remove(&instance),
            };
        }
    }

    /// How many instances are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether no instance ever reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    fn has_room(&mut self, now: u64) -> bool {
        if self.instances.len() >= self.limit && now >= self.next_sweep {
            self.next_sweep = now.saturating_add(SWEEP_MILLIS);
            self.instances.retain(|_, entry| now.saturating_sub(entry.seen) < KEPT_IDLE_MILLIS);
        }
        self.instances.len() < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Verdict = Verdict::Fresh { missing: 0 };

    #[test]
    fn a_sequence_is_fresh_once() {
        let mut ledger = Ledger::new(10);
        assert_eq!(ledger.enter("a", 1, 0), FRESH);
        assert_eq!(ledger.enter("a", 1, 0), Verdict::Duplicate);
        assert_eq!(ledger.enter("a", 2, 0), FRESH);
        assert_eq!(ledger.enter("a", 1, 0), Verdict::Duplicate);
        assert_eq!(ledger.enter("b", 1, 0), FRESH);
    }

    #[test]
    fn a_gap_is_fresh_and_tells_how_much_is_missing() {
        let mut ledger = Ledger::new(10);
        assert_eq!(ledger.enter("a", 7, 0), FRESH, "what came before the ledger began is not missing");
        assert_eq!(ledger.enter("a", 11, 0), Verdict::Fresh { missing: 3 });
        assert_eq!(ledger.enter("a", u64::MAX, 0), Verdict::Fresh { missing: u64::MAX - 12 });
        assert_eq!(ledger.enter("a", u64::MAX, 0), Verdict::Duplicate);
    }

    #[test]
    fn an_undone_batch_leaves_no_trace_and_a_settled_one_stays() {
        let mut ledger = Ledger::new(10);
        ledger.enter("a", 1, 0);
        ledger.settle();
        ledger.enter("a", 2, 0);
        ledger.enter("a", 3, 0);
        ledger.enter("b", 1, 0);
        ledger.undo();
        assert_eq!(ledger.len(), 1);
        assert_eq!(ledger.enter("a", 1, 0), Verdict::Duplicate);
        assert_eq!(ledger.enter("a", 2, 0), FRESH);
    }

    #[test]
    fn at_the_limit_only_instances_idle_for_a_day_make_room() {
        let mut ledger = Ledger::new(2);
        ledger.enter("a", 1, 0);
        ledger.enter("b", 1, SWEEP_MILLIS);
        assert_eq!(ledger.enter("c", 1, KEPT_IDLE_MILLIS - 1), Verdict::Full);
        assert_eq!(ledger.enter("a", 2, KEPT_IDLE_MILLIS - 1), FRESH, "a known instance is never refused");
        assert_eq!(ledger.enter("c", 1, KEPT_IDLE_MILLIS + SWEEP_MILLIS), FRESH);
        assert_eq!(ledger.enter("b", 2, KEPT_IDLE_MILLIS + SWEEP_MILLIS), Verdict::Full, "b made room for c");
    }
}
