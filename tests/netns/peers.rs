//! Small servers and clients that speak what applications speak, on plain sockets. They are to be run inside a pod.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::world::Pod;

/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens inside a pod, as this user, and serves every connection on a thread of its own.
pub(crate) fn serve(pod: &Pod, uid: u32, address: (IpAddr, u16), serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let address = SocketAddr::from(address);
    pod.inside(uid, move || {
        let listener = TcpListener::bind(address).unwrap();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, serve) = (stream.unwrap(), Arc::clone(&serve));
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                std::thread::spawn(move || serve(stream));
            }
        });
    });
}

/// Connects as an application does.
pub(crate) fn connect(address: (IpAddr, u16)) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What a server of HTTP/1 saw: the heads of its requests.
pub(crate) type Heads = Arc<Mutex<Vec<String>>>;

/// A server of HTTP/1 whose answers are what `respond` makes of each head.
pub(crate) fn http(
    pod: &Pod,
    uid: u32,
    address: (IpAddr, u16),
    respond: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Heads {
    let heads = Heads::default();
    let kept = Arc::clone(&heads);
    serve(pod, uid, address, move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let body = respond(&head);
            kept.lock().unwrap().push(head);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    heads
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    // A server is asked by those who do not speak its protocol as well.
    String::from_utf8(head).ok()
}

/// An answer to a request on a connection of its own: status, head and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks with one request, whose fields are given as they stand on the wire.
pub(crate) fn ask(address: (IpAddr, u16), target: &str, host: &str, fields: &str) -> Answer {
    let mut stream = connect(address);
    ask_on(&mut stream, target, host, &format!("connection: close\r\n{fields}"))
}

pub(crate) fn ask_on(stream: &mut TcpStream, target: &str, host: &str, fields: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    answer(stream).unwrap_or_else(|| panic!("no answer to {request}"))
}

/// Reads one answer, if there is one.
pub(crate) fn answer(stream: &mut TcpStream) -> Option<Answer> {
    let head = read_head(stream)?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Answer { status, head, body: String::from_utf8(body).unwrap() })
}

/// A server that greets before its client says a word, then answers each line with its upper case; after the end of the
/// client's side it says how many lines there were.
pub(crate) fn greeter(pod: &Pod, uid: u32, address: (IpAddr, u16)) {
    serve(pod, uid, address, |mut stream| {
        stream.write_all(b"220 ready\n").unwrap();
        let mut lines = 0;
        while let Some(line) = read_line(&mut stream) {
            lines += 1;
            stream.write_all(line.to_uppercase().as_bytes()).unwrap();
        }
        let _ = stream.write_all(format!("221 {lines} lines\n").as_bytes());
    });
}

/// A line with its end; nothing where the other side has ended.
pub(crate) fn read_line(stream: &mut TcpStream) -> Option<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        match stream.read(&mut byte) {
            Ok(1) => line.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(line).ok()
}

/// Talks to a [`greeter`] and says how long its first word took.
pub(crate) fn greeted(address: (IpAddr, u16)) -> Duration {
    let began = Instant::now();
    let mut stream = connect(address);
    assert_eq!(read_line(&mut stream).as_deref(), Some("220 ready\n"));
    let took = began.elapsed();
    stream.write_all(b"helo\n").unwrap();
    assert_eq!(read_line(&mut stream).as_deref(), Some("HELO\n"));
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_line(&mut stream).as_deref(), Some("221 1 lines\n"), "a half-closed connection stays half-open");
    assert_eq!(read_line(&mut stream), None);
    took
}

/// A server of HTTP/2 that begins with its settings and answers every request with 200 and no body.
pub(crate) fn settings_first(pod: &Pod, uid: u32, address: (IpAddr, u16)) {
    serve(pod, uid, address, |mut stream| {
        stream.write_all(&SETTINGS).unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        assert_eq!(&preface, PREFACE);
        while let Some((kind, flags, id, _)) = read_frame(&mut stream) {
            let settings = kind == 4 && flags == 0;
            let request = kind == 1 && flags & 1 == 1;
            if settings {
                stream.write_all(&SETTINGS_ACK).unwrap();
            } else if request {
                // END_STREAM and END_HEADERS; `:status: 200` of the static table.
                let mut answer = vec![0, 0, 1, 1, 5];
                answer.extend(id.to_be_bytes());
                answer.push(0x88);
                stream.write_all(&answer).unwrap();
            }
        }
    });
}

/// Asks a server of HTTP/2, saying nothing before it has; how long its first word took.
pub(crate) fn settings_awaited(address: (IpAddr, u16)) -> Duration {
    let began = Instant::now();
    let mut stream = connect(address);
    let (kind, flags, id, _) = read_frame(&mut stream).unwrap();
    let took = began.elapsed();
    assert_eq!((kind, flags, id), (4, 0, 0), "settings come first");
    stream.write_all(PREFACE).unwrap();
    stream.write_all(&SETTINGS).unwrap();
    stream.write_all(&SETTINGS_ACK).unwrap();
    // GET, http and / of the static table, and an authority without indexing.
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 5];
    block.extend(b"stock");
    let mut request = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1];
    request.extend(block);
    stream.write_all(&request).unwrap();
    loop {
        let (kind, _, id, payload) = read_frame(&mut stream).unwrap();
        if (kind, id) == (1, 1) {
            assert_eq!(payload.first(), Some(&0x88), "200 of the static table");
            return took;
        }
    }
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];

fn read_frame(stream: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], id, payload))
}

/// A ClientHello that asks for this server.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let sized = |bytes: Vec<u8>| [u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec(), bytes].concat();
    let name = sized([vec![0], sized(name.as_bytes().to_vec())].concat());
    let extensions = [vec![0x2a, 0x2a], sized(vec![]), vec![0, 0], sized(name)].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(sized(vec![0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(sized(extensions));
    let message = [vec![1, 0], sized(body)].concat();
    [vec![0x16, 3, 1], sized(message)].concat()
}
