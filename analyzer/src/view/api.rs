//! The JSON API: the canonical document, its parts, the tree of paths, the registry, and how the analyzer is doing.

mod paths;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Desk;
use super::written::Written;

/// Everything below `/api/v1`.
pub(super) fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/document", get(document))
        .route("/services", get(services))
        .route("/edges", get(edges))
        .route("/entries", get(entries))
        .route("/findings", get(findings))
        .route("/findings/{id}", get(finding))
        .route("/paths", get(tree))
        .route("/registry", get(registry))
        .route("/registry/{service}", get(registered))
        .route("/status", get(status))
}

async fn document(State(desk): State<Arc<Desk>>) -> Response {
    match desk.writer.latest().await {
        Some(written) => {
            let json = HeaderValue::from_static("application/json");
            let headers = [(header::CONTENT_TYPE, json), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            (headers, written.json.clone()).into_response()
        }
        None => defect(),
    }
}

async fn services(State(desk): State<Arc<Desk>>) -> Response {
    part(&desk, |written| answer(&json!({ "services": written.document.services }))).await
}

async fn edges(State(desk): State<Arc<Desk>>) -> Response {
    part(&desk, |written| answer(&json!({ "edges": written.document.edges }))).await
}

async fn entries(State(desk): State<Arc<Desk>>) -> Response {
    part(&desk, |written| answer(&json!({ "entries": written.document.entries }))).await
}

async fn findings(State(desk): State<Arc<Desk>>) -> Response {
    answer(&json!({ "findings": desk.board.latest().findings }))
}

async fn finding(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Response {
    let latest = desk.board.latest();
    match latest.findings.iter().find(|finding| finding.id == id) {
        Some(finding) => answer(finding),
        None => not_found("there is no finding with this id at present"),
    }
}

#[derive(Deserialize)]
struct Below {
    entry: Option<String>,
}

async fn tree(State(desk): State<Arc<Desk>>, query: Result<Query<Below>, QueryRejection>) -> Response {
    let Ok(Query(below)) = query else {
        return problem(StatusCode::BAD_REQUEST, "the query cannot be read: only `entry` is known here");
    };
    let latest = desk.board.latest();
    match paths::below(&latest.snapshot, below.entry.as_deref()) {
        Some(tree) => answer(&tree),
        None => {
            not_found("there is no such entry: give the `id` of one, or its service and endpoint with a blank between")
        }
    }
}

#[derive(Serialize)]
struct Registered {
    service: String,
    inbound: Vec<SocketAddr>,
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

async fn status(State(desk): State<Arc<Desk>>) -> Response {
    answer(&status::status(&desk.board, Instant::now()))
}

/// The answer for paths of the API that are none.
pub(super) fn nothing() -> Response {
    not_found("there is nothing at this path of the API")
}

/// The answer for methods that a path does not have.
pub(super) async fn not_allowed() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "this path does not have this method")
}

async fn part(desk: &Desk, of: impl FnOnce(&Written) -> Response) -> Response {
    desk.writer.latest().await.map_or_else(defect, |written| of(&written))
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
