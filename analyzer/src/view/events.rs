//! `GET /api/v1/events`: tells pages of every new snapshot, as server-sent events. What is new they fetch themselves,
//! so a page that reads slowly costs nothing and misses nothing but what is outdated anyway.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use http::StatusCode;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::written::Written;
use super::{Desk, api};
use crate::board::{Board, Published};

/// A comment this often keeps proxies and the peer from taking silence for death.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A page comes back after this time.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn events(State(desk): State<Arc<Desk>>) -> Response {
    let Ok(seat) = Arc::clone(&desk.seats).try_acquire_owned() else {
        desk.board.counters.ui_clients_refused.add(1);
        return api::problem(StatusCode::SERVICE_UNAVAILABLE, "as many pages are open as limits.ui_clients allows");
    };
    let listener = Listener::new(Arc::clone(&desk.board), desk.writer.follow(), desk.stopping.clone(), seat);
    Sse::new(snapshots(listener)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// One open page.
struct Listener {
    board: Arc<Board>,
    shown: watch::Receiver<Arc<Written>>,
    stopping: watch::Receiver<()>,
    first: bool,
    _seat: OwnedSemaphorePermit,
}

impl Listener {
    fn new(
        board: Arc<Board>,
        shown: watch::Receiver<Arc<Written>>,
        stopping: watch::Receiver<()>,
        seat: OwnedSemaphorePermit,
    ) -> Self {
        board.counters.ui_clients.add(1);
        Self { board, shown, stopping, first: true, _seat: seat }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.board.counters.ui_clients.take();
    }
}

/// The latest snapshot at once, then every new one, until the analyzer stops.
fn snapshots(listener: Listener) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(listener, async |mut listener| {
        let first = std::mem::take(&mut listener.first);
        if !first {
            tokio::select! {
                changed = listener.shown.changed() => changed.ok()?,
                _ = listener.stopping.changed() => return None,
            }
        }
        let event = event(&listener.shown.borrow_and_update().published);
        let event = if first { event.retry(RETRY) } else { event };
        Some((Ok(event), listener))
    })
}

fn event(published: &Published) -> Event {
    let facts = json!({
        "snapshot": published.number,
        "requests": published.snapshot.requests(),
        "services": published.snapshot.services().len(),
        "edges": published.snapshot.edges().len(),
        "findings": published.findings.len(),
    });
    Event::default().event("snapshot").id(published.number.to_string()).data(facts.to_string())
}
