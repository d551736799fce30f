//! Requests: what reaches the origin, and how.

use http_desync_guardian::RequestSafetyTier;
use http_desync_guardian::request_analyzer::HttpRequestData;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::corpus::{Expect, Message, load};
use crate::harness::{proxy, recorder, send};
use crate::judge::{self, Read, find};

/// Cases at the same time.
const LANES: usize = 24;

/// What became of one request.
struct Fate {
    name: String,
    expect: Expect,
    /// What is wrong with the bytes that reached the origin.
    violation: Option<String>,
    reached: bool,
    /// Whole messages that the origin got, and answers of it that the client got.
    whole: usize,
    answered: bool,
    /// Whether the client was told, and how.
    refused: bool,
    closed: bool,
}

async fn fates(messages: Vec<Message>) -> Vec<Fate> {
    let mut lanes: Vec<Vec<Message>> = (0..LANES).map(|_| Vec::new()).collect();
    for (index, message) in messages.into_iter().enumerate() {
        lanes[index % LANES].push(message);
    }
    let mut fates = Vec::new();
    let lanes: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(run(lane))).collect();
    for lane in lanes {
        fates.extend(lane.await.unwrap());
    }
    fates
}

async fn run(messages: Vec<Message>) -> Vec<Fate> {
    let mut fates = Vec::new();
    for message in messages {
        // An origin for each, lest the late bytes of one are taken for those of the next.
        let (origin, record) = recorder().await;
        let proxy = proxy(origin);
        let to = proxy.outbound()[0].1;
        let expected = message.bytes.windows(9).filter(|window| window == b" HTTP/1.1").count();
        let enough = |got: &[u8]| expected == 1 && answers(got) == 1;
        let got = send(to, &message.bytes, enough).await;
        let mut fate = Fate {
            name: message.name,
            expect: message.expect,
            violation: None,
            reached: false,
            whole: 0,
            answered: matches!(got.bytes.get(..12), Some(b"HTTP/1.1 200" | b"HTTP/1.0 200")),
            refused: find(&got.bytes, b"couplet-error: malformed").is_some(),
            closed: got.closed,
        };
        for bytes in record.take() {
            fate.reached = true;
            judge_all(&bytes, &mut fate);
        }
        fates.push(fate);
    }
    fates
}

fn answers(got: &[u8]) -> usize {
    match judge::response(got, "GET", false) {
        Read::Whole { end, .. } => 1 + answers(&got[end..]),
        _ => 0,
    }
}

/// Reads what the origin got on one connection as strictly as can be.
fn judge_all(mut bytes: &[u8], fate: &mut Fate) {
    while !bytes.is_empty() {
        if let Some(end) = find(bytes, b"\r\n\r\n") {
            let verdict = HttpRequestData::analyze_raw_request(&bytes[..end + 4]);
            if verdict.tier == RequestSafetyTier::Severe {
                fate.violation = Some(format!("{:?}: {:?}", verdict.reason, verdict.message));
            }
        }
        match judge::request(bytes) {
            Read::Whole { end, .. } => {
                fate.whole += 1;
                bytes = &bytes[end..];
            }
            // Visibly cut: the connection was closed behind it.
            Read::Partial => return,
            Read::Wrong(why) => {
                fate.violation = Some(why.to_owned());
                return;
            }
        }
    }
}

#[tokio::test]
async fn only_requests_that_everybody_reads_alike_reach_the_origin() {
    let made = crate::cases::requests();
    assert!(made.len() >= 200, "{} cases of our own", made.len());
    let fates = fates(made.into_iter().chain(load(false)).collect()).await;
    let count = |which: &dyn Fn(&Fate) -> bool| -> (usize, Vec<String>) {
        let which: Vec<String> = fates.iter().filter(|fate| which(fate)).map(|fate| fate.name.clone()).collect();
        (which.len(), which)
    };
    let must_refuse = count(&|fate| fate.expect == Expect::Reject).0;
    let valid = count(&|fate| fate.expect == Expect::Accept).0;
    let violations = count(&|fate| fate.violation.is_some());
    let forwarded = count(&|fate| fate.expect == Expect::Reject && fate.reached);
    let lost = count(&|fate| fate.expect == Expect::Accept && (fate.whole == 0 || !fate.answered));
    let untold = count(&|fate| fate.expect == Expect::Reject && !fate.refused && !fate.closed);
    eprintln!(
        "R1: {} requests ({must_refuse} must be refused, {valid} are valid): violations {}, must-refuse forwarded in any \
         form {}, valid not forwarded {}, refused without an end {}",
        fates.len(),
        violations.0,
        forwarded.0,
        lost.0,
        untold.0
    );
    assert_eq!(violations.1, Vec::<String>::new(), "reached the origin in breach of RFC 9112");
    assert_eq!(forwarded.1, Vec::<String>::new(), "must be refused and was forwarded");
    assert_eq!(lost.1, Vec::<String>::new(), "valid and not forwarded");
    assert_eq!(untold.1, Vec::<String>::new(), "neither refused nor closed");
}

#[tokio::test]
async fn a_malformed_request_does_not_destroy_the_answer_before_it() {
    let (origin, record) = recorder().await;
    let proxy = proxy(origin);
    let all = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    let got = send(proxy.outbound()[0].1, all, |_| false).await;
    let text = String::from_utf8(got.bytes).unwrap();
    let (first, second) = text.split_once("\r\n\r\nok").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(second.starts_with("HTTP/1.1 400 Bad Request\r\ncouplet-error: malformed\r\n"), "{text}");
    assert!(second.contains("\r\nconnection: close\r\n") && got.closed, "{text}");
    assert_eq!(record.take().iter().filter(|bytes| find(bytes, b"/two").is_some()).count(), 0);
}

#[tokio::test]
async fn every_kind_of_malformed_request_has_its_status() {
    let (origin, _record) = recorder().await;
    let proxy = proxy(origin);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(), "505"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), "501"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(100_000)), "431"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(500)), "431"),
    ] {
        let got = send(proxy.outbound()[0].1, request.as_bytes(), |_| false).await;
        let text = String::from_utf8(got.bytes).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.contains("\r\ncouplet-error: malformed\r\n") && got.closed, "{text}");
    }
}

#[tokio::test]
async fn content_that_goes_wrong_after_its_head_has_passed_is_cut_on_the_way_up() {
    let (origin, record) = recorder().await;
    let proxy = proxy(origin);
    let mut stream = tokio::net::TcpStream::connect(proxy.outbound()[0].1).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await.unwrap();
    while !record.holds(b"one") {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"0x3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\ncouplet-error: malformed\r\n"), "{text}");
    let reached = record.take().concat();
    assert_eq!(judge::request(&reached), Read::Partial);
    assert!(find(&reached, b"two").is_none());
}

#[tokio::test]
async fn bytes_behind_an_upgrade_reach_the_origin_only_once_it_has_agreed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = proxy(listener.local_addr().unwrap());
    let mut client = tokio::net::TcpStream::connect(proxy.outbound()[0].1).await.unwrap();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    client.write_all(&[head.as_slice(), b"early"].concat()).await.unwrap();
    let (mut origin, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while find(&got, b"\r\n\r\n").is_none() {
        origin.read_buf(&mut got).await.unwrap();
    }
    assert!(got.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&got));
    origin.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
    let mut early = [0; 5];
    origin.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
}
