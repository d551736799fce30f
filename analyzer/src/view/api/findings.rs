//! Findings with what is remembered of them: when they were seen, whether somebody lives with them, whether they are
//! fixed. And the one thing that the API lets people change: acknowledgements.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Asked, answer, defect, not_found, part, problem};
use crate::casebook::{Acknowledgement, Case, MAX_NOTE_BYTES};
use crate::receive::otlp::is_bearer;
use crate::receive::recorder::{Job, unix_millis};
use crate::view::Desk;
use crate::view::listed::{Life, Shown};
use crate::view::written::Part;

pub(super) fn routes() -> Router<Arc<Desk>> {
    use axum::routing::{get, put};
    Router::new()
        .route("/findings", get(list))
        .route("/findings/{id}", get(one))
        .route("/findings/{id}/acknowledgement", put(acknowledge).delete(take_back))
        .route("/cases", get(cases))
        .route("/timeline", get(timeline))
}

#[derive(Serialize)]
struct ShownCase<'a> {
    id: &'a str,
    rule: &'a str,
    severity: &'a str,
    title: &'a str,
    #[serde(flatten)]
    life: Life,
}

async fn list(State(desk): State<Arc<Desk>>, headers: HeaderMap, asked: Asked) -> Response {
    part(&desk, &headers, &asked, Part::Findings).await
}

async fn one(State(desk): State<Arc<Desk>>, Path(id): Path<String>, asked: Asked) -> Response {
    let Some(written) = desk.latest(asked.window).await else { return defect() };
    let book = desk.board.casebook.lock();
    match written.published.findings.iter().find(|finding| finding.id == id) {
        Some(finding) => answer(&Shown::new(&book, finding, unix_millis())),
        None => not_found("there is no finding with this id at present"),
    }
}

/// Every finding that is remembered, fixed ones among them.
async fn cases(State(desk): State<Arc<Desk>>) -> Response {
    let book = desk.board.casebook.lock();
    let now = unix_millis();
    let case = |case: &'_ Case| {
        let Case { id, rule, severity, title, .. } = case;
        json!(ShownCase { id, rule, severity, title, life: Life::new(&book, case, now) })
    };
    let cases: Vec<_> = book.cases().map(case).collect();
    answer(&json!({ "cases": cases }))
}

async fn timeline(State(desk): State<Arc<Desk>>, asked: Asked) -> Response {
    let events = desk.board.timeline.lock().after(asked.after.unwrap_or(0));
    answer(&json!({ "events": events }))
}

/// What may be said of a finding. Times in seconds since the Unix epoch.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    until: Option<f64>,
    #[serde(default)]
    note: String,
}

async fn acknowledge(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    said: Result<Json<Said>, JsonRejection>,
) -> Response {
    // A page of another origin can send no JSON without being asked whether it may, and it is not.
    let Ok(Json(said)) = said else {
        let text = r#"send JSON with the content type application/json: {"note": "why", "until": seconds}"#;
        return problem(StatusCode::BAD_REQUEST, text);
    };
    if said.note.len() > MAX_NOTE_BYTES {
        return problem(StatusCode::BAD_REQUEST, "a note has 1000 bytes at most");
    }
    let until = said.until.map(|until| (until * 1_000.0) as u64);
    change(&desk, id, &headers, Some(Acknowledgement { at: 0, until, note: said.note })).await
}

async fn take_back(State(desk): State<Arc<Desk>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    change(&desk, id, &headers, None).await
}

async fn change(desk: &Desk, finding: String, headers: &HeaderMap, given: Option<Acknowledgement>) -> Response {
    if !is_bearer(headers, desk.token.as_ref()) {
        let wants = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (wants, problem(StatusCode::UNAUTHORIZED, "changes need the bearer token of this analyzer"))
            .into_response();
    }
    let (sender, answered) = oneshot::channel();
    if desk.jobs.try_send(Job::Acknowledge { finding, given, answer: sender }).is_err() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "too much is waiting to be recorded");
    }
    match answered.await {
        Ok(Some(true)) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(false)) => not_found("there is no such finding, or no acknowledgement of it"),
        _ => problem(StatusCode::SERVICE_UNAVAILABLE, "this cannot be written down at present"),
    }
}
