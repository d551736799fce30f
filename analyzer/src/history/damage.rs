//! What happens to a damaged file: it is kept under another name, and what can still be read of it begins the next one.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{FILE, HistoryError, instances, log, records, reports, rollups, schema};
use crate::slots::Rollup;

/// Bytes that are copied in one transaction.
const COPIED_AT_ONCE: usize = 16 << 20;

/// What could be read of a damaged file.
#[derive(Debug, Default)]
struct Saved {
    instances: usize,
    rollups: u64,
    reports: u64,
}

/// Sets the database in `directory` aside and opens a fresh one at `path`, with what is before and behind the damage.
pub(super) fn begin_anew(
    directory: &Path,
    path: &Path,
    damage: &HistoryError,
    now: u64,
) -> Result<Connection, HistoryError> {
    let kept = set_aside(directory, now)?;
    let mut fresh = schema::open(path)?;
    let Saved { instances, rollups, reports } = save(&kept, &mut fresh);
    let kept = kept.display();
    tracing::error!(
        %damage, %kept, instances, rollups, reports,
        "the history is damaged: a fresh one begins with what could be read of it"
    );
    Ok(fresh)
}

/// Looks at the log that a process left behind. Where some of it is lost, it is kept under another name; what is told.
pub(super) fn of_log(directory: &Path, path: &Path, now: u64) -> Result<Option<String>, HistoryError> {
    let Some(log::Damage { lost, committed, useless }) = log::damage(path) else { return Ok(None) };
    let (from, kept) = (log::log_of(path), directory.join(format!("{}-wal", free_name(directory, now))));
    if useless {
        let failed = |source| HistoryError::Directory { path: from.clone(), source };
        std::fs::rename(&from, &kept).map_err(failed)?;
    } else if let Err(error) = std::fs::copy(&from, &kept) {
        // It is for a person to look at: a full disk, or that there is no log any more, must not stop the analyzer.
        tracing::warn!(%error, "the damaged log of the history could not be kept");
        let _ = std::fs::remove_file(&kept);
    }
    let damage = format!("{}: {lost} of {committed} frames cannot be read", from.display());
    let kept = kept.display();
    tracing::error!(%damage, %kept, "the log of the history is damaged: it counts up to the damage");
    Ok(Some(damage))
}

/// Renames the database and its log, so that a person can look at them.
fn set_aside(directory: &Path, now: u64) -> Result<PathBuf, HistoryError> {
    let aside = free_name(directory, now);
    for suffix in ["", "-wal", "-shm"] {
        let from = directory.join(format!("{FILE}{suffix}"));
        match std::fs::rename(&from, directory.join(format!("{aside}{suffix}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(|source| HistoryError::Directory { path: from, source })?,
        }
    }
    Ok(directory.join(aside))
}

/// A name for what is damaged that nothing has yet: two within a second must not overwrite one another.
fn free_name(directory: &Path, now: u64) -> String {
    let mut name = format!("{FILE}.damaged-{}", now / 1_000);
    while ["", "-wal"].iter().any(|suffix| directory.join(format!("{name}{suffix}")).exists()) {
        name.push('-');
    }
    name
}

/// Copies what can be read and written. Every row keeps its number: others know it by that.
fn save(kept: &Path, fresh: &mut Connection) -> Saved {
    let mut saved = Saved::default();
    // Read only, so that what a person finds later is what was found now.
    let Ok(old) = Connection::open_with_flags(kept, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return saved };
    // Else nothing at all can be read of a file that was cut.
    let _ = old.pragma_update(None, "writable_schema", true);
    // A file of the first form has none of the tables that came later: then there is nothing to copy from them.
    let _ = records::read(&old).and_then(|records| records::copy(&records, fresh));
    saved.rollups = save_rollups(&old, fresh);
    saved.reports = save_reports(&old, fresh);
    // Last: the sequences of what was lost are above those of what was saved.
    let known = instances::read(&old, usize::MAX).unwrap_or_default();
    saved.instances = instances::write(fresh, &known).unwrap_or(0);
    saved
}

/// From the first upwards until the damage, then from the last downwards until it.
fn save_rollups(old: &Connection, fresh: &mut Connection) -> u64 {
    let (mut saved, mut last) = (0, 0);
    let mut batch: Vec<Rollup> = Vec::new();
    let mut bytes = 0;
    let mut flush = |batch: &mut Vec<Rollup>| {
        let mut write = || {
            let transaction = fresh.transaction()?;
            batch.iter().try_for_each(|rollup| rollups::insert(&transaction, rollup).map(|_| ()))?;
            transaction.commit()
        };
        if write().is_ok() {
            saved += batch.len() as u64;
        }
        batch.clear();
    };
    for downwards in [false, true] {
        let after = if downwards { i64::MAX } else { 0 };
        rollups::salvage(old, after, downwards, |rollup| {
            let row = rollup.row.unwrap_or(0);
            if downwards && row <= last {
                return false;
            }
            last = if downwards { last } else { row };
            bytes += rollup.body.len();
            batch.push(rollup);
            if bytes >= COPIED_AT_ONCE {
                bytes = 0;
                flush(&mut batch);
            }
            true
        });
    }
    flush(&mut batch);
    saved
}

/// Reports that are part of no rollup: those of the last seconds, so there are few. From the first upwards until the
/// damage, then from the last downwards until it.
fn save_reports(old: &Connection, fresh: &mut Connection) -> u64 {
    let mut write = || {
        let transaction = fresh.transaction()?;
        let (mut copied, mut last, mut failed) = (0, 0, None);
        for downwards in [false, true] {
            let after = last;
            reports::salvage(old, after, downwards, |kept| {
                last = last.max(kept.id);
                match kept.copy(&transaction) {
                    Ok(()) => copied += 1,
                    Err(error) => failed = Some(error),
                }
            });
        }
        failed.map_or(Ok(()), Err)?;
        transaction.commit()?;
        Ok::<_, rusqlite::Error>(copied)
    };
    write().unwrap_or(0)
}
