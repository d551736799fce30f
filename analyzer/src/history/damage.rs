//! What happens to a damaged file: it is kept under another name, and what can still be read of it begins the next one.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{FILE, HistoryError, Stored, schema, store};

/// Bytes of reports that are copied in one transaction.
const COPIED_AT_ONCE: usize = 16 << 20;

/// Sets the database in `directory` aside and opens a fresh one at `path`, with the reports before the damage.
pub(super) fn begin_anew(
    directory: &Path,
    path: &Path,
    damage: &HistoryError,
    now: u64,
) -> Result<Connection, HistoryError> {
    let kept = set_aside(directory, now)?;
    let mut fresh = schema::open(path)?;
    let saved = save(&kept, &mut fresh);
    let kept = kept.display();
    tracing::error!(%damage, %kept, saved, "the history is damaged: a fresh one begins with the reports before the damage");
    Ok(fresh)
}

/// Renames the database and its log, so that a person can look at them.
fn set_aside(directory: &Path, now: u64) -> Result<PathBuf, HistoryError> {
    let mut aside = format!("{FILE}.damaged-{}", now / 1_000);
    // Two within a second must not overwrite one another.
    while directory.join(&aside).exists() {
        aside.push('-');
    }
    for suffix in ["", "-wal", "-shm"] {
        let from = directory.join(format!("{FILE}{suffix}"));
        match std::fs::rename(&from, directory.join(format!("{aside}{suffix}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(|source| HistoryError::Directory { path: from, source })?,
        }
    }
    Ok(directory.join(aside))
}

/// Copies reports, oldest first, until one cannot be read or written; how many.
fn save(kept: &Path, fresh: &mut Connection) -> u64 {
    let mut saved = 0;
    // Read only, so that what a person finds later is what was found now.
    let Ok(old) = Connection::open_with_flags(kept, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return 0 };
    let mut after = 0;
    loop {
        // What was read before an error is good; the error itself was told already.
        let mut rows = Vec::new();
        let _ = read(&old, after, &mut rows);
        let Some(last) = rows.last() else { return saved };
        after = last.id;
        if store(fresh, rows.iter().map(Row::stored)).is_err() {
            return saved;
        }
        saved += rows.len() as u64;
    }
}

struct Row {
    id: i64,
    instance: String,
    sequence: u64,
    received: u64,
    start: u64,
    end: u64,
    body: Vec<u8>,
}

impl Row {
    fn stored(&self) -> Stored<'_> {
        let Row { id: _, instance, sequence, received, start, end, body } = self;
        Stored { instance, sequence: *sequence, received: *received, start: *start, end: *end, body }
    }
}

/// Reads the reports behind the one with id `after`, as many as are copied at once.
fn read(old: &Connection, after: i64, rows: &mut Vec<Row>) -> Result<(), rusqlite::Error> {
    let mut statement = old.prepare_cached(
        "SELECT id, instance, sequence, received, start, end, body, checksum FROM report WHERE id > ?1 ORDER BY id",
    )?;
    let mut found = statement.query([after])?;
    let mut bytes = 0;
    while bytes < COPIED_AT_ONCE
        && let Some(row) = found.next()?
    {
        if let Some(row) = whole(row) {
            bytes += row.body.len();
            rows.push(row);
        }
    }
    Ok(())
}

/// A row that is as it was written; none where its types or its body are not.
fn whole(row: &rusqlite::Row<'_>) -> Option<Row> {
    let number = |column| row.get::<_, i64>(column).ok().map(i64::cast_unsigned);
    let body: Vec<u8> = row.get(6).ok()?;
    let sum: i64 = row.get(7).ok()?;
    (super::checksum(&body) == sum).then_some(())?;
    Some(Row {
        id: row.get(0).ok()?,
        instance: row.get(1).ok()?,
        sequence: number(2)?,
        received: number(3)?,
        start: number(4)?,
        end: number(5)?,
        body,
    })
}
