//! The form of the database, and how an older form becomes the present one.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::HistoryError;

/// Every change of form, oldest first: `user_version` counts how many were made.
pub(super) const STEPS: [&str; 4] = [
    "
    CREATE TABLE report (
        id       INTEGER PRIMARY KEY, -- in the order of arrival
        instance TEXT    NOT NULL,
        sequence INTEGER NOT NULL,
        received INTEGER NOT NULL,    -- milliseconds since the Unix epoch
        start    INTEGER NOT NULL,    -- nanoseconds since the Unix epoch
        end      INTEGER NOT NULL,
        checksum INTEGER NOT NULL,    -- XXH3-64 of the body
        body     BLOB    NOT NULL     -- OTLP: one ExportMetricsServiceRequest, gzipped if it came so
    );
    CREATE TABLE instance (
        instance TEXT    PRIMARY KEY,
        sequence INTEGER NOT NULL,    -- of the last report that was applied
        seen     INTEGER NOT NULL     -- milliseconds since the Unix epoch
    ) WITHOUT ROWID;
    ",
    // From here on a report is kept by itself only until it is part of a rollup. Every count is in exactly one row of
    // the two tables. Times in milliseconds since the Unix epoch.
    "
    CREATE TABLE rollup (
        id       INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice: a rollup in memory knows its row by it
        tier     TEXT    NOT NULL,    -- 10s, 1m or 1h: length of its slot
        start    INTEGER NOT NULL,
        end      INTEGER NOT NULL,
        service  TEXT    NOT NULL,
        checksum INTEGER NOT NULL,    -- XXH3-64 of all of the above and the body
        body     BLOB    NOT NULL     -- OTLP, gzipped: the reports of all replicas of a service, added up
    );
    CREATE INDEX rollup_start ON rollup (start, id);
    ALTER TABLE instance ADD COLUMN checksum INTEGER; -- XXH3-64 of name and sequence; none in rows of the first form
    CREATE TABLE finding (
        id         TEXT PRIMARY KEY,
        rule       TEXT    NOT NULL,
        severity   TEXT    NOT NULL,
        title      TEXT    NOT NULL,
        witnesses  TEXT    NOT NULL,  -- JSON: the endpoints or services whose traffic would show it
        first_seen INTEGER NOT NULL,
        last_seen  INTEGER NOT NULL,
        fixed      INTEGER            -- since when it is no longer found
    ) WITHOUT ROWID;
    CREATE TABLE acknowledgement (
        finding TEXT PRIMARY KEY,
        at      INTEGER NOT NULL,
        until   INTEGER,              -- none: for good
        note    TEXT    NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE event (
        id      INTEGER PRIMARY KEY,
        at      INTEGER NOT NULL,
        kind    TEXT    NOT NULL,
        subject TEXT    NOT NULL,
        detail  TEXT    NOT NULL
    );
    CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    ",
    // From here on fresh reports and rollups are packed in a form of their own, which earlier releases cannot read; those that are there
    // stay as they are.
    "",
    // From here on the checksum of a report is of its instance, its sequence and its body (of those that are there, of the
    // body), and the sequence of an instance stands with its reports alone until these are part of rollups.
    "",
];

/// How many steps this release knows.
pub(super) const KNOWN: i64 = STEPS.len() as i64;

/// Opens the database at `path`, makes it where it is missing, and brings it to the present form.
pub(super) fn open(path: &Path) -> Result<Connection, HistoryError> {
    let failed = |source| HistoryError::Database { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    let found = prepare(&connection).map_err(failed)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|made| STEPS.get(made..)) else {
        return Err(HistoryError::Later { path: path.to_owned(), found, known: KNOWN });
    };
    migrate(&mut connection, missing).map_err(failed)?;
    match check(&connection).map_err(failed)? {
        None => Ok(connection),
        Some(what) => Err(HistoryError::Damaged { path: path.to_owned(), what }),
    }
}

/// What is wrong with the pages. Without this, rows that a page no longer tells of would be missing without a word. All of
/// the file is read once, as it is for the graph anyway.
fn check(connection: &Connection) -> Result<Option<String>, rusqlite::Error> {
    let found: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

/// Settings of the connection, and the form that the file is in. The first to read the file, so damage shows here.
fn prepare(connection: &Connection) -> Result<i64, rusqlite::Error> {
    // Reports wait while somebody else looks into the file and locks it: not for long, they can come again.
    connection.busy_timeout(Duration::from_millis(250))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a database to the present form: all missing steps or none.
pub(super) fn migrate(connection: &mut Connection, missing: &[&str]) -> Result<(), rusqlite::Error> {
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", KNOWN)?;
    transaction.commit()
}

/// Makes a database that is one file at every moment: a recording.
pub(super) fn create(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    migrate(&mut connection, &STEPS)?;
    Ok(connection)
}
