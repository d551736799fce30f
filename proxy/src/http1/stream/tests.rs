use proptest::prelude::*;

use super::super::head::Method;
use super::*;

const BOUNDS: Bounds = Bounds { bytes: 120, fields: 5 };
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const CHUNKS: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n";
const BAD: &str = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
const BAD_CHUNK: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n";

/// How much of all that passes, and what stops it.
fn requests(bytes: &str) -> (usize, Option<Violation>) {
    let mut stream = Stream::requests(BOUNDS);
    let passed = stream.pass(bytes.as_bytes());
    (passed, stream.refused().map(|(violation, _)| violation))
}

/// The same, shown in pieces, as a gate shows it; with what passed.
fn in_pieces(mut stream: Stream, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<(Violation, bool)>, u64) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]).collect();
    cuts.sort_unstable();
    let (mut kept, mut passed, mut from) = (Vec::new(), Vec::new(), 0);
    for to in cuts {
        kept.extend_from_slice(&bytes[from..to]);
        from = to;
        let count = stream.pass(&kept);
        passed.extend(kept.drain(..count));
    }
    let refused = stream.refused();
    (passed, refused, stream.begun())
}

#[test]
fn messages_pass_one_after_another() {
    let all = [GET, POST, "\r\n", CHUNKS, GET].concat();
    assert_eq!(requests(&all), (all.len(), None));
    assert_eq!(requests(&all[..all.len() - 1]), (all.len() - GET.len(), None), "a head passes whole or not at all");
}

#[test]
fn what_is_wrong_stops_its_own_message_and_all_after_it() {
    let before = [GET, POST].concat();
    for bad in [BAD, BAD_CHUNK, "\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n", "\x16\x03\x01"] {
        let (passed, violation) = requests(&[&before, bad, GET].concat());
        // An empty line before a head is let pass.
        let passed = if bad.starts_with("\r\n") { passed - 2 } else { passed };
        assert_eq!(passed, before.len(), "{bad:?}");
        assert!(violation.is_some(), "{bad:?}");
    }
}

#[test]
fn content_that_goes_wrong_later_is_told_apart() {
    let mut stream = Stream::requests(BOUNDS);
    let head = BAD_CHUNK.find("xx").unwrap();
    assert_eq!(stream.pass(&BAD_CHUNK.as_bytes()[..head]), head);
    assert_eq!(stream.pass(&BAD_CHUNK.as_bytes()[head..]), 1);
    assert_eq!(stream.refused(), Some((Violation::Chunk, true)));
    assert_eq!(stream.begun(), 1);
}

#[test]
fn a_head_is_bounded_whether_it_ends_or_not() {
    let endless = format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(100));
    assert_eq!(requests(&endless), (0, Some(Violation::TooLarge)));
    assert_eq!(requests(&format!("{endless}\r\n\r\n")), (0, Some(Violation::TooLarge)));
}

#[test]
fn bytes_after_an_upgrade_wait_for_the_answer() {
    for (switched, violation) in [(true, None), (false, Some(Violation::StartLine))] {
        let mut stream = Stream::requests(BOUNDS);
        assert_eq!(stream.pass(format!("{UPGRADE}\0raw").as_bytes()), UPGRADE.len());
        assert_eq!(stream.pass(b"\0raw bytes"), 0);
        stream.answered(switched);
        assert_eq!(stream.pass(b"\0raw bytes"), if switched { 10 } else { 0 });
        assert_eq!(stream.refused().map(|(violation, _)| violation), violation);
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_surplus() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut stream = Stream::responses(BOUNDS);
    stream.ask(Asked { method: Method::Other, upgrade: false });
    assert_eq!(stream.pass(format!("HTTP/1.1 100 Continue\r\n\r\n{ok}").as_bytes()), 25 + ok.len());
    stream.ask(Asked { method: Method::Other, upgrade: false });
    assert_eq!(stream.pass(format!("{ok}{ok}").as_bytes()), ok.len());
    assert_eq!(stream.refused(), Some((Violation::Surplus, false)));
}

#[test]
fn interim_answers_are_bounded() {
    let mut stream = Stream::responses(BOUNDS);
    stream.ask(Asked { method: Method::Other, upgrade: false });
    stream.pass("HTTP/1.1 102 Processing\r\n\r\n".repeat(17).as_bytes());
    assert_eq!(stream.refused(), Some((Violation::Interim, false)));
}

proptest! {
    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut(
        messages in proptest::collection::vec(
            proptest::sample::select(vec![GET, POST, CHUNKS, GET, POST, CHUNKS, UPGRADE, BAD, BAD_CHUNK, "\r\n", "\n", "x"]),
            0..6,
        ),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes = messages.concat().into_bytes();
        let (whole, refused, begun) = in_pieces(Stream::requests(BOUNDS), &bytes, &[]);
        let (passed, refused_in_pieces, begun_in_pieces) = in_pieces(Stream::requests(BOUNDS), &bytes, &cuts);
        let violation = |refused: Option<(Violation, bool)>| refused.map(|(violation, _)| violation);
        prop_assert_eq!(violation(refused), violation(refused_in_pieces));
        // Only the message that goes wrong in its content passes up to there, if its head came earlier.
        prop_assert!(passed.starts_with(&whole));
        let within = refused_in_pieces.is_some_and(|(_, within)| within);
        prop_assert!(within || passed == whole);
        prop_assert_eq!(begun_in_pieces, begun + u64::from(within));
    }
}
