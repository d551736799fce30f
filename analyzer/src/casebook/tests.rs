use super::*;
use crate::findings::findings;
use crate::traffic::{chain, snapshot_of, traffic};
use couplet_config::{Architecture, FindingThresholds};

const DEEP: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn seen(requests: u32, services: &[&str]) -> (Snapshot, Vec<Finding>) {
    let snapshot = snapshot_of(&traffic().of(requests, &chain(services)).reports());
    let found = findings(&snapshot, &FindingThresholds::default(), &Architecture::default());
    (snapshot, found)
}

fn kinds(changes: &Changes) -> Vec<EventKind> {
    changes.events.iter().map(|(kind, _, _)| *kind).collect()
}

/// The case of the chain.
fn case(book: &Casebook) -> &Case {
    book.cases().find(|case| case.rule == "SC").expect("a chain")
}

#[test]
fn a_finding_is_opened_once_and_is_new_for_a_day() {
    let mut book = Casebook::new(10);
    let (_, found) = seen(100, &DEEP);
    assert!(kinds(&book.open(&found, 1_000)).contains(&EventKind::FindingOpened));
    assert_eq!(book.open(&found, 2_000), Changes::default());
    assert_eq!((case(&book).first_seen, case(&book).fixed), (1_000, None));
    assert_eq!(book.status(case(&book), 1_000 + NEW - 1), Status::New);
    assert_eq!(book.status(case(&book), 1_000 + NEW), Status::Known);
}

#[test]
fn it_is_fixed_when_the_traffic_comes_that_would_show_it_and_does_not() {
    let mut book = Casebook::new(10);
    book.open(&seen(100, &DEEP).1, 1_000);
    let (idle, none) = seen(49, &DEEP[..2]);
    assert_eq!(kinds(&book.judge(&Busy::of(&idle, 50), &none, 2_000)), [], "too little to say anything");
    let (busy, none) = seen(50, &DEEP[..2]);
    assert!(kinds(&book.judge(&Busy::of(&busy, 50), &none, 3_000)).contains(&EventKind::FindingFixed));
    assert_eq!((case(&book).fixed, case(&book).last_seen), (Some(3_000), 1_000));
    assert_eq!(book.status(case(&book), 3_000), Status::Fixed);
    let (again, found) = seen(100, &DEEP);
    assert!(kinds(&book.judge(&Busy::of(&again, 50), &found, 4_000)).contains(&EventKind::FindingReopened));
    assert_eq!((case(&book).fixed, case(&book).last_seen, case(&book).first_seen), (None, 4_000, 1_000));
}

#[test]
fn the_book_says_when_it_has_changed_and_when_time_alone_changes_what_it_says() {
    let mut book = Casebook::new(10);
    assert_eq!(book.next_change(0), u64::MAX);
    let (snapshot, found) = seen(100, &DEEP);
    let mut last = book.marks().revision();
    let mut changed =
        |book: &Casebook| std::mem::replace(&mut last, book.marks().revision()) != book.marks().revision();
    book.open(&found, 1_000);
    assert!(changed(&book));
    book.open(&found, 2_000);
    assert!(!changed(&book), "nothing was opened");
    book.judge(&Busy::of(&snapshot, 50), &found, 3_000);
    assert!(changed(&book), "they were seen later");
    let id = case(&book).id.clone();
    book.acknowledge(&id, Some(Acknowledgement { at: 5, until: Some(9_000), note: String::new() }));
    assert!(changed(&book));
    assert_eq!(book.next_change(8_999), 9_000, "the acknowledgement ends");
    assert_eq!(book.next_change(9_000), 1_000 + NEW, "it is no longer new");
    assert_eq!(book.next_change(1_000 + NEW), u64::MAX);
}

#[test]
fn an_acknowledgement_holds_until_its_time_is_over_or_it_is_taken_back() {
    let mut book = Casebook::new(10);
    book.open(&seen(100, &DEEP).1, 0);
    let id = case(&book).id.clone();
    let given = Acknowledgement { at: 5, until: Some(NEW + 100), note: "we live with it".to_owned() };
    assert!(!book.acknowledge("SC-nothing", Some(given.clone())), "there must be such a finding");
    assert!(book.acknowledge(&id, Some(given)));
    assert_eq!(book.status(case(&book), NEW + 99), Status::Accepted);
    assert_eq!(book.status(case(&book), NEW + 100), Status::Known);
    assert!(book.acknowledge(&id, None));
    assert!(!book.acknowledge(&id, None));
    assert_eq!(book.status(case(&book), NEW + 99), Status::Known);
}

#[test]
fn a_full_book_lets_go_of_what_was_fixed_first_and_counts_what_finds_no_room() {
    let (_, found) = seen(100, &DEEP);
    let other = |id: &str| Finding { id: id.to_owned(), ..found[0].clone() };
    let found = [other("SC-1"), other("SC-2")];
    let mut book = Casebook::new(1);
    book.open(&found, 0);
    assert_eq!((book.cases().count(), book.marks().lost()), (1, 1));
    let first = book.cases().next().unwrap().id.clone();
    book.cases.get_mut(&first).unwrap().fixed = Some(9);
    let changes = book.open(&found[1..2], 10);
    assert_eq!(changes.gone, [first]);
    assert_eq!(book.cases().count(), 1);
}

#[test]
fn services_versions_and_edges_are_news_once() {
    let mut timeline = Timeline::default();
    let reports = traffic().of(3, &chain(&["a", "b"])).reports();
    let news = timeline.news(&snapshot_of(&reports));
    let told: Vec<_> = news.iter().map(|(kind, subject, _)| (*kind, subject.as_str())).collect();
    assert_eq!(told, [(EventKind::Service, "a"), (EventKind::Service, "b"), (EventKind::Edge, "a -> b")]);
    assert_eq!(timeline.news(&snapshot_of(&reports)), []);
    let mut deployed = reports.clone();
    deployed[1].origin.version = Some("v2".to_owned());
    deployed[1].origin.instance = "b-again".to_owned();
    let news = timeline.news(&snapshot_of(&[reports, deployed].concat()));
    assert_eq!(news, [(EventKind::Version, "b".to_owned(), "v2".to_owned())]);
}

#[test]
fn a_whole_system_at_once_is_some_events_and_a_number() {
    let names: Vec<String> = (0..150).map(|n| format!("s{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut timeline = Timeline::default();
    let news = timeline.news(&snapshot_of(&traffic().of(1, &chain(&names)).reports()));
    assert_eq!(news.len(), AT_ONCE_AND_ONE);
    assert_eq!(news.last(), Some(&(EventKind::More, String::new(), "199".to_owned())));
}

/// A hundred events, and one that says how many more.
const AT_ONCE_AND_ONE: usize = 101;
