//! Findings with what is remembered of them: when they were seen, whether somebody lives with them, whether they are fixed.

use parking_lot::Mutex;
use serde::Serialize;

use crate::casebook::{Acknowledgement, Case, Casebook, Status};
use crate::findings::Finding;

/// All findings of a state, as they stand at one moment.
#[derive(Serialize)]
pub(super) struct Listed<'a> {
    findings: Vec<Shown<'a>>,
    /// Of the casebook.
    #[serde(skip)]
    pub(super) revision: u64,
    /// From this moment on some stand otherwise, whatever happens; milliseconds since the Unix epoch.
    #[serde(skip)]
    pub(super) until: u64,
}

impl<'a> Listed<'a> {
    /// The findings at `now`. The book is looked into once, for as long as it takes to copy what it says.
    pub(super) fn new(findings: &'a [Finding], book: &Mutex<Casebook>, now: u64) -> Self {
        let book = book.lock();
        let findings = findings.iter().map(|finding| Shown::new(&book, finding, now)).collect();
        Self { findings, revision: book.marks().revision(), until: book.next_change(now) }
    }
}

/// A finding with its case.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    #[serde(flatten)]
    life: Option<Life>,
}

impl<'a> Shown<'a> {
    /// A finding at `now`.
    pub(super) fn new(book: &Casebook, finding: &'a Finding, now: u64) -> Self {
        Self { finding, life: book.case(&finding.id).map(|case| Life::new(book, case, now)) }
    }
}

/// What is remembered. Times in seconds since the Unix epoch.
#[derive(Serialize)]
pub(super) struct Life {
    status: Status,
    first_seen: f64,
    last_seen: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fixed: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<Given>,
}

#[derive(Serialize)]
struct Given {
    at: f64,
    until: Option<f64>,
    note: String,
}

impl Life {
    /// What is remembered of a case at `now`.
    pub(super) fn new(book: &Casebook, case: &Case, now: u64) -> Self {
        let given = |given: &Acknowledgement| Given {
            at: seconds(given.at),
            until: given.until.map(seconds),
            note: given.note.clone(),
        };
        Self {
            status: book.status(case, now),
            first_seen: seconds(case.first_seen),
            last_seen: seconds(case.last_seen),
            fixed: case.fixed.map(seconds),
            acknowledged: book.acknowledgement(&case.id).map(given),
        }
    }
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}
