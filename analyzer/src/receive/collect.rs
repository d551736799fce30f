//! Traces from exporters: a thread lets spans wait for the rest of their trace, folds what is complete as the importer of
//! files does, and hands it to the recorder as a report per service.
//!
//! An exporter's answer means that its spans were received, not that they are on disk: what waits is lost with the
//! process. Exporters do not repeat what they cannot keep themselves, so more would promise nothing.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use couplet_config::AnalyzerConfig;
use tokio::sync::{oneshot, watch};

use super::recorder::{Delivery, Job};
use super::traces::otlp::Exported;
use super::traces::pending::{Pending, PendingLimits};
use super::traces::{self};
use crate::board::Board;
use crate::counters::Refusal;
use crate::slots::PackedReport;

/// Complete traces are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Where the recorder cannot take a report, it is offered again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The thread that collects.
#[derive(Debug)]
pub(crate) struct Collector {
    pending: Pending,
    jobs: SyncSender<Job>,
    board: Arc<Board>,
    sequence: u64,
    stopping: watch::Receiver<()>,
}

impl Collector {
    pub(crate) fn new(
        config: &AnalyzerConfig,
        board: Arc<Board>,
        jobs: SyncSender<Job>,
        stopping: watch::Receiver<()>,
    ) -> Self {
        let limits = PendingLimits {
            quiet: config.traces.quiet,
            longest: config.traces.longest,
            bytes: config.traces.bytes.as_usize(),
        };
        Self { pending: Pending::new(limits), jobs, board, sequence: 0, stopping }
    }

    /// Works until nobody can send spans any more; what waits then is folded as it is.
    pub(crate) fn run(mut self, spans: &Receiver<Vec<Exported>>) {
        loop {
            let ended = match spans.recv_timeout(LOOK_EVERY) {
                Ok(spans) => {
                    let now = Instant::now();
                    spans.into_iter().for_each(|span| self.pending.add(span, now));
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            let complete = if ended { self.pending.drain() } else { self.pending.complete(Instant::now()) };
            let counts = self.pending.counts;
            let counters = &self.board.counters;
            counters.spans_late.set(counts.late);
            counters.traces_early.set(counts.early);
            counters.spans_dropped.set(counts.dropped);
            counters.span_bytes.set(self.pending.bytes() as u64);
            if !complete.is_empty() && !self.report(complete) || ended {
                return;
            }
        }
    }

    /// Hands over what complete traces say. False where there is no recorder any more.
    fn report(&mut self, complete: Vec<traces::pending::Complete>) -> bool {
        self.board.counters.traces.add(complete.len() as u64);
        self.sequence += 1;
        let (reports, unusable) = traces::fold_live(complete);
        self.board.counters.spans_set_aside.add(unusable);
        let (run, sequence) = (self.board.run, self.sequence);
        let stored = reports.into_iter().map(|mut report| {
            report.origin.instance = format!("traces-{}-{run:x}", report.origin.service);
            report.sequence = sequence;
            PackedReport::new(report)
        });
        let reports: Vec<_> = stored.collect();
        if reports.is_empty() {
            return true;
        }
        // Its sequence makes it count once, however often it is offered.
        loop {
            let (answer, answered) = oneshot::channel();
            if self.jobs.send(Job::Record(Delivery { reports: reports.clone(), answer })).is_err() {
                return false;
            }
            match answered.blocking_recv() {
                // What is shown is only shown.
                Ok(Ok(()) | Err(Refusal::Recording)) => return true,
                // Who is told to stop has closed the other end of this.
                Ok(Err(_)) if self.stopping.has_changed().is_ok() => std::thread::sleep(AGAIN_AFTER),
                Ok(Err(_)) => return false,
                Err(_) => return false,
            }
        }
    }
}
