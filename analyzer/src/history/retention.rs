//! What is deleted because it is too old, or because there is too much of it.

use rusqlite::{Connection, params};

use super::instances::Unsettled;
use super::{History, HistoryError, Retention};

/// Oldest rows that are deleted in one transaction.
const STEP: u32 = 100;
/// Instances that did not report for so long, beyond the limit of proxies, are deleted.
const INSTANCE_IDLE_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// Events kept, the latest.
const EVENTS: u32 = 10_000;

/// What retention deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rollups, and reports that were not part of one yet.
    pub rows: u64,
}

impl History {
    /// Deletes the oldest rollups until size and age are within bounds again. `now` in milliseconds.
    ///
    /// # Errors
    /// Where the file cannot be written. What was deleted until then stays deleted.
    pub fn prune(&mut self, now: u64) -> Result<Pruned, HistoryError> {
        let mut pruned = Pruned::default();
        let Self { connection, retention, unsettled, .. } = self;
        let deleted = prune(connection, retention, now, unsettled, &mut pruned);
        deleted.map_err(|source| self.error(source))?;
        Ok(pruned)
    }

    /// Bytes of the pages in use.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn bytes(&self) -> Result<u64, HistoryError> {
        bytes(&self.connection).map_err(|source| self.error(source))
    }
}

fn prune(
    connection: &Connection,
    retention: &Retention,
    now: u64,
    unsettled: &mut Unsettled,
    pruned: &mut Pruned,
) -> Result<(), rusqlite::Error> {
    let millis = |span: u64| i64::try_from(now.saturating_sub(span)).unwrap_or(i64::MAX);
    let oldest_kept = millis(u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX));
    let old = "DELETE FROM rollup WHERE id IN (SELECT id FROM rollup ORDER BY start, id LIMIT ?1) AND end < ?2";
    while step(connection.execute(old, params![STEP, oldest_kept])?, pruned) {}
    let oldest = "DELETE FROM rollup WHERE id IN (SELECT id FROM rollup ORDER BY start, id LIMIT ?1)";
    while bytes(connection)? > retention.bytes.get() && step(connection.execute(oldest, [STEP])?, pruned) {}
    // Reports that no rollup was made of, for the analyzer was not running, or it could not be written.
    let goes = "SELECT EXISTS (SELECT 1 FROM report WHERE id = (SELECT min(id) FROM report) AND (received < ?1 OR ?2))";
    loop {
        let full = bytes(connection)? > retention.bytes.get();
        if !connection.query_row(goes, params![oldest_kept, full], |row| row.get::<_, bool>(0))? {
            break;
        }
        unsettled.settle(connection)?;
        let old =
            "DELETE FROM report WHERE id IN (SELECT id FROM report ORDER BY id LIMIT ?1) AND (received < ?2 OR ?3)";
        step(connection.execute(old, params![STEP, oldest_kept, full])?, pruned);
    }
    let instances = i64::try_from(retention.instances).unwrap_or(i64::MAX);
    connection.execute(
        "DELETE FROM instance WHERE seen < ?1 AND (SELECT count(*) FROM instance) > ?2",
        params![millis(INSTANCE_IDLE_MILLIS), instances],
    )?;
    connection.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?1", [EVENTS])?;
    Ok(())
}

/// Notes what a step deleted; whether there may be more.
fn step(deleted: usize, pruned: &mut Pruned) -> bool {
    pruned.rows += deleted as u64;
    deleted > 0
}

/// Freed pages are used again before the file grows, so pages in use are what counts.
fn bytes(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let used = pragma("page_count")? - pragma("freelist_count")?;
    Ok(used.saturating_mul(pragma("page_size")?).cast_unsigned())
}
