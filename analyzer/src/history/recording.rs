//! A recording: a history that somebody keeps, in one file. It is only read.

use std::path::Path;

use couplet_config::AnalyzerConfig;
use couplet_telemetry::otlp::{self, Bounds};
use couplet_telemetry::report::Report;
use rusqlite::{Connection, OpenFlags};

use super::{HistoryError, records, reports, rollups, schema};
use crate::gzip;
use crate::slots::{Rollup, rows};

/// What every SQLite file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where a recording says whose it is.
const NAME: &str = "name";

/// What a recording holds.
#[derive(Debug, Default)]
pub struct Recording {
    /// Name of the system; empty where it has none.
    pub name: String,
    /// What was reported, oldest first.
    pub rollups: Vec<Rollup>,
    /// Reports that are part of no rollup, as they were received, and when: the last seconds of an analyzer's history.
    pub reports: Vec<(u64, Vec<u8>)>,
    /// What was written down about findings, and events.
    pub records: records::Records,
    /// Rows that are not as they were written; left out.
    pub damaged: u64,
}

impl Recording {
    /// Hands every report to `each`, oldest first, within the limits of `config`; how many rows could not be read.
    #[must_use]
    pub fn replay(&self, config: &AnalyzerConfig, mut each: impl FnMut(&Report)) -> u64 {
        let bounds = Bounds { paths: config.limits.paths, calls: config.limits.edges };
        let limit = config.limits.report_bytes.as_usize();
        let rollups = self.rollups.iter().map(|rollup| rollup.reports(&bounds));
        let reports = self.reports.iter().map(|(_, body)| decode(body, &bounds, limit));
        let mut damaged = self.damaged;
        for read in rollups.chain(reports) {
            match read {
                Some(reports) => reports.iter().for_each(&mut each),
                None => damaged += 1,
            }
        }
        damaged
    }
}

/// Reads what was stored: a report, packed; or as it was received, gzipped or not, as earlier releases stored it.
#[must_use]
pub fn decode(body: &[u8], bounds: &Bounds, limit: usize) -> Option<Vec<Report>> {
    if rows::is_packed(body) {
        return rows::read(body, bounds);
    }
    let decoded = if gzip::is_packed(body) {
        otlp::decode(&gzip::unpack(body, limit).ok()?, bounds)
    } else {
        otlp::decode(body, bounds)
    };
    Some(decoded.ok()?.reports)
}

/// Whether a file that begins with these bytes may be a recording.
#[must_use]
pub fn begins(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// Reads a recording, or the history of an analyzer, which may be running.
///
/// # Errors
/// Where the file cannot be read, is none of ours, or was written by a later release.
pub fn read(path: &Path) -> Result<Recording, HistoryError> {
    let failed = |source| HistoryError::Database { path: path.to_owned(), source };
    if !path.is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(HistoryError::Directory { path: path.to_owned(), source });
    }
    let connection = open(path).map_err(failed)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    if found > schema::KNOWN {
        return Err(HistoryError::Later { path: path.to_owned(), found, known: schema::KNOWN });
    }
    if !is_ours(&connection).map_err(failed)? {
        return Err(HistoryError::Foreign { path: path.to_owned() });
    }
    contents(&connection, found).map_err(failed)
}

fn contents(connection: &Connection, form: i64) -> Result<Recording, rusqlite::Error> {
    // One moment of a file that somebody may be writing to.
    let transaction = connection.unchecked_transaction()?;
    let mut recording = Recording::default();
    if form > 1 {
        recording.name = records::noted(&transaction, NAME)?.unwrap_or_default();
        recording.damaged = rollups::read(&transaction, |rollup| recording.rollups.push(rollup))?;
        recording.records = records::read(&transaction)?;
    }
    reports::each(&transaction, |report| match report {
        Some(kept) => recording.reports.push((kept.stored.received, kept.stored.body.to_vec())),
        None => recording.damaged += 1,
    })?;
    Ok(recording)
}

/// Read only. Where not even the lock of a reader can be had, for the file lies on a medium that cannot be written, it
/// is read as one that never changes.
fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let careful = |connection: Connection| {
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok(connection)
    };
    Connection::open_with_flags(path, flags).and_then(careful).or_else(|error| {
        // Percent signs and question marks would mean something in a URI.
        let text = path.to_str().filter(|text| !text.contains(['?', '#', '%'])).ok_or(error)?;
        let unchanging = format!("file:{text}?immutable=1");
        Connection::open_with_flags(unchanging, flags | OpenFlags::SQLITE_OPEN_URI).and_then(careful)
    })
}

/// Tables of our names, and nothing that runs when they are read: the file may come from anybody.
fn is_ours(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let count = |text: &str| connection.query_row(text, [], |row| row.get::<_, i64>(0));
    let tables = count("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('report', 'instance')")?;
    let others = count("SELECT count(*) FROM sqlite_schema WHERE type IN ('view', 'trigger')")?;
    Ok(tables == 2 && others == 0)
}

/// A recording that is being made.
#[derive(Debug)]
pub struct Writer {
    path: std::path::PathBuf,
    connection: Connection,
}

impl Writer {
    /// Begins a recording of the system `name` in a file that must not exist yet.
    ///
    /// # Errors
    /// Where there is such a file, or it cannot be made.
    pub fn create(path: &Path, name: &str) -> Result<Self, HistoryError> {
        let exists = |source| HistoryError::Directory { path: path.to_owned(), source };
        std::fs::File::options().create_new(true).write(true).open(path).map_err(exists)?;
        let make = || {
            let connection = schema::create(path)?;
            records::note(&connection, NAME, name)?;
            Ok(connection)
        };
        let connection = make().map_err(|source| HistoryError::Database { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), connection })
    }

    /// Adds rollups, all or none.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn add(&mut self, rollups: &[Rollup]) -> Result<(), HistoryError> {
        let mut add = || {
            let transaction = self.connection.transaction()?;
            for rollup in rollups {
                rollups::insert(&transaction, &Rollup { row: None, ..rollup.clone() })?;
            }
            transaction.commit()
        };
        add().map_err(|source| HistoryError::Database { path: self.path.clone(), source })
    }
}
