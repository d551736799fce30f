//! Findings, acknowledgements, events and facts about the file itself, on disk.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{History, HistoryError};
use crate::casebook::{Acknowledgement, Case, Changes, Event, EventKind};

/// Events that are read at the start.
const EVENTS: u32 = 1_000;

/// What was written down about findings.
#[derive(Debug, Default)]
pub struct Records {
    /// The cases.
    pub cases: Vec<Case>,
    /// The acknowledgements, by finding.
    pub acknowledgements: Vec<(String, Acknowledgement)>,
    /// The latest events, oldest first.
    pub events: Vec<Event>,
}

impl History {
    /// Everything that was written down. Rows that hold something else than was written are left out.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn records(&self) -> Result<Records, HistoryError> {
        read(&self.connection).map_err(|source| self.error(source))
    }

    /// Writes down what changed in the casebook, and `events`: all or nothing.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_down(&mut self, changes: &Changes, events: &[Event]) -> Result<(), HistoryError> {
        let mut write = || {
            let transaction = self.connection.transaction()?;
            changes.cases.iter().try_for_each(|case| put_case(&transaction, case))?;
            for gone in &changes.gone {
                transaction.execute("DELETE FROM finding WHERE id = ?1", [gone])?;
                transaction.execute("DELETE FROM acknowledgement WHERE finding = ?1", [gone])?;
            }
            events.iter().try_for_each(|event| put_event(&transaction, event))?;
            transaction.commit()
        };
        write().map_err(|source| self.error(source))
    }

    /// Writes down an acknowledgement, or that it was taken back.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn acknowledge(&mut self, finding: &str, given: Option<&Acknowledgement>) -> Result<(), HistoryError> {
        let written = match given {
            Some(given) => put_acknowledgement(&self.connection, finding, given),
            None => self.connection.execute("DELETE FROM acknowledgement WHERE finding = ?1", [finding]).map(|_| ()),
        };
        written.map_err(|source| self.error(source))
    }
}

pub(super) fn read(connection: &Connection) -> Result<Records, rusqlite::Error> {
    let list = |text: &str, each: &mut dyn FnMut(&Row<'_>) -> Option<()>| -> Result<(), rusqlite::Error> {
        let mut statement = connection.prepare(text)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let _ = each(row); // a row of other types than were written is damaged, and no more than that
        }
        Ok(())
    };
    let mut records = Records::default();
    list("SELECT id, rule, severity, title, witnesses, first_seen, last_seen, fixed FROM finding", &mut |row| {
        records.cases.push(Case {
            id: row.get(0).ok()?,
            rule: row.get(1).ok()?,
            severity: row.get(2).ok()?,
            title: row.get(3).ok()?,
            witnesses: serde_json::from_str(row.get_ref(4).ok()?.as_str().ok()?).ok()?,
            first_seen: millis(row, 5)?,
            last_seen: millis(row, 6)?,
            fixed: row.get::<_, Option<i64>>(7).ok()?.map(i64::cast_unsigned),
        });
        Some(())
    })?;
    list("SELECT finding, at, until, note FROM acknowledgement", &mut |row| {
        let until = row.get::<_, Option<i64>>(2).ok()?.map(i64::cast_unsigned);
        let given = Acknowledgement { at: millis(row, 1)?, until, note: row.get(3).ok()? };
        records.acknowledgements.push((row.get(0).ok()?, given));
        Some(())
    })?;
    let latest = format!(
        "SELECT id, at, kind, subject, detail FROM (SELECT * FROM event ORDER BY id DESC LIMIT {EVENTS}) ORDER BY id"
    );
    list(&latest, &mut |row| {
        records.events.push(Event {
            number: millis(row, 0)?,
            at: millis(row, 1)?,
            kind: EventKind::parse(row.get_ref(2).ok()?.as_str().ok()?)?,
            subject: row.get(3).ok()?,
            detail: row.get(4).ok()?,
        });
        Some(())
    })?;
    Ok(records)
}

/// Writes records into another file, as many as it takes.
pub(super) fn copy(records: &Records, to: &Connection) -> Result<(), rusqlite::Error> {
    records.cases.iter().try_for_each(|case| put_case(to, case))?;
    records.acknowledgements.iter().try_for_each(|(finding, given)| put_acknowledgement(to, finding, given))?;
    records.events.iter().try_for_each(|event| put_event(to, event))
}

/// Notes a fact about the file.
pub(super) fn note(connection: &Connection, key: &str, value: &str) -> Result<(), rusqlite::Error> {
    let text = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.execute(text, [key, value]).map(|_| ())
}

/// A fact about the file.
pub(super) fn noted(connection: &Connection, key: &str) -> Result<Option<String>, rusqlite::Error> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

fn put_case(connection: &Connection, case: &Case) -> Result<(), rusqlite::Error> {
    let witnesses = serde_json::to_string(&case.witnesses).unwrap_or_default();
    let (first, last) = (case.first_seen.cast_signed(), case.last_seen.cast_signed());
    let fixed = case.fixed.map(u64::cast_signed);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO finding (id, rule, severity, title, witnesses, first_seen, last_seen, fixed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![case.id, case.rule, case.severity, case.title, witnesses, first, last, fixed])
        .map(|_| ())
}

fn put_acknowledgement(connection: &Connection, finding: &str, given: &Acknowledgement) -> Result<(), rusqlite::Error> {
    let (at, until) = (given.at.cast_signed(), given.until.map(u64::cast_signed));
    connection
        .prepare_cached("INSERT OR REPLACE INTO acknowledgement (finding, at, until, note) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![finding, at, until, given.note])
        .map(|_| ())
}

fn put_event(connection: &Connection, event: &Event) -> Result<(), rusqlite::Error> {
    let (number, at) = (event.number.cast_signed(), event.at.cast_signed());
    connection
        .prepare_cached("INSERT OR REPLACE INTO event (id, at, kind, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![number, at, event.kind.as_str(), event.subject, event.detail])
        .map(|_| ())
}

fn millis(row: &Row<'_>, column: usize) -> Option<u64> {
    row.get::<_, i64>(column).ok().map(i64::cast_unsigned)
}
