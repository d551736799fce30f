//! Destinations that nobody configured: whether a sidecar answers there is found out, and what is sent where none does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use couplet_config::{InboundTls, OutboundTls, ProxyConfig};
use couplet_proxy::Running;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::harness::*;
use crate::pki::*;
use crate::secured::*;

/// A sidecar in the mesh that calls whatever its application names.
fn caller(authority: &Authority, mode: OutboundTls) -> ProxyConfig {
    let mut config = meshed("shop", authority);
    config.explicit = Some(free());
    config.tls.outbound = mode;
    // Each request on a connection of its own, so that each finds out anew.
    config.timeouts.pool_idle = Duration::from_millis(1);
    config
}

/// The status and the reason of one request to `address`.
async fn ask(shop: &Running, address: SocketAddr) -> (u16, String) {
    let answer = client(shop.explicit().unwrap()).await.get(&format!("http://{address}/the-question")).await;
    let reason = answer.headers.get("couplet-error").map_or("", |reason| reason.to_str().unwrap());
    (answer.status.as_u16(), reason.to_owned())
}

fn said(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

const SECURED: &str = "couplet_mesh_secured_total";
const CLEAR: &str = "couplet_mesh_clear_total";
const DOWNGRADES: &str = "couplet_mesh_downgrades_total";

/// A server that greets, closes, or does what else is done by servers that do not expect a ClientHello: `meet` gets each
/// connection. How many there were.
async fn meets<F>(meet: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let met = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            met.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(meet(stream));
        }
    });
    (address, count)
}

/// Whether the first line is a request, as servers find out that read lines.
async fn asks(stream: &mut BufReader<TcpStream>) -> bool {
    let mut line = Vec::new();
    let read = stream.read_until(b'\n', &mut line).await;
    let request = line.starts_with(b"GET ");
    while request && stream.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 2) {}
    read.is_ok() && request
}

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

#[tokio::test]
async fn a_sidecar_that_nobody_configured_is_spoken_to_in_mutual_tls() {
    for mode in [OutboundTls::Permissive, OutboundTls::Strict] {
        let (authority, analyzer) = (Authority::new(), analyzer().await);
        let app = answers(200, "the-answer").await;
        let mut stock = meshed("stock", &authority).app(&app).reports_to(&analyzer);
        stock.tls.inbound = InboundTls::Strict;
        stock.trust.networks.clear();
        let stock = stock.start();
        let (wire, seen) = tapped(stock.inbound().unwrap()).await;
        let mut shop = caller(&authority, mode).reports_to(&analyzer);
        // It says of itself what its certificate does not; nobody is believed for where it is.
        shop.service = "somebody".to_owned();
        shop.trust.networks.clear();
        let shop = shop.start();
        for _ in 0..3 {
            assert_eq!(ask(&shop, wire).await, said(200, ""));
        }
        let seen = seen.lock().clone();
        assert_eq!(seen[..2], [0x16, 3]);
        for word in ["the-question", "the-answer", "couplet-context"] {
            assert!(!seen.windows(word.len()).any(|bytes| bytes == word.as_bytes()), "{word}");
        }
        assert_eq!((metric(&shop, SECURED).await > 0, metric(&shop, CLEAR).await), (true, 0));
        assert_eq!(metric(&shop, "couplet_mesh_addresses{found=\"sidecar\"}").await, 1);
        assert_eq!(app.seen().len(), 3, "each request once");
        stop(shop).await;
        stop(stock).await;
        let reports = analyzer.reports();
        let paths = reports.iter().filter(|report| report.origin.service == "stock").flat_map(|report| &report.paths);
        let callers: Vec<_> = paths.map(|path| path.path.caller.as_deref()).collect();
        assert!(!callers.is_empty() && callers.iter().all(|caller| *caller == Some("shop")), "{callers:?}");
    }
}

#[tokio::test]
async fn http2_passes_what_was_found_out_as_well() {
    let authority = Authority::new();
    let mut origin = crate::framed::origin().await;
    let mut stock = meshed("stock", &authority);
    stock.app = Some(origin.address);
    let stock = stock.start();
    let shop = caller(&authority, OutboundTls::Strict).start();
    let mut client = crate::framed::connect(shop.explicit().unwrap()).await;
    let mut request = crate::framed::request("GET", "/", &[]);
    *request.uri_mut() = format!("http://{}/", stock.inbound().unwrap()).parse().unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    origin.next().await.reply(200, &[], "fine");
    assert_eq!(answer.await.unwrap().status().as_u16(), 200);
    assert_eq!(metric(&shop, SECURED).await, 1);
}

#[tokio::test]
async fn where_no_sidecar_answers_the_mode_decides_and_no_request_is_sent_twice() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let shop = caller(&authority, OutboundTls::Permissive).start();
    for _ in 0..5 {
        assert_eq!(ask(&shop, app.address).await, said(200, ""));
    }
    assert_eq!(app.seen().len(), 5);
    assert_eq!((metric(&shop, SECURED).await, metric(&shop, CLEAR).await), (0, 1), "it is remembered");
    assert_eq!(metric(&shop, "couplet_mesh_addresses{found=\"other\"}").await, 1);

    let shop = caller(&authority, OutboundTls::Strict).start();
    for _ in 0..2 {
        assert_eq!(ask(&shop, app.address).await, said(502, "tls_required"));
    }
    assert_eq!(app.seen().len(), 5, "nothing was sent");
    let shop = caller(&authority, OutboundTls::Off).start();
    assert_eq!(ask(&shop, app.address).await, said(200, ""));
    assert_eq!(metric(&shop, CLEAR).await, 0);
}

#[tokio::test]
async fn addresses_outside_of_the_networks_are_left_alone() {
    let authority = Authority::new();
    let (address, connections) = meets(|stream| async {
        let mut stream = BufReader::new(stream);
        if asks(&mut stream).await {
            stream.write_all(FINE).await.unwrap();
        }
    })
    .await;
    let mut shop = caller(&authority, OutboundTls::Strict);
    shop.tls.networks = vec!["10.0.0.0/8".parse().unwrap()];
    let shop = shop.start();
    assert_eq!(ask(&shop, address).await, said(200, ""));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// One that reads lines would wait for ever for the end of what is none, and the request with it.
#[tokio::test]
async fn a_server_that_reads_lines_answers_a_hello_at_once() {
    let authority = Authority::new();
    let (address, connections) = meets(|stream| async {
        let mut stream = BufReader::new(stream);
        match asks(&mut stream).await {
            true => stream.write_all(FINE).await.unwrap(),
            false => drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await),
        }
    })
    .await;
    let mut shop = caller(&authority, OutboundTls::Strict);
    // Where it is strict nothing but an answer ends the attempt early.
    shop.timeouts.connect = Duration::from_secs(60);
    let shop = shop.start();
    assert_eq!(ask(&shop, address).await, said(502, "tls_required"));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_greets_or_closes_or_says_nothing_gets_the_request_in_the_clear() {
    let authority = Authority::new();
    let answer = |mut stream: TcpStream, first: &'static [u8], silent: bool| async move {
        let _ = stream.write_all(first).await;
        let mut five = [0; 5];
        if stream.read_exact(&mut five).await.is_ok() && &five == b"GET /" {
            stream.write_all(FINE).await.unwrap();
        } else if silent {
            std::future::pending::<()>().await;
        }
    };
    let (closing, _) = meets(move |stream| answer(stream, b"", false)).await;
    let (silent, silences) = meets(move |stream| answer(stream, b"", true)).await;
    let shop = caller(&authority, OutboundTls::Permissive).start();
    assert_eq!(ask(&shop, closing).await, said(200, ""));
    let began = Instant::now();
    assert_eq!(ask(&shop, silent).await, said(200, ""));
    assert!(began.elapsed() >= Duration::from_millis(500), "it is given time");
    for _ in 0..5 {
        assert_eq!(ask(&shop, silent).await, said(200, ""));
    }
    assert_eq!(silences.load(Ordering::SeqCst), 7, "and is not asked again for each request");
    // One that greets is no server of HTTP, but says so at once.
    let (greeting, _) = meets(move |stream| answer(stream, b"220 ready\r\n", true)).await;
    assert_eq!(ask(&shop, greeting).await, said(502, "malformed_response"));
    assert_eq!(metric(&shop, CLEAR).await, 3);
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(ask(&shop, dead).await, said(502, "connect"));
}

#[tokio::test]
async fn an_ordinary_server_of_tls_is_no_sidecar() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let mut stock = config("stock").app(&app);
    stock.tls.server = Some(authority.server());
    let stock = stock.start();
    let shop = caller(&authority, OutboundTls::Permissive).start();
    assert_eq!(ask(&shop, stock.inbound().unwrap()).await, said(200, ""));
    let shop = caller(&authority, OutboundTls::Strict).start();
    assert_eq!(ask(&shop, stock.inbound().unwrap()).await, said(502, "tls_required"));
}

#[tokio::test]
async fn a_sidecar_that_is_not_accepted_gets_nothing_in_the_clear_either() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let app = answers(200, "fine").await;
    let expired = Says { names: &["spiffe://shop.example/stock"], years: (2020, 2021) };
    let elsewhere = Says::names(&["spiffe://other.example/stock"]);
    for (reason, issuer, says) in [
        ("expired", &authority, &expired),
        ("wrong_trust_domain", &authority, &elsewhere),
        ("unknown_issuer", &stranger, &Says::names(&["spiffe://shop.example/stock"])),
    ] {
        let mut stock = config("stock").app(&app);
        stock.tls.identity = issuer.identity_that_says("stock", says);
        let stock = stock.start();
        let shop = caller(&authority, OutboundTls::Permissive).start();
        assert_eq!(ask(&shop, stock.inbound().unwrap()).await, said(502, "tls_identity"), "{reason}");
        refused(&shop, "outbound", reason, 1).await;
    }
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn a_sidecar_that_is_lost_is_counted_where_clear_text_is_allowed_and_refused_where_it_is_not() {
    for (mode, expected, downgrades) in
        [(OutboundTls::Permissive, said(200, ""), 1), (OutboundTls::Strict, said(502, "tls_required"), 0)]
    {
        let authority = Authority::new();
        let app = answers(200, "fine").await;
        let stock = meshed("stock", &authority).app(&app).start();
        // Of what is at the address, another one answers later.
        let (sidecar, gone) = (stock.inbound().unwrap(), Arc::new(Semaphore::new(0)));
        let (plain, over) = (app.address, Arc::clone(&gone));
        let (address, _) = meets(move |mut stream| {
            let to = if over.available_permits() > 0 { plain } else { sidecar };
            async move {
                let mut there = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
            }
        })
        .await;
        let shop = caller(&authority, mode).start();
        assert_eq!(ask(&shop, address).await, said(200, ""));
        gone.add_permits(1);
        // The connection from before is kept for a moment.
        while metric(&shop, "couplet_upstream_idle").await > 0 {}
        for _ in 0..3 {
            assert_eq!(ask(&shop, address).await, expected);
        }
        assert_eq!(metric(&shop, DOWNGRADES).await, downgrades, "{mode:?}");
        assert_eq!(app.seen().len(), if mode == OutboundTls::Strict { 1 } else { 4 });
    }
}

#[tokio::test]
async fn a_connection_that_a_connect_opens_is_secured_or_refused_as_well() {
    let authority = Authority::new();
    let app = answers(200, "through").await;
    let stock = meshed("stock", &authority).app(&app).start();
    let (wire, seen) = tapped(stock.inbound().unwrap()).await;
    let shop = caller(&authority, OutboundTls::Strict).start();
    let connect = async |to: SocketAddr| {
        let mut stream = TcpStream::connect(shop.explicit().unwrap()).await.unwrap();
        let connect = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n");
        stream.write_all(connect.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap())
    };
    let (mut stream, head) = connect(wire).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: stock\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("through"), "{answer}");
    assert!(!seen.lock().windows(7).any(|bytes| bytes == b"through"));
    let (_, head) = connect(app.address).await;
    assert!(head.starts_with("HTTP/1.1 502") && head.contains("couplet-error: tls_required"), "{head}");
}

#[tokio::test]
async fn a_new_mode_holds_for_the_next_request() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let mut config = caller(&authority, OutboundTls::Permissive);
    config.timeouts.pool_idle = Duration::from_secs(60);
    let mut shop = config.clone().start();
    let places = (shop.explicit(), shop.admin());
    assert_eq!(ask(&shop, app.address).await, said(200, ""));
    config.tls.outbound = OutboundTls::Strict;
    shop.reload(Ok(config)).unwrap();
    assert_eq!((shop.explicit(), shop.admin()), places);
    assert_eq!(ask(&shop, app.address).await, said(502, "tls_required"), "no connection from before is used");
}
