//! What an application sends is what the other receives, through both sidecars: every byte of the first line, of the
//! fields in their spelling and order, of the body and of its trailers. Only what `docs/protocols.md` says differs:
//! `traceparent` and `tracestate` are there for the application that is called, fields of one hop are not, chunks may be
//! cut anew, the values of one field stand together, and the field that frames the body may stand elsewhere.

#![expect(clippy::indexing_slicing, reason = "what is cut here was found here")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use couplet_proxy::Running;
use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::framed;
use crate::harness::*;

const CASES: u32 = 64;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A message: as it is to be sent, or as it came.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    /// The first line, without its end.
    line: String,
    fields: Fields,
    body: Body,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    /// Nothing follows the head, whatever it says.
    None,
    Sized(Vec<u8>),
    /// Chunks and trailers.
    Chunked(Vec<Vec<u8>>, Fields),
}

impl Body {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Body::None => Vec::new(),
            Body::Sized(bytes) => bytes.clone(),
            Body::Chunked(chunks, _) => chunks.concat(),
        }
    }

    fn trailers(&self) -> &[(Vec<u8>, Vec<u8>)] {
        if let Body::Chunked(_, trailers) = self { trailers } else { &[] }
    }
}

impl Message {
    fn write(&self) -> Vec<u8> {
        let mut out = self.line.clone().into_bytes();
        out.extend(b"\r\n");
        for (name, value) in &self.fields {
            out.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
        }
        out.extend(b"\r\n");
        match &self.body {
            Body::None => {}
            Body::Sized(bytes) => out.extend(bytes),
            Body::Chunked(chunks, trailers) => {
                for chunk in chunks {
                    out.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
                }
                out.extend(b"0\r\n");
                for (name, value) in trailers {
                    out.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
                }
                out.extend(b"\r\n");
            }
        }
        out
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        field.map(|(_, value)| value.as_slice())
    }

    /// Takes off a field that must be there once.
    fn added(&mut self, name: &str) {
        let before = self.fields.len();
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
        assert_eq!(before - self.fields.len(), 1, "{name} in {self:?}");
    }

    /// The fields, those of one name together, and that which frames the body last.
    fn grouped(&self) -> Fields {
        let frames = |name: &[u8]| {
            name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
        };
        let mut grouped = grouped(&self.fields);
        grouped.sort_by_key(|(name, _)| frames(name));
        grouped
    }

    #[track_caller]
    fn claim_is(&self, sent: &Message) {
        assert_eq!(self.line, sent.line);
        let show = |fields: Fields| -> Vec<String> {
            fields.iter().map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii())).collect()
        };
        assert_eq!(show(self.grouped()), show(sent.grouped()));
        assert!(self.body.bytes() == sent.body.bytes(), "another body: {} bytes", self.body.bytes().len());
        let chunked = |body: &Body| matches!(body, Body::Chunked(..));
        assert_eq!(chunked(&self.body), chunked(&sent.body), "another framing");
        assert_eq!(show(self.body.trailers().to_vec()), show(grouped(sent.body.trailers())));
    }
}

/// Fields, those of one name together.
fn grouped(fields: &[(Vec<u8>, Vec<u8>)]) -> Fields {
    let mut grouped = Fields::new();
    for (name, _) in fields {
        if !grouped.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            grouped.extend(fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).cloned());
        }
    }
    grouped
}

/// A connection on which messages come.
struct Wire(TcpStream);

impl Wire {
    /// The next message; `None` where the other side has closed before one began.
    async fn message(&mut self, without_body: bool) -> Option<Message> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) if head.is_empty() => return None,
                Err(error) => panic!("{error} after {}", head.escape_ascii()),
            }
        }
        let mut lines = head[..head.len() - 4].split(|byte| *byte == b'\n').map(Line::trim_suffix_cr);
        let line = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        let mut message = Message { line, fields: lines.map(field_of).collect(), body: Body::None };
        if message.value("transfer-encoding").is_some_and(|value| value == b"chunked") && !without_body {
            let (chunks, trailers) = self.chunks().await;
            message.body = Body::Chunked(chunks, trailers);
        } else if let Some(length) = message.value("content-length").filter(|_| !without_body) {
            let length = std::str::from_utf8(length).unwrap().parse().unwrap();
            message.body = Body::Sized(self.exactly(length).await);
        }
        Some(message)
    }

    async fn chunks(&mut self) -> (Vec<Vec<u8>>, Fields) {
        let mut chunks = Vec::new();
        loop {
            let size = self.line().await;
            let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap(), 16).unwrap();
            if size == 0 {
                break;
            }
            chunks.push(self.exactly(size).await);
            assert_eq!(self.exactly(2).await, b"\r\n");
        }
        let mut trailers = Fields::new();
        loop {
            match self.line().await {
                end if end.is_empty() => return (chunks, trailers),
                trailer => trailers.push(field_of(&trailer)),
            }
        }
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.0.read_u8().await.unwrap());
        }
        line.truncate(line.len() - 2);
        line
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// Writes in pieces, so that messages arrive cut anywhere.
    async fn write(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            self.0.write_all(&bytes[piece[0]..piece[1]]).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

fn field_of(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap();
    (line[..colon].to_vec(), line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]).to_vec())
}

trait Line {
    fn trim_suffix_cr(&self) -> &[u8];
}

impl Line for [u8] {
    fn trim_suffix_cr(&self) -> &[u8] {
        self.strip_suffix(b"\r").unwrap_or(self)
    }
}

/// One exchange to be tried.
#[derive(Debug, Clone)]
struct Exchange {
    request: Message,
    response: Message,
    /// Where the bytes of both are cut.
    cuts: Vec<usize>,
    /// Whether the request names a field that is for the next hop alone.
    hop: bool,
}

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    const USUAL: [&str; 12] = [
        "Accept",
        "user-agent",
        "COOKIE",
        "Authorization",
        "Accept-Encoding",
        "Via",
        "Forwarded",
        "X-Forwarded-For",
        "Cache-Control",
        "x-repeated",
        "X-Repeated",
        "Set-Cookie",
    ];
    let name = prop_oneof![select(&USUAL[..]).prop_map(str::to_owned), "[Xx]-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}"];
    // Visible, blank inside, and bytes that are neither ASCII nor UTF-8.
    let byte = || prop_oneof![8 => 0x21..0x7fu8, 1 => 0x80..=0xffu8];
    let inner = || prop_oneof![8 => 0x21..0x7fu8, 2 => Just(b' '), 1 => Just(b'\t'), 1 => 0x80..=0xffu8];
    let value = |length: std::ops::Range<usize>| {
        (vec(byte(), 1), vec(inner(), length), vec(byte(), 1)).prop_map(|(a, b, c)| [a, b, c].concat())
    };
    let value = prop_oneof![1 => Just(Vec::new()), 8 => value(0..60), 1 => value(2_000..3_000)];
    (name.prop_map(String::into_bytes), value)
}

/// Announced by nobody. Their names come in lower case.
fn trailers() -> impl Strategy<Value = Fields> {
    let field = ("x-[a-z0-9]{1,3}", "[!-~]([ -~]{0,40}[!-~])?");
    let field = field.prop_map(|(name, value)| (name.into_bytes(), value.into_bytes()));
    prop_oneof![Just(Fields::new()), vec(field, 1..6)]
}

fn body() -> impl Strategy<Value = Body> {
    let bytes = |most| vec(any::<u8>(), 0..most);
    prop_oneof![
        Just(Body::None),
        bytes(20_000).prop_map(Body::Sized),
        (vec(vec(any::<u8>(), 1..5_000), 0..8), trailers())
            .prop_map(|(chunks, trailers)| Body::Chunked(chunks, trailers)),
    ]
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let method = select(vec!["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PROPFIND", "brew"]);
    let target = "/[A-Za-z0-9/._~!$&'()*+,;=:@%-]{0,40}(\\?[A-Za-z0-9/._~!$&'()*+,;=:@?%-]{0,40})?";
    let status = select(vec![
        "200 OK",
        "201 Created",
        "204 No Content",
        "206 So To Speak",
        "304 Not Modified",
        "404 Not Found",
        "418 ",
        "500 Internal Server Error",
        "599 Beyond",
    ]);
    let request = (method, target, vec(field(), 0..25), body());
    let response = (status, vec(field(), 0..25), body());
    (request, response, vec(any::<usize>(), 0..6), any::<bool>()).prop_map(|(request, response, cuts, hop)| {
        let (method, target, mut fields, body) = request;
        fields.insert(fields.len() / 2, (b"Host".to_vec(), b"stock.test:8080".to_vec()));
        frame(&mut fields, &body);
        let request = Message { line: format!("{method} {target} HTTP/1.1"), fields, body };
        let (status, mut fields, mut body) = response;
        if status.starts_with("204") {
            body = Body::None;
        } else if body == Body::None {
            body = Body::Sized(Vec::new());
        }
        // Answers to HEAD and those that say that nothing changed tell how the content would be framed.
        frame(&mut fields, &body);
        if method == "HEAD" || status.starts_with("304") {
            body = Body::None;
        }
        Exchange { request, response: Message { line: format!("HTTP/1.1 {status}"), fields, body }, cuts, hop }
    })
}

/// Says in the head what follows it.
fn frame(fields: &mut Fields, body: &Body) {
    let field = match body {
        Body::None => return,
        Body::Sized(bytes) => (b"Content-Length".to_vec(), bytes.len().to_string().into_bytes()),
        Body::Chunked(..) => (b"Transfer-Encoding".to_vec(), b"chunked".to_vec()),
    };
    fields.insert(fields.len() / 3, field);
}

/// An application that keeps what it gets and answers what it is told to.
struct Played {
    address: SocketAddr,
    answer: Arc<Mutex<(Vec<u8>, Vec<usize>)>>,
    requests: mpsc::UnboundedReceiver<Message>,
}

impl Played {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Mutex<(Vec<u8>, Vec<usize>)>> = Arc::default();
        let (sender, requests) = mpsc::unbounded_channel();
        let told = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, sender) = (Arc::clone(&told), sender.clone());
                tokio::spawn(async move {
                    let mut wire = Wire(stream);
                    while let Some(request) = wire.message(false).await {
                        sender.send(request).unwrap();
                        let (bytes, cuts) = told.lock().clone();
                        wire.write(&bytes, &cuts).await;
                    }
                });
            }
        });
        Self { address, answer, requests }
    }
}

/// The sidecars of a service `shop` that calls, and of a service `stock` at `app`.
fn sidecars(app: SocketAddr) -> (Running, Running, SocketAddr) {
    let mut stock = config("stock");
    stock.app = Some(app);
    let stock = stock.start();
    let shop = config("shop").to("stock", stock.inbound().unwrap()).start();
    let address = shop.outbound()[0].1;
    (stock, shop, address)
}

/// Tries generated values one after the other; the last failure is made as small as possible.
fn for_all<T: std::fmt::Debug>(strategy: &impl Strategy<Value = T>, mut hold: impl FnMut(T)) {
    let config =
        ProptestConfig { cases: CASES, max_shrink_iters: 200, failure_persistence: None, ..Default::default() };
    let hold = std::cell::RefCell::new(&mut hold);
    let outcome = TestRunner::new(config).run(strategy, |value| {
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (hold.borrow_mut())(value)));
        tried.map_err(|_| TestCaseError::fail("see above"))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn http1_messages_arrive_as_they_were_sent() {
    let runtime = runtime();
    let mut played = runtime.block_on(Played::new());
    let (_stock, _shop, address) = runtime.block_on(async { sidecars(played.address) });
    for_all(&exchange(), |exchange| {
        let mut request = exchange.request.clone();
        if exchange.hop {
            request.fields.push((b"Connection".to_vec(), b"keep-alive, X-Hop-By-Hop".to_vec()));
            request.fields.push((b"X-Hop-By-Hop".to_vec(), b"1".to_vec()));
        }
        *played.answer.lock() = (exchange.response.write(), exchange.cuts.clone());
        let (mut received, answer) = runtime.block_on(async {
            let mut wire = Wire(TcpStream::connect(address).await.unwrap());
            wire.write(&request.write(), &exchange.cuts).await;
            let answer = wire.message(exchange.response.body == Body::None).await.unwrap();
            assert!(!answer.line.contains(" 502 "), "{answer:?}");
            (played.requests.recv().await.unwrap(), answer)
        });
        received.added("traceparent");
        received.added("tracestate");
        received.claim_is(&exchange.request);
        answer.claim_is(&exchange.response);
    });
}

/// Lower-case fields, as HTTP/2 has them.
fn plain_fields() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("x-[a-z0-9_-]{1,8}|cookie|accept|via", "[!-~]{1,40}"), 0..20)
}

#[test]
fn http2_header_lists_and_bodies_arrive_as_they_were_sent() {
    let runtime = runtime();
    let mut origin = runtime.block_on(framed::origin());
    let (_stock, _shop, address) = runtime.block_on(async { sidecars(origin.address) });
    let bytes = || vec(any::<u8>(), 0..20_000);
    let strategy = (
        select(vec!["GET", "POST", "PUT", "brew"]),
        "/[A-Za-z0-9/._~!$&'()*+,;=:@-]{0,40}(\\?[A-Za-z0-9/._~=:@?-]{0,40})?",
        (plain_fields(), bytes()),
        (select(vec![200u16, 201, 404, 418, 500]), plain_fields(), bytes()),
    );
    for_all(&strategy, |(method, target, (fields, body), (status, answer_fields, answer_body))| {
        runtime.block_on(async {
            let request = framed::request(method, &target, &borrowed(&fields));
            let sent = request.headers().clone();
            let mut client = framed::connect(address).await;
            let (answer, mut stream) = client.send_request(request, false).unwrap();
            stream.send_data(Bytes::from(body.clone()), true).unwrap();

            let framed::Asked { mut head, body: received, answer: mut answering } = origin.next().await;
            assert!(framed::read(received).await.unwrap().0 == body, "another body");
            for added in ["traceparent", "tracestate"] {
                assert!(head.headers.remove(added).is_some(), "{added}");
            }
            assert_eq!((head.method.as_str(), head.uri.path_and_query().unwrap().as_str()), (method, &*target));
            assert_eq!(head.headers, sent);

            let response = framed::head(status, &borrowed(&answer_fields));
            let sent = response.headers().clone();
            let mut stream = answering.send_response(response, false).unwrap();
            stream.send_data(Bytes::from(answer_body.clone()), true).unwrap();
            let (head, received) = answer.await.unwrap().into_parts();
            assert_eq!((head.status.as_u16(), head.headers), (status, sent));
            assert!(framed::read(received).await.unwrap().0 == answer_body, "another body");
        });
    });
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
