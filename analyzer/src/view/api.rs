//! The JSON API: the canonical document, its parts, the tree of paths, the registry, and how the analyzer is doing; and
//! questions that are worked out when they are asked.

mod findings;
mod slots;
mod paths;
mod questions;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Desk;
use super::written::{Part, Written};
use crate::slots::SlidingWindow;

/// Everything below `/api/v1`.
pub(super) fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/document", get(document))
        .route("/services", get(services))
        .route("/edges", get(edges))
        .route("/entries", get(entries))
        .merge(findings::routes())
        .merge(slots::routes())
        .route("/paths", get(tree))
        .route("/breakers", get(breakers))
        .route("/breakers/history", get(breaker_history))
        .route("/registry", get(registry))
        .route("/registry/{service}", get(registered))
        .route("/doctor", get(doctor))
        .route("/status", get(status))
        .route("/score", get(score))
        .route("/blame", get(questions::blame))
        .route("/cuts", get(questions::cuts))
        .route("/whatif", get(questions::what_if))
}

/// What a question may say behind its path.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    /// `1m`, `15m`, `1h`, `24h`; `all` or nothing for everything that is kept.
    window: Option<String>,
    /// For the tree of paths: below which entry.
    entry: Option<String>,
    /// For lists that grow: what comes behind this number.
    after: Option<u64>,
}

/// The same, understood.
struct Asked {
    window: Option<SlidingWindow>,
    entry: Option<String>,
    after: Option<u64>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let bad = |text: &str| problem(StatusCode::BAD_REQUEST, text);
        let query = axum::extract::Query::<Query>::try_from_uri(&parts.uri).map_err(|_| {
            bad("the query cannot be read: only `window`, and `entry` or `after` where it means something, are known")
        })?;
        let Query { window, entry, after } = query.0;
        let window = window_of(window.as_deref()).map_err(|wrong| bad(&wrong))?;
        Ok(Self { window, entry, after })
    }
}

/// The window that is asked for; none for everything that is kept.
fn window_of(word: Option<&str>) -> Result<Option<SlidingWindow>, String> {
    match word {
        None | Some("all") => Ok(None),
        Some(word) => word.parse().map(Some).map_err(|known: &str| format!("no such window: {known}, and all")),
    }
}

async fn document(State(desk): State<Arc<Desk>>, headers: HeaderMap, asked: Asked) -> Response {
    part(&desk, &headers, &asked, Part::Document).await
}

async fn services(State(desk): State<Arc<Desk>>, headers: HeaderMap, asked: Asked) -> Response {
    part(&desk, &headers, &asked, Part::Services).await
}

async fn edges(State(desk): State<Arc<Desk>>, headers: HeaderMap, asked: Asked) -> Response {
    part(&desk, &headers, &asked, Part::Edges).await
}

async fn entries(State(desk): State<Arc<Desk>>, headers: HeaderMap, asked: Asked) -> Response {
    part(&desk, &headers, &asked, Part::Entries).await
}

async fn tree(State(desk): State<Arc<Desk>>, asked: Asked) -> Response {
    let Asked { window, entry, .. } = asked;
    let tree = of_state(&desk, window, move |written| {
        paths::below(&written.published.snapshot, entry.as_deref()).map(|tree| answer(&tree))
    });
    tree.await.map_or_else(defect, |tree| {
        let text = "there is no such entry: give the `id` of one, or its service and endpoint with a blank between";
        tree.unwrap_or_else(|| not_found(text))
    })
}

#[derive(Serialize)]
struct Registered {
    service: String,
    inbound: Vec<SocketAddr>,
}

async fn breakers(State(desk): State<Arc<Desk>>) -> Response {
    let page = desk.board.breakers.lock().page();
    answer(&page)
}

async fn breaker_history(State(desk): State<Arc<Desk>>, asked: Asked) -> Response {
    desk.windows.breakers(asked.window).await.map_or_else(defect, |history| answer(&history))
}

async fn registry(State(desk): State<Arc<Desk>>) -> Response {
    let services = desk.board.registry.lock().services(Instant::now());
    let services: Vec<_> = services.into_iter().map(|(service, inbound)| Registered { service, inbound }).collect();
    answer(&json!({ "services": services }))
}

async fn registered(State(desk): State<Arc<Desk>>, Path(service): Path<String>) -> Response {
    let inbound = desk.board.registry.lock().inbound(&service, Instant::now());
    if inbound.is_empty() {
        return not_found("no running sidecar announces this service");
    }
    answer(&Registered { service, inbound })
}

async fn doctor(State(desk): State<Arc<Desk>>, asked: Asked) -> Response {
    let examined = |written: &Written| answer(&crate::doctor::examine(&written.published.snapshot));
    of_state(&desk, asked.window, examined).await.unwrap_or_else(defect)
}

async fn score(State(desk): State<Arc<Desk>>, asked: Asked) -> Response {
    desk.latest(asked.window).await.map_or_else(defect, |written| answer(&written.published.score))
}

async fn status(State(desk): State<Arc<Desk>>) -> Response {
    answer(&status::status(&desk.board, &desk.writer.latest().published, Instant::now()))
}

/// The answer for paths of the API that are none.
pub(super) fn nothing() -> Response {
    not_found("there is nothing at this path of the API")
}

/// The answer for methods that a path does not have.
pub(super) async fn not_allowed() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "this path does not have this method")
}

/// A large answer, as it was written when its state was shown, or is now.
async fn part(desk: &Desk, headers: &HeaderMap, asked: &Asked, part: Part) -> Response {
    let Some(written) = desk.latest(asked.window).await else { return defect() };
    desk.writer.body(&written, part).await.map_or_else(defect, |body| body.answer(headers))
}

/// What is worked out when it is asked for, where that holds nobody up. None only by a defect.
async fn of_state<T, F>(desk: &Desk, window: Option<SlidingWindow>, work: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce(&Written) -> T + Send + 'static,
{
    let written = desk.latest(window).await?;
    tokio::task::spawn_blocking(move || work(&written)).await.ok()
}

fn answer<T: Serialize>(value: &T) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(value)).into_response()
}

/// An answer that tells what is wrong with the question.
pub(super) fn problem(status: StatusCode, text: &str) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, no_store, Json(json!({ "error": text }))).into_response()
}

fn not_found(text: &str) -> Response {
    problem(StatusCode::NOT_FOUND, text)
}

fn defect() -> Response {
    problem(StatusCode::INTERNAL_SERVER_ERROR, "the document could not be written")
}
