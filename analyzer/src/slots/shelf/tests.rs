use super::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// A time that begins a minute and an hour.
const T: u64 = 472_222 * HOUR;

fn rollup(tier: Tier, start: u64, end: u64) -> Rollup {
    Rollup { tier, start, end, service: "shop".into(), body: vec![0; 1_000].into(), row: None }
}

/// The times of the rollups, relative to `T` in seconds.
fn times(rollups: &[Arc<Rollup>]) -> Vec<(u64, u64)> {
    rollups.iter().map(|rollup| ((rollup.start - T) / 1_000, (rollup.end - T) / 1_000)).collect()
}

/// A shelf on which slots of ten seconds came for so long, folded when they could be.
fn filled(seconds: u64) -> Shelf {
    let mut shelf = Shelf::new(usize::MAX);
    for start in (T..T + seconds * 1_000).step_by(10_000) {
        shelf.put(vec![rollup(Tier::Seconds, start, start + 10_000)]);
        while let Some(due) = shelf.due(start + 10_000) {
            let start = due.rollups.iter().map(|rollup| rollup.start).min().unwrap();
            let end = due.rollups.iter().map(|rollup| rollup.end).max().unwrap();
            shelf.fold(&due.numbers, vec![rollup(due.tier, start, end)]);
        }
        shelf.tidy(start + 10_000);
    }
    shelf
}

/// Every moment of a cover is in it once.
fn is_seamless(rollups: &[Arc<Rollup>]) -> bool {
    rollups.windows(2).all(|two| two[0].end == two[1].start)
}

#[test]
fn a_minute_is_folded_when_it_is_over_and_not_before() {
    let mut shelf = Shelf::new(usize::MAX);
    for start in (T..T + MINUTE).step_by(10_000) {
        shelf.put(vec![rollup(Tier::Seconds, start, start + 10_000)]);
    }
    assert!(shelf.due(T + MINUTE - 1).is_none());
    let due = shelf.due(T + MINUTE).unwrap();
    assert_eq!((due.tier, due.numbers), (Tier::Minute, vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn every_window_is_covered_seamlessly_by_as_much_as_it_asks_for_and_little_more() {
    let seconds = 26 * 3_600 + 17 * 60 + 40;
    let shelf = filled(seconds);
    let now = T + seconds * 1_000;
    for (window, most) in [
        (SlidingWindow::Minute, 10),
        (SlidingWindow::QuarterHour, 60),
        (SlidingWindow::Hour, 60),
        (SlidingWindow::Day, 3_600),
    ] {
        let cover = shelf.cover(window, now);
        assert!(is_seamless(&cover), "{window}: {:?}", times(&cover));
        let long = (now - cover[0].start) / 1_000;
        let asked = window.length() / 1_000;
        assert!((asked..=asked + most).contains(&long), "{window}: {long} s");
        assert_eq!(cover.last().unwrap().end, now);
    }
    assert_eq!(shelf.cover(SlidingWindow::Minute, now).len(), 6);
    assert!(shelf.cover(SlidingWindow::Day, now).len() < 24 + 2 + 60, "hours where there are hours");
}

#[test]
fn a_window_slides_on_when_nothing_comes_any_more() {
    let shelf = filled(600);
    let now = T + 600_000;
    assert_eq!(times(&shelf.cover(SlidingWindow::Minute, now + 30_000)), [(570, 580), (580, 590), (590, 600)]);
    assert!(shelf.cover(SlidingWindow::Minute, now + 60_000).is_empty());
    assert!(shelf.cover(SlidingWindow::QuarterHour, now + 15 * MINUTE).is_empty());
}

#[test]
fn after_a_restart_longer_slots_stand_in_for_shorter_ones() {
    let mut shelf = Shelf::new(usize::MAX);
    shelf.put(vec![rollup(Tier::Hour, T, T + HOUR)]);
    shelf.put(vec![rollup(Tier::Minute, T + HOUR, T + HOUR + MINUTE)]);
    shelf.put(vec![rollup(Tier::Seconds, T + HOUR + MINUTE, T + HOUR + MINUTE + 10_000)]);
    let now = T + HOUR + MINUTE + 10_000;
    assert_eq!(times(&shelf.cover(SlidingWindow::Minute, now)), [(3_600, 3_660), (3_660, 3_670)]);
    assert_eq!(times(&shelf.cover(SlidingWindow::QuarterHour, now)), [(0, 3_600), (3_600, 3_660), (3_660, 3_670)]);
}

#[test]
fn beyond_the_budget_the_oldest_slot_goes_and_is_counted() {
    let mut shelf = Shelf::new(5_000);
    for start in (T..T + 100_000).step_by(10_000) {
        shelf.put(vec![rollup(Tier::Seconds, start, start + 10_000)]);
    }
    shelf.tidy(T + 100_000);
    assert_eq!((shelf.dropped(), shelf.slots.len()), (6, 4));
    assert!(shelf.bytes() <= 5_000);
    assert_eq!(times(&shelf.cover(SlidingWindow::Hour, T + 100_000)).first(), Some(&(60, 70)));
}

#[test]
fn memory_is_bounded_by_what_windows_need() {
    let day = filled(25 * 3_600).bytes();
    let days = filled(50 * 3_600).bytes();
    assert!(days <= day + 2 * (1_000 + OVERHEAD), "{day} {days}");
}

#[test]
fn slots_of_ten_seconds_can_be_fetched_by_number_while_they_are_here() {
    let shelf = filled(90);
    let numbers: Vec<u64> = shelf.finest(0).iter().map(|slot| slot.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 8, 9, 10], "7 is the minute");
    assert_eq!(shelf.finest(8).len(), 2);
    assert_eq!(shelf.slot_of(9).map(|slot| slot.start), Some(T + 70_000));
    assert!(shelf.slot_of(7).is_none() && shelf.slot_of(0).is_none() && shelf.slot_of(11).is_none());
}
