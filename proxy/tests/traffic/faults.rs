//! Upstreams that fail in every way they can: the right answer, the right word in the report, truncation that shows,
//! and no request that is executed twice.

#![expect(clippy::print_stdout, clippy::indexing_slicing, reason = "a figure to read; frames have known lengths")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use couplet_telemetry::outcome::Outcome;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::*;
use crate::pki::Authority;

/// What an upstream does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refuse,
    ResetAtAccept,
    ResetAfterHead,
    /// Nothing is ever read or written.
    HalfOpen,
    Silence,
    /// The head of the answer comes byte by byte and never ends; over HTTP/2, its frame.
    Drip,
    DiesMidHead,
    DiesMidBody,
    CutChunk,
    Garbage,
    /// The body of the request is never read.
    ZeroWindow,
    GoAwayAlways,
    GoAwayOnce,
    RefusedOnce,
    GoAwayAndDie,
    /// Over HTTP/1 there is no stream but the connection.
    ResetStream,
    ResetStreamMidBody,
    /// It is asked over TLS, and speaks none.
    TlsGarbage,
}

use Fault::*;

/// The faults that are tried over every protocol; the others are of one of them.
const TWELVE: [Fault; 12] = [
    Refuse,
    ResetAtAccept,
    Silence,
    DiesMidHead,
    DiesMidBody,
    Drip,
    CutChunk,
    GoAwayAlways,
    ResetStream,
    TlsGarbage,
    HalfOpen,
    ZeroWindow,
];

/// What the client gets to see.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// An answer of the proxy: its status and its reason.
    Refusal(u16, &'static str),
    /// An answer whose body breaks off.
    Truncated,
    Whole,
}

use Seen::{Refusal, Truncated, Whole};

const HTTP1: [(Fault, Seen, Outcome); 14] = [
    (Refuse, Refusal(502, "connect"), Outcome::Connect),
    (ResetAtAccept, Refusal(502, "reset"), Outcome::Reset),
    (ResetAfterHead, Refusal(502, "reset"), Outcome::Reset),
    (HalfOpen, Refusal(504, "request_timeout"), Outcome::Timeout),
    (Silence, Refusal(504, "request_timeout"), Outcome::Timeout),
    (Drip, Refusal(504, "request_timeout"), Outcome::Timeout),
    (DiesMidHead, Refusal(502, "reset"), Outcome::Reset),
    (DiesMidBody, Truncated, Outcome::Reset),
    (CutChunk, Truncated, Outcome::Reset),
    (Garbage, Refusal(502, "malformed_response"), Outcome::Reset),
    (ZeroWindow, Refusal(504, "request_timeout"), Outcome::Timeout),
    (GoAwayAlways, Refusal(502, "reset"), Outcome::Reset),
    (ResetStream, Truncated, Outcome::Reset),
    (TlsGarbage, Refusal(502, "tls"), Outcome::Connect),
];

const HTTP2: [(Fault, Seen, Outcome); 18] = [
    (Refuse, Refusal(502, "connect"), Outcome::Connect),
    (ResetAtAccept, Refusal(502, "reset"), Outcome::Reset),
    (ResetAfterHead, Refusal(502, "reset"), Outcome::Reset),
    (HalfOpen, Refusal(504, "request_timeout"), Outcome::Timeout),
    (Silence, Refusal(504, "request_timeout"), Outcome::Timeout),
    (Drip, Refusal(504, "request_timeout"), Outcome::Timeout),
    (DiesMidHead, Refusal(502, "reset"), Outcome::Reset),
    (DiesMidBody, Truncated, Outcome::Reset),
    (CutChunk, Truncated, Outcome::Reset),
    (Garbage, Refusal(502, "reset"), Outcome::Reset),
    (ZeroWindow, Refusal(504, "request_timeout"), Outcome::Timeout),
    (GoAwayAlways, Refusal(502, "reset"), Outcome::Reset),
    (GoAwayOnce, Whole, Outcome::Ok),
    (RefusedOnce, Whole, Outcome::Ok),
    (GoAwayAndDie, Refusal(502, "reset"), Outcome::Reset),
    (ResetStream, Refusal(502, "reset"), Outcome::Reset),
    (ResetStreamMidBody, Truncated, Outcome::Reset),
    (TlsGarbage, Refusal(502, "tls"), Outcome::Connect),
];

#[tokio::test]
async fn every_fault_of_an_http1_upstream_has_its_answer_and_its_outcome() {
    judge(Protocol::Http1, &HTTP1).await;
}

#[tokio::test]
async fn every_fault_of_an_http2_upstream_has_its_answer_and_its_outcome() {
    judge(Protocol::Http2, &HTTP2).await;
}

#[tokio::test]
async fn every_fault_of_a_grpc_upstream_has_its_status_and_its_outcome() {
    judge(Protocol::Grpc, &HTTP2).await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    Grpc,
}

async fn judge(protocol: Protocol, table: &[(Fault, Seen, Outcome)]) {
    let (mut wrong, mut of_twelve) = (Vec::new(), 0);
    for (fault, seen, outcome) in table {
        let exchange = tokio::time::timeout(Duration::from_secs(20), exchange(*fault, protocol));
        let (got, outcomes, executed) = exchange.await.unwrap_or_else(|_| panic!("{fault:?}: nothing within 20 s"));
        println!("R19\t{protocol:?}\t{fault:?}\t{got:?}\t{outcomes:?}\texecuted {executed}");
        if got != *seen || outcomes != [*outcome] || executed > 1 {
            wrong.push(format!("{fault:?}: {got:?}, {outcomes:?}, executed {executed} times"));
        } else {
            of_twelve += usize::from(TWELVE.contains(fault));
        }
    }
    println!("R19 {protocol:?}: {of_twelve} of the 12 faults that every protocol has as they should be");
    println!("R19 {protocol:?}: {} of {} faults as they should be", table.len() - wrong.len(), table.len());
    assert!(wrong.is_empty(), "{protocol:?}: {wrong:#?}");
}

/// One POST through a proxy to an upstream with a fault: what the client saw, what the report says, and how often the
/// upstream took the request for its own.
async fn exchange(fault: Fault, protocol: Protocol) -> (Seen, Vec<Outcome>, usize) {
    let http2 = protocol != Protocol::Http1;
    let (address, executed) = origin(fault, http2).await;
    let analyzer = analyzer().await;
    let mut config = config("shop").to("stock", address).reports_to(&analyzer);
    config.timeouts.request = Some(Duration::from_secs(1));
    let authority = Authority::new();
    config.outbound[0].tls = (fault == TlsGarbage).then(|| authority.on()).flatten();
    let proxy = config.start();
    let door = proxy.outbound()[0].1;
    let size = if fault == ZeroWindow { 16 * 1024 * 1024 } else { 4 };
    let body = Body::from(Bytes::from(vec![b'x'; size]));
    let stream = TokioIo::new(TcpStream::connect(door).await.unwrap());
    let response = if http2 {
        let content_type = if protocol == Protocol::Grpc { "application/grpc" } else { "text/plain" };
        let request = Request::post("http://stock.test/stock.Stock/Pay").header("content-type", content_type);
        let request = request.body(body).unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let request = Request::post("/pay").header("host", "stock.test").body(body).unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let mut seen = match response {
        Ok(response) => seen(response).await,
        // A stream that is reset before its head was written takes the head with it.
        Err(_) => Truncated,
    };
    stop(proxy).await;
    let reports = analyzer.reports();
    let calls = reports.iter().flat_map(|report| &report.calls);
    let outcomes = calls.flat_map(|call| call.stats.outcomes.iter().filter(|(_, count)| *count > 0));
    let mut outcomes: Vec<_> = outcomes.flat_map(|(outcome, count)| vec![outcome; count as usize]).collect();
    // The reset may be there before the connection is: then there was none.
    if fault == ResetAtAccept && seen == Refusal(502, "connect") && outcomes == [Outcome::Connect] {
        (seen, outcomes) = (Refusal(502, "reset"), vec![Outcome::Reset]);
    }
    (seen, outcomes, executed.load(Ordering::SeqCst))
}

async fn seen(response: http::Response<Incoming>) -> Seen {
    let (head, body) = response.into_parts();
    match (head.headers.get("couplet-error"), body.collect().await) {
        (Some(reason), Ok(_)) => {
            let reasons = ["connect", "reset", "request_timeout", "malformed_response", "tls"];
            // What gRPC clients understand: UNAVAILABLE for 502, DEADLINE_EXCEEDED for 504, and always 200.
            let status = head.headers.get("grpc-status").map(|status| (head.status.as_u16(), status.as_bytes()));
            let status = match status {
                None => head.status.as_u16(),
                Some((200, b"14")) => 502,
                Some((200, b"4")) => 504,
                Some(_) => 0,
            };
            let reason = reasons.into_iter().find(|known| reason == known).unwrap_or("another");
            Refusal(status, reason)
        }
        (_, Err(_)) => Truncated,
        // gRPC says it in the trailers; a reset would be an INTERNAL error, which no client tries again.
        (None, Ok(body)) => {
            let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
            if status.is_some_and(|status| status == "14") { Truncated } else { Whole }
        }
    }
}

/// An upstream with a fault, and how many requests it has executed.
async fn origin(fault: Fault, http2: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let executed = Arc::new(AtomicUsize::new(0));
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(free()).unwrap();
    let address = socket.local_addr().unwrap();
    if fault == Refuse {
        // Bound, so that nobody else gets the port, and not listening.
        tokio::spawn(async move {
            let _bound = socket;
            std::future::pending::<()>().await;
        });
        return (address, executed);
    }
    let (listener, count) = (socket.listen(16).unwrap(), Arc::clone(&executed));
    tokio::spawn(async move {
        for nth in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                // What the proxy does to the connection meanwhile is not the question.
                let _ = if http2 {
                    fail_http2(fault, nth, stream, &count).await
                } else {
                    fail_http1(fault, stream, &count).await
                };
            });
        }
    });
    (address, executed)
}

/// When it is closed, with a reset instead of in order.
fn reset(stream: &TcpStream) -> std::io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Answers the beginning of a handshake with what is none.
async fn no_tls(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_u8().await?;
    stream.write_all(b"\x16\x03\x03\x00\x02what is this?").await?;
    stream.shutdown().await
}

async fn fail_http1(fault: Fault, mut stream: TcpStream, executed: &AtomicUsize) -> std::io::Result<()> {
    match fault {
        ResetAtAccept => return reset(&stream),
        HalfOpen => return std::future::pending().await,
        TlsGarbage => return no_tls(stream).await,
        _ => {}
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    executed.fetch_add(1, Ordering::SeqCst);
    match fault {
        ZeroWindow => return std::future::pending().await,
        ResetAfterHead => return reset(&stream),
        _ => {}
    }
    stream.read_exact(&mut [0; 4]).await?;
    // The nearest to it: the connection ends in order, and nothing was said.
    if fault == GoAwayAlways {
        return stream.shutdown().await;
    }
    if fault == ResetStream {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await?;
        return reset(&stream);
    }
    match fault {
        Silence => return std::future::pending().await,
        Drip => {
            for byte in b"HTTP/1.1 200 OK\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x')) {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        DiesMidHead => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?,
        DiesMidBody => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await?,
        CutChunk => stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel").await?,
        Garbage => stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 what is this?\r\n\r\n").await?,
        other => panic!("{other:?} is none of HTTP/1"),
    }
    stream.shutdown().await
}

async fn fail_http2(fault: Fault, nth: usize, mut stream: TcpStream, executed: &AtomicUsize) -> std::io::Result<()> {
    match fault {
        ResetAtAccept => return reset(&stream),
        HalfOpen => return std::future::pending().await,
        TlsGarbage => return no_tls(stream).await,
        Garbage => {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await?;
            return stream.shutdown().await;
        }
        _ => {}
    }
    stream.read_exact(&mut [0; 24]).await?;
    // SETTINGS_INITIAL_WINDOW_SIZE
    let window: &[u8] = if fault == ZeroWindow { &[0, 4, 0, 0, 0, 0] } else { &[] };
    stream.write_all(&frame(4, 0, 0, window)).await?;
    let (mut id, mut kind) = (0, 0);
    while kind != 1 {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        kind = head[3];
        id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await?;
        if kind == 4 && head[4] == 0 {
            stream.write_all(&frame(4, 1, 0, &[])).await?;
        }
    }
    let go_away = |last: u32| frame(7, 0, 0, &[last.to_be_bytes(), 0_u32.to_be_bytes()].concat());
    let reset_stream = |code: u32| frame(3, 0, id, &code.to_be_bytes());
    // :status 200, and grpc-status 0 as a literal.
    let ok = [&[0x88, 0, 11][..], b"grpc-status", &[1, b'0']].concat();
    match fault {
        GoAwayAlways => stream.write_all(&go_away(0)).await?,
        GoAwayOnce if nth == 0 => stream.write_all(&go_away(0)).await?,
        // REFUSED_STREAM
        RefusedOnce if nth == 0 => stream.write_all(&reset_stream(7)).await?,
        _ => {
            executed.fetch_add(1, Ordering::SeqCst);
        }
    }
    match fault {
        ResetAfterHead => return reset(&stream),
        GoAwayOnce | RefusedOnce if nth > 0 => stream.write_all(&frame(1, 5, id, &ok)).await?,
        GoAwayAndDie => {
            stream.write_all(&go_away(id)).await?;
            return stream.shutdown().await;
        }
        Drip => {
            for byte in frame(1, 4, id, &[0x88; 4_000]) {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        DiesMidHead => {
            stream.write_all(&frame(1, 4, id, &ok)[..12]).await?;
            return stream.shutdown().await;
        }
        CutChunk => {
            stream.write_all(&frame(1, 4, id, &ok)).await?;
            stream.write_all(&frame(0, 0, id, b"a whole frame")[..15]).await?;
            return stream.shutdown().await;
        }
        // INTERNAL_ERROR
        ResetStream => stream.write_all(&reset_stream(2)).await?,
        DiesMidBody | ResetStreamMidBody => {
            stream.write_all(&frame(1, 4, id, &ok)).await?;
            stream.write_all(&frame(0, 0, id, b"half")).await?;
            if fault == DiesMidBody {
                return stream.shutdown().await;
            }
            stream.write_all(&reset_stream(2)).await?;
        }
        _ => {}
    }
    std::future::pending().await
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
