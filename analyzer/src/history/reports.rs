//! Reports that are part of no rollup yet, each in a row of its own.

use rusqlite::{Connection, Row, params};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Stored;

/// The columns of a report, as [`whole`] reads them.
const COLUMNS: &str = "id, instance, sequence, received, start, end, checksum, body";

/// A row that is as it was written.
pub(super) struct Kept<'a> {
    pub(super) id: i64,
    pub(super) stored: Stored<'a>,
    /// Whether it is certain whose report it is: in rows of earlier forms, it is not.
    pub(super) names_its_sender: bool,
    checksum: i64,
}

impl Kept<'_> {
    /// Writes it to the same row of another file.
    pub(super) fn copy(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        insert(connection, Some(self.id), &self.stored, self.checksum)
    }
}

/// Writes a report to a fresh row.
pub(super) fn put(connection: &Connection, stored: &Stored<'_>) -> Result<(), rusqlite::Error> {
    insert(connection, None, stored, checksum(stored))
}

fn insert(
    connection: &Connection,
    row: Option<i64>,
    stored: &Stored<'_>,
    checksum: i64,
) -> Result<(), rusqlite::Error> {
    let Stored { instance, sequence, received, start, end, body } = *stored;
    // A sequence keeps all its bits; times beyond the year 2262 are no times.
    let [received, start, end] = [received, start, end].map(|time| i64::try_from(time).unwrap_or(i64::MAX));
    connection
        .prepare_cached(
            "INSERT INTO report (id, instance, sequence, received, start, end, checksum, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![row, instance, sequence.cast_signed(), received, start, end, checksum, body])
        .map(|_| ())
}

/// Hands every report to `each`, oldest first; none for a row that is not as it was written.
pub(super) fn each(connection: &Connection, mut each: impl FnMut(Option<Kept<'_>>)) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM report ORDER BY id"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(whole(row));
    }
    Ok(())
}

/// Reads reports by row, from the one behind `after` upwards or from the last one downwards to it, as far as it goes.
pub(super) fn salvage(connection: &Connection, after: i64, downwards: bool, mut each: impl FnMut(Kept<'_>)) {
    let order = if downwards { "DESC" } else { "ASC" };
    let text = format!("SELECT {COLUMNS} FROM report WHERE id > ?1 ORDER BY id {order}");
    let Ok(mut statement) = connection.prepare(&text) else { return };
    let Ok(mut rows) = statement.query([after]) else { return };
    // What was read before an error is good; the error itself was told already.
    while let Ok(Some(row)) = rows.next() {
        if let Some(kept) = whole(row) {
            each(kept);
        }
    }
}

/// A row that is as it was written; none where its types, its sender or its body are not.
fn whole<'a>(row: &'a Row<'_>) -> Option<Kept<'a>> {
    let number = |column| row.get::<_, i64>(column).ok().map(i64::cast_unsigned);
    let stored = Stored {
        instance: row.get_ref(1).ok()?.as_str().ok()?,
        sequence: number(2)?,
        received: number(3)?,
        start: number(4)?,
        end: number(5)?,
        body: row.get_ref(7).ok()?.as_blob().ok()?,
    };
    let (id, found) = (row.get(0).ok()?, row.get(6).ok()?);
    let names_its_sender = found == checksum(&stored);
    // Earlier forms have the checksum of the body alone.
    let whole = names_its_sender || found == xxh3_64(stored.body).cast_signed();
    whole.then_some(Kept { id, stored, names_its_sender, checksum: found })
}

/// SQLite does not notice a flipped bit; this does.
fn checksum(stored: &Stored<'_>) -> i64 {
    let sender = xxh3_64_with_seed(stored.instance.as_bytes(), stored.sequence);
    xxh3_64_with_seed(stored.body, sender).cast_signed()
}
