//! How the analyzer itself is doing.

use std::collections::BTreeMap;
use std::time::Instant;

use couplet_telemetry::outcome::Evidence;
use serde::Serialize;

use crate::board::{Board, Published};
use crate::counters::Refusal;

/// How the analyzer itself is doing.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    name: String,
    uptime_seconds: f64,
    /// Reports applied since the start.
    reports: u64,
    /// Reports that came again.
    duplicates: u64,
    /// Requests that were refused.
    rejected: u64,
    /// Sidecars that report at present.
    proxies: usize,
    /// Number of the latest snapshot.
    snapshot: u64,
    /// How long the oldest report that the latest snapshot does not show has been waiting.
    lag_seconds: f64,
    /// Share of exact links; none before the first call.
    coverage: Option<f64>,
    /// What the limits cost, and how close some are; only what is not zero.
    limits: BTreeMap<String, u64>,
}

pub(super) fn status(board: &Board, latest: &Published, now: Instant) -> Status {
    let links = latest.snapshot.links();
    let total = links.total();
    Status {
        version: env!("CARGO_PKG_VERSION"),
        name: board.name.clone(),
        uptime_seconds: now.saturating_duration_since(board.started).as_secs_f64(),
        reports: board.counters.reports.get(),
        duplicates: board.counters.duplicates.get(),
        rejected: board.counters.refused_total(),
        proxies: board.registry.lock().alive(now),
        snapshot: latest.number,
        lag_seconds: board.lag_of(latest, now).as_secs_f64(),
        coverage: (total > 0).then(|| links.get(Evidence::Exact) as f64 / total as f64),
        limits: limits(board, latest),
    }
}

fn limits(board: &Board, latest: &Published) -> BTreeMap<String, u64> {
    let counters = &board.counters;
    let own = [
        ("connections", counters.connections.get()),
        ("connections_refused", counters.connections_refused.get()),
        ("accept_errors", counters.accept_errors.get()),
        ("ui_clients", counters.ui_clients.get()),
        ("ui_clients_refused", counters.ui_clients_refused.get()),
        ("instances", counters.instances.get()),
        ("missing_reports", counters.missing.get()),
        ("foreign_points", counters.foreign_points.get()),
        ("history_bytes", counters.history_bytes.get()),
        ("history_damaged", counters.history_damaged.get()),
        ("history_damages", counters.history_damages.get()),
        ("history_pruned", counters.history_pruned.get()),
        ("replayed", counters.replayed.get()),
        ("history_failing", counters.history_failing.get()),
        ("history_failures", counters.history_failures.get()),
        ("traces", counters.traces.get()),
        ("traces_early", counters.traces_early.get()),
        ("spans", counters.spans.get()),
        ("spans_late", counters.spans_late.get()),
        ("spans_dropped", counters.spans_dropped.get()),
        ("spans_set_aside", counters.spans_set_aside.get()),
        ("span_bytes", counters.span_bytes.get()),
        ("notes_lost", counters.notes_lost.get()),
        ("slot_bytes", counters.slot_bytes.get()),
        ("slots_dropped", counters.slots_dropped.get()),
        ("findings_forgotten", board.casebook_marks.lost()),
    ];
    let own = own.into_iter().map(|(name, count)| (name.to_owned(), count));
    let refused =
        Refusal::ALL.into_iter().map(|refusal| (format!("rejected_{}", refusal.as_str()), counters.refused(refusal)));
    let lost = latest.snapshot.losses().iter().map(|(name, count)| (format!("lost_{name}"), *count));
    own.chain(refused).chain(lost).filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use couplet_config::AnalyzerLimits;

    use super::*;
    use crate::graph::Snapshot;
    use crate::score::Score;

    #[test]
    fn status_is_told_while_somebody_writes_in_the_casebook() {
        let first = Published::new(0, Snapshot::default(), Vec::new(), Score::default());
        let board = Board::new("shop".to_owned(), &AnalyzerLimits::default(), Instant::now(), first);
        let (answer, answered) = channel();
        std::thread::scope(|scope| {
            let book = board.casebook.lock();
            scope.spawn(|| answer.send(status(&board, &board.latest(), Instant::now()).name));
            let answered = answered.recv_timeout(Duration::from_secs(20));
            drop(book);
            assert_eq!(answered.as_deref(), Ok("shop"));
        });
    }
}
