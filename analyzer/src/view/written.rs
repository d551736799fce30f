//! What views show: one state of the system at a time, and the large answers about it as bytes.
//!
//! Answers about a large system take long to write, so each is written once per state, by a thread that holds up nobody,
//! and then given to all who ask. What somebody has asked for lately is written before the state is shown at all: whoever
//! asks again gets it at once, and never waits for a new state. The rest is written when it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use super::document::{Document, Edge, Entry, Service};
use super::listed::Listed;
use super::metrics::{self, Budgets};
use crate::board::{Board, Published};
use crate::receive::recorder::unix_millis;

/// What nobody has asked for so long is no longer written before somebody does.
const ASKED_WITHIN: Duration = Duration::from_secs(60);

/// The large answers. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole document.
    Document,
    /// All services.
    Services,
    /// All edges.
    Edges,
    /// All entries.
    Entries,
    /// All findings, with what is remembered of them.
    Findings,
    /// What metrics say of the graph.
    Metrics,
}

impl Part {
    const ALL: [Part; 6] = [Part::Document, Part::Services, Part::Edges, Part::Entries, Part::Findings, Part::Metrics];
}

/// An answer as bytes, and by what a reader knows that it has it already.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    tag: HeaderValue,
}

impl Body {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let tag = format!("\"{:016x}\"", xxh3_64(&bytes));
        Self { bytes, tag: HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\"")) }
    }

    /// `value` as JSON. None only by a defect: every value has a JSON form.
    pub(super) fn json<T: Serialize>(value: &T) -> Option<Self> {
        let mut bytes = serde_json::to_vec(value).ok()?;
        // It grew by doubling, and is kept for a while.
        bytes.shrink_to_fit();
        Some(Self::new(bytes))
    }

    /// The answer for one who may have it already.
    pub(super) fn answer(&self, asked: &HeaderMap) -> Response {
        let caching = [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")), (header::ETAG, self.tag.clone())];
        let known = asked.get(header::IF_NONE_MATCH).map_or(&[][..], HeaderValue::as_bytes);
        let is_this = |known: &[u8]| {
            let known = known.trim_ascii();
            known.strip_prefix(b"W/").unwrap_or(known) == self.tag.as_bytes()
        };
        if known.split(|byte| *byte == b',').any(is_this) {
            return (StatusCode::NOT_MODIFIED, caching).into_response();
        }
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (caching, json, self.bytes.clone()).into_response()
    }
}

/// One state of the system, and the answers about it that were written so far.
#[derive(Debug)]
pub(super) struct Written {
    /// The state.
    pub(super) published: Arc<Published>,
    /// While answers are written from it: it takes more room than the state itself.
    document: Mutex<Option<Arc<Document>>>,
    bodies: [tokio::sync::Mutex<Option<Kept>>; Part::ALL.len()],
}

/// An answer, and how long it is the right one.
#[derive(Debug)]
struct Kept {
    body: Body,
    /// Of the casebook.
    revision: u64,
    /// Milliseconds since the Unix epoch.
    until: u64,
}

impl Written {
    pub(super) fn new(published: Arc<Published>) -> Self {
        Self { published, document: Mutex::default(), bodies: Default::default() }
    }

    /// The document of this state. It may have to be made first: not for the thread that serves. Who needs it at the same time
    /// waits for the same one.
    fn document(&self, name: &str) -> Arc<Document> {
        let mut kept = self.document.lock();
        let make = || {
            let Published { snapshot, findings, score, roles, .. } = &*self.published;
            Arc::new(Document::new(snapshot, findings, name).with_score(score.clone()).with_roles(roles))
        };
        Arc::clone(kept.get_or_insert_with(make))
    }

    /// No more answers are to be written for now. Giving a large document back takes a while: not for the thread that serves.
    async fn let_go(self: &Arc<Self>) {
        let document = self.document.lock().take();
        if document.is_some() {
            let _ = tokio::task::spawn_blocking(move || drop(document)).await;
        }
    }

    /// An answer; who asks while it is written waits for the same one. None only by a defect.
    async fn body(self: &Arc<Self>, part: Part, sources: &Arc<Sources>) -> Option<Body> {
        let mut kept = self.bodies.get(part as usize)?.lock().await;
        let now = unix_millis();
        let revision = if part == Part::Findings { sources.board.casebook_marks.revision() } else { 0 };
        if let Some(kept) = kept.as_ref().filter(|kept| kept.revision == revision && now < kept.until) {
            return Some(kept.body.clone());
        }
        let (written, with) = (Arc::clone(self), Arc::clone(sources));
        let fresh = tokio::task::spawn_blocking(move || written.write(part, &with, now)).await.ok()??;
        Some(kept.insert(fresh).body.clone())
    }

    fn write(&self, part: Part, sources: &Sources, now: u64) -> Option<Kept> {
        let document = || self.document(&sources.board.name);
        let body = match part {
            Part::Document => Body::json(&*document()),
            Part::Services => Body::json(&Services { services: &document().services }),
            Part::Edges => Body::json(&Edges { edges: &document().edges }),
            Part::Entries => Body::json(&Entries { entries: &document().entries }),
            Part::Metrics => {
                Some(Body::new(metrics::of_state(&self.published, &document(), &mut sources.budgets.lock())))
            }
            Part::Findings => {
                let listed = Listed::new(&self.published.findings, &sources.board.casebook, now);
                let body = Body::json(&listed)?;
                return Some(Kept { body, revision: listed.revision, until: listed.until });
            }
        };
        Some(Kept { body: body?, revision: 0, until: u64::MAX })
    }
}

#[derive(Serialize)]
struct Services<'a> {
    services: &'a [Service],
}

#[derive(Serialize)]
struct Edges<'a> {
    edges: &'a [Edge],
}

#[derive(Serialize)]
struct Entries<'a> {
    entries: &'a [Entry],
}

/// What answers are written from, beside the state.
#[derive(Debug)]
struct Sources {
    board: Arc<Board>,
    budgets: Mutex<Budgets>,
}

/// Shows states, the answers about them and no others.
#[derive(Debug)]
pub(super) struct Writer {
    sources: Arc<Sources>,
    shown: watch::Sender<Arc<Written>>,
    started: Instant,
    /// When each part was asked for last: milliseconds after `started`, plus one; 0 for never.
    asked: [AtomicU64; Part::ALL.len()],
}

impl Writer {
    /// Shows the latest state.
    pub(super) fn new(board: Arc<Board>) -> Self {
        let first = Arc::new(Written::new(board.latest()));
        Self {
            started: board.started,
            sources: Arc::new(Sources { board, budgets: Mutex::default() }),
            shown: watch::Sender::new(first),
            asked: Default::default(),
        }
    }

    /// The state that is shown.
    pub(super) fn latest(&self) -> Arc<Written> {
        Arc::clone(&self.shown.borrow())
    }

    /// Tells of every state that is shown; slow readers see the latest only.
    pub(super) fn follow(&self) -> watch::Receiver<Arc<Written>> {
        self.shown.subscribe()
    }

    /// An answer about a state. None only by a defect.
    pub(super) async fn body(&self, written: &Arc<Written>, part: Part) -> Option<Body> {
        if let Some(asked) = self.asked.get(part as usize) {
            asked.store(self.millis() + 1, Ordering::Relaxed);
        }
        let body = written.body(part, &self.sources).await;
        written.let_go().await;
        body
    }

    /// Shows every state that is published, as soon as what is asked for lately is written. Never ends.
    pub(super) async fn keep_up(self: Arc<Self>) {
        let mut published = self.sources.board.follow();
        // What was published before this began is new, too.
        published.mark_changed();
        while published.changed().await.is_ok() {
            let next = Arc::new(Written::new(Arc::clone(&published.borrow_and_update())));
            for part in Part::ALL.into_iter().filter(|part| self.is_wanted(*part)) {
                let _ = next.body(part, &self.sources).await; // whoever asks finds that it cannot be written
            }
            next.let_go().await;
            let before = self.shown.send_replace(next);
            // Giving a large state back takes a while, too.
            let _ = tokio::task::spawn_blocking(move || drop(before)).await;
        }
    }

    fn is_wanted(&self, part: Part) -> bool {
        let asked = self.asked.get(part as usize).map_or(0, |asked| asked.load(Ordering::Relaxed));
        asked > 0 && self.millis().saturating_sub(asked) < ASKED_WITHIN.as_millis() as u64
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Score;
    use crate::traffic::{chain, traffic};
    use couplet_config::AnalyzerLimits;

    #[tokio::test]
    async fn a_state_keeps_its_answers_and_not_what_they_were_written_from() {
        let published =
            Published::new(1, traffic().of(60, &chain(&["a", "b"])).snapshot(), Vec::new(), Score::default());
        let board = Arc::new(Board::new("shop".to_owned(), &AnalyzerLimits::default(), Instant::now(), published));
        let writer = Writer::new(board);
        let written = writer.latest();
        let (document, edges) =
            (writer.body(&written, Part::Document).await.unwrap(), writer.body(&written, Part::Edges).await.unwrap());
        assert!(written.document.lock().is_none());
        assert!(document.bytes.len() > edges.bytes.len());
        assert_eq!(writer.body(&written, Part::Document).await.unwrap().bytes.as_ptr(), document.bytes.as_ptr());
    }

    #[test]
    fn findings_that_are_written_are_given_while_somebody_writes_in_the_casebook() {
        let published = Published::new(1, traffic().snapshot(), Vec::new(), Score::default());
        let board = Arc::new(Board::new("shop".to_owned(), &AnalyzerLimits::default(), Instant::now(), published));
        let writer = Writer::new(Arc::clone(&board));
        let ask = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(writer.body(&writer.latest(), Part::Findings)).unwrap().bytes
        };
        let before = ask();
        let (answer, answered) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let book = board.casebook.lock();
            scope.spawn(|| answer.send(ask()));
            let answered = answered.recv_timeout(Duration::from_secs(20));
            drop(book);
            assert_eq!(answered.ok(), Some(before));
        });
    }
}
