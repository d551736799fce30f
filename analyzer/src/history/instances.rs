//! The last sequence of every instance, on disk.
//!
//! A sequence that a damaged disk made larger would make every later report of its proxy look like a repetition, for
//! good. So a row says by a checksum that it is as it was written; one that is not is forgotten, which costs at most
//! that the report that is just being repeated counts twice.

use std::hash::Hasher;

use rusqlite::{Connection, params};
use xxhash_rust::xxh3::Xxh3;

use super::{History, HistoryError};

/// An instance, its last sequence, and when that was received in milliseconds since the Unix epoch.
pub(super) type Known = (String, u64, u64);

impl History {
    /// The last sequence of every instance and when it was received, the latest first: what a ledger remembers.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn instances(&self) -> Result<Vec<(String, u64, u64)>, HistoryError> {
        read(&self.connection, self.retention.instances).map_err(|source| self.error(source))
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

pub(super) fn put(connection: &Connection, instance: &str, sequence: u64, seen: u64) -> Result<(), rusqlite::Error> {
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
