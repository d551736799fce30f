//! Reads cuts as people write them: `async orders->billing`, `cache web->catalog=0.9`, `merge orders,billing`.

use thiserror::Error;

use super::Cut;
use crate::graph::{ServiceIx, Snapshot};

/// Why a text is no cut of this system.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CutError {
    /// No such kind of cut.
    #[error("`{0}` is no cut: use async, cache, batch, parallel, merge or breaker")]
    Kind(String),
    /// Not two services where two are needed.
    #[error("`{0}` names no {1}")]
    Shape(String, &'static str),
    /// A service that was not seen.
    #[error("there is no service `{0}` in what was recorded")]
    Service(String),
    /// Calls that were not seen.
    #[error("`{0}` never called `{1}` in what was recorded")]
    Edge(String, String),
    /// No share.
    #[error("`{0}` is no share of calls between 0 and 1, such as 0.9")]
    Share(String),
}

/// Reads a cut: its kind, and what is cut.
///
/// # Errors
/// Where it is not written as a cut, or names what was not seen.
pub fn parse(snapshot: &Snapshot, kind: &str, what: &str) -> Result<Cut, CutError> {
    let service = |name: &str| {
        let found = snapshot.services().binary_search_by(|service| (*service.name).cmp(name));
        found.ok().and_then(|at| snapshot.service_indices().nth(at)).ok_or_else(|| CutError::Service(clean(name)))
    };
    let pair = |text: &str, between: &str, shape: &'static str| {
        let (a, b) = text.split_once(between).ok_or_else(|| CutError::Shape(clean(text), shape))?;
        Ok((service(a.trim())?, service(b.trim())?))
    };
    let edge = |text: &str| {
        let (a, b) = pair(text, "->", "edge, such as orders->billing")?;
        let known = snapshot.edges().binary_search_by_key(&(a, b), |edge| (edge.source, edge.destination));
        let name = |service: ServiceIx| snapshot[service].name.to_string();
        known.map(|_| (a, b)).map_err(|_| CutError::Edge(name(a), name(b)))
    };
    match kind {
        "async" => edge(what).map(|(a, b)| Cut::Async(a, b)),
        "batch" => edge(what).map(|(a, b)| Cut::Batch(a, b)),
        "breaker" => edge(what).map(|(a, b)| Cut::Breaker(a, b)),
        "parallel" => service(what).map(Cut::Parallel),
        "merge" => pair(what, ",", "two services, such as orders,billing").map(|(a, b)| Cut::Merge(a, b)),
        "cache" => {
            let (on, share) = what.rsplit_once('=').unwrap_or((what, USUAL_SHARE));
            let parsed = share.parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share));
            let share = parsed.ok_or_else(|| CutError::Share(clean(share)))?;
            edge(on).map(|(a, b)| Cut::Cache(a, b, share))
        }
        other => Err(CutError::Kind(clean(other))),
    }
}

/// Share of calls that a cache answers where nobody says otherwise.
const USUAL_SHARE: &str = "0.8";

/// Part of a question, for an answer: short and without what moves a cursor.
fn clean(text: &str) -> String {
    text.chars().take(100).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
