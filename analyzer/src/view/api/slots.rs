//! The slots of ten seconds that are in memory, as they are: what a recording is made of. `couplet record` asks for the
//! list now and then and fetches what is new.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::json;

use super::{Asked, answer, defect, not_found};
use crate::slots::{Slot, archive};
use crate::view::Desk;

pub(super) fn routes() -> Router<Arc<Desk>> {
    Router::new().route("/slots", get(list)).route("/slots/{number}", get(one))
}

/// One slot. Times in milliseconds since the Unix epoch.
#[derive(Serialize)]
struct Listed {
    number: u64,
    start: u64,
    end: u64,
    bytes: usize,
}

async fn list(State(desk): State<Arc<Desk>>, asked: Asked) -> Response {
    let slots = desk.board.shelf.lock().finest(asked.after.unwrap_or(0));
    let bytes = |slot: &Slot| slot.rollups.iter().map(|rollup| rollup.body.len()).sum();
    let listed: Vec<_> = slots
        .iter()
        .map(|slot| Listed { number: slot.number, start: slot.start, end: slot.end, bytes: bytes(slot) })
        .collect();
    // Numbers begin anew when the analyzer does: by this a reader notices it.
    answer(&json!({ "name": desk.board.name, "run": desk.board.run.to_string(), "slots": listed }))
}

/// All reports of a slot: OTLP, gzipped. That they are kept in another form is nobody's business.
async fn one(State(desk): State<Arc<Desk>>, Path(number): Path<u64>) -> Response {
    let Some(slot) = desk.board.shelf.lock().slot_of(number) else {
        return not_found("there is no such slot of ten seconds in memory, or no longer");
    };
    let bounds = desk.windows.bounds();
    let Ok(_turn) = desk.questions.acquire().await else { return defect() };
    let Ok(body) = tokio::task::spawn_blocking(move || archive(&slot.rollups, &bounds)).await else { return defect() };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
        (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Bytes::from(body)).into_response()
}
