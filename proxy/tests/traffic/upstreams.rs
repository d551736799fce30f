//! From a name to an endpoint: balancing, what happens when endpoints fail, DNS, and connections that are used again.

#![expect(clippy::indexing_slicing, reason = "queries come from a resolver that writes them well")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use couplet_config::{Destinations, Outbound, ProxyConfig};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::harness::*;

/// A proxy's configuration with one outbound listener to `destinations`.
fn to(destinations: &str) -> ProxyConfig {
    let target = Destinations::parse(destinations).unwrap();
    let mut config = config("shop");
    config.outbound.push(Outbound::new("stock", free(), target));
    config
}

/// An address that nobody listens on.
async fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn requests_are_shared_among_all_endpoints() {
    let services = [answers(200, "").await, answers(200, "").await, answers(200, "").await];
    let proxy = to(&services.each_ref().map(|service| service.address.to_string()).join(",")).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..300 {
        assert_eq!(client.get("/").await.status.as_u16(), 200);
    }
    let shares = services.each_ref().map(|service| service.seen().len());
    assert!(shares.iter().all(|share| *share > 50), "{shares:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_down_costs_no_request() {
    let (up, down) = (answers(200, "").await, closed().await);
    let mut config = to(&format!("{down},{}", up.address));
    config.admin = Some(free());
    let proxy = config.start();
    for _ in 0..50 {
        assert_eq!(client(proxy.outbound()[0].1).await.get("/").await.status.as_u16(), 200);
    }
    let page = metrics(&proxy).await;
    let failures = page.lines().find(|line| line.starts_with("couplet_connect_failures_total{"));
    let failures: f64 = failures.unwrap_or("0").rsplit(' ').next().unwrap().parse().unwrap();
    assert!(failures <= 2.0, "an endpoint that has just failed is left alone for a moment: {failures}");
    assert!(page.contains("couplet_upstream_endpoints 2"), "{page}");
}

#[tokio::test]
async fn with_all_endpoints_down_every_request_still_tries() {
    let proxy = to(&format!("{},{}", closed().await, closed().await)).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), &answer.headers["couplet-error"]), (502, &"connect".parse().unwrap()));
    }
}

#[tokio::test]
async fn a_name_leads_where_dns_says_and_a_service_where_its_records_say() {
    let stock = answers(200, "stock").await;
    let dns = Dns::start(stock.address.port()).await;
    for destinations in [format!("stock.test:{}", stock.address.port()), "srv:_http._tcp.stock.test".to_owned()] {
        let mut config = to(&destinations);
        config.dns.servers = vec![dns.address];
        let proxy = config.start();
        let mut client = client(proxy.outbound()[0].1).await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.text, "stock", "{destinations}");
        }
    }
    let mut config = to("nowhere.test:80");
    config.dns.servers = vec![dns.address];
    let proxy = config.start();
    let answer = client(proxy.outbound()[0].1).await.get("/").await;
    assert_eq!((answer.status.as_u16(), &answer.headers["couplet-error"]), (502, &"unresolved".parse().unwrap()));
    assert!(dns.questions.load(Ordering::SeqCst) < 20, "requests do not ask, names do");
}

#[tokio::test]
async fn a_connection_that_the_upstream_says_it_closes_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 2\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let proxy = to(&address.to_string()).start();
    let mut client = client(proxy.outbound()[0].1).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.text, "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_are_no_answer_to_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
                    if stream.write_all(twice.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let proxy = to(&address.to_string()).start();
    for _ in 0..20 {
        assert_eq!(client(proxy.outbound()[0].1).await.get("/").await.text, "mine");
    }
}

#[tokio::test]
async fn many_http2_requests_share_one_connection_until_it_is_full() {
    let origin = Http2Origin::start(8).await;
    let mut config = to(&origin.address.to_string());
    config.admin = Some(free());
    let proxy = config.start();
    let stream = TokioIo::new(TcpStream::connect(proxy.outbound()[0].1).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let ask = |path: &'static str| {
        let mut sender = sender.clone();
        async move {
            let request = http::Request::get(format!("http://stock.test{path}")).body(Body::default()).unwrap();
            sender.send_request(request).await.unwrap().status().as_u16()
        }
    };
    // After two answers the proxy has read how many streams the origin takes.
    assert_eq!((ask("/").await, ask("/").await), (200, 200));
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
    let waiting: Vec<_> = (0..12).map(|_| tokio::spawn(ask("/wait"))).collect();
    while origin.waiting.load(Ordering::SeqCst) < 12 {
        tokio::task::yield_now().await;
    }
    assert_eq!(origin.connections.load(Ordering::SeqCst), 2);
    origin.gate.add_permits(12);
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), 200);
    }
}

/// An HTTP/2 service that takes so many streams on a connection, and lets `/wait` wait for a permit.
struct Http2Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    gate: Arc<tokio::sync::Semaphore>,
}

impl Http2Origin {
    async fn start(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, waiting): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let origin = Self { address, connections, waiting, gate };
        let (connections, waiting, gate) =
            (Arc::clone(&origin.connections), Arc::clone(&origin.waiting), Arc::clone(&origin.gate));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (waiting, gate) = (Arc::clone(&waiting), Arc::clone(&gate));
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (waiting, gate) = (Arc::clone(&waiting), Arc::clone(&gate));
                    async move {
                        if request.uri().path() == "/wait" {
                            waiting.fetch_add(1, Ordering::SeqCst);
                            gate.acquire().await.unwrap().forget();
                        }
                        Ok::<_, std::convert::Infallible>(answer(200, ""))
                    }
                });
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.max_concurrent_streams(streams);
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        origin
    }
}

/// A name server that knows `stock.test` (127.0.0.1) and the service `_http._tcp.stock.test`.
struct Dns {
    address: SocketAddr,
    questions: Arc<AtomicUsize>,
}

impl Dns {
    async fn start(port: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, questions) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&questions);
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                socket.send_to(&reply(&buffer[..length], port), from).await.unwrap();
            }
        });
        Self { address, questions }
    }
}

/// The reply to a query with one question (RFC 1035, section 4).
fn reply(query: &[u8], port: u16) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let name = String::from_utf8_lossy(&query[12..end]).to_ascii_lowercase();
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let wire = |name: &str| -> Vec<u8> {
        let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        labels.chain([0]).collect()
    };
    let known = ["stock.test", "_http._tcp.stock.test"].map(|known| String::from_utf8(wire(known)).unwrap());
    let data = match kind {
        1 if name == known[0] => Some(vec![127, 0, 0, 1]),
        // Priority 1, weight 1.
        33 if name == known[1] => Some([&[0, 1, 0, 1], &port.to_be_bytes()[..], &wire("stock.test")].concat()),
        _ => None,
    };
    let code = if known.contains(&name) { 0 } else { 3 };
    let mut reply = [&query[..2], &[0x81, 0x80 | code, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]].concat();
    reply.extend(&query[12..end + 4]);
    if let Some(data) = data {
        // The name of the question, its type, class IN, 60 seconds.
        reply.extend([0xc0, 12, query[end], query[end + 1], 0, 1, 0, 0, 0, 60]);
        reply.extend((data.len() as u16).to_be_bytes());
        reply.extend(data);
    }
    reply
}
