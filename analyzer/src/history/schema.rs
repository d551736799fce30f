//! The form of the database, and how an older form becomes the present one.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::HistoryError;

/// Every change of form, oldest first: `user_version` counts how many were made.
const STEPS: [&str; 1] = ["
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
"];

/// Opens the database at `path`, makes it where it is missing, and brings it to the present form.
pub(super) fn open(path: &Path) -> Result<Connection, HistoryError> {
    let failed = |source| HistoryError::Database { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    let found = prepare(&connection).map_err(failed)?;
    let known = STEPS.len() as i64;
    let Some(missing) = usize::try_from(found).ok().and_then(|made| STEPS.get(made..)) else {
        return Err(HistoryError::Later { path: path.to_owned(), found, known });
    };
    migrate(&mut connection, missing, known).map_err(failed)?;
    Ok(connection)
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

fn migrate(connection: &mut Connection, missing: &[&str], known: i64) -> Result<(), rusqlite::Error> {
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()
}
