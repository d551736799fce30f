use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WIDE: Retention = Retention { bytes: ByteSize::mib(64), age: DAY, instances: 100 };

fn stored(instance: &str, sequence: u64, received: u64) -> Stored<'_> {
    Stored { instance, sequence, received, start: 1, end: 2, body: b"a report" }
}

fn open(directory: &Path) -> History {
    History::open(directory, WIDE, 0).unwrap()
}

fn bodies(history: &History) -> usize {
    let mut seen = 0;
    history
        .replay(|_, _| {
            seen += 1;
            true
        })
        .unwrap();
    seen
}

/// What a process that was killed leaves behind: the files as they are at this moment.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn damaged_files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("damaged")).collect()
}

#[test]
fn what_was_stored_survives_the_death_of_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = open(directory.path());
    history.store([stored("a", 1, 10), stored("a", u64::MAX, 20), stored("b", 1, 30)]).unwrap();
    let left_behind = copy(directory.path());
    let history = open(left_behind.path());
    assert_eq!(bodies(&history), 3);
    let instances = [("b".to_owned(), 1, 30), ("a".to_owned(), u64::MAX, 20)];
    assert_eq!(history.instances().unwrap(), instances);
}

#[test]
fn a_second_analyzer_is_kept_out() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path());
    let error = History::open(directory.path(), WIDE, 0).unwrap_err();
    assert!(matches!(error, HistoryError::InUse { .. }), "{error}");
}

#[test]
fn what_a_later_release_wrote_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).connection.pragma_update(None, "user_version", 99).unwrap();
    let error = History::open(directory.path(), WIDE, 0).unwrap_err();
    assert!(error.to_string().contains("later release"), "{error}");
    assert_eq!(damaged_files(directory.path()).len(), 0);
}

#[test]
fn a_file_that_is_no_database_is_set_aside_and_a_fresh_one_begun() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE), vec![7u8; 10_000]).unwrap();
    let mut history = History::open(directory.path(), WIDE, 1_700_000_000_000).unwrap();
    assert_eq!(damaged_files(directory.path()), ["history.db.damaged-1700000000"]);
    history.store([stored("a", 1, 0)]).unwrap();
    assert_eq!(bodies(&history), 1);
}

#[test]
fn damaged_pages_cost_the_reports_in_them_and_the_file_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = open(directory.path());
    let body = vec![0u8; 3_000];
    history.store((1..200).map(|sequence| Stored { body: &body, ..stored("a", sequence, 0) })).unwrap();
    history.close();
    let path = directory.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 4_096 * 20].fill(0xff);
    std::fs::write(&path, bytes).unwrap();

    let mut history = History::open(directory.path(), WIDE, 5_000).unwrap();
    assert_eq!(history.damages().len(), 1, "told once");
    assert_eq!(history.damages().len(), 0);
    let saved = bodies(&history);
    assert!((170..190).contains(&saved), "those before and behind the damage: {saved}");
    assert_eq!(history.instances().unwrap(), [("a".to_owned(), 199, 0)], "what was acknowledged is known nevertheless");
    history.store([stored("a", 200, 0)]).unwrap();
    assert_eq!(bodies(&history), saved + 1);
    assert!(damaged_files(directory.path()).contains(&"history.db.damaged-5".to_owned()));
}

#[test]
fn a_flipped_bit_in_a_body_costs_this_report_and_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = open(directory.path());
    history.store([stored("a", 1, 0), stored("a", 2, 0)]).unwrap();
    history.connection.execute("UPDATE report SET body = x'00' WHERE sequence = 1", []).unwrap();
    assert_eq!(history.replay(|_, _| true).unwrap(), Replayed { reports: 1, damaged: 1 });
}

#[test]
fn rows_that_hold_something_else_cost_these_reports() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = open(directory.path());
    history.store((1..=6).map(|sequence| stored("a", sequence, 0))).unwrap();
    let change = "UPDATE report SET checksum = 'x' WHERE sequence = 1; UPDATE report SET body = 7 WHERE sequence = 2;
                  UPDATE report SET instance = 'b' WHERE sequence = 3; UPDATE report SET sequence = 1000 WHERE sequence = 6";
    history.connection.execute_batch(change).unwrap();
    assert_eq!(history.replay(|_, _| true).unwrap(), Replayed { reports: 2, damaged: 4 });
    history.close();
    assert_eq!(open(directory.path()).instances().unwrap(), [("a".to_owned(), 5, 0)], "of what is as it was written");
}

#[test]
fn sequences_outlive_their_reports() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = open(directory.path());
    history.store([stored("a", 1, 10), stored("b", u64::MAX, 20), stored("a", 2, 30)]).unwrap();
    let through = history.last_report().unwrap();
    history.store([stored("c", 7, 40)]).unwrap();
    history.seal(&mut [], through).unwrap();
    assert_eq!(bodies(&history), 1);
    let known = [("c".to_owned(), 7, 40), ("a".to_owned(), 2, 30), ("b".to_owned(), u64::MAX, 20)];
    assert_eq!(history.instances().unwrap(), known);
    let left_behind = copy(directory.path());
    assert_eq!(open(left_behind.path()).instances().unwrap(), known);
    history.store([stored("a", 3, 50)]).unwrap();
    let left_behind = copy(directory.path());
    assert_eq!(open(left_behind.path()).instances().unwrap()[0], ("a".to_owned(), 3, 50));
}

#[test]
fn a_sequence_that_is_not_as_it_was_written_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = open(directory.path());
    history.store([stored("a", 1, 10), stored("b", 1, 20)]).unwrap();
    history.seal(&mut [], history.last_report().unwrap()).unwrap();
    let change = "UPDATE instance SET sequence = 1000 WHERE instance = 'a'; UPDATE instance SET seen = 'never' WHERE instance = 'b'";
    history.connection.execute_batch(change).unwrap();
    history.close();
    assert_eq!(open(directory.path()).instances().unwrap(), []);
}

#[test]
fn tables_that_are_not_ours_are_damage() {
    let directory = tempfile::tempdir().unwrap();
    let history = open(directory.path());
    history.connection.execute_batch("ALTER TABLE report RENAME TO rapport").unwrap();
    assert!(history.replay(|_, _| true).unwrap_err().is_damage());
}

#[test]
fn a_full_disk_stores_nothing_of_the_batch_and_later_ones_are_stored_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = open(directory.path());
    history.store([stored("a", 1, 0)]).unwrap();
    let pages: i64 = history.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |history: &History, pages: i64| {
        history.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    limit(&history, pages + 2);
    let body = vec![0u8; 100_000];
    let error = history.store([stored("a", 2, 0), Stored { body: &body, ..stored("a", 3, 0) }]).unwrap_err();
    assert!(!error.is_damage());
    assert_eq!(bodies(&history), 1);
    assert_eq!(history.instances().unwrap(), [("a".to_owned(), 1, 0)]);
    limit(&history, i64::from(u32::MAX) - 1);
    history.store([stored("a", 2, 0), Stored { body: &body, ..stored("a", 3, 0) }]).unwrap();
    assert_eq!(bodies(&history), 3);
}

#[test]
fn retention_deletes_the_oldest_and_keeps_the_sequences() {
    let directory = tempfile::tempdir().unwrap();
    let retention = Retention { bytes: ByteSize::mib(1), ..WIDE };
    let mut history = History::open(directory.path(), retention, 0).unwrap();
    let body = vec![1u8; 2_000];
    history.store((1..=2_000).map(|sequence| Stored { body: &body, ..stored("a", sequence, sequence) })).unwrap();
    let pruned = history.prune(2_000).unwrap();
    assert!(history.bytes().unwrap() <= ByteSize::mib(1).get());
    assert!((1_500..2_000).contains(&pruned.rows), "{pruned:?}");
    let oldest: i64 = history.connection.query_row("SELECT min(sequence) FROM report", [], |row| row.get(0)).unwrap();
    assert_eq!(oldest.cast_unsigned(), pruned.rows + 1);
    assert_eq!(history.instances().unwrap(), [("a".to_owned(), 2_000, 2_000)]);

    let tomorrow = 2_000 + u64::try_from(DAY.as_millis()).unwrap() + 1;
    history.prune(tomorrow).unwrap();
    assert_eq!(bodies(&history), 0);
    history.close();
    assert_eq!(open(directory.path()).instances().unwrap(), [("a".to_owned(), 2_000, 2_000)]);
}

#[test]
fn a_file_of_the_first_form_keeps_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let first = rusqlite::Connection::open(directory.path().join(FILE)).unwrap();
    first.execute_batch(schema::STEPS[0]).unwrap();
    first.pragma_update(None, "user_version", 1).unwrap();
    for sequence in 1..=3 {
        let body = format!("body {sequence}");
        let checksum = xxhash_rust::xxh3::xxh3_64(body.as_bytes()).cast_signed();
        let row = (sequence, sequence * 10, checksum, body.as_bytes());
        let insert = "INSERT INTO report (instance, sequence, received, start, end, checksum, body)
                      VALUES ('a', ?1, ?2, 0, 0, ?3, ?4)";
        first.execute(insert, row).unwrap();
    }
    first.execute("INSERT INTO instance (instance, sequence, seen) VALUES ('a', 3, 30)", []).unwrap();
    drop(first);

    let mut history = open(directory.path());
    let mut bodies = Vec::new();
    let replayed = history.replay(|_, body| {
        bodies.push(String::from_utf8(body.to_vec()).unwrap());
        true
    });
    assert_eq!(replayed.unwrap(), Replayed { reports: 3, damaged: 0 });
    assert_eq!(bodies, ["body 1", "body 2", "body 3"]);
    assert_eq!(history.instances().unwrap(), [("a".to_owned(), 3, 30)], "what was acknowledged is known");
    history.store([stored("a", 4, 40)]).unwrap();
    assert_eq!(history.instances().unwrap(), [("a".to_owned(), 4, 40)]);
    assert_eq!(damaged_files(directory.path()).len(), 0);
    history.connection.execute("DELETE FROM instance", []).unwrap();
    history.connection.execute("DELETE FROM report WHERE sequence = 4", []).unwrap();
    history.close();
    assert_eq!(open(directory.path()).instances().unwrap(), [], "its rows do not tell for certain whose they are");
    let mut history = open(directory.path());
    history.store([stored("a", 4, 40)]).unwrap();
    history.close();
    let again = open(directory.path());
    let form: i64 = again.connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!((form, self::bodies(&again)), (schema::KNOWN, 4));
}
