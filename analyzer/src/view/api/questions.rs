//! Questions about the latest snapshot, or that of a sliding window, that take some work: who is to blame, what a cut would gain, which cuts are best.
//!
//! They are answered where they hold nobody up, and only so many at a time.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{Asked, answer, defect, not_found, problem, window_of};
use crate::blame;
use crate::board::Published;
use crate::judge::Judge;
use crate::slots::SlidingWindow;
use crate::view::Desk;
use crate::whatif::{self, Cut};

/// Cuts in one question at most.
const MOST_CUTS: usize = 20;
/// Best cuts that are looked for at most.
const MOST_BEST: usize = 20;

pub(super) async fn blame(State(desk): State<Arc<Desk>>, asked: Asked) -> Response {
    let Asked { window, entry, .. } = asked;
    let blamed = ask(&desk, window, move |_, published| {
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
#[serde(deny_unknown_fields)]
pub(super) struct HowMany {
    k: Option<usize>,
    window: Option<String>,
}

pub(super) async fn cuts(State(desk): State<Arc<Desk>>, query: Result<Query<HowMany>, QueryRejection>) -> Response {
    let Ok(Query(HowMany { k, window })) = query else {
        let text = "the query cannot be read: only `k`, a number, and `window` are known here";
        return problem(StatusCode::BAD_REQUEST, text);
    };
    let window = match window_of(window.as_deref()) {
        Ok(window) => window,
        Err(wrong) => return problem(StatusCode::BAD_REQUEST, &wrong),
    };
    let k = k.unwrap_or(5).min(MOST_BEST);
    let told = ask(&desk, window, move |judge, published| {
        let cuts = judge.best_cuts(&published.snapshot, k);
        json!({ "cuts": cuts, "score": published.score.value, "requests": published.snapshot.requests() })
    });
    told.await.map_or_else(defect, |told| answer(&told))
}

pub(super) async fn what_if(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let Ok(Query(mut asked)) = query else {
        return problem(StatusCode::BAD_REQUEST, "the query cannot be read");
    };
    let window = asked.iter().position(|(key, _)| key == "window").map(|at| asked.remove(at).1);
    let window = match window_of(window.as_deref()) {
        Ok(window) => window,
        Err(wrong) => return problem(StatusCode::BAD_REQUEST, &wrong),
    };
    if asked.is_empty() || asked.len() > MOST_CUTS {
        return problem(StatusCode::BAD_REQUEST, "name 1 to 20 cuts, such as async=orders->billing");
    }
    let told = ask(&desk, window, move |judge, published| {
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

/// What `work` says of the latest snapshot, or of that of a window; none where it ended by a defect.
async fn ask<T, F>(desk: &Desk, window: Option<SlidingWindow>, work: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce(&Judge, &Published) -> T + Send + 'static,
{
    let _turn = desk.questions.acquire().await.ok()?;
    let published = Arc::clone(&desk.latest(window).await?.published);
    let judge = desk.judge.clone();
    tokio::task::spawn_blocking(move || work(&judge, &published)).await.ok()
}
