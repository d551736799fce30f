//! Rollups on disk. Reports become rollups, and short ones longer ones, in one transaction each: whenever the process
//! ends, every count is in exactly one row.

use std::hash::Hasher;

use rusqlite::{Connection, Row, Transaction, params};
use xxhash_rust::xxh3::Xxh3;

use super::{History, HistoryError};
use crate::slots::{Rollup, Tier};

/// The columns of a rollup, as [`whole`] reads them.
const COLUMNS: &str = "id, tier, start, end, service, checksum, body";

impl History {
    /// The row of the last report that was stored by itself; 0 where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn last_report(&self) -> Result<i64, HistoryError> {
        let last = self.connection.query_row("SELECT coalesce(max(id), 0) FROM report", [], |row| row.get(0));
        last.map_err(|source| self.error(source))
    }

    /// Stores rollups in place of the reports up to the row `through`, and what sequences these told, all at once. Notes the
    /// rows of the rollups in them.
    ///
    /// # Errors
    /// Where that is impossible; then nothing is changed.
    pub fn seal(&mut self, rollups: &mut [Rollup], through: i64) -> Result<(), HistoryError> {
        let unsettled = std::mem::take(&mut self.unsettled);
        let sealed = self.exchange(rollups, |transaction| {
            // All of them, those of later reports as well: they are on disk, too.
            unsettled.write(transaction)?;
            transaction.execute("DELETE FROM report WHERE id <= ?1", [through]).map(|_| ())
        });
        if sealed.is_err() {
            self.unsettled = unsettled;
        }
        sealed
    }

    /// Stores rollups in place of those in `rows`, all at once. Notes their rows in them.
    ///
    /// # Errors
    /// Where that is impossible; then nothing is changed.
    pub fn fold(&mut self, rollups: &mut [Rollup], rows: &[i64]) -> Result<(), HistoryError> {
        self.exchange(rollups, |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM rollup WHERE id = ?1")?;
            rows.iter().try_for_each(|row| delete.execute([row]).map(|_| ()))
        })
    }

    /// Hands every rollup to `each`, oldest first; how many rows were not as they were written, and left out.
    ///
    /// # Errors
    /// Where the file cannot be read to its end. What was handed on until then is true.
    pub fn rollups(&self, each: impl FnMut(Rollup)) -> Result<u64, HistoryError> {
        read(&self.connection, each).map_err(|source| self.error(source))
    }

    fn exchange(
        &mut self,
        rollups: &mut [Rollup],
        delete: impl FnOnce(&Transaction<'_>) -> Result<(), rusqlite::Error>,
    ) -> Result<(), HistoryError> {
        let exchange = || {
            let transaction = self.connection.transaction()?;
            delete(&transaction)?;
            let rows = rollups.iter().map(|rollup| insert(&transaction, rollup)).collect::<Result<Vec<_>, _>>()?;
            transaction.commit()?;
            Ok(rows)
        };
        let rows = exchange().map_err(|source| self.error(source))?;
        rollups.iter_mut().zip(rows).for_each(|(rollup, row)| rollup.row = Some(row));
        Ok(())
    }
}

/// Writes a rollup to its row, or to a fresh one where it has none; which.
pub(super) fn insert(connection: &Connection, rollup: &Rollup) -> Result<i64, rusqlite::Error> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO rollup (id, tier, start, end, service, checksum, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (start, end) = (rollup.start.cast_signed(), rollup.end.cast_signed());
    let sum = checksum(rollup);
    statement.execute(params![rollup.row, rollup.tier.as_str(), start, end, &*rollup.service, sum, &*rollup.body])?;
    Ok(connection.last_insert_rowid())
}

/// Hands every rollup that is as it was written to `each`; how many are not.
pub(super) fn read(connection: &Connection, mut each: impl FnMut(Rollup)) -> Result<u64, rusqlite::Error> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM rollup ORDER BY start, id"))?;
    let mut rows = statement.query([])?;
    let mut damaged = 0;
    while let Some(row) = rows.next()? {
        match whole(row) {
            Some(rollup) => each(rollup),
            None => damaged += 1,
        }
    }
    Ok(damaged)
}

/// Reads rollups by row, from the one behind `after` upwards or from the one before it downwards, as far as it goes.
pub(super) fn salvage(connection: &Connection, after: i64, downwards: bool, mut each: impl FnMut(Rollup) -> bool) {
    let (sign, order) = if downwards { ("<", "DESC") } else { (">", "ASC") };
    let text = format!("SELECT {COLUMNS} FROM rollup WHERE id {sign} ?1 ORDER BY id {order}");
    let Ok(mut statement) = connection.prepare(&text) else { return };
    let Ok(mut rows) = statement.query([after]) else { return };
    while let Ok(Some(row)) = rows.next() {
        if whole(row).is_some_and(|rollup| !each(rollup)) {
            return;
        }
    }
}

/// A rollup that is as it was written.
fn whole(row: &Row<'_>) -> Option<Rollup> {
    let rollup = Rollup {
        row: Some(row.get(0).ok()?),
        tier: Tier::parse(row.get_ref(1).ok()?.as_str().ok()?)?,
        start: row.get::<_, i64>(2).ok()?.cast_unsigned(),
        end: row.get::<_, i64>(3).ok()?.cast_unsigned(),
        service: row.get_ref(4).ok()?.as_str().ok()?.into(),
        body: row.get::<_, Vec<u8>>(6).ok()?.into(),
    };
    (row.get(5) == Ok(checksum(&rollup))).then_some(rollup)
}

fn checksum(rollup: &Rollup) -> i64 {
    let mut hash = Xxh3::new();
    hash.write(rollup.tier.as_str().as_bytes());
    hash.write(&rollup.start.to_le_bytes());
    hash.write(&rollup.end.to_le_bytes());
    hash.write(rollup.service.as_bytes());
    hash.write(&[0]);
    hash.write(&rollup.body);
    hash.digest().cast_signed()
}
