//! The history, on disk, in one SQLite file that any tool can open: what was reported, which findings were seen when,
//! what people said about them, what happened.
//!
//! A report is stored by itself first; after some seconds it becomes part of a rollup, and that of a longer one
//! ([`crate::slots`]). So a week fits into what a day of reports would take, and a restart reads it in a moment.
//!
//! What an acknowledgement promises: the report and its sequence were written in one transaction. The file is in WAL
//! mode with `synchronous = NORMAL`, so this survives the death of the process at any moment. A power cut or a crash
//! of the kernel may cost the transactions since the last checkpoint (about the last 4 MiB of reports), never the
//! consistency of the file.
//!
//! A file that turns out to be damaged is set aside under a new name, and a fresh one is begun with what can still be
//! read; nothing is deleted. Damage that SQLite itself passes over without a word is looked for when the file is opened: in
//! its pages (`schema`) and in the log that a process left behind (`log`).

mod damage;
mod log;
mod retention;
pub mod recording;
mod records;
mod rollups;
mod instances;
mod reports;
mod schema;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use std::time::Duration;

use couplet_config::ByteSize;
use rusqlite::{Connection, ErrorCode};
use thiserror::Error;

use self::instances::Unsettled;
pub use records::Records;
pub use retention::Pruned;

/// Name of the database in the data directory.
const FILE: &str = "history.db";
/// Name of the file whose lock keeps a second analyzer out.
const LOCK: &str = "history.lock";

/// How much history is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Pages in use.
    pub bytes: ByteSize,
    /// Since it was reported.
    pub age: Duration,
    /// Instances whose last sequence is remembered.
    pub instances: usize,
}

/// One report as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    /// The sender.
    pub instance: &'a str,
    /// Its sequence number.
    pub sequence: u64,
    /// When it arrived, milliseconds since the Unix epoch.
    pub received: u64,
    /// Start of its window, nanoseconds since the Unix epoch.
    pub start: u64,
    /// End of its window, nanoseconds since the Unix epoch.
    pub end: u64,
    /// The report as it was received: OTLP, gzipped or not.
    pub body: &'a [u8],
}

/// What a replay read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Reports handed on.
    pub reports: u64,
    /// Reports whose bytes are not those that were written, or could not be read; left out.
    pub damaged: u64,
}

/// Why the history cannot be used.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The directory or its lock cannot be made.
    #[error("data directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another analyzer has it.
    #[error("data directory {}: another analyzer is using it", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error("{}: written by a later release (format {found}; this one reads up to {known})", path.display())]
    Later {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The latest format that this release knows.
        known: i64,
    },
    /// It is a database of somebody else.
    #[error("{}: neither a recording nor a history of an analyzer", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Its pages contradict one another.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite found.
        what: String,
    },
    /// SQLite says no.
    #[error("{}: {source}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl HistoryError {
    /// Whether the file itself is damaged, so that only setting it aside helps.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let source = match self {
            HistoryError::Damaged { .. } => return true,
            HistoryError::Database { source, .. } => source,
            _ => return false,
        };
        // Unknown is SQLite's word for a statement that makes no sense. Ours do, unless the tables are not ours any more.
        let code = source.sqlite_error_code();
        matches!(code, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown))
    }
}

/// An open history. One writer: the thread that owns it.
#[derive(Debug)]
pub struct History {
    directory: PathBuf,
    path: PathBuf,
    retention: Retention,
    connection: Connection,
    /// Sequences that stand with their reports alone.
    unsettled: Unsettled,
    /// What was found to be damaged and is not told yet.
    damages: Vec<String>,
    /// Held for its lock.
    _lock: File,
}

impl History {
    /// Opens the history in `directory`, which is made where it is missing. A damaged file is set aside; `now` in
    /// milliseconds since the Unix epoch becomes part of its new name.
    ///
    /// # Errors
    /// Where the directory cannot be used, is used by another analyzer, or holds a later release's history.
    pub fn open(directory: &Path, retention: Retention, now: u64) -> Result<Self, HistoryError> {
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        let mut damages: Vec<String> = damage::of_log(directory, &path, now)?.into_iter().collect();
        let connection = match schema::open(&path) {
            Err(error) if error.is_damage() => {
                damages.push(error.to_string());
                damage::begin_anew(directory, &path, &error, now)?
            }
            opened => opened?,
        };
        let unsettled = Unsettled::of(&connection);
        Ok(Self { directory: directory.to_owned(), path, retention, connection, unsettled, damages, _lock: lock })
    }

    /// What was found to be damaged since this was asked last.
    pub fn damages(&mut self) -> Vec<String> {
        std::mem::take(&mut self.damages)
    }

    /// Sets the file aside because of `damage`, and begins a fresh one with the reports that can still be read.
    ///
    /// # Errors
    /// Where the file cannot be renamed or the fresh one not be made.
    pub fn begin_anew(&mut self, damage: &HistoryError, now: u64) -> Result<(), HistoryError> {
        // The old connection must be gone before its file gets another name.
        self.connection = Connection::open_in_memory().map_err(|source| self.error(source))?;
        self.connection = damage::begin_anew(&self.directory, &self.path, damage, now)?;
        self.damages.push(damage.to_string());
        // Of reports that are lost, too.
        self.unsettled
            .settle(&self.connection)
            .map_err(|source| HistoryError::Database { path: self.path.clone(), source })
    }

    /// Hands every report that is part of no rollup to `each`, oldest first, with when it was received in milliseconds
    /// since the Unix epoch; `each` says whether it could read the bytes.
    ///
    /// # Errors
    /// Where the file cannot be read to its end. What was handed on until then is true.
    pub fn replay(&self, mut each: impl FnMut(u64, &[u8]) -> bool) -> Result<Replayed, HistoryError> {
        let mut replayed = Replayed::default();
        let read = reports::each(&self.connection, |report| {
            let read = report.is_some_and(|kept| each(kept.stored.received, kept.stored.body));
            *(if read { &mut replayed.reports } else { &mut replayed.damaged }) += 1;
        });
        read.map_err(|source| self.error(source))?;
        Ok(replayed)
    }

    /// Stores `reports`, which tell their sequences, in one transaction: all or none.
    ///
    /// # Errors
    /// Where that is impossible, a full disk for instance; then nothing is stored.
    pub fn store<'a>(&mut self, reports: impl IntoIterator<Item = Stored<'a>>) -> Result<(), HistoryError> {
        let store = || {
            let transaction = self.connection.transaction()?;
            let mut senders = Vec::new();
            for stored in reports {
                reports::put(&transaction, &stored)?;
                senders.push((stored.instance, stored.sequence, stored.received));
            }
            transaction.commit()?;
            Ok::<_, rusqlite::Error>(senders)
        };
        let senders = store().map_err(|source| self.error(source))?;
        senders.into_iter().for_each(|(instance, sequence, seen)| self.unsettled.note(instance, sequence, seen));
        Ok(())
    }

    /// Writes the log back into the database file, so that the directory holds one file again.
    pub fn close(self) {
        let Err((_, error)) = self.connection.close() else { return };
        tracing::warn!(path = %self.path.display(), %error, "the history was not closed cleanly; nothing is lost");
    }

    fn error(&self, source: rusqlite::Error) -> HistoryError {
        HistoryError::Database { path: self.path.clone(), source }
    }
}

fn lock(directory: &Path) -> Result<File, HistoryError> {
    let failed = |source| HistoryError::Directory { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(directory.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HistoryError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests;
