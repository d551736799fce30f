//! What happened, in the order in which it was noticed: deploys, new edges, findings that come and go, trouble with the
//! history.

use std::collections::{HashSet, VecDeque};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::graph::Snapshot;

/// Events in memory, the latest.
const KEPT: usize = 1_000;
/// Events of one snapshot at most: a whole system that appears at once is one event for the rest.
const AT_ONCE: usize = 100;

/// What kind of event. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A service was seen for the first time.
    Service,
    /// A service was seen in another version than before.
    Version,
    /// One service called another for the first time.
    Edge,
    /// More of these appeared at once than are listed.
    More,
    /// A finding was found for the first time.
    FindingOpened,
    /// A finding is no longer found.
    FindingFixed,
    /// A finding that was fixed is back.
    FindingReopened,
    /// Somebody acknowledged a finding.
    Acknowledged,
    /// Somebody took an acknowledgement back.
    Unacknowledged,
    /// The analyzer started.
    Started,
    /// The history can no longer be written.
    HistoryStopped,
    /// The history can be written again.
    HistoryResumed,
    /// The history was damaged and set aside.
    HistoryDamaged,
}

impl EventKind {
    /// All of them.
    pub const ALL: [EventKind; 13] = [
        EventKind::Service,
        EventKind::Version,
        EventKind::Edge,
        EventKind::More,
        EventKind::FindingOpened,
        EventKind::FindingFixed,
        EventKind::FindingReopened,
        EventKind::Acknowledged,
        EventKind::Unacknowledged,
        EventKind::Started,
        EventKind::HistoryStopped,
        EventKind::HistoryResumed,
        EventKind::HistoryDamaged,
    ];

    /// The word for documents and the history.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Service => "service",
            EventKind::Version => "version",
            EventKind::Edge => "edge",
            EventKind::More => "more",
            EventKind::FindingOpened => "finding_opened",
            EventKind::FindingFixed => "finding_fixed",
            EventKind::FindingReopened => "finding_reopened",
            EventKind::Acknowledged => "acknowledged",
            EventKind::Unacknowledged => "unacknowledged",
            EventKind::Started => "started",
            EventKind::HistoryStopped => "history_stopped",
            EventKind::HistoryResumed => "history_resumed",
            EventKind::HistoryDamaged => "history_damaged",
        }
    }

    /// The kind that [`EventKind::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// 1 for the first, then one more each.
    pub number: u64,
    /// When it was noticed, milliseconds since the Unix epoch.
    pub at: u64,
    /// What kind.
    pub kind: EventKind,
    /// What it is about: a service, an edge, the id of a finding.
    pub subject: String,
    /// More about it.
    pub detail: String,
}

/// The latest events, and what is known already.
#[derive(Debug, Default)]
pub struct Timeline {
    events: VecDeque<Event>,
    last: u64,
    /// Hashes of the services, versions and edges that are no news. As bounded as the graph.
    known: HashSet<u64>,
}

impl Timeline {
    /// Takes over what was written down before a restart, oldest first.
    pub fn remember(&mut self, events: Vec<Event>) {
        for event in events {
            self.last = self.last.max(event.number);
            self.events.push_back(event);
        }
        self.shorten();
    }

    /// Adds an event.
    pub fn add(&mut self, at: u64, kind: EventKind, subject: String, detail: String) -> Event {
        self.last += 1;
        let event = Event { number: self.last, at, kind, subject, detail };
        self.events.push_back(event.clone());
        self.shorten();
        event
    }

    /// What `snapshot` shows that was not known; it is known from now on.
    pub fn news(&mut self, snapshot: &Snapshot) -> Vec<(EventKind, String, String)> {
        let mut news = Vec::new();
        let mut more = 0_u64;
        let mut tell = |kind, subject: String, detail: &str| match news.len() < AT_ONCE {
            true => news.push((kind, subject, detail.to_owned())),
            false => more += 1,
        };
        for service in snapshot.services() {
            let fresh = self.known.insert(key(&["service", &service.name]));
            if fresh {
                tell(EventKind::Service, service.name.to_string(), "");
            }
            for version in &service.versions {
                if self.known.insert(key(&["version", &service.name, version])) && !fresh {
                    tell(EventKind::Version, service.name.to_string(), version);
                }
            }
        }
        for edge in snapshot.edges() {
            let (source, destination) = (&snapshot[edge.source].name, &snapshot[edge.destination].name);
            if self.known.insert(key(&["edge", source, destination])) {
                tell(EventKind::Edge, format!("{source} -> {destination}"), "");
            }
        }
        if more > 0 {
            news.push((EventKind::More, String::new(), more.to_string()));
        }
        news
    }

    /// The events behind the one with number `after`, oldest first, as many as are kept.
    #[must_use]
    pub fn after(&self, after: u64) -> Vec<Event> {
        self.events.iter().filter(|event| event.number > after).cloned().collect()
    }

    fn shorten(&mut self) {
        while self.events.len() > KEPT {
            self.events.pop_front();
        }
    }
}

fn key(parts: &[&str]) -> u64 {
    xxh3_64(parts.join("\0").as_bytes())
}
