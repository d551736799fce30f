//! The states of the sliding windows: made when somebody asks, from the slots in memory, and kept for a while.
//!
//! A long window of a large system takes its time. It is made where it holds nobody up, and not again before as much
//! time has passed as it took: whoever asks meanwhile sees the last one, which says of which time it tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use couplet_config::AnalyzerConfig;
use couplet_telemetry::otlp::Bounds;
use tokio::sync::Mutex;

use super::written::Written;
use crate::board::{Board, Published};
use crate::breakers::{BreakerHistory, Steps};
use crate::graph::{Graph, GraphLimits};
use crate::judge::Judge;
use crate::receive::recorder::{bounds, unix_millis};
use crate::slots::{Rollup, Shelf, SlidingWindow};

/// A window that nobody has asked for this long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Makes the states of sliding windows.
#[derive(Debug)]
pub(super) struct Windows {
    board: Arc<Board>,
    judge: Judge,
    bounds: Bounds,
    limits: GraphLimits,
    /// Whether a recording is shown: then it ends when the recording does, not now.
    recorded: bool,
    kept: Mutex<BTreeMap<SlidingWindow, Kept>>,
}

#[derive(Debug)]
struct Kept {
    written: Arc<Written>,
    /// Which rollups it is made of: their addresses, while they are here.
    of: Vec<Arc<Rollup>>,
    /// Before this it is not made again.
    until: Instant,
    asked: Instant,
}

impl Windows {
    pub(super) fn new(config: &AnalyzerConfig, judge: Judge, board: Arc<Board>) -> Self {
        Self {
            board,
            judge,
            bounds: bounds(config),
            limits: GraphLimits::from(&config.limits),
            recorded: config.recording.is_some(),
            kept: Mutex::default(),
        }
    }

    /// What breakers saw within a window, or at any time, in the finest steps that are kept. None only by a defect.
    pub(super) async fn breakers(&self, window: Option<SlidingWindow>) -> Option<BreakerHistory> {
        let (of, bounds) = (self.rollups(|shelf, end| shelf.finest_of(window, end)), self.bounds);
        let make = move || {
            let mut steps = Steps::default();
            for rollup in &of {
                let times = (rollup.start, rollup.end);
                rollup.reports(&bounds).iter().flatten().for_each(|report| steps.hear(report, times));
            }
            steps.finish()
        };
        tokio::task::spawn_blocking(make).await.ok()
    }

    /// What reports may hold.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn rollups(&self, choose: impl FnOnce(&Shelf, u64) -> Vec<Arc<Rollup>>) -> Vec<Arc<Rollup>> {
        let shelf = self.board.shelf.lock();
        let end = if self.recorded { shelf.end().unwrap_or(0) } else { unix_millis() };
        choose(&shelf, end)
    }

    /// The state of a window. Who asks while it is made waits for it. None only where that failed by a defect.
    pub(super) async fn latest(&self, window: SlidingWindow) -> Option<Arc<Written>> {
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        kept.retain(|_, kept| now.saturating_duration_since(kept.asked) < FORGOTTEN_AFTER);
        let of = self.rollups(|shelf, end| shelf.cover(window, end));
        if let Some(kept) = kept.get_mut(&window) {
            kept.asked = now;
            let same = kept.of.len() == of.len() && kept.of.iter().zip(&of).all(|(a, b)| Arc::ptr_eq(a, b));
            if same || now < kept.until {
                return Some(Arc::clone(&kept.written));
            }
        }
        let (board, judge, bounds, limits) = (Arc::clone(&self.board), self.judge.clone(), self.bounds, self.limits);
        let rollups = of.clone();
        let make = move || {
            let mut graph = Graph::new(limits);
            for rollup in &rollups {
                let _ = rollup.add_to(&mut graph, &bounds); // what is here was read once before
            }
            let snapshot = graph.into_snapshot();
            let ((findings, score), roles) = (judge.judge(&snapshot), judge.roles(&snapshot));
            let published = Published::new(board.latest().number, snapshot, findings, score);
            Written::new(Arc::new(published.with_roles(roles)))
        };
        let written = Arc::new(tokio::task::spawn_blocking(make).await.ok()?);
        let until = now + 2 * now.elapsed();
        kept.insert(window, Kept { written: Arc::clone(&written), of, until, asked: now });
        Some(written)
    }
}
