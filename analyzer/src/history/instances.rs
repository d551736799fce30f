//! The last sequence of every instance, on disk.
//!
//! A report tells the sequence of its instance itself as long as it is there. When it goes, for it is part of a rollup or
//! too old, its sequence is written into a table in the same transaction: once for all reports of an instance, and not
//! with every one of them.
//!
//! A sequence that a damaged disk made larger would make every later report of its proxy look like a repetition, for
//! good. So a row says by a checksum that it is as it was written; one that is not is forgotten, which costs at most
//! that the report that is just being repeated counts twice.

use std::collections::HashMap;
use std::hash::Hasher;

use rusqlite::{Connection, params};
use xxhash_rust::xxh3::Xxh3;

use super::{History, HistoryError, reports};

/// An instance, its last sequence, and when that was received in milliseconds since the Unix epoch.
pub(super) type Known = (String, u64, u64);

impl History {
    /// The last sequence of every instance and when it was received, the latest first: what a ledger remembers.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn instances(&self) -> Result<Vec<(String, u64, u64)>, HistoryError> {
        let limit = self.retention.instances;
        let mut known = Unsettled::default();
        for (instance, sequence, seen) in read(&self.connection, limit).map_err(|source| self.error(source))? {
            known.note(&instance, sequence, seen);
        }
        self.unsettled.0.iter().for_each(|(instance, (sequence, seen))| known.note(instance, *sequence, *seen));
        let mut known: Vec<Known> =
            known.0.into_iter().map(|(instance, (sequence, seen))| (instance, sequence, seen)).collect();
        known.sort_unstable_by(|a, b| (b.2, &a.0).cmp(&(a.2, &b.0)));
        known.truncate(limit);
        Ok(known)
    }
}

/// The last sequence of every instance that has reports of its own here, and when it was received.
#[derive(Debug, Default)]
pub(super) struct Unsettled(HashMap<String, (u64, u64)>);

impl Unsettled {
    /// What the reports of a file say.
    pub(super) fn of(connection: &Connection) -> Self {
        let mut unsettled = Self::default();
        // What cannot be read is told where the reports themselves are.
        let _ = reports::each(connection, |report| {
            if let Some(kept) = report.filter(|kept| kept.names_its_sender) {
                unsettled.note(kept.stored.instance, kept.stored.sequence, kept.stored.received);
            }
        });
        unsettled
    }

    /// Notes a sequence; those of one instance only grow.
    pub(super) fn note(&mut self, instance: &str, sequence: u64, received: u64) {
        match self.0.get_mut(instance) {
            Some((last, seen)) => (*last, *seen) = ((*last).max(sequence), (*seen).max(received)),
            None => {
                self.0.insert(instance.to_owned(), (sequence, received));
            }
        }
    }

    /// Writes them into the table before the reports that tell them go.
    pub(super) fn settle(&mut self, connection: &Connection) -> Result<(), rusqlite::Error> {
        if !self.0.is_empty() {
            let transaction = connection.unchecked_transaction()?;
            self.write(&transaction)?;
            transaction.commit()?;
            self.0.clear();
        }
        Ok(())
    }

    /// Writes them into the table; they are to be forgotten when the transaction is over, and not before.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        // In the order of the table, so that every page of it is written once.
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_unstable();
        all.into_iter().try_for_each(|(instance, (sequence, seen))| put(connection, instance, *sequence, *seen))
    }
}

pub(super) fn read(connection: &Connection, limit: usize) -> Result<Vec<Known>, rusqlite::Error> {
    let mut statement = connection
        .prepare("SELECT instance, sequence, seen, checksum FROM instance ORDER BY seen DESC, instance LIMIT ?1")?;
    let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let sum = row.get::<_, Option<i64>>(3);
        // A row of other types than were written is damaged, and no more than that.
        if let (Ok(instance), Ok(sequence), Ok(seen), Ok(sum)) = (row.get::<_, String>(0), number(1), number(2), sum)
            && sum.is_none_or(|sum| sum == checksum(&instance, sequence))
        {
            known.push((instance, sequence, seen));
        }
    }
    Ok(known)
}

/// Writes them into a fresh file; how many.
pub(super) fn write(connection: &mut Connection, known: &[Known]) -> Result<usize, rusqlite::Error> {
    let transaction = connection.transaction()?;
    for (instance, sequence, seen) in known {
        put(&transaction, instance, *sequence, *seen)?;
    }
    transaction.commit()?;
    Ok(known.len())
}

fn put(connection: &Connection, instance: &str, sequence: u64, seen: u64) -> Result<(), rusqlite::Error> {
    let seen = i64::try_from(seen).unwrap_or(i64::MAX);
    // A sequence keeps all its bits.
    let (sum, sequence) = (checksum(instance, sequence), sequence.cast_signed());
    connection
        .prepare_cached(
            "INSERT INTO instance (instance, sequence, seen, checksum) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (instance) \
             DO UPDATE SET sequence = excluded.sequence, seen = excluded.seen, checksum = excluded.checksum",
        )?
        .execute(params![instance, sequence, seen, sum])
        .map(|_| ())
}

fn checksum(instance: &str, sequence: u64) -> i64 {
    let mut hash = Xxh3::new();
    hash.write(&sequence.to_le_bytes());
    hash.write(instance.as_bytes());
    hash.digest().cast_signed()
}
