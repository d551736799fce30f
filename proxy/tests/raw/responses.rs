//! Responses: what reaches the client, what the next client gets, and whether a cut stays visible.

use crate::corpus::{Expect, Message, load};
use crate::harness::{NEXT, Script, player, proxy, send};
use crate::judge::{self, Read};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LANES: usize = 8;

struct Fate {
    name: String,
    expect: Expect,
    /// What the client got, if it is a whole answer.
    answer: Option<(u16, Vec<u8>)>,
    /// Whether the client of the next request got the answer to it.
    next: bool,
}

async fn fates(messages: Vec<Message>, close: bool) -> Vec<Fate> {
    let mut lanes: Vec<Vec<Message>> = (0..LANES).map(|_| Vec::new()).collect();
    for (index, message) in messages.into_iter().enumerate() {
        lanes[index % LANES].push(message);
    }
    let lanes: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(run(lane, close))).collect();
    let mut fates = Vec::new();
    for lane in lanes {
        fates.extend(lane.await.unwrap());
    }
    fates
}

async fn run(messages: Vec<Message>, close: bool) -> Vec<Fate> {
    let (origin, script): (_, Script) = player().await;
    let proxy = proxy(origin);
    let to = proxy.outbound()[0].1;
    let mut fates = Vec::new();
    for message in messages {
        script.play(&message.bytes, close);
        let answer = answer(to).await;
        let next = answer_of(judge::response(NEXT, "GET", false));
        let got = self::answer(to).await;
        fates.push(Fate { name: message.name, expect: message.expect, answer, next: got == next });
    }
    fates
}

/// The answer to a GET, where it is a whole one.
async fn answer(to: std::net::SocketAddr) -> Option<(u16, Vec<u8>)> {
    let enough = |got: &[u8]| matches!(skip_interim(got, false), Read::Whole { .. });
    let got = send(to, GET, enough).await;
    answer_of(skip_interim(&got.bytes, got.closed))
}

fn skip_interim(bytes: &[u8], closed: bool) -> Read {
    match judge::response(bytes, "GET", closed) {
        Read::Whole { head, end, .. } if judge::status(&head) < 200 => skip_interim(&bytes[end..], closed),
        read => read,
    }
}

fn answer_of(read: Read) -> Option<(u16, Vec<u8>)> {
    match read {
        Read::Whole { head, content, .. } => Some((judge::status(&head), content)),
        Read::Partial | Read::Wrong(_) => None,
    }
}

/// Responses of others that are said to be acceptable and are refused, with the reason.
fn refused_all_the_same(name: &str) -> bool {
    [
        // 101 that nobody asked for, with content besides (RFC 9110, sections 8.6 and 15.2.2).
        "connection-8-",
        "connection-9-",
        // An empty line before a status line: borne with before requests alone (RFC 9112, section 2.2).
        "sample-19-",
        // The same after an interim answer.
        "connection-15-",
    ]
    .iter()
    .any(|known| name.starts_with(known))
}

/// Responses that are said to be malformed for what is behind them, which is not relayed.
fn whole_before_what_is_wrong(name: &str) -> bool {
    // Bytes after an answer with `Connection: close`: the answer itself is whole.
    ["connection-6-", "connection-7-"].iter().any(|known| name.starts_with(known))
}

#[tokio::test]
async fn only_responses_that_everybody_reads_alike_reach_the_client() {
    let made = crate::cases::responses();
    assert!(made.len() >= 100, "{} cases of our own", made.len());
    let fates = fates(made.into_iter().chain(load(true)).collect(), true).await;
    let names = |which: &dyn Fn(&Fate) -> bool| -> Vec<String> {
        fates.iter().filter(|fate| which(fate)).map(|fate| fate.name.clone()).collect()
    };
    let passed = |fate: &Fate| fate.answer.as_ref().is_some_and(|(status, _)| *status != 502);
    let relayed =
        names(&|fate| fate.expect == Expect::Reject && passed(fate) && !whole_before_what_is_wrong(&fate.name));
    let lost =
        names(&|fate| fate.expect == Expect::Accept && fate.answer.as_ref().is_some_and(|(status, _)| *status == 502));
    let lost: Vec<_> = lost.into_iter().filter(|name| !refused_all_the_same(name)).collect();
    let poisoned = names(&|fate| !fate.next);
    eprintln!(
        "R2: {} responses: malformed relayed {}, next client poisoned {}, valid not relayed {}",
        fates.len(),
        relayed.len(),
        poisoned.len(),
        lost.len()
    );
    assert_eq!(relayed, Vec::<String>::new(), "malformed and relayed");
    assert_eq!(poisoned, Vec::<String>::new(), "the next client got something else");
    assert_eq!(lost, Vec::<String>::new(), "valid and not relayed");
}

#[tokio::test]
async fn a_response_that_was_cut_stays_visibly_cut() {
    let fates = fates(crate::cases::truncated(), true).await;
    let hidden: Vec<_> =
        fates.iter().filter(|fate| fate.answer.as_ref().is_some_and(|(status, _)| *status == 200)).collect();
    eprintln!("R2: {} truncated responses: hidden {}", fates.len(), hidden.len());
    assert!(hidden.is_empty(), "{:?}", hidden.iter().map(|fate| &fate.name).collect::<Vec<_>>());
}

#[tokio::test]
async fn surplus_bytes_behind_an_answer_reach_nobody() {
    let surplus = ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "\r\n", "x", "HTTP/1.1 200 OK\r\n"];
    let messages = surplus.map(|surplus| Message {
        name: format!("{surplus:?}"),
        expect: Expect::Either,
        bytes: format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{surplus}").into_bytes(),
    });
    for fate in fates(messages.into(), false).await {
        assert_eq!(fate.answer, Some((200, b"ok".to_vec())), "{}", fate.name);
        assert!(fate.next, "{}", fate.name);
    }
}
