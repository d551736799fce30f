//! Rows that are found by what names them, with little room beside the rows themselves.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A row that says what it is called.
pub(super) trait Row {
    type Key: Hash + Eq;

    fn key(&self) -> Self::Key;
}

/// Rows in the order in which they came. Where a row is never changes; rows are never taken out.
#[derive(Debug)]
pub(super) struct Table<R> {
    rows: Vec<R>,
    places: HashTable<u32>,
    /// Keys come from outside, so the hash is seeded at random.
    hasher: RandomState,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), places: HashTable::new(), hasher: RandomState::default() }
    }
}

impl<R: Row> Table<R> {
    /// Where the row of this key is.
    pub(super) fn find(&self, key: &R::Key) -> Option<u32> {
        let is_it = |place: &u32| self.get(*place).is_some_and(|row| row.key() == *key);
        self.places.find(self.hasher.hash_one(key), is_it).copied()
    }

    /// Adds a row whose key no other one has; where it is.
    pub(super) fn push(&mut self, row: R) -> u32 {
        let Self { rows, places, hasher } = self;
        let place = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let hash = hasher.hash_one(row.key());
        rows.push(row);
        let again = |place: &u32| rows.get(*place as usize).map_or(0, |row| hasher.hash_one(row.key()));
        places.insert_unique(hash, place, again);
        place
    }

    pub(super) fn get(&self, place: u32) -> Option<&R> {
        self.rows.get(place as usize)
    }

    /// What names the row must stay as it is.
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut R> {
        self.rows.get_mut(place as usize)
    }

    pub(super) fn into_rows(self) -> Vec<R> {
        self.rows
    }

    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row for (u64, &str) {
        type Key = u64;

        fn key(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn a_row_is_found_where_it_was_put_however_many_come_after_it() {
        let mut table = Table::default();
        for key in 0..10_000_u64 {
            assert_eq!((table.find(&key), table.push((key, "row"))), (None, key as u32));
        }
        assert!((0..10_000_u64).all(|key| table.find(&key) == Some(key as u32)));
        table.get_mut(7).unwrap().1 = "changed";
        assert_eq!((table.get(7), table.find(&10_000), table.len()), (Some(&(7, "changed")), None, 10_000));
    }
}
