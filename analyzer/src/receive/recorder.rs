//! The one thread that changes anything: it decides about reports, stores them, applies them, and publishes snapshots.
//!
//! Reports that wait together share a transaction, and where many come, they wait for one another: the first one after a
//! pause is recorded at once, those right behind it together. A report is acknowledged only after its transaction is committed
//! and the graph holds it; where the transaction fails, nothing of it happened, and the proxies send it again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use couplet_config::AnalyzerConfig;
use couplet_telemetry::otlp::Bounds;
use couplet_telemetry::report::Report;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::keeper::Keeper;
use super::ledger::{Ledger, Verdict};
use crate::board::{Board, Published};
use crate::breakers::Breakers;
use crate::casebook::{Acknowledgement, EventKind};
use crate::counters::Refusal;
use crate::graph::{Graph, GraphLimits};
use crate::history::recording::{self, Recording};
use crate::history::{HistoryError, Stored};
use crate::judge::Judge;
use crate::slots::PackedReport;

/// Requests that share a transaction at most.
const BATCH_REQUESTS: usize = 256;
/// Bytes that share a transaction at most, the last request excepted.
const BATCH_BYTES: usize = 32 << 20;
/// Transactions begin this far apart at least. What each costs, however little is in it, is then shared by all that comes
/// meanwhile; of the five seconds that a report is about, nobody misses it.
const BATCHES_APART: Duration = Duration::from_millis(2);
/// A graph with so many paths makes no snapshot while the last hour is judged or slots are folded, and looks again after
/// this time.
const LARGE: usize = 50_000;
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Silent sidecars are looked for this often.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// Something to be done by the recorder.
#[derive(Debug)]
pub(crate) enum Job {
    /// Record the reports of one request.
    Record(Delivery),
    /// Write an acknowledgement of a finding down, or take it back.
    Acknowledge {
        /// Which finding.
        finding: String,
        /// None takes it back.
        given: Option<Acknowledgement>,
        /// Whether there is such a finding; none where it cannot be written down.
        answer: oneshot::Sender<Option<bool>>,
    },
}

/// One request with reports that waits for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The reports of the request.
    pub(crate) reports: Vec<PackedReport>,
    /// Where the acknowledgement goes. That nobody waits any more changes nothing: the report is here.
    pub(crate) answer: oneshot::Sender<Result<(), Refusal>>,
}

/// Who waits for an answer, and which.
pub(crate) type Answer = (oneshot::Sender<Result<(), Refusal>>, Result<(), Refusal>);
/// Batches whose answers are not given yet.
const ANSWERS: usize = 64;

/// Where the recorder puts the answers of a batch, and the one who gives them: on the thread where they are waited for, so
/// that it is woken once for all of them.
pub(crate) fn answers() -> (mpsc::Sender<Vec<Answer>>, impl Future<Output = ()> + Send + use<>) {
    let (sender, mut batches) = mpsc::channel(ANSWERS);
    let give = async move {
        while let Some(batch) = batches.recv().await {
            give(batch);
        }
    };
    (sender, give)
}

fn give(batch: Vec<Answer>) {
    for (waiting, answer) in batch {
        let _ = waiting.send(answer); // a proxy that hung up sends again, and is told it is a duplicate
    }
}

/// What the thread owns.
#[derive(Debug)]
pub(crate) struct Recorder {
    graph: Graph,
    ledger: Ledger,
    keeper: Keeper,
    board: Arc<Board>,
    judge: Judge,
    snapshot_every: Duration,
    /// Whether the graph holds what the last snapshot does not.
    dirty: bool,
    snapshots: u64,
    next_batch: Instant,
    next_snapshot: Instant,
    next_tidy: Instant,
    /// Shown, not recorded to.
    recording: bool,
}

impl Recorder {
    /// Opens the history, where one is configured, and rebuilds graph and ledger from it.
    pub(crate) fn open(
        config: &AnalyzerConfig,
        judge: Judge,
        board: Arc<Board>,
        now: Instant,
    ) -> Result<Self, HistoryError> {
        let wall = unix_millis();
        let keeper = Keeper::open(config, Arc::clone(&board), judge.clone(), now, wall)?;
        let mut recorder = Self::empty(config, judge, board, keeper, now);
        recorder.replay(config, wall)?;
        recorder.publish_if_due(now);
        recorder.keeper.tell(wall, EventKind::Started, "", env!("CARGO_PKG_VERSION"));
        Ok(recorder)
    }

    /// Shows a recording. Nothing is written, and reports are refused.
    pub(crate) fn show(
        config: &AnalyzerConfig,
        judge: Judge,
        board: Arc<Board>,
        recording: Recording,
        now: Instant,
    ) -> Result<Self, HistoryError> {
        let memory = AnalyzerConfig { data: None, ..config.clone() };
        let keeper = Keeper::open(&memory, Arc::clone(&board), judge.clone(), now, unix_millis())?;
        let mut recorder = Self::empty(config, judge, board, keeper, now);
        let (graph, decode) = (&mut recorder.graph, decoder(config));
        let breakers = Arc::clone(&recorder.board);
        let each = |report: &Report| {
            graph.apply(report);
            breakers.breakers.lock().hear(report);
        };
        recorder.keeper.show(recording, each, decode);
        (recorder.dirty, recorder.recording) = (true, true);
        recorder.publish_if_due(now);
        Ok(recorder)
    }

    fn empty(config: &AnalyzerConfig, judge: Judge, board: Arc<Board>, keeper: Keeper, now: Instant) -> Self {
        Self {
            graph: Graph::new(GraphLimits::from(&config.limits)),
            ledger: Ledger::new(config.limits.proxies),
            keeper,
            board,
            judge,
            snapshot_every: config.snapshot_every,
            dirty: false,
            snapshots: 0,
            next_batch: now,
            next_snapshot: now,
            next_tidy: now,
            recording: false,
        }
    }

    /// Works until nobody can send jobs any more.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>, answers: &mpsc::Sender<Vec<Answer>>) {
        let _ended = Ended(Arc::clone(&self.board));
        let mut next_work = Instant::now();
        loop {
            let wait = if self.dirty { self.next_snapshot } else { self.next_tidy };
            let wait = if self.recording { wait } else { wait.min(next_work) };
            match jobs.recv_timeout(wait.saturating_duration_since(Instant::now())) {
                Ok(first) => self.take_up(first, jobs, answers),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.publish_if_due(Instant::now());
            if !self.recording {
                next_work = self.keeper.work(Instant::now(), unix_millis());
            }
            self.tidy_if_due(Instant::now());
        }
        self.keeper.close();
    }

    fn take_up(&mut self, first: Job, jobs: &Receiver<Job>, answers: &mpsc::Sender<Vec<Answer>>) {
        std::thread::sleep(self.next_batch.saturating_duration_since(Instant::now()));
        self.next_batch = Instant::now() + BATCHES_APART;
        let (batch, then) = gather(first, jobs);
        if !batch.is_empty() {
            let batch = self.record(batch, unix_millis(), Instant::now());
            // Where nobody gives them any more, or not as fast as they come.
            if let Err(TrySendError::Full(batch) | TrySendError::Closed(batch)) = answers.try_send(batch) {
                give(batch);
            }
        }
        if let Some((finding, given, answer)) = then {
            let done = if self.recording { None } else { self.keeper.acknowledge(&finding, given, unix_millis()) };
            let _ = answer.send(done); // who does not wait for it does not need to know
        }
    }

    fn replay(&mut self, config: &AnalyzerConfig, wall: u64) -> Result<(), HistoryError> {
        let fresh = || Graph::new(GraphLimits::from(&config.limits));
        let graph = std::cell::RefCell::new(fresh());
        let board = Arc::clone(&self.board);
        let instances = self.keeper.replay(
            wall,
            |report| {
                graph.borrow_mut().apply(report);
                board.breakers.lock().hear(report);
            },
            || {
                *graph.borrow_mut() = fresh();
                *board.breakers.lock() = Breakers::default();
            },
            decoder(config),
        )?;
        for (instance, sequence, seen) in instances {
            self.ledger.remember(instance, sequence, seen);
        }
        self.graph = graph.into_inner();
        self.dirty = self.board.counters.replayed.get() > 0;
        self.board.counters.instances.set(self.ledger.len() as u64);
        Ok(())
    }

    /// Records a batch of requests; the answer to each.
    fn record(&mut self, batch: Vec<Delivery>, received: u64, now: Instant) -> Vec<Answer> {
        let judged = self.judge(&batch, received);
        let busy = self.keeper.is_full();
        let safe = !busy && !self.recording && self.store(&batch, &judged, received);
        if safe {
            self.ledger.settle();
        } else {
            self.ledger.undo();
        }
        let mut answers = Vec::with_capacity(batch.len());
        for (job, verdicts) in batch.into_iter().zip(judged) {
            let full = verdicts.contains(&Verdict::Full);
            let Delivery { reports, answer: waiting } = job;
            if safe {
                self.apply(reports, &verdicts, received, now);
            }
            let answer = match (safe, full) {
                (false, _) if self.recording => Err(Refusal::Recording),
                (false, _) if busy => Err(Refusal::Busy),
                (false, _) => Err(Refusal::History),
                (true, true) => Err(Refusal::Proxies),
                (true, false) => Ok(()),
            };
            answers.push((waiting, answer));
        }
        self.board.counters.instances.set(self.ledger.len() as u64);
        answers
    }

    /// The verdict about every report of every job.
    fn judge(&mut self, batch: &[Delivery], received: u64) -> Vec<Vec<Verdict>> {
        let ledger = &mut self.ledger;
        let mut enter = |PackedReport { report, .. }: &PackedReport| {
            ledger.enter(&report.origin.instance, report.sequence, received)
        };
        batch.iter().map(|job| job.reports.iter().map(&mut enter).collect()).collect()
    }

    /// Writes what is fresh to the history; whether it is safe there.
    fn store(&mut self, batch: &[Delivery], judged: &[Vec<Verdict>], received: u64) -> bool {
        let reports = batch.iter().flat_map(|job| &job.reports).zip(judged.iter().flatten());
        let fresh: Vec<_> = reports
            .filter(|(_, verdict)| matches!(verdict, Verdict::Fresh { .. }))
            .map(|(PackedReport { report, body }, _)| Stored {
                instance: &report.origin.instance,
                sequence: report.sequence,
                received,
                start: report.start,
                end: report.end,
                body,
            })
            .collect();
        self.keeper.store(&fresh, received)
    }

    fn apply(&mut self, reports: Vec<PackedReport>, verdicts: &[Verdict], received: u64, now: Instant) {
        let counters = &self.board.counters;
        for (packed, verdict) in reports.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Fresh { missing } => {
                    packed.add_to(&mut self.graph);
                    self.board.registry.lock().hear(&packed.report, now);
                    self.board.breakers.lock().hear(&packed.report);
                    self.keeper.absorb(packed, received);
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
        // Each takes as much room again as the state that is shown: of a large system one after the other.
        if self.graph.paths() >= LARGE && self.keeper.takes_room() {
            self.next_snapshot = now + AGAIN_AFTER;
            return;
        }
        let snapshot = self.graph.snapshot();
        let ((found, score), roles) = (self.judge.judge(&snapshot), self.judge.roles(&snapshot));
        match self.snapshots {
            // What was there before is no news.
            0 if self.board.counters.replayed.get() > 0 || self.recording => self.keeper.knows(&snapshot),
            _ => self.keeper.notice(&snapshot, &found, unix_millis()),
        }
        self.snapshots += 1;
        self.dirty = false;
        self.board.publish(Published::new(self.snapshots, snapshot, found, score).with_roles(roles));
        let took = now.elapsed();
        self.next_snapshot = now + took + took.max(self.snapshot_every);
    }

    /// Forgets sidecars that are silent.
    fn tidy_if_due(&mut self, now: Instant) {
        if now >= self.next_tidy {
            self.next_tidy = now + TIDY_EVERY;
            self.board.registry.lock().forget(now);
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
fn decoder(config: &AnalyzerConfig) -> impl Fn(&[u8]) -> Option<Vec<Report>> {
    let (bounds, limit) = (bounds(config), config.limits.report_bytes.as_usize());
    move |body| recording::decode(body, &bounds, limit)
}

/// What a report may hold at most.
pub(crate) fn bounds(config: &AnalyzerConfig) -> Bounds {
    Bounds { paths: config.limits.paths, calls: config.limits.edges }
}

/// An acknowledgement that was taken up behind reports.
type Acknowledging = (String, Option<Acknowledgement>, oneshot::Sender<Option<bool>>);

/// The reports of the first job and of those that already wait behind it; and what ended the batch, if not its size.
fn gather(first: Job, jobs: &Receiver<Job>) -> (Vec<Delivery>, Option<Acknowledging>) {
    let size = |delivery: &Delivery| delivery.reports.iter().map(|packed| packed.body.len()).sum::<usize>();
    let (mut bytes, mut batch) = (0, Vec::new());
    let mut next = Some(first);
    while let Some(job) = next.take() {
        match job {
            Job::Record(delivery) => {
                bytes += size(&delivery);
                batch.push(delivery);
            }
            Job::Acknowledge { finding, given, answer } => return (batch, Some((finding, given, answer))),
        }
        if batch.len() < BATCH_REQUESTS && bytes < BATCH_BYTES {
            next = jobs.try_recv().ok();
        }
    }
    (batch, None)
}

pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
