//! The one thread that changes anything: it decides about reports, stores them, applies them, and publishes snapshots.
//!
//! Reports that wait together share a transaction. A report is acknowledged only after its transaction is committed
//! and the graph holds it; where the transaction fails, nothing of it happened, and the proxies send it again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use couplet_config::{AnalyzerConfig, Architecture, FindingThresholds};
use couplet_telemetry::otlp::{self, Bounds, Decoded};
use couplet_telemetry::report::Report;
use tokio::sync::oneshot;

use super::gzip;
use super::ledger::{Ledger, Verdict};
use crate::board::{Board, Published};
use crate::counters::Refusal;
use crate::findings;
use crate::graph::{Graph, GraphLimits};
use crate::history::{History, HistoryError, Retention, Stored};

/// Requests that share a transaction at most.
const BATCH_REQUESTS: usize = 256;
/// Bytes that share a transaction at most, the last request excepted.
const BATCH_BYTES: usize = 32 << 20;
/// Old history and silent sidecars are looked for this often.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// One request that waits for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Job {
    /// The reports of the request, each with its OTLP form.
    pub(crate) reports: Vec<(Report, Bytes)>,
    /// Where the acknowledgement goes. That nobody waits any more changes nothing: the report is here.
    pub(crate) answer: oneshot::Sender<Result<(), Refusal>>,
}

/// What the thread owns.
#[derive(Debug)]
pub(crate) struct Recorder {
    graph: Graph,
    ledger: Ledger,
    /// None where everything is kept in memory only.
    history: Option<History>,
    board: Arc<Board>,
    thresholds: FindingThresholds,
    architecture: Architecture,
    findings_kept: usize,
    snapshot_every: Duration,
    /// Whether the graph holds what the last snapshot does not.
    dirty: bool,
    snapshots: u64,
    next_snapshot: Instant,
    next_tidy: Instant,
    /// So that a full disk is one line in the log, and not one per report.
    history_fails: bool,
}

impl Recorder {
    /// Opens the history, where one is configured, and rebuilds graph and ledger from it.
    pub(crate) fn open(
        config: &AnalyzerConfig,
        architecture: Architecture,
        board: Arc<Board>,
        now: Instant,
    ) -> Result<Self, HistoryError> {
        let mut recorder = Self {
            graph: Graph::new(GraphLimits::from(&config.limits)),
            ledger: Ledger::new(config.limits.proxies),
            history: None,
            board,
            thresholds: config.findings.clone(),
            architecture,
            findings_kept: config.limits.findings,
            snapshot_every: config.snapshot_every,
            dirty: false,
            snapshots: 0,
            next_snapshot: now,
            next_tidy: now,
            history_fails: false,
        };
        if let Some(directory) = &config.data {
            let retention = Retention {
                bytes: config.limits.history_bytes,
                age: config.limits.history_age,
                instances: config.limits.proxies,
            };
            let mut history = History::open(directory, retention, unix_millis())?;
            match recorder.replay(&history, config) {
                Err(damage) if damage.is_damage() => {
                    history.begin_anew(&damage, unix_millis())?;
                    recorder.graph = Graph::new(GraphLimits::from(&config.limits));
                    recorder.ledger = Ledger::new(config.limits.proxies);
                    recorder.replay(&history, config)?;
                }
                replayed => replayed?,
            }
            recorder.history = Some(history);
        }
        recorder.tidy_if_due(now);
        recorder.publish_if_due(now);
        Ok(recorder)
    }

    /// Works until nobody can send jobs any more.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        let _ended = Ended(Arc::clone(&self.board));
        loop {
            let wait = if self.dirty { self.next_snapshot } else { self.next_tidy };
            match jobs.recv_timeout(wait.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    let batch = gather(first, jobs);
                    self.record(batch, unix_millis(), Instant::now());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.publish_if_due(Instant::now());
            self.tidy_if_due(Instant::now());
        }
        if let Some(history) = self.history {
            history.close();
        }
    }

    fn replay(&mut self, history: &History, config: &AnalyzerConfig) -> Result<(), HistoryError> {
        let bounds = bounds(config);
        let graph = &mut self.graph;
        let limit = config.limits.report_bytes.as_usize();
        let replayed = history.replay(|body| match decode(body, &bounds, limit) {
            Some(decoded) => {
                decoded.reports.iter().for_each(|report| graph.apply(report));
                true
            }
            None => false,
        })?;
        for (instance, sequence, seen) in history.instances()? {
            self.ledger.remember(instance, sequence, seen);
        }
        self.dirty = replayed.reports > 0;
        let counters = &self.board.counters;
        counters.replayed.add(replayed.reports);
        counters.history_damaged.add(replayed.damaged);
        counters.instances.set(self.ledger.len() as u64);
        tracing::info!(reports = replayed.reports, damaged = replayed.damaged, "history replayed");
        Ok(())
    }

    /// Records a batch of requests and acknowledges each.
    fn record(&mut self, batch: Vec<Job>, received: u64, now: Instant) {
        let judged = self.judge(&batch, received);
        let safe = self.store(&batch, &judged, received);
        if safe {
            self.ledger.settle();
        } else {
            self.ledger.undo();
        }
        for (job, verdicts) in batch.into_iter().zip(judged) {
            let full = verdicts.contains(&Verdict::Full);
            if safe {
                self.apply(&job, &verdicts, now);
            }
            let answer = match (safe, full) {
                (false, _) => Err(Refusal::History),
                (true, true) => Err(Refusal::Proxies),
                (true, false) => Ok(()),
            };
            let _ = job.answer.send(answer); // a proxy that hung up sends again, and is told it is a duplicate
        }
        self.board.counters.instances.set(self.ledger.len() as u64);
    }

    /// The verdict about every report of every job.
    fn judge(&mut self, batch: &[Job], received: u64) -> Vec<Vec<Verdict>> {
        let ledger = &mut self.ledger;
        let mut enter =
            |(report, _): &(Report, Bytes)| ledger.enter(&report.origin.instance, report.sequence, received);
        batch.iter().map(|job| job.reports.iter().map(&mut enter).collect()).collect()
    }

    /// Writes what is fresh to the history; whether it is safe there.
    fn store(&mut self, batch: &[Job], judged: &[Vec<Verdict>], received: u64) -> bool {
        let Some(history) = &mut self.history else { return true };
        let reports = batch.iter().flat_map(|job| &job.reports).zip(judged.iter().flatten());
        let fresh: Vec<_> = reports
            .filter(|(_, verdict)| matches!(verdict, Verdict::Fresh { .. }))
            .map(|((report, body), _)| Stored {
                instance: &report.origin.instance,
                sequence: report.sequence,
                received,
                start: report.start,
                end: report.end,
                body,
            })
            .collect();
        if fresh.is_empty() {
            return true;
        }
        let stored = match history.store(fresh.clone()) {
            // Only a fresh file helps; what it has lost is still in the graph.
            Err(damage) if damage.is_damage() => {
                history.begin_anew(&damage, received).and_then(|()| history.store(fresh))
            }
            stored => stored,
        };
        match (&stored, self.history_fails) {
            (Err(error), false) => {
                tracing::error!(%error, "reports are refused until the history can be written again");
            }
            (Ok(()), true) => tracing::info!("the history can be written again"),
            _ => {}
        }
        self.history_fails = stored.is_err();
        stored.is_ok()
    }

    fn apply(&mut self, job: &Job, verdicts: &[Verdict], now: Instant) {
        let counters = &self.board.counters;
        for ((report, _), verdict) in job.reports.iter().zip(verdicts) {
            match verdict {
                Verdict::Fresh { missing } => {
                    self.graph.apply(report);
                    self.board.registry.lock().hear(report, now);
                    self.board.applied(now);
                    self.dirty = true;
                    counters.reports.add(1);
                    counters.missing.add(*missing);
                }
                Verdict::Duplicate => counters.duplicates.add(1),
                Verdict::Full => {}
            }
        }
    }

    /// Publishes a snapshot where there is something new and it is time. A graph so large that a snapshot takes long
    /// is shown less often: at most half of the time goes into snapshots.
    fn publish_if_due(&mut self, now: Instant) {
        if !self.dirty || now < self.next_snapshot {
            return;
        }
        let snapshot = self.graph.snapshot();
        let mut found = findings::findings(&snapshot, &self.thresholds, &self.architecture);
        found.truncate(self.findings_kept);
        self.snapshots += 1;
        self.dirty = false;
        self.board.publish(Published::new(self.snapshots, snapshot, found));
        let took = now.elapsed();
        self.next_snapshot = now + took + took.max(self.snapshot_every);
    }

    /// Deletes old history, and forgets sidecars that are silent.
    fn tidy_if_due(&mut self, now: Instant) {
        if now < self.next_tidy {
            return;
        }
        self.next_tidy = now + TIDY_EVERY;
        self.board.registry.lock().forget(now);
        let Some(history) = &mut self.history else { return };
        let counters = &self.board.counters;
        match history.prune(unix_millis()).and_then(|pruned| Ok((pruned, history.bytes()?))) {
            Ok((pruned, bytes)) => {
                counters.history_pruned.add(pruned.reports);
                counters.history_bytes.set(bytes);
            }
            Err(error) => tracing::warn!(%error, "old history could not be deleted"),
        }
    }
}

/// Tells the board when the thread ends, for whatever reason.
struct Ended(Arc<Board>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.recording_ended();
    }
}

/// Reads what was stored: a report as it was received.
fn decode(body: &[u8], bounds: &Bounds, limit: usize) -> Option<Decoded> {
    if gzip::is_packed(body) {
        otlp::decode(&gzip::unpack(body, limit).ok()?, bounds).ok()
    } else {
        otlp::decode(body, bounds).ok()
    }
}

/// What a report may hold at most.
pub(crate) fn bounds(config: &AnalyzerConfig) -> Bounds {
    Bounds { paths: config.limits.paths, calls: config.limits.edges }
}

/// The first job and those that already wait behind it.
fn gather(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    let size = |job: &Job| job.reports.iter().map(|(_, body)| body.len()).sum::<usize>();
    let mut bytes = size(&first);
    let mut batch = vec![first];
    while batch.len() < BATCH_REQUESTS && bytes < BATCH_BYTES {
        match jobs.try_recv() {
            Ok(job) => {
                bytes += size(&job);
                batch.push(job);
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    batch
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
