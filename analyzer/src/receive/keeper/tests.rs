mod damage;

use std::path::Path;

use couplet_config::Architecture;

use super::*;
use crate::board::Published;
use crate::graph::Graph;
use crate::history::recording;
use crate::score::Score;
use crate::traffic::{chain, traffic};
use crate::view::document::Document;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
/// A time that begins an hour.
const T: u64 = 472_222 * HOUR;

fn config(data: Option<&Path>) -> AnalyzerConfig {
    AnalyzerConfig { data: data.map(Path::to_owned), ..AnalyzerConfig::default() }
}

/// A keeper whose clock stands where the test puts it.
struct Desk {
    keeper: Keeper,
    board: Arc<Board>,
    graph: Graph,
    instances: Vec<(String, u64, u64)>,
    start: Instant,
}

impl Desk {
    fn open(config: &AnalyzerConfig, wall: u64) -> Self {
        let start = Instant::now();
        let empty = Published::new(0, Snapshot::default(), Vec::new(), Score::default());
        let board = Arc::new(Board::new("shop".to_owned(), &config.limits, start, empty));
        let judge = Judge::new(config, Architecture::default());
        let mut keeper = Keeper::open(config, Arc::clone(&board), judge, start, wall).unwrap();
        let graph = std::cell::RefCell::new(Graph::new(GraphLimits::default()));
        let bounds = bounds(config);
        let instances = keeper.replay(
            wall,
            |report| graph.borrow_mut().apply(report),
            || *graph.borrow_mut() = Graph::new(GraphLimits::default()),
            |body| recording::decode(body, &bounds, 8 << 20),
        );
        // Judging takes longer than all the rest; the test that is about it asks for it.
        keeper.next_judgement = u64::MAX;
        Self { keeper, board, graph: graph.into_inner(), instances: instances.unwrap(), start }
    }

    /// Stores and keeps reports as the recorder does.
    fn receive(&mut self, reports: &[Report], wall: u64) -> bool {
        let bodies: Vec<Vec<u8>> = reports.iter().map(couplet_telemetry::otlp::encode).collect();
        let stored = |(report, body): (&Report, &Vec<u8>)| (report.clone(), body.clone());
        let all: Vec<_> = reports.iter().zip(&bodies).map(stored).collect();
        let fresh: Vec<Stored<'_>> = all
            .iter()
            .map(|(report, body)| Stored {
                instance: &report.origin.instance,
                sequence: report.sequence,
                received: wall,
                start: report.start,
                end: report.end,
                body,
            })
            .collect();
        let safe = self.keeper.store(&fresh, wall);
        if safe {
            for report in reports {
                self.graph.apply(report);
                self.keeper.absorb(PackedReport::new(report.clone()), wall);
            }
        }
        safe
    }

    /// Works until nothing is left to be done at this moment.
    fn work(&mut self, wall: u64) {
        let now = self.start + Duration::from_millis(wall - T);
        loop {
            self.keeper.work(now, wall);
            if self.keeper.work.is_idle() {
                let before = self.board.shelf.lock().latest();
                self.keeper.work(now, wall);
                if self.keeper.work.is_idle() && self.board.shelf.lock().latest() == before {
                    return;
                }
            }
            std::thread::yield_now();
        }
    }

    fn requests(&self, window: SlidingWindow, wall: u64) -> u64 {
        let mut graph = Graph::new(GraphLimits::default());
        for rollup in self.board.shelf.lock().cover(window, wall) {
            rollup.reports(&bounds(&config(None))).unwrap().iter().for_each(|report| graph.apply(report));
        }
        graph.snapshot().requests()
    }

    fn document(&self) -> Document {
        Document::new(&self.graph.snapshot(), &[], "shop")
    }
}

/// What two replicas of a chain of services report in their `n`th window: 10 requests.
fn reports(n: u64) -> Vec<Report> {
    let mut reports = traffic().with_replicas(2).of(10, &chain(&["web", "orders", "billing"])).reports();
    for report in &mut reports {
        report.sequence = n;
        (report.start, report.end) = ((T + n * 5 * SECOND) * 1_000_000, (T + (n + 1) * 5 * SECOND) * 1_000_000);
    }
    reports
}

/// Reports every five seconds for so long; the time then.
fn run(desk: &mut Desk, from: u64, seconds: u64) -> u64 {
    for n in from / 5..(from + seconds) / 5 {
        let wall = T + n * 5 * SECOND;
        assert!(desk.receive(&reports(n + 1), wall));
        desk.work(wall);
    }
    let end = T + (from + seconds) * SECOND;
    desk.work(end);
    end
}

#[test]
fn every_window_counts_what_came_in_it_and_the_parts_say_the_same_as_the_whole() {
    let mut desk = Desk::open(&config(None), T);
    let end = run(&mut desk, 0, 7_500);
    for (window, most) in [
        (SlidingWindow::Minute, 60 + 10),
        (SlidingWindow::QuarterHour, 900 + 60),
        (SlidingWindow::Hour, 3_600 + 60),
        (SlidingWindow::Day, 7_500),
    ] {
        let requests = desk.requests(window, end);
        let least = (window.length() / SECOND).min(7_500);
        assert!((least * 2..=most * 2).contains(&requests), "{window}: {requests}");
    }
    assert_eq!(desk.requests(SlidingWindow::Day, end), desk.document().requests, "nothing is lost, nothing twice");
}

#[test]
fn a_restart_at_any_moment_finds_every_report_once() {
    let data = tempfile::tempdir().unwrap();
    let config = config(Some(data.path()));
    let mut desk = Desk::open(&config, T);
    let mut from = 0;
    // Within a slot, at its end, behind a minute, behind an hour.
    for seconds in [5, 20, 45, 70, 3_600, 15] {
        let wall = run(&mut desk, from, seconds);
        from += seconds;
        let before = desk.document();
        assert_eq!(before.requests, from * 2);
        drop(desk);
        desk = Desk::open(&config, wall);
        assert_eq!(desk.document(), before, "after {from} s");
        assert_eq!(desk.board.shelf.lock().due(wall).map(|due| due.tier), None, "what was folded stays folded");
        assert!(desk.instances.iter().all(|(_, sequence, _)| *sequence == from / 5));
    }
    desk.work(T + (from + 10) * SECOND);
    assert_eq!(desk.requests(SlidingWindow::Day, T + (from + 10) * SECOND), from * 2);
}

#[test]
fn what_is_packed_takes_the_place_of_the_reports_it_is_made_of() {
    let data = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(&config(Some(data.path())), T);
    run(&mut desk, 0, 3_700);
    drop(desk);
    let kept = recording::read(&data.path().join("history.db")).unwrap();
    assert_eq!(kept.reports.len(), 0);
    let mut tiers: Vec<_> = kept.rollups.iter().map(|rollup| rollup.tier).collect();
    tiers.dedup();
    assert_eq!(tiers, [Tier::Hour, Tier::Minute, Tier::Seconds]);
    assert_eq!(kept.rollups.len(), 3 * (1 + 1 + 4), "an hour, a minute and forty seconds of three services");
    let mut graph = Graph::new(GraphLimits::default());
    assert_eq!(kept.replay(&config(None), |report| graph.apply(report)), 0);
    assert_eq!(graph.snapshot().requests(), 3_700 * 2);
}

#[test]
fn while_the_disk_is_full_nothing_is_lost_and_it_goes_on_when_there_is_room() {
    let data = tempfile::tempdir().unwrap();
    let mut desk = Desk::open(&config(Some(data.path())), T);
    assert!(desk.receive(&reports(1), T));
    let blocker = rusqlite::Connection::open(data.path().join("history.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let later = T + 11 * SECOND;
    desk.keeper.work(desk.start, later);
    while !matches!(desk.keeper.work, Work::Waiting(_)) {
        desk.keeper.work(desk.start, later);
        std::thread::yield_now();
    }
    assert!(!desk.receive(&reports(2), later), "no report is acknowledged that is not safe");
    assert_eq!(desk.board.counters.history_failing.get(), 1);
    blocker.execute_batch("ROLLBACK").unwrap();
    let later = T + 13 * SECOND;
    desk.work(later);
    assert!(desk.receive(&reports(2), later));
    assert_eq!(desk.board.counters.history_failing.get(), 0);
    let kinds: Vec<_> = desk.board.timeline.lock().after(0).iter().map(|event| event.kind).collect();
    assert!(kinds.ends_with(&[EventKind::HistoryStopped, EventKind::HistoryResumed]), "{kinds:?}");
    drop(desk);
    assert_eq!(Desk::open(&config(Some(data.path())), later).document().requests, 20);
}

#[test]
fn findings_and_what_was_said_of_them_survive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let config = config(Some(data.path()));
    let mut desk = Desk::open(&config, T);
    let deep = traffic().of(100, &chain(&["a", "b", "c", "d", "e", "f"])).reports();
    desk.receive(&deep, T);
    let snapshot = desk.graph.snapshot();
    let found = desk.keeper.judge.findings(&snapshot);
    desk.keeper.notice(&snapshot, &found, T);
    let id = found[0].id.clone();
    let given = Acknowledgement { at: 0, until: None, note: "known".to_owned() };
    assert_eq!(desk.keeper.acknowledge(&id, Some(given.clone()), T + 5), Some(true));
    assert_eq!(desk.keeper.acknowledge("SC-nothing", Some(given.clone()), T + 5), Some(false));
    drop(desk);
    let desk = Desk::open(&config, T + HOUR);
    let book = desk.board.casebook.lock();
    assert_eq!(book.case(&id).map(|case| case.first_seen), Some(T));
    assert_eq!(book.acknowledgement(&id), Some(&Acknowledgement { at: T + 5, ..given }));
    assert!(!desk.board.timeline.lock().after(0).is_empty());
}

#[test]
fn the_last_hour_is_judged_without_anybody_asking() {
    let mut desk = Desk::open(&config(None), T);
    let deep = traffic().of(100, &chain(&["a", "b", "c", "d", "e", "f"])).reports();
    desk.receive(&deep, T);
    let found = desk.keeper.judge.findings(&desk.graph.snapshot());
    desk.keeper.notice(&desk.graph.snapshot(), &found, T);
    let chain_id = found.iter().find(|finding| finding.rule.as_str() == "SC").unwrap().id.clone();
    desk.work(T + 10 * SECOND);
    // Two hours later the same entry is busy, and nothing hangs below it any more.
    let flat = traffic().of(100, &chain(&["a", "b"])).reports();
    desk.receive(&flat, T + 2 * HOUR);
    desk.keeper.next_judgement = T + 2 * HOUR;
    desk.work(T + 2 * HOUR + 10 * SECOND);
    desk.work(T + 2 * HOUR + 90 * SECOND);
    let book = desk.board.casebook.lock();
    assert!(book.case(&chain_id).is_some_and(|case| case.fixed.is_some()), "{:?}", book.case(&chain_id));
}
