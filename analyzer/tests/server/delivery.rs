//! Every report counts once: delivered twice, across restarts, and whatever happens to process and disk.

use std::path::Path;

use crate::harness::{analyzer, report};

/// What a process that is killed at this moment leaves behind.
fn killed(data: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn a_report_delivered_twice_counts_once() {
    let analyzer = analyzer().start();
    assert_eq!(analyzer.report(&report("s1", 1, 10)), 200);
    assert_eq!(analyzer.report(&report("s1", 1, 10)), 200);
    assert_eq!(analyzer.report(&report("s1", 2, 5)), 200);
    let document = analyzer.document_with_requests(15);
    assert_eq!(document["edges"][0]["calls"], 15);
    let status = analyzer.json("/api/v1/status");
    assert_eq!((&status["reports"], &status["duplicates"]), (&2.into(), &1.into()));
    analyzer.stop();
}

#[test]
fn a_gap_is_applied_and_what_is_missing_is_counted() {
    let analyzer = analyzer().start();
    analyzer.report(&report("s1", 1, 1));
    analyzer.report(&report("s1", 5, 1));
    assert_eq!(analyzer.document_with_requests(2)["requests"], 2);
    assert_eq!(analyzer.json("/api/v1/status")["limits"]["missing_reports"], 3);
}

#[test]
fn a_restart_keeps_the_graph_and_knows_what_it_had() {
    let data = tempfile::tempdir().unwrap();
    let first = analyzer().data(data.path()).start();
    first.report(&report("s1", 1, 10));
    first.report(&report("s2", 1, 7));
    let before = first.document_with_requests(17);
    first.stop();

    let second = analyzer().data(data.path()).start();
    assert_eq!(second.json("/api/v1/document"), before, "all is there before the first connection is answered");
    assert_eq!(second.report(&report("s1", 1, 10)), 200);
    assert_eq!(second.report(&report("s1", 2, 3)), 200);
    assert_eq!(second.document_with_requests(20)["requests"], 20);
    assert_eq!(second.json("/api/v1/status")["duplicates"], 1);
    second.stop();
}

#[test]
fn what_was_acknowledged_survives_the_death_of_the_process() {
    let data = tempfile::tempdir().unwrap();
    let alive = analyzer().data(data.path()).start();
    for sequence in 1..=50 {
        assert_eq!(alive.report(&report("s1", sequence, 2)), 200);
    }
    let left_behind = killed(data.path());
    let again = analyzer().data(left_behind.path()).start();
    assert_eq!(again.json("/api/v1/document")["requests"], 100);
    assert_eq!(again.report(&report("s1", 50, 2)), 200);
    assert_eq!(again.json("/api/v1/status")["duplicates"], 1);
}

#[test]
fn reports_that_arrive_together_are_all_kept() {
    let data = tempfile::tempdir().unwrap();
    let analyzer_ = analyzer().data(data.path()).start();
    std::thread::scope(|scope| {
        for instance in 0..16 {
            let analyzer = &analyzer_;
            scope.spawn(move || {
                for sequence in 1..=10 {
                    // Each twice, as after an acknowledgement that was lost.
                    for _ in 0..2 {
                        assert_eq!(analyzer.report(&report(&format!("s{instance}"), sequence, 1)), 200);
                    }
                }
            });
        }
    });
    assert_eq!(analyzer_.document_with_requests(160)["requests"], 160);
    let left_behind = killed(data.path());
    assert_eq!(analyzer().data(left_behind.path()).start().json("/api/v1/document")["requests"], 160);
}

#[test]
fn a_damaged_history_is_set_aside_and_the_analyzer_starts() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("history.db"), vec![42; 50_000]).unwrap();
    let analyzer = analyzer().data(data.path()).start();
    assert_eq!(analyzer.report(&report("s1", 1, 4)), 200);
    assert_eq!(analyzer.document_with_requests(4)["requests"], 4);
    let names = std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().any(|name| name.to_str().unwrap().starts_with("history.db.damaged-")));
}

#[test]
fn while_the_history_cannot_be_written_reports_are_refused_questions_answered_and_nothing_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let analyzer = analyzer().data(data.path()).start();
    analyzer.report(&report("s1", 1, 1));
    analyzer.document_with_requests(1);

    let blocker = rusqlite::Connection::open(data.path().join("history.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(analyzer.report(&report("s1", 2, 1)), 503);
    assert_eq!(analyzer.json("/api/v1/document")["requests"], 1);
    assert_eq!(analyzer.json("/api/v1/status")["limits"]["rejected_history"], 1);

    blocker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(analyzer.report(&report("s1", 2, 1)), 200);
    assert_eq!(analyzer.document_with_requests(2)["requests"], 2);
    assert_eq!(analyzer.json("/api/v1/status")["duplicates"], 0);
}
