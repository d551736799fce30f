//! Which findings were seen when, and what people said about them.
//!
//! A finding is opened when a snapshot shows it. Whether it is still there is judged over the last hour: where that does
//! not show it although the traffic came that would, it is fixed; where no such traffic came, nothing is said.

mod timeline;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::counters::Counter;
use crate::findings::Finding;
use crate::graph::Snapshot;

pub use timeline::{Event, EventKind, Timeline};

/// A finding is new for so long, milliseconds.
const NEW: u64 = 24 * 3_600_000;
/// Longest note of an acknowledgement, in bytes.
pub const MAX_NOTE_BYTES: usize = 1_000;

/// What is remembered of a finding. Times in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its id.
    pub id: String,
    /// Its rule.
    pub rule: String,
    /// How grave it was when it was last seen.
    pub severity: String,
    /// Its title when it was last seen.
    pub title: String,
    /// The endpoints (`service endpoint`) or services of which one at least must be busy where the finding would show.
    pub witnesses: Vec<String>,
    /// When it was first seen.
    pub first_seen: u64,
    /// When it was last seen.
    pub last_seen: u64,
    /// Since when it is no longer found.
    pub fixed: Option<u64>,
}

/// Somebody has taken note of a finding and lives with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// When it was given, milliseconds since the Unix epoch.
    #[serde(default)]
    pub at: u64,
    /// When it ends; none for never.
    #[serde(default)]
    pub until: Option<u64>,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// How things stand with a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// First seen less than a day ago.
    New,
    /// Seen before.
    Known,
    /// Acknowledged, and the time of that is not over.
    Accepted,
    /// No longer found.
    Fixed,
}

/// All cases, within a limit.
#[derive(Debug)]
pub struct Casebook {
    limit: usize,
    cases: BTreeMap<String, Case>,
    acknowledgements: BTreeMap<String, Acknowledgement>,
    marks: Arc<Marks>,
}

/// What can be told of a book without waiting for who writes in it.
#[derive(Debug, Default)]
pub struct Marks {
    lost: Counter,
    revision: Counter,
}

impl Marks {
    /// Another one whenever anything in the book has changed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.get()
    }

    /// Findings for which there was no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }
}

/// What changed in a casebook: what is to be written down.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Cases that are new or otherwise than before.
    pub cases: Vec<Case>,
    /// Cases that made room.
    pub gone: Vec<String>,
    /// What people may want to know.
    pub events: Vec<(EventKind, String, String)>,
}

impl Casebook {
    /// An empty book for so many cases and as many acknowledgements.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let (cases, acknowledgements) = (BTreeMap::new(), BTreeMap::new());
        Self { limit: limit.max(1), cases, acknowledgements, marks: Arc::default() }
    }

    /// What can be told of it at any time.
    #[must_use]
    pub fn marks(&self) -> Arc<Marks> {
        Arc::clone(&self.marks)
    }

    /// Takes over what was remembered before a restart.
    pub fn remember(&mut self, cases: Vec<Case>, acknowledgements: Vec<(String, Acknowledgement)>) {
        self.marks.revision.add(1);
        self.cases.extend(cases.into_iter().map(|case| (case.id.clone(), case)).take(self.limit));
        self.acknowledgements.extend(acknowledgements.into_iter().take(self.limit));
    }

    /// Opens a case for every finding that has none.
    pub fn open(&mut self, findings: &[Finding], now: u64) -> Changes {
        let mut changes = Changes::default();
        for finding in findings {
            if self.cases.contains_key(&finding.id) {
                continue;
            }
            if self.cases.len() >= self.limit && !self.make_room(&mut changes) {
                self.marks.lost.add(1);
                continue;
            }
            let case = Case {
                id: finding.id.clone(),
                rule: finding.rule.to_string(),
                severity: finding.severity.to_string(),
                title: finding.title.clone(),
                witnesses: witnesses(finding),
                first_seen: now,
                last_seen: now,
                fixed: None,
            };
            changes.events.push((EventKind::FindingOpened, case.id.clone(), case.title.clone()));
            self.marks.revision.add(1);
            self.cases.insert(case.id.clone(), case.clone());
            changes.cases.push(case);
        }
        changes
    }

    /// Judges every case by the last hour: who was `busy` in it, and all its `findings`. Nothing is said to be fixed where
    /// no witness was busy.
    pub fn judge(&mut self, busy: &Busy, findings: &[Finding], now: u64) -> Changes {
        let mut changes = self.open(findings, now);
        self.marks.revision.add(1);
        let found: BTreeMap<&str, &Finding> = findings.iter().map(|finding| (finding.id.as_str(), finding)).collect();
        for case in self.cases.values_mut() {
            match found.get(case.id.as_str()) {
                Some(finding) => {
                    if case.fixed.take().is_some() {
                        changes.events.push((EventKind::FindingReopened, case.id.clone(), case.title.clone()));
                    }
                    (case.last_seen, case.title) = (now, finding.title.clone());
                    case.severity = finding.severity.to_string();
                    changes.cases.push(case.clone());
                }
                None if case.fixed.is_none() && case.witnesses.iter().any(|name| busy.knows(name)) => {
                    case.fixed = Some(now);
                    changes.events.push((EventKind::FindingFixed, case.id.clone(), case.title.clone()));
                    changes.cases.push(case.clone());
                }
                None => {}
            }
        }
        changes
    }

    /// Writes down an acknowledgement, or takes it back. False where there is no such case, or no room.
    pub fn acknowledge(&mut self, finding: &str, acknowledgement: Option<Acknowledgement>) -> bool {
        self.marks.revision.add(1);
        let Some(acknowledgement) = acknowledgement else {
            return self.acknowledgements.remove(finding).is_some();
        };
        let known = self.acknowledgements.contains_key(finding);
        if !self.cases.contains_key(finding) || !known && self.acknowledgements.len() >= self.limit {
            return false;
        }
        self.acknowledgements.insert(finding.to_owned(), acknowledgement);
        true
    }

    /// The case of a finding.
    #[must_use]
    pub fn case(&self, finding: &str) -> Option<&Case> {
        self.cases.get(finding)
    }

    /// All cases, by id.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.values()
    }

    /// The acknowledgement of a finding, over or not.
    #[must_use]
    pub fn acknowledgement(&self, finding: &str) -> Option<&Acknowledgement> {
        self.acknowledgements.get(finding)
    }

    /// How things stand with a case at `now`.
    #[must_use]
    pub fn status(&self, case: &Case, now: u64) -> Status {
        let accepted = self.acknowledgement(&case.id).is_some_and(|given| given.until.is_none_or(|until| until > now));
        match case.fixed {
            Some(_) => Status::Fixed,
            None if accepted => Status::Accepted,
            None if case.first_seen.saturating_add(NEW) > now => Status::New,
            None => Status::Known,
        }
    }

    /// The first moment after `now` at which a case stands otherwise although nothing happens: it is no longer new, or its
    /// acknowledgement ends.
    #[must_use]
    pub fn next_change(&self, now: u64) -> u64 {
        let known = self.cases.values().map(|case| case.first_seen.saturating_add(NEW));
        let ended = self.acknowledgements.values().filter_map(|given| given.until);
        known.chain(ended).filter(|at| *at > now).min().unwrap_or(u64::MAX)
    }

    /// The case that was fixed first goes.
    fn make_room(&mut self, changes: &mut Changes) -> bool {
        let oldest = self.cases.values().filter_map(|case| Some((case.fixed?, case.id.clone()))).min();
        let Some((_, id)) = oldest else { return false };
        self.cases.remove(&id);
        self.acknowledgements.remove(&id);
        changes.gone.push(id);
        true
    }
}

/// Whose traffic would show the finding: where its path begins; else any endpoint of it; else any service.
fn witnesses(finding: &Finding) -> Vec<String> {
    match finding.path.first() {
        Some(step) => vec![format!("{} {}", step.service, step.endpoint)],
        None if !finding.endpoints.is_empty() => finding.endpoints.clone(),
        None => finding.services.clone(),
    }
}

/// The endpoints and services that handled enough.
#[derive(Debug, Default)]
pub struct Busy(std::collections::HashSet<String>);

impl Busy {
    /// Those of a snapshot that handled at least `min_samples` requests.
    #[must_use]
    pub fn of(snapshot: &Snapshot, min_samples: u64) -> Self {
        let endpoints = snapshot.endpoint_indices().filter(|at| snapshot[*at].stats.outcomes.total() >= min_samples);
        let services = snapshot.services().iter().filter(|service| service.outcomes.total() >= min_samples);
        let names = endpoints.map(|at| snapshot.label(at)).chain(services.map(|service| service.name.to_string()));
        Self(names.collect())
    }

    fn knows(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

#[cfg(test)]
mod tests;
