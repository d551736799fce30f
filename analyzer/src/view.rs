//! What the world sees of a snapshot: the page, the API behind it, metrics, probes.

mod events;
mod api;
mod page;
mod metrics;
mod pieces;
mod sliding;
mod written;
mod listed;
pub mod document;
mod composed;
mod expected;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use couplet_config::{AnalyzerConfig, Secret};
use http::{StatusCode, Uri, header};
use tokio::sync::{Semaphore, watch};

use crate::board::Board;
use crate::judge::Judge;
use crate::receive::recorder::Job;
use crate::slots::SlidingWindow;
use pieces::Pieces;
use written::Part;

/// What the views share.
struct Desk {
    board: Arc<Board>,
    writer: Arc<written::Writer>,
    windows: sliding::Windows,
    judge: Judge,
    /// To the recorder: what people say about findings.
    jobs: SyncSender<Job>,
    token: Option<Secret>,
    /// Pages that may still listen for snapshots.
    seats: Arc<Semaphore>,
    /// Questions that may be worked on at the same time.
    questions: Semaphore,
    stopping: watch::Receiver<()>,
}

/// A question may take a whole processor for some time.
const QUESTIONS_AT_ONCE: usize = 1;

/// Everything that can be looked at, and what keeps it up to date for as long as it is polled.
pub(crate) fn routes(
    config: &AnalyzerConfig,
    judge: Judge,
    board: Arc<Board>,
    jobs: SyncSender<Job>,
    stopping: watch::Receiver<()>,
) -> (Router, impl Future<Output = ()> + use<>) {
    let writer = Arc::new(written::Writer::new(Arc::clone(&board)));
    let keeping_up = Arc::clone(&writer).keep_up();
    let desk = Desk {
        windows: sliding::Windows::new(config, judge.clone(), Arc::clone(&board)),
        judge,
        jobs,
        token: config.token.clone(),
        writer,
        board,
        seats: Arc::new(Semaphore::new(config.limits.ui_clients.min(Semaphore::MAX_PERMITS))),
        questions: Semaphore::new(QUESTIONS_AT_ONCE),
        stopping,
    };
    let api = api::routes().route("/events", get(events::events));
    let routes = Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(scrape))
        .route("/livez", get(alive))
        .route("/healthz", get(alive))
        .route("/readyz", get(alive))
        .merge(page::routes())
        .fallback(nothing)
        .method_not_allowed_fallback(api::not_allowed)
        .with_state(Arc::new(desk));
    (routes, keeping_up)
}

impl Desk {
    /// The state of a sliding window, or of everything. None only where that failed by a defect.
    async fn latest(&self, window: Option<SlidingWindow>) -> Option<Arc<written::Written>> {
        match window {
            Some(window) => self.windows.latest(window).await,
            None => Some(self.writer.latest()),
        }
    }
}

/// Programs want to read JSON, people a sentence.
async fn nothing(uri: Uri) -> Response {
    if uri.path().starts_with("/api/") { api::nothing() } else { page::nothing() }
}

async fn scrape(State(desk): State<Arc<Desk>>) -> Response {
    let written = desk.writer.latest();
    let Some(graph) = desk.writer.body(&written, Part::Metrics).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let own = metrics::of_analyzer(&written.published, &desk.board, Instant::now());
    let body = Body::new(Pieces::new([graph.bytes, own.into()]));
    ([(header::CONTENT_TYPE, couplet_telemetry::exposition::MEDIA_TYPE)], body).into_response()
}

/// Alive and ready are the same: whoever can connect finds the history replayed, and without a recorder nothing works.
async fn alive(State(desk): State<Arc<Desk>>) -> Response {
    if desk.board.is_recording() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "reports are no longer recorded: start the analyzer again\n").into_response()
    }
}
