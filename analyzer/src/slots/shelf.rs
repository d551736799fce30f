//! The slots that are kept in memory, within a budget of bytes: what sliding windows are made of.

use std::sync::Arc;

use super::{Rollup, SlidingWindow, Tier};

/// What a rollup takes beside its bytes, about.
const OVERHEAD: usize = 160;

/// One slot: its rollups, and while a shorter window needs them, the slots that were folded into it.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Tells slots of one shelf apart; later ones have larger numbers.
    pub number: u64,
    /// Its length.
    pub tier: Tier,
    /// Its start, milliseconds since the Unix epoch.
    pub start: u64,
    /// Its end.
    pub end: u64,
    /// What was reported, by service.
    pub rollups: Vec<Arc<Rollup>>,
    parts: Vec<Slot>,
}

/// Slots that are complete and can be folded into one.
#[derive(Debug)]
pub struct Due {
    /// Length of the slot to be.
    pub tier: Tier,
    /// The numbers of the slots.
    pub numbers: Vec<u64>,
    /// All that they hold.
    pub rollups: Vec<Arc<Rollup>>,
}

/// The slots in memory.
#[derive(Debug)]
pub struct Shelf {
    /// Every report that is here is in exactly one of these, oldest first; their parts repeat it in finer steps.
    slots: Vec<Slot>,
    next: u64,
    bytes: usize,
    limit: usize,
    dropped: u64,
}

impl Shelf {
    /// An empty shelf for so many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), next: 1, bytes: 0, limit, dropped: 0 }
    }

    /// Puts a slot on the shelf: rollups of one tier and time.
    pub fn put(&mut self, rollups: Vec<Rollup>) {
        let Some(slot) = self.slot(rollups, Vec::new()) else { return };
        self.insert(slot);
    }

    /// The oldest slots that can be folded at `now`: all of one minute or one hour that is over.
    #[must_use]
    pub fn due(&self, now: u64) -> Option<Due> {
        Tier::ALL.into_iter().find_map(|from| {
            let tier = from.longer()?;
            let first = self.slots.iter().find(|slot| slot.tier == from && ends(tier, slot) <= now)?;
            let group = self.slots.iter().filter(|slot| slot.tier == from && ends(tier, slot) == ends(tier, first));
            let (mut numbers, mut rollups) = (Vec::new(), Vec::new());
            for slot in group {
                numbers.push(slot.number);
                rollups.extend(slot.rollups.iter().cloned());
            }
            Some(Due { tier, numbers, rollups })
        })
    }

    /// Puts the slot on the shelf into which those with these numbers were folded.
    pub fn fold(&mut self, numbers: &[u64], rollups: Vec<Rollup>) {
        let (parts, rest) =
            std::mem::take(&mut self.slots).into_iter().partition(|slot| numbers.contains(&slot.number));
        self.slots = rest;
        if let Some(slot) = self.slot(rollups, parts) {
            self.insert(slot);
        }
    }

    /// Lets go of what no window needs at `now`, and of the oldest where the budget does not reach.
    pub fn tidy(&mut self, now: u64) {
        self.slots.retain(|slot| slot.end.saturating_add(Tier::Hour.kept()) >= now);
        self.slots.iter_mut().for_each(|slot| slot.tidy(now));
        self.bytes = self.slots.iter().map(Slot::bytes).sum();
        while self.bytes > self.limit && !self.slots.is_empty() {
            let oldest = self.slots.remove(0);
            self.bytes -= oldest.bytes();
            self.dropped += 1;
        }
    }

    /// The rollups of a sliding window that ends at `now`, oldest first.
    #[must_use]
    pub fn cover(&self, window: SlidingWindow, now: u64) -> Vec<Arc<Rollup>> {
        let mut covering = Vec::new();
        self.slots
            .iter()
            .for_each(|slot| slot.cover(window.tier(), now.saturating_sub(window.length()), &mut covering));
        covering
    }

    /// All rollups, or those of a sliding window that ends at `now`, in the finest steps that are still here.
    #[must_use]
    pub fn finest_of(&self, window: Option<SlidingWindow>, now: u64) -> Vec<Arc<Rollup>> {
        let from = window.map_or(0, |window| now.saturating_sub(window.length()));
        let mut covering = Vec::new();
        self.slots.iter().for_each(|slot| slot.cover(Tier::Seconds, from, &mut covering));
        covering
    }

    /// Every slot of ten seconds that is still here and has a larger number than `after`, by number.
    #[must_use]
    pub fn finest(&self, after: u64) -> Vec<Slot> {
        let mut found = Vec::new();
        self.slots.iter().for_each(|slot| slot.finest(&mut found));
        found.retain(|slot| slot.number > after);
        found.sort_unstable_by_key(|slot| slot.number);
        found
    }

    /// The slot of ten seconds with this number.
    #[must_use]
    pub fn slot_of(&self, number: u64) -> Option<Slot> {
        self.finest(number.checked_sub(1)?).into_iter().next().filter(|slot| slot.number == number)
    }

    /// The largest number so far: changes whenever the shelf does.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.next - 1
    }

    /// The end of the last slot; none where there is none.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.slots.iter().map(|slot| slot.end).max()
    }

    /// Bytes in use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Slots that the budget had no room for: the windows they belong to begin later than they should.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn slot(&mut self, rollups: Vec<Rollup>, parts: Vec<Slot>) -> Option<Slot> {
        let tier = rollups.first()?.tier;
        let start = rollups.iter().map(|rollup| rollup.start).min()?;
        let end = rollups.iter().map(|rollup| rollup.end).max()?;
        let rollups = rollups.into_iter().map(Arc::new).collect();
        let number = self.next;
        self.next += 1;
        Some(Slot { number, tier, start, end, rollups, parts })
    }

    fn insert(&mut self, slot: Slot) {
        self.bytes += slot.own_bytes();
        let at = self.slots.partition_point(|other| (other.start, other.number) < (slot.start, slot.number));
        self.slots.insert(at, slot);
    }
}

impl Slot {
    fn bytes(&self) -> usize {
        self.own_bytes() + self.parts.iter().map(Slot::bytes).sum::<usize>()
    }

    fn own_bytes(&self) -> usize {
        self.rollups.iter().map(|rollup| rollup.body.len() + rollup.service.len() + OVERHEAD).sum()
    }

    fn tidy(&mut self, now: u64) {
        self.parts.iter_mut().for_each(|part| part.tidy(now));
        // All parts or none: a slot of which some parts are here would be counted in part.
        let kept = self.parts.iter().map(|part| part.tier.kept()).max().unwrap_or(0);
        if self.end.saturating_add(kept) < now {
            self.parts.clear();
        }
    }

    /// Adds what of this slot ends behind `from`, in slots of `tier` or shorter where such are here.
    fn cover(&self, tier: Tier, from: u64, covering: &mut Vec<Arc<Rollup>>) {
        if self.end <= from {
            return;
        }
        if self.tier <= tier || self.parts.is_empty() {
            covering.extend(self.rollups.iter().cloned());
        } else {
            self.parts.iter().for_each(|part| part.cover(tier, from, covering));
        }
    }

    fn finest(&self, found: &mut Vec<Slot>) {
        if self.tier == Tier::Seconds {
            found.push(self.clone());
        }
        self.parts.iter().for_each(|part| part.finest(found));
    }
}

/// When the slot of `tier` ends in which `slot` begins.
fn ends(tier: Tier, slot: &Slot) -> u64 {
    tier.start_of(slot.start).saturating_add(tier.length())
}

#[cfg(test)]
mod tests;
