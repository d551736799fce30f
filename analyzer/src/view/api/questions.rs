//! Questions about the latest snapshot that take some work: who is to blame, what a cut would gain, which cuts are best.
//!
//! They are answered where they hold nobody up, and only so many at a time.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{answer, defect, not_found, problem};
use crate::blame;
use crate::board::Published;
use crate::judge::Judge;
use crate::view::Desk;
use crate::whatif::{self, Cut};

/// Cuts in one question at most.
const MOST_CUTS: usize = 20;
/// Best cuts that are looked for at most.
const MOST_BEST: usize = 20;

#[derive(Deserialize)]
pub(super) struct OfEntry {
    entry: Option<String>,
}

pub(super) async fn blame(State(desk): State<Arc<Desk>>, query: Result<Query<OfEntry>, QueryRejection>) -> Response {
    let Ok(Query(OfEntry { entry })) = query else {
        return problem(StatusCode::BAD_REQUEST, "the query cannot be read: only `entry` is known here");
    };
    let blamed = ask(&desk, move |_, published| {
        let mut blamed = blame::blame(&published.snapshot);
        if let Some(entry) = &entry {
            blamed.retain(|blame| blame.entry == *entry);
        }
        (entry.is_some() && blamed.is_empty(), blamed)
    });
    match blamed.await {
        Some((true, _)) => not_found("there is no such entry: give its service and endpoint with a blank between"),
        Some((false, entries)) => answer(&json!({ "entries": entries })),
        None => defect(),
    }
}

#[derive(Deserialize)]
pub(super) struct HowMany {
    k: Option<usize>,
}

pub(super) async fn cuts(State(desk): State<Arc<Desk>>, query: Result<Query<HowMany>, QueryRejection>) -> Response {
    let Ok(Query(HowMany { k })) = query else {
        return problem(StatusCode::BAD_REQUEST, "the query cannot be read: only `k`, a number, is known here");
    };
    let k = k.unwrap_or(5).min(MOST_BEST);
    reply(&desk, move |judge, published| {
        let cuts = judge.best_cuts(&published.snapshot, k);
        json!({ "cuts": cuts, "score": published.score.value, "requests": published.snapshot.requests() })
    })
    .await
}

pub(super) async fn what_if(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let Ok(Query(asked)) = query else {
        return problem(StatusCode::BAD_REQUEST, "the query cannot be read");
    };
    if asked.is_empty() || asked.len() > MOST_CUTS {
        return problem(StatusCode::BAD_REQUEST, "name 1 to 20 cuts, such as async=orders->billing");
    }
    let told = ask(&desk, move |judge, published| {
        let snapshot = &published.snapshot;
        let cut =
            |(kind, what): &(String, String)| whatif::parse(snapshot, kind, what).map_err(|error| error.to_string());
        let cuts: Result<Vec<Cut>, String> = asked.iter().map(cut).collect();
        Ok::<_, String>(judge.what_if(snapshot, &cuts?))
    });
    match told.await {
        Some(Ok(told)) => answer(&told),
        Some(Err(wrong)) => problem(StatusCode::BAD_REQUEST, &wrong),
        None => defect(),
    }
}

/// The answer of `work`, as JSON.
async fn reply<T, F>(desk: &Desk, work: F) -> Response
where
    T: Serialize + Send + 'static,
    F: FnOnce(&Judge, &Published) -> T + Send + 'static,
{
    ask(desk, work).await.map_or_else(defect, |told| answer(&told))
}

/// What `work` says of the latest snapshot; none where it ended by a defect.
async fn ask<T, F>(desk: &Desk, work: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce(&Judge, &Published) -> T + Send + 'static,
{
    let _turn = desk.questions.acquire().await.ok()?;
    let (judge, published) = (desk.judge.clone(), desk.board.latest());
    tokio::task::spawn_blocking(move || work(&judge, &published)).await.ok()
}
