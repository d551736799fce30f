//! RFC 9113 and RFC 7541, clause by clause, as a client that keeps to them or not sees the proxy: raw frames against an
//! inbound listener, in the clear and over TLS. The table is printed; what h2spec tries is in it.

#![expect(clippy::print_stdout, reason = "the table is what the test is for")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::framed;
use crate::harness::*;
use crate::pki::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Of HEADERS and DATA; of SETTINGS and PING the same bit is ACK.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;
/// A whole request without a body.
const WHOLE: u8 = END_STREAM | END_HEADERS;

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// `GET /` and `POST /` of `http://a`, as header blocks.
const GET: &[u8] = b"\x82\x86\x84\x01\x01a";
const POST: &[u8] = b"\x83\x86\x84\x01\x01a";
const MARK: &[u8; 8] = b"the mark";

fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, GET)
}

/// A request whose body follows.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, POST)
}

/// `GET` with these representations of further fields behind.
fn with(more: &[u8]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, [GET, more].concat())
}

/// A head of these representations alone.
fn of(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, block)
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, [id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
}

/// A field, name and value in the clear, not kept in the table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// What the proxy must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// Answer the request on stream 1.
    Answer,
    /// Go on as if nothing had been.
    Ignore,
    /// End the connection for one of these reasons.
    End(&'static [u32]),
    /// Reset the stream for one of these reasons, or end the connection for it. A request that is malformed may as well be
    /// answered as such (RFC 9113, section 8.1.1).
    Reset(&'static [u32]),
    /// Refuse the request, as a reset or as an answer.
    Refuse,
}

use Must::{Answer, End, Ignore, Refuse, Reset};

/// Clause, what is sent after the settings, and what must come of it.
type Case = (&'static str, &'static str, fn() -> Vec<u8>, Must);

const CASES: &[Case] = &[
    ("4.1", "a frame of an unknown type", || frame(0x16, 0, 0, [0; 8]), Ignore),
    ("4.1", "flags that mean nothing", || [frame(PING, 0x16, 0, [0; 8]), get(1)].concat(), Answer),
    ("4.1", "the reserved bit", || [frame(PING, 0, 1 << 31, [0; 8]), get(1)].concat(), Answer),
    ("4.2", "16,384 bytes of data", || [post(1), frame(DATA, END_STREAM, 1, [0; 16_384])].concat(), Answer),
    (
        "4.2",
        "data that is too large",
        || [post(1), frame(DATA, END_STREAM, 1, [0; 16_385])].concat(),
        End(&[FRAME_SIZE]),
    ),
    ("4.2", "a head that is too large", || frame(HEADERS, WHOLE, 1, [0; 16_385]), End(&[FRAME_SIZE])),
    ("4.3", "an invalid header block", || of(&[0x40]), End(&[COMPRESSION])),
    (
        "4.3",
        "a priority within a header block",
        || [frame(HEADERS, END_STREAM, 1, GET), frame(PRIORITY, 0, 1, [0, 0, 0, 0, 255])].concat(),
        End(&[PROTOCOL]),
    ),
    (
        "4.3",
        "another head within a header block",
        || [frame(HEADERS, END_STREAM, 1, GET), get(3)].concat(),
        End(&[PROTOCOL]),
    ),
    ("5.1", "data on an idle stream", || frame(DATA, END_STREAM, 1, b"x"), End(&[PROTOCOL])),
    ("5.1", "a reset of an idle stream", || frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), End(&[PROTOCOL])),
    ("5.1", "a window for an idle stream", || frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 100]), End(&[PROTOCOL])),
    ("5.1", "a continuation on an idle stream", || frame(CONTINUATION, END_HEADERS, 1, GET), End(&[PROTOCOL])),
    ("5.1", "data behind the end", || [get(1), frame(DATA, END_STREAM, 1, b"x")].concat(), Reset(&[STREAM_CLOSED])),
    ("5.1", "a head behind the end", || [get(1), get(1)].concat(), Reset(&[STREAM_CLOSED])),
    (
        "5.1",
        "a continuation behind the end",
        || [get(1), frame(CONTINUATION, END_HEADERS, 1, GET)].concat(),
        End(&[PROTOCOL]),
    ),
    (
        "5.1",
        "data behind a reset",
        || [post(1), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), frame(DATA, END_STREAM, 1, b"x")].concat(),
        Reset(&[STREAM_CLOSED]),
    ),
    (
        "5.1",
        "a head behind a reset",
        || [post(1), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), get(1)].concat(),
        Reset(&[STREAM_CLOSED]),
    ),
    (
        "5.1",
        "a continuation behind a reset",
        || [post(1), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), frame(CONTINUATION, END_HEADERS, 1, b"\x82")].concat(),
        End(&[PROTOCOL, STREAM_CLOSED]),
    ),
    ("5.1", "a priority for an idle stream", || [frame(PRIORITY, 0, 5, [0, 0, 0, 0, 16]), get(1)].concat(), Answer),
    ("5.1.1", "an even stream", || get(2), End(&[PROTOCOL])),
    ("5.1.1", "a stream below the last one", || [get(5), get(3)].concat(), End(&[PROTOCOL, STREAM_CLOSED])),
    (
        "5.1.2",
        "more streams than are taken",
        || (0..600).flat_map(|n| post(2 * n + 1)).collect(),
        Reset(&[REFUSED, PROTOCOL]),
    ),
    ("5.4.1", "an error ends the connection", || frame(PING, 0, 1, [0; 8]), End(&[PROTOCOL])),
    (
        "5.5",
        "an unknown frame within a header block",
        || [frame(HEADERS, END_STREAM, 1, GET), frame(0x16, 0, 1, [0; 8])].concat(),
        End(&[PROTOCOL]),
    ),
    ("6.1", "data with padding", || [post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x02xy\0\0")].concat(), Answer),
    ("6.1", "data on stream 0", || [post(1), frame(DATA, END_STREAM, 0, b"x")].concat(), End(&[PROTOCOL])),
    (
        "6.1",
        "padding that is longer than the data",
        || [post(1), frame(DATA, PADDED, 1, b"\x06xxxxx")].concat(),
        End(&[PROTOCOL]),
    ),
    ("6.2", "a head with padding", || frame(HEADERS, WHOLE | PADDED, 1, [b"\x02", GET, &[0, 0]].concat()), Answer),
    (
        "6.2",
        "a head with a priority",
        || frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [&[0, 0, 0, 0, 255], GET].concat()),
        Answer,
    ),
    ("6.2", "a head on stream 0", || get(0), End(&[PROTOCOL])),
    (
        "6.2",
        "padding that is longer than the head",
        || frame(HEADERS, WHOLE | PADDED, 1, [&[200], GET].concat()),
        End(&[PROTOCOL]),
    ),
    ("6.3", "a priority on stream 0", || frame(PRIORITY, 0, 0, [0, 0, 0, 0, 16]), End(&[PROTOCOL])),
    ("6.3", "a priority of four bytes", || [post(1), frame(PRIORITY, 0, 1, [0; 4])].concat(), Reset(&[FRAME_SIZE])),
    ("6.4", "a reset on stream 0", || frame(RST_STREAM, 0, 0, [0, 0, 0, 8]), End(&[PROTOCOL])),
    ("6.4", "a reset of three bytes", || [post(1), frame(RST_STREAM, 0, 1, [0; 3])].concat(), End(&[FRAME_SIZE])),
    ("6.5", "an acknowledgement with a payload", || frame(SETTINGS, ACK, 0, [0; 6]), End(&[FRAME_SIZE])),
    ("6.5", "settings on a stream", || frame(SETTINGS, 0, 1, [0, 3, 0, 0, 0, 100]), End(&[PROTOCOL])),
    ("6.5", "settings of three bytes", || frame(SETTINGS, 0, 0, [0, 3, 0]), End(&[FRAME_SIZE])),
    ("6.5.2", "ENABLE_PUSH of 2", || setting(2, 2), End(&[PROTOCOL])),
    ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", || setting(4, 1 << 31), End(&[FLOW_CONTROL])),
    ("6.5.2", "MAX_FRAME_SIZE of 16,383", || setting(5, 16_383), End(&[PROTOCOL])),
    ("6.5.2", "MAX_FRAME_SIZE of 2^24", || setting(5, 1 << 24), End(&[PROTOCOL])),
    ("6.5.2", "a setting that nobody knows", || setting(0xff, 1), Ignore),
    ("6.5.3", "the last one of two values counts", || [setting(4, 0), setting(4, 100), get(1)].concat(), Answer),
    ("6.7", "an answer to no ping", || frame(PING, ACK, 0, [0; 8]), Ignore),
    ("6.7", "a ping on a stream", || frame(PING, 0, 1, [0; 8]), End(&[PROTOCOL])),
    ("6.7", "a ping of six bytes", || frame(PING, 0, 0, [0; 6]), End(&[FRAME_SIZE])),
    ("6.8", "a GOAWAY on a stream", || frame(GOAWAY, 0, 1, [0; 8]), End(&[PROTOCOL])),
    ("6.9", "a window of nothing", || frame(WINDOW_UPDATE, 0, 0, [0; 4]), End(&[PROTOCOL])),
    (
        "6.9",
        "a stream's window of nothing",
        || [post(1), frame(WINDOW_UPDATE, 0, 1, [0; 4])].concat(),
        Reset(&[PROTOCOL]),
    ),
    ("6.9", "a window of three bytes", || frame(WINDOW_UPDATE, 0, 0, [0, 0, 1]), End(&[FRAME_SIZE])),
    (
        "6.9.1",
        "a window beyond 2^31",
        || {
            [frame(WINDOW_UPDATE, 0, 0, [0x7f, 255, 255, 255]), frame(WINDOW_UPDATE, 0, 0, [0x7f, 255, 255, 255])]
                .concat()
        },
        End(&[FLOW_CONTROL]),
    ),
    (
        "6.9.1",
        "a stream's window beyond 2^31",
        || [post(1), frame(WINDOW_UPDATE, 0, 1, [0x7f, 255, 255, 255]).repeat(2)].concat(),
        Reset(&[FLOW_CONTROL]),
    ),
    (
        "6.9.2",
        "a window that settings open",
        || [setting(4, 0), get(1), setting(4, 1), setting(4, 100)].concat(),
        Answer,
    ),
    (
        "6.9.2",
        "settings that push a window beyond 2^31",
        || [post(1), frame(WINDOW_UPDATE, 0, 1, [0x7f, 255, 0, 0]), setting(4, 0x7fff_ffff)].concat(),
        End(&[FLOW_CONTROL]),
    ),
    (
        "6.10",
        "a head in three pieces",
        || {
            let (one, rest) = GET.split_at(2);
            let (two, three) = rest.split_at(1);
            let start = frame(HEADERS, END_STREAM, 1, one);
            [start, frame(CONTINUATION, 0, 1, two), frame(CONTINUATION, END_HEADERS, 1, three)].concat()
        },
        Answer,
    ),
    (
        "6.10",
        "data within a header block",
        || [frame(HEADERS, 0, 1, POST), frame(DATA, END_STREAM, 1, b"x")].concat(),
        End(&[PROTOCOL]),
    ),
    (
        "6.10",
        "a continuation on stream 0",
        || [frame(HEADERS, END_STREAM, 1, GET), frame(CONTINUATION, END_HEADERS, 0, b"")].concat(),
        End(&[PROTOCOL]),
    ),
    (
        "6.10",
        "a continuation of a whole head",
        || [post(1), frame(CONTINUATION, END_HEADERS, 1, b"")].concat(),
        End(&[PROTOCOL]),
    ),
    (
        "6.10",
        "a continuation of another stream",
        || [frame(HEADERS, END_STREAM, 1, GET), frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
        End(&[PROTOCOL]),
    ),
    (
        "7",
        "a reset for a reason that nobody knows",
        || [post(1), frame(RST_STREAM, 0, 1, [0, 0, 0, 255])].concat(),
        Ignore,
    ),
    (
        "8.1",
        "a second head that ends nothing",
        || [post(1), frame(HEADERS, END_HEADERS, 1, b"")].concat(),
        Reset(&[PROTOCOL]),
    ),
    (
        "8.1",
        "trailers",
        || [post(1), frame(DATA, 0, 1, b"x"), frame(HEADERS, WHOLE, 1, literal("x-sum", "1"))].concat(),
        Answer,
    ),
    ("8.2.1", "a name in capitals", || with(&literal("X-Test", "1")), Refuse),
    ("8.2.1", "a space in a name", || with(&literal("x test", "1")), Refuse),
    ("8.2.1", "a line feed in a value", || with(&literal("x-test", "1\n2")), Refuse),
    ("8.2.1", "NUL in a value", || with(&literal("x-test", "1\x002")), Refuse),
    ("8.2.1", "a value that begins with a space", || with(&literal("x-test", " 1")), Refuse),
    ("8.2.2", "Connection", || with(&literal("connection", "keep-alive")), Refuse),
    ("8.2.2", "Transfer-Encoding", || with(&literal("transfer-encoding", "chunked")), Refuse),
    ("8.2.2", "TE: trailers, deflate", || with(&literal("te", "trailers, deflate")), Refuse),
    ("8.2.2", "TE: trailers", || with(&literal("te", "trailers")), Answer),
    ("8.3", "a pseudo-header that nobody knows", || with(&literal(":test", "1")), Refuse),
    ("8.3", "a pseudo-header of responses", || with(&literal(":status", "200")), Refuse),
    (
        "8.3",
        "a pseudo-header in trailers",
        || [post(1), frame(HEADERS, WHOLE, 1, literal(":method", "POST"))].concat(),
        Reset(&[PROTOCOL]),
    ),
    (
        "8.3",
        "a pseudo-header behind a field",
        || of(&[b"\x82\x86".as_slice(), &literal("x", "1"), b"\x84\x01\x01a"].concat()),
        Refuse,
    ),
    ("8.3.1", "an empty path", || of(&[b"\x82\x86\x01\x01a".as_slice(), &literal(":path", "")].concat()), Refuse),
    ("8.3.1", "no method", || of(b"\x86\x84\x01\x01a"), Refuse),
    ("8.3.1", "no scheme", || of(b"\x82\x84\x01\x01a"), Refuse),
    ("8.3.1", "no path", || of(b"\x82\x86\x01\x01a"), Refuse),
    ("8.3.1", "two methods", || of(b"\x82\x82\x86\x84\x01\x01a"), Refuse),
    ("8.3.1", "two schemes", || of(b"\x82\x86\x86\x84\x01\x01a"), Refuse),
    ("8.3.1", "two paths", || of(b"\x82\x86\x84\x84\x01\x01a"), Refuse),
    ("8.3.1", "Host that is not the authority", || with(&literal("host", "b")), Refuse),
    ("8.3.1", "user information in the authority", || of(b"\x82\x86\x84\x01\x03u@a"), Refuse),
    ("8.5", "CONNECT", || of(&[b"\x01\x01a".as_slice(), &literal(":method", "CONNECT")].concat()), Refuse),
    (
        "8.1.1",
        "more data than its Content-Length",
        || {
            [
                frame(HEADERS, END_HEADERS, 1, [POST, &literal("content-length", "1")].concat()),
                frame(DATA, END_STREAM, 1, b"xy"),
            ]
            .concat()
        },
        Reset(&[PROTOCOL]),
    ),
    (
        "8.1.1",
        "less data than its Content-Length",
        || {
            [
                frame(HEADERS, END_HEADERS, 1, [POST, &literal("content-length", "3")].concat()),
                frame(DATA, 0, 1, b"x"),
                frame(DATA, END_STREAM, 1, b"x"),
            ]
            .concat()
        },
        Reset(&[PROTOCOL]),
    ),
    (
        "8.1.1",
        "two values of Content-Length",
        || with(&[literal("content-length", "0"), literal("content-length", "1")].concat()),
        Refuse,
    ),
    (
        "8.4",
        "a push by a client",
        || [post(1), frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2], GET].concat())].concat(),
        End(&[PROTOCOL]),
    ),
    ("7541 2.3.3", "an index beyond the tables", || with(&[0xff, 0]), End(&[COMPRESSION])),
    ("7541 4.2", "a table size at the end", || with(&[0x20]), End(&[COMPRESSION])),
    (
        "7541 5.2",
        "eight bits of padding",
        || with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
        End(&[COMPRESSION]),
    ),
    ("7541 5.2", "padding of zeros", || with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"), End(&[COMPRESSION])),
    (
        "7541 5.2",
        "the end of strings in a string",
        || with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\xff\xff\xff\xfd\x25\x42\x7f"),
        End(&[COMPRESSION]),
    ),
    ("7541 6.1", "index 0", || with(&[0x80]), End(&[COMPRESSION])),
    ("7541 6.2.1", "a field that is kept, and used again", || with(b"\x40\x01x\x01y\xbe"), Answer),
    ("7541 6.2.2", "a field that is not kept", || with(b"\x00\x01x\x01y"), Answer),
    ("7541 6.2.3", "a field that is never kept", || with(b"\x10\x01x\x01y"), Answer),
    ("7541 6.3", "a table size", || of(&[b"\x20".as_slice(), GET].concat()), Answer),
    (
        "7541 6.3",
        "a table size beyond the setting",
        || of(&[b"\x3f\xe2\x1f".as_slice(), GET].concat()),
        End(&[COMPRESSION]),
    ),
];

/// What came of a case.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Answer(u16),
    Reset(u32),
    /// GOAWAY for this reason.
    End(u32),
    Closed,
    /// The ping behind the case was answered, and nothing else of note came.
    Nothing,
    Silence,
}

/// Cases that go another way, and why.
const KNOWN: [(&str, &str); 1] =
    [("a pseudo-header in trailers", "the library leaves it out and passes the others: nobody gets to see it")];

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    /// Refused as it must be, as a protocol error: the library seldom says of which kind.
    General,
    Wrong,
}

/// Whether that is what must be.
fn verdict(must: Must, came: &Came) -> Verdict {
    match (must, came) {
        (Answer, Came::Answer(200)) | (Ignore, Came::Nothing) => Verdict::Right,
        (End(reasons), Came::End(reason)) if reasons.contains(reason) => Verdict::Right,
        (Reset(reasons), Came::Reset(reason) | Came::End(reason)) if reasons.contains(reason) => Verdict::Right,
        (Refuse, Came::Reset(PROTOCOL) | Came::End(PROTOCOL) | Came::Answer(400)) => Verdict::Right,
        (End(_) | Reset(_), Came::End(PROTOCOL)) => Verdict::General,
        _ => Verdict::Wrong,
    }
}

/// Sends a case on a connection of its own.
async fn attempt<S: AsyncRead + AsyncWrite>(stream: S, (_, _, sent, must): &Case) -> Came {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mark = frame(PING, 0, 0, MARK);
    let all = [PREFACE, &frame(SETTINGS, 0, 0, []), &frame(SETTINGS, ACK, 0, []), &sent(), &mark].concat();
    // A proxy that has had enough closes before all of it is written.
    let write = async move {
        let _ = writing.write_all(&all).await;
        let _ = writing.flush().await;
        writing
    };
    let read = async move {
        let mut seen = Came::Closed;
        loop {
            let mut head = [0; 9];
            if reading.read_exact(&mut head).await.is_err() {
                return seen;
            }
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            if reading.read_exact(&mut payload).await.is_err() {
                return seen;
            }
            let number =
                |at: usize| payload.get(at..at + 4).map_or(0, |four| u32::from_be_bytes(four.try_into().unwrap()));
            match kind {
                GOAWAY if number(4) != 0 => return Came::End(number(4)),
                RST_STREAM => return Came::Reset(number(0)),
                HEADERS if stream == [0, 0, 0, 1] => {
                    let status = match payload.first() {
                        Some(0x88) => 200,
                        Some(0x8c) => 400,
                        _ => 999,
                    };
                    // An answer may come before the proxy has read what must not follow it.
                    if matches!(must, Answer | Refuse) {
                        return Came::Answer(status);
                    }
                    seen = Came::Answer(status);
                }
                PING if flags & ACK != 0 && payload == MARK && seen != Came::Closed => return seen,
                PING if flags & ACK != 0 && payload == MARK && matches!(must, Ignore) => return Came::Nothing,
                _ => {}
            }
        }
    };
    let both = async { tokio::join!(write, read).1 };
    tokio::time::timeout(Duration::from_secs(5), both).await.unwrap_or(Came::Silence)
}

/// A service that reads what it is sent, and then answers.
async fn service() -> SocketAddr {
    framed::answering(|_, mut asking| {
        tokio::spawn(async move {
            while let Some(Ok(data)) = asking.body.data().await {
                let _ = asking.body.flow_control().release_capacity(data.len());
            }
            if asking.body.trailers().await.is_ok() {
                let Ok(mut body) = asking.answer.send_response(framed::head(200, &[]), false) else { return };
                let _ = body.send_data(Bytes::from_static(b"ok"), true);
            }
        });
    })
    .await
}

fn judge(over: &str, came: &[Came]) {
    let (mut wrong, mut general, mut known) = (Vec::new(), 0, 0);
    for ((clause, what, _, must), came) in CASES.iter().zip(came) {
        let why = KNOWN.iter().find(|(known, _)| known == what);
        let (verdict, why) = (verdict(*must, came), why.map_or("", |(_, why)| why));
        println!("R4\t{over}\t{clause}\t{what}\t{came:?}\t{verdict:?}\t{why}");
        match verdict {
            Verdict::Right => {}
            Verdict::General => general += 1,
            Verdict::Wrong if !why.is_empty() => known += 1,
            Verdict::Wrong => wrong.push(format!("{clause} {what}: {came:?}, and must be {must:?}")),
        }
    }
    let (all, right) = (CASES.len(), CASES.len() - wrong.len() - general - known);
    println!("R4 {over}: of {all} cases {right} as they must be, {general} refused as a general error, {known} known");
    assert!(wrong.is_empty(), "{over}: {wrong:#?}");
}

#[tokio::test]
async fn the_protocol_is_kept_to_in_the_clear() {
    let mut config = config("shop");
    config.app = Some(service().await);
    let proxy = config.start();
    let mut came = Vec::new();
    for case in CASES {
        came.push(attempt(TcpStream::connect(proxy.inbound().unwrap()).await.unwrap(), case).await);
    }
    judge("in the clear", &came);
}

#[tokio::test]
async fn the_protocol_is_kept_to_over_tls() {
    let authority = Authority::new();
    let mut config = config("shop");
    config.app = Some(service().await);
    config.tls.identity = authority.identity("shop");
    let proxy = config.start();
    let caller = authority.issue("caller", &Says::names(&["spiffe://shop.example/caller"]));
    let mut came = Vec::new();
    for case in CASES {
        let stream = tls(proxy.inbound().unwrap(), Some(&caller), &["h2"]).await.unwrap();
        came.push(attempt(stream, case).await);
    }
    judge("over TLS", &came);
}
