//! Keeps what was reported: on disk where there is a history, and as slots in memory.
//!
//! What takes long (packing a slot, folding many into one, judging an hour) is done by a thread of its own, one thing at
//! a time, from what never changes; what it made is written down and shown here. Until that is on disk, what it was made
//! of stays there: whenever the process ends, every count is there once.

mod task;

use std::sync::Arc;
use std::time::{Duration, Instant};

use couplet_config::AnalyzerConfig;
use couplet_telemetry::otlp::Bounds;
use couplet_telemetry::report::Report;
use couplet_telemetry::window::WindowLimits;

use self::task::{Done, Task, Work};
use super::recorder::bounds;
use crate::board::Board;
use crate::casebook::{Acknowledgement, Changes, EventKind};
use crate::graph::{GraphLimits, Snapshot};
use crate::history::recording::Recording;
use crate::history::{History, HistoryError, Retention, Stored};
use crate::judge::Judge;
use crate::slots::{OpenSlot, PackedReport, Rollup, SlidingWindow, Tier};

/// Old history is looked for this often.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// While a thread works, it is asked this often whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// What could not be written is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the last hour is judged at most, milliseconds.
const JUDGE_EVERY: u64 = 60_000;

/// What the recorder keeps.
#[derive(Debug)]
pub(super) struct Keeper {
    /// None where everything is kept in memory only.
    history: Option<History>,
    open: OpenSlot,
    /// A slot whose time is over, when it ended, and the row of its last report.
    over: Option<(OpenSlot, u64, i64)>,
    work: Work,
    /// Whether what is being done, if anything, takes room as a state that is shown does.
    roomy: bool,
    board: Arc<Board>,
    judge: Judge,
    bounds: Bounds,
    graph: GraphLimits,
    limits: WindowLimits,
    next_tidy: Instant,
    next_judgement: u64,
    /// Not before this moment something that could not be written is tried again.
    retry_at: Instant,
    /// Whether the last attempt to write failed, so that a full disk is one line in the log and not one per report.
    failing: bool,
}

impl Keeper {
    /// A keeper with the history of `config`, where one is configured. `wall` in milliseconds since the Unix epoch.
    pub(super) fn open(
        config: &AnalyzerConfig,
        board: Arc<Board>,
        judge: Judge,
        now: Instant,
        wall: u64,
    ) -> Result<Self, HistoryError> {
        let retention = Retention {
            bytes: config.limits.history_bytes,
            age: config.limits.history_age,
            instances: config.limits.proxies,
        };
        let history = config.data.as_deref().map(|directory| History::open(directory, retention, wall)).transpose()?;
        let graph = GraphLimits::from(&config.limits);
        // As much as the graph holds: a slot must not lose what the graph keeps.
        let limits = WindowLimits { paths: graph.paths, callees: graph.paths.saturating_mul(2) };
        Ok(Self {
            history,
            open: OpenSlot::new(limits, wall),
            over: None,
            work: Work::Idle,
            roomy: false,
            board,
            judge,
            bounds: bounds(config),
            graph,
            limits,
            next_tidy: now,
            next_judgement: wall.saturating_add(JUDGE_EVERY),
            retry_at: now,
            failing: false,
        })
    }

    /// Reads the history from its beginning: every report goes to `each`, and the casebook and the slots are as they were.
    /// A damaged file is set aside, and what is left of it is read. Gives the instances to remember.
    pub(super) fn replay(
        &mut self,
        wall: u64,
        mut each: impl FnMut(&Report),
        mut forget: impl FnMut(),
        decode: impl Fn(&[u8]) -> Option<Vec<Report>>,
    ) -> Result<Vec<(String, u64, u64)>, HistoryError> {
        let Some(mut history) = self.history.take() else { return Ok(Vec::new()) };
        let instances = match self.read(&history, wall, &mut each, &decode) {
            Err(damage) if damage.is_damage() => {
                history.begin_anew(&damage, wall)?;
                (self.open, self.over) = (OpenSlot::new(self.limits, wall), None);
                self.board.clear_shelf();
                forget();
                self.read(&history, wall, &mut each, &decode)?
            }
            read => read?,
        };
        self.history = Some(history);
        self.tell_damages(wall);
        Ok(instances)
    }

    fn read(
        &mut self,
        history: &History,
        wall: u64,
        each: &mut impl FnMut(&Report),
        decode: &impl Fn(&[u8]) -> Option<Vec<Report>>,
    ) -> Result<Vec<(String, u64, u64)>, HistoryError> {
        let (mut read, mut damaged) = (0, 0);
        let mut shelf = Gatherer::new(&self.board, wall);
        damaged += history.rollups(|rollup| match rollup.reports(&self.bounds) {
            Some(reports) => {
                read += reports.len() as u64;
                reports.iter().for_each(&mut *each);
                shelf.add(rollup);
            }
            None => damaged += 1,
        })?;
        shelf.put();
        let open = &mut self.open;
        let replayed = history.replay(|received, body| match decode(body) {
            Some(reports) => {
                open.begin(received);
                reports.into_iter().for_each(|report| {
                    each(&report);
                    open.absorb(PackedReport::new(report));
                });
                true
            }
            None => false,
        })?;
        let records = history.records()?;
        self.board.casebook.lock().remember(records.cases, records.acknowledgements);
        self.board.timeline.lock().remember(records.events);
        let counters = &self.board.counters;
        counters.replayed.add(read + replayed.reports);
        counters.history_damaged.add(damaged + replayed.damaged);
        let (reports, damaged) = (read + replayed.reports, damaged + replayed.damaged);
        tracing::info!(reports, damaged, "history replayed");
        history.instances()
    }

    /// Shows a recording: nothing of it is ever changed.
    pub(super) fn show(
        &mut self,
        recording: Recording,
        mut each: impl FnMut(&Report),
        decode: impl Fn(&[u8]) -> Option<Vec<Report>>,
    ) {
        let Recording { name: _, rollups, reports, records, mut damaged } = recording;
        let mut shelf = Gatherer::new(&self.board, 0);
        let end = rollups.iter().map(|rollup| rollup.end).max().unwrap_or(0);
        for rollup in rollups {
            match rollup.reports(&self.bounds) {
                Some(reports) => {
                    reports.iter().for_each(&mut each);
                    shelf.add(rollup);
                }
                None => damaged += 1,
            }
        }
        shelf.put();
        let mut last = OpenSlot::new(self.limits, end);
        let end = reports.iter().map(|(received, _)| received + 1).max().unwrap_or(end);
        for (received, body) in reports {
            last.begin(received);
            match decode(&body) {
                Some(reports) => reports.into_iter().for_each(|report| {
                    each(&report);
                    last.absorb(PackedReport::new(report));
                }),
                None => damaged += 1,
            }
        }
        self.board.shelf.lock().put(last.seal(end));
        self.board.casebook.lock().remember(records.cases, records.acknowledgements);
        self.board.timeline.lock().remember(records.events);
        self.board.counters.history_damaged.add(damaged);
    }

    /// Writes reports to the history; whether they are safe there, as far as anything is to be written.
    pub(super) fn store(&mut self, fresh: &[Stored<'_>], wall: u64) -> bool {
        // Which rows the slot is made of shows before the next ones come.
        self.turn(wall);
        let Some(history) = &mut self.history else { return true };
        if fresh.is_empty() {
            return true;
        }
        let stored = match history.store(fresh.iter().copied()) {
            // Only a fresh file helps; what it has lost is still in the graph.
            Err(damage) if damage.is_damage() => {
                history.begin_anew(&damage, wall).and_then(|()| history.store(fresh.iter().copied()))
            }
            stored => stored,
        };
        self.note(&stored, wall);
        self.tell_damages(wall);
        stored.is_ok()
    }

    /// Whether so much waits to be packed that more has to wait outside.
    pub(super) fn is_full(&self) -> bool {
        !self.work.is_idle() && self.open.is_overfull()
    }

    /// Whether the last hour is being judged, or slots are being folded: that takes as much room again as a state that is
    /// shown, or as all slots.
    pub(super) fn takes_room(&self) -> bool {
        self.roomy && !self.work.is_idle()
    }

    /// Adds a report that is safe to the open slot.
    pub(super) fn absorb(&mut self, report: PackedReport, wall: u64) {
        self.open.begin(wall);
        self.open.absorb(report);
    }

    /// What a snapshot shows that is news is written down.
    pub(super) fn notice(&mut self, snapshot: &Snapshot, findings: &[crate::findings::Finding], wall: u64) {
        let mut changes = self.board.casebook.lock().open(findings, wall);
        let mut events = self.board.timeline.lock().news(snapshot);
        events.append(&mut changes.events);
        changes.events = events;
        self.write_down(changes, wall);
    }

    /// What a replayed snapshot shows is no news.
    pub(super) fn knows(&self, snapshot: &Snapshot) {
        let _ = self.board.timeline.lock().news(snapshot);
    }

    /// Writes an event down.
    pub(super) fn tell(&mut self, wall: u64, kind: EventKind, subject: &str, detail: &str) {
        let events = vec![(kind, subject.to_owned(), detail.to_owned())];
        self.write_down(Changes { events, ..Changes::default() }, wall);
    }

    /// Writes an acknowledgement down, or takes it back; whether there is such a finding. None where it cannot be
    /// written, and nothing has changed.
    pub(super) fn acknowledge(&mut self, finding: &str, given: Option<Acknowledgement>, wall: u64) -> Option<bool> {
        let given = given.map(|given| Acknowledgement { at: wall, ..given });
        if self.board.casebook.lock().case(finding).is_none() {
            return Some(false);
        }
        if let Some(history) = &mut self.history {
            let written = history.acknowledge(finding, given.as_ref());
            self.note(&written, wall);
            written.ok()?;
        }
        let kind = if given.is_some() { EventKind::Acknowledged } else { EventKind::Unacknowledged };
        let note = given.as_ref().map(|given| given.note.clone()).unwrap_or_default();
        let done = self.board.casebook.lock().acknowledge(finding, given);
        if done {
            self.tell(wall, kind, finding, &note);
        }
        Some(done)
    }

    /// Does what is due, or has it done. When it wants to be called again.
    pub(super) fn work(&mut self, now: Instant, wall: u64) -> Instant {
        if now >= self.retry_at
            && let Some(done) = self.work.result()
        {
            self.finish(done, now, wall);
        }
        if self.work.is_idle()
            && let Some(task) = self.next_task(wall)
        {
            self.roomy = !matches!(task, Task::Seal { .. });
            self.work = Work::begin(task, self.bounds, self.limits, self.graph);
        }
        self.tidy_if_due(now, wall);
        if !self.work.is_idle() {
            return now + ASK_EVERY;
        }
        let due = if self.open.is_empty() { u64::MAX } else { self.open.due() };
        let wait = Duration::from_millis(due.saturating_sub(wall).min(JUDGE_EVERY));
        self.next_tidy.min(now + wait)
    }

    /// Writes the log back into the database file, so that the directory holds one file again.
    pub(super) fn close(self) {
        if let Some(history) = self.history {
            history.close();
        }
    }

    fn next_task(&mut self, wall: u64) -> Option<Task> {
        self.turn(wall);
        if let Some((slot, at, through)) = self.over.take() {
            return Some(Task::Seal { slot, at, through });
        }
        if let Some(due) = self.board.shelf.lock().due(wall) {
            return Some(Task::Fold(due));
        }
        if wall >= self.next_judgement {
            self.next_judgement = wall.saturating_add(JUDGE_EVERY);
            let rollups = self.board.shelf.lock().cover(SlidingWindow::Hour, wall);
            return (!rollups.is_empty()).then(|| Task::Judge { rollups, judge: self.judge.clone() });
        }
        None
    }

    /// Begins a new slot where the time of the open one is over, unless one waits already.
    fn turn(&mut self, wall: u64) {
        if self.over.is_some() || !self.open.is_due(wall) {
            return;
        }
        // Which reports the slot is made of must be known: else they would be counted twice after a restart.
        if let Ok(through) = self.history.as_ref().map_or(Ok(0), History::last_report) {
            self.over = Some((self.open.replace(wall), wall, through));
        }
    }

    /// Writes down and shows what the thread made. Where that cannot be written, it is tried again later.
    fn finish(&mut self, mut done: Done, now: Instant, wall: u64) {
        let written = match (&mut self.history, &mut done) {
            (Some(history), Done::Sealed { rollups, through }) => history.seal(rollups, *through),
            (Some(history), Done::Folded { rollups, due, .. }) => {
                let rows: Vec<i64> = due.rollups.iter().filter_map(|rollup| rollup.row).collect();
                history.fold(rollups, &rows)
            }
            _ => Ok(()),
        };
        let written = match (written, &mut self.history) {
            (Err(damage), Some(history)) if damage.is_damage() => history.begin_anew(&damage, wall).and(Err(damage)),
            (written, _) => written,
        };
        self.note(&written, wall);
        self.tell_damages(wall);
        if written.is_err() {
            self.work = Work::Waiting(done);
            self.retry_at = now + RETRY_AFTER;
            return;
        }
        let counters = &self.board.counters;
        match done {
            Done::Sealed { rollups, .. } => self.board.shelf.lock().put(rollups),
            Done::Folded { rollups, due, unreadable } => {
                counters.history_damaged.add(unreadable);
                self.board.shelf.lock().fold(&due.numbers, rollups);
            }
            Done::Judged { busy, findings } => {
                let changes = self.board.casebook.lock().judge(&busy, &findings, wall);
                self.write_down(changes, wall);
            }
        }
        self.measure(wall);
    }

    fn measure(&self, wall: u64) {
        let mut shelf = self.board.shelf.lock();
        shelf.tidy(wall);
        self.board.counters.slot_bytes.set(shelf.bytes() as u64);
        self.board.counters.slots_dropped.set(shelf.dropped());
    }

    /// A note that cannot be written is still in memory, and that it could not be is counted.
    fn write_down(&mut self, mut changes: Changes, wall: u64) {
        let events = std::mem::take(&mut changes.events);
        let events: Vec<_> = {
            let mut timeline = self.board.timeline.lock();
            events.into_iter().map(|(kind, subject, detail)| timeline.add(wall, kind, subject, detail)).collect()
        };
        if changes == Changes::default() && events.is_empty() {
            return;
        }
        if let Some(history) = &mut self.history
            && let Err(error) = history.write_down(&changes, &events)
        {
            self.board.counters.notes_lost.add(1);
            tracing::debug!(%error, "a note about findings or events could not be written");
        }
    }

    /// Says once that the history cannot be written, and once that it can again.
    fn note(&mut self, written: &Result<(), HistoryError>, wall: u64) {
        let failing = written.is_err();
        let was = std::mem::replace(&mut self.failing, failing);
        self.board.counters.history_failing.set(u64::from(failing));
        match written {
            Err(error) => {
                self.board.counters.history_failures.add(1);
                if !was {
                    tracing::error!(%error, "reports are refused until the history can be written again");
                    self.tell(wall, EventKind::HistoryStopped, "", &error.to_string());
                }
            }
            Ok(()) if was => {
                tracing::info!("the history can be written again");
                self.tell(wall, EventKind::HistoryResumed, "", "");
            }
            Ok(()) => {}
        }
    }

    /// Says what was found to be damaged.
    fn tell_damages(&mut self, wall: u64) {
        for damage in self.history.as_mut().map(History::damages).unwrap_or_default() {
            self.board.counters.history_damages.add(1);
            self.tell(wall, EventKind::HistoryDamaged, "", &damage);
        }
    }

    /// Deletes old history, and lets go of old slots.
    fn tidy_if_due(&mut self, now: Instant, wall: u64) {
        if now < self.next_tidy {
            return;
        }
        self.next_tidy = now + TIDY_EVERY;
        self.measure(wall);
        let Some(history) = &mut self.history else { return };
        let counters = &self.board.counters;
        match history.prune(wall).and_then(|pruned| Ok((pruned, history.bytes()?))) {
            Ok((pruned, bytes)) => {
                counters.history_pruned.add(pruned.rows);
                counters.history_bytes.set(bytes);
            }
            Err(error) => tracing::warn!(%error, "old history could not be deleted"),
        }
    }
}

/// Puts rollups that come one by one on the shelf, slot by slot.
struct Gatherer<'a> {
    board: &'a Board,
    /// What ended before is of no use in memory.
    from: u64,
    gathered: Vec<Rollup>,
}

impl<'a> Gatherer<'a> {
    fn new(board: &'a Board, wall: u64) -> Self {
        Self { board, from: wall.saturating_sub(Tier::Hour.kept()), gathered: Vec::new() }
    }

    fn add(&mut self, rollup: Rollup) {
        if rollup.end < self.from {
            return;
        }
        let same = self.gathered.last().is_none_or(|last| (last.tier, last.start) == (rollup.tier, rollup.start));
        if !same {
            self.put();
        }
        self.gathered.push(rollup);
    }

    fn put(&mut self) {
        self.board.shelf.lock().put(std::mem::take(&mut self.gathered));
    }
}

#[cfg(test)]
mod tests;
