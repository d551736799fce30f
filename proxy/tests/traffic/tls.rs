//! TLS in both directions: who is let in, who is believed, and what the application is told when there is none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use couplet_config::{InboundTls, UpstreamTls};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::framed::{self, connect, headers, origin, read, request};
use crate::harness::*;
use crate::pki::*;
use crate::secured::*;

#[tokio::test]
async fn two_sidecars_speak_mutual_tls_and_nothing_of_a_request_is_readable_between_them() {
    let (authority, analyzer) = (Authority::new(), analyzer().await);
    let app = answers(200, "the-answer").await;
    let stock = meshed("stock", &authority).app(&app).reports_to(&analyzer).start();
    let (wire, seen) = tapped(stock.inbound().unwrap()).await;
    let shop = meshed("shop", &authority).over(mesh(), "stock", wire).reports_to(&analyzer).start();
    let mut client = client(shop.outbound()[0].1).await;
    for _ in 0..3 {
        let answer = client.get("/the-question").await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "the-answer"));
    }
    let seen = seen.lock().clone();
    assert_eq!(seen[..2], [0x16, 3]);
    for word in ["the-question", "the-answer", "couplet-context"] {
        assert!(!seen.windows(word.len()).any(|bytes| bytes == word.as_bytes()), "{word}");
    }
    assert_eq!(metric(&stock, "couplet_tls_handshakes_total{side=\"inbound\"}").await, 1, "the connection was kept");
    assert_eq!(metric(&shop, "couplet_tls_handshakes_total{side=\"outbound\"}").await, 1);
    assert!(!app.seen()[0].headers().contains_key("couplet-context"));
}

#[tokio::test]
async fn http2_and_grpc_pass_mutual_tls_with_trailers_both_ways() {
    let authority = Authority::new();
    let mut origin = origin().await;
    let mut stock = meshed("stock", &authority);
    stock.app = Some(origin.address);
    let stock = stock.start();
    let shop = meshed("shop", &authority).over(mesh(), "stock", stock.inbound().unwrap()).start();
    let mut client = connect(shop.outbound()[0].1).await;
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let (answer, mut body) = client.send_request(request("POST", "/stock.Stock/Take", &grpc), false).unwrap();
    body.send_data("one".into(), false).unwrap();
    body.send_trailers(headers(&[("x-sum", "7")])).unwrap();

    let mut asked = origin.next().await;
    assert_eq!(asked.head.uri.to_string(), "http://service.test/stock.Stock/Take", "as the caller sent it");
    assert_eq!(read(asked.body).await.unwrap(), (b"one".to_vec(), Some(headers(&[("x-sum", "7")]))));
    let mut reply = asked.answer.send_response(framed::head(200, &grpc[..1]), false).unwrap();
    reply.send_data("two".into(), false).unwrap();
    reply.send_trailers(headers(&[("grpc-status", "0")])).unwrap();
    let (head, body) = answer.await.unwrap().into_parts();
    assert_eq!(head.status.as_u16(), 200);
    assert_eq!(read(body).await.unwrap(), (b"two".to_vec(), Some(headers(&[("grpc-status", "0")]))));
    assert_eq!(metric(&stock, "couplet_tls_handshakes_total{side=\"inbound\"}").await, 1);
}

#[tokio::test]
async fn clear_text_and_tls_share_the_inbound_port() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let stock = meshed("stock", &authority).app(&app).start();
    let shop = meshed("shop", &authority).over(mesh(), "stock", stock.inbound().unwrap()).start();
    assert_eq!(client(stock.inbound().unwrap()).await.get("/").await.text, "fine");
    assert_eq!(client(shop.outbound()[0].1).await.get("/").await.text, "fine");
}

#[tokio::test]
async fn a_caller_is_called_what_its_certificate_says_and_believed_for_it_alone() {
    let (authority, analyzer) = (Authority::new(), analyzer().await);
    let app = answers(200, "").await;
    let mut stock = meshed("stock", &authority).app(&app).reports_to(&analyzer);
    stock.trust.networks.clear();
    let stock = stock.start();
    // A sidecar that says of itself what its certificate does not.
    let mut liar = meshed("liar", &authority).over(mesh(), "stock", stock.inbound().unwrap());
    liar.service = "payments".to_owned();
    liar.trust.networks.clear();
    let liar = liar.start();
    client(liar.outbound()[0].1).await.get("/through-identity").await;
    assert_eq!(metric(&stock, "couplet_contexts_untrusted_total").await, 0);
    assert_eq!(metric(&liar, "couplet_summaries_untrusted_total").await, 0);
    // And one in the clear, from a network that is not trusted.
    let forged = "1;00000000000000aa;00000000000000aa;0;00000000000000aa;e;payments";
    let mut clear = client(stock.inbound().unwrap()).await;
    let answer = clear.ask(get("/in-the-clear", &[("couplet-context", forged)])).await;
    assert!(!answer.headers.contains_key("couplet-summary"));
    assert_eq!(metric(&stock, "couplet_contexts_untrusted_total").await, 1);
    stop(liar).await;
    stop(stock).await;
    let reports = analyzer.reports();
    let caller = |endpoint: &str| {
        let paths = reports.iter().flat_map(|report| &report.paths);
        paths.filter(|path| path.path.endpoint == endpoint).map(|path| path.path.caller.clone()).collect::<Vec<_>>()
    };
    assert_eq!(caller("GET /through-identity"), [Some("liar".to_owned())]);
    assert_eq!(caller("GET /in-the-clear"), [None]);
}

#[tokio::test]
async fn only_identities_that_are_configured_are_believed() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let mut stock = meshed("stock", &authority).app(&app);
    stock.trust.networks.clear();
    stock.trust.identities.clear();
    let stock = stock.start();
    let shop = meshed("shop", &authority).over(mesh(), "stock", stock.inbound().unwrap()).start();
    assert_eq!(client(shop.outbound()[0].1).await.get("/").await.text, "fine", "the request itself passes");
    assert_eq!(metric(&stock, "couplet_contexts_untrusted_total").await, 1);
}

/// Certificates that are not accepted, and the reason that is counted.
fn wrong_certificates<'a>() -> [(&'a str, bool, Says<'a>); 5] {
    let id = &["spiffe://shop.example/intruder"];
    [
        ("expired", true, Says { names: id, years: (2020, 2021) }),
        ("not_yet_valid", true, Says { names: id, years: (2095, 2096) }),
        ("unknown_issuer", false, Says::names(id)),
        ("wrong_trust_domain", true, Says::names(&["spiffe://other.example/intruder"])),
        ("no_identity", true, Says::names(&["intruder.shop.example"])),
    ]
}

#[tokio::test]
async fn a_caller_with_a_wrong_certificate_is_refused_and_counted_by_reason() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let app = answers(200, "secret").await;
    let stock = meshed("stock", &authority).app(&app).start();
    for (reason, known, says) in wrong_certificates() {
        let issued = if known { &authority } else { &stranger }.issue("intruder", &says);
        assert_eq!(ask_over_tls(stock.inbound().unwrap(), Some(&issued)).await, None, "{reason}");
        refused(&stock, "inbound", reason, 1).await;
    }
    assert_eq!(ask_over_tls(stock.inbound().unwrap(), None).await, None);
    refused(&stock, "inbound", "no_certificate", 1).await;
    let right = authority.issue("right", &Says::names(&["spiffe://shop.example/right"]));
    let answer = ask_over_tls(stock.inbound().unwrap(), Some(&right)).await.unwrap();
    assert!(answer.ends_with("secret"), "{answer}");
}

/// The answer to one request of a client that shows this certificate, if it gets one.
async fn ask_over_tls(address: SocketAddr, shows: Option<&Issued>) -> Option<String> {
    let mut stream = tls(address, shows, &["http/1.1"]).await.ok()?;
    let request = "GET / HTTP/1.1\r\nhost: stock\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    (read.is_ok() || !answer.is_empty()).then(|| String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn a_destination_with_a_wrong_certificate_gets_no_request() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let app = answers(200, "").await;
    for (reason, known, says) in wrong_certificates().into_iter().filter(|(reason, ..)| *reason != "no_identity") {
        let mut stock = config("stock").app(&app);
        // It accepts everybody: what is claimed is that the caller does not accept it.
        stock.tls.identity = if known { &authority } else { &stranger }.identity_that_says("wrong", &says);
        let stock = stock.start();
        let shop = meshed("shop", &authority).over(mesh(), "stock", stock.inbound().unwrap()).start();
        let answer = client(shop.outbound()[0].1).await.get("/").await;
        assert_eq!((answer.status.as_u16(), &answer.headers["couplet-error"]), (502, &"tls_identity".parse().unwrap()));
        refused(&shop, "outbound", reason, 1).await;
    }
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn a_destination_with_another_identity_than_the_expected_one_gets_no_request() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let stock = meshed("stock", &authority).app(&app).start();
    for (expected, status) in [("spiffe://shop.example/payments", 502), ("spiffe://shop.example/stock", 200)] {
        let identity = Some(couplet_config::SpiffeId::parse(expected).unwrap());
        let tls = UpstreamTls { identity, ..UpstreamTls::default() };
        let shop = meshed("shop", &authority).over(Some(tls), "stock", stock.inbound().unwrap()).start();
        assert_eq!(client(shop.outbound()[0].1).await.get("/").await.status.as_u16(), status, "{expected}");
        refused(&shop, "outbound", "wrong_identity", u64::from(status == 502)).await;
    }
}

#[tokio::test]
async fn a_caller_whose_certificate_is_refused_after_the_handshake_learns_why() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let app = answers(200, "").await;
    let stock = meshed("stock", &authority).app(&app).start();
    // It believes the other authority, but not the other way round.
    let identity = stranger.identity("shop").unwrap();
    let both = [stranger.roots(), authority.roots()].map(|roots| std::fs::read_to_string(roots).unwrap()).concat();
    std::fs::write(&identity.roots, both).unwrap();
    let mut shop = config("shop").over(mesh(), "stock", stock.inbound().unwrap());
    shop.tls.identity = Some(identity);
    let shop = shop.start();
    let answer = client(shop.outbound()[0].1).await.get("/").await;
    assert_eq!((answer.status.as_u16(), &answer.headers["couplet-error"]), (502, &"tls_refused".parse().unwrap()));
    let (answer, _) = connect(shop.outbound()[0].1).await.send_request(request("GET", "/", &[]), true).unwrap();
    assert_eq!(answer.await.unwrap().headers()["couplet-error"], "tls_refused");
    refused(&stock, "inbound", "unknown_issuer", 2).await;
}

/// A server with a certificate that speaks this protocol alone and answers `fine`.
async fn server(authority: &Authority, protocol: &'static str) -> SocketAddr {
    let config = authority.server();
    let issued = Issued { certificate: config.certificate, key: config.key };
    let acceptor = acceptor(&issued, &[protocol]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                    let scheme = request.uri().scheme_str().unwrap_or("none");
                    let told = request.headers().contains_key("couplet-context");
                    let seen = format!("scheme {scheme}, context {told}");
                    Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(Bytes::from(seen))))
                });
                let io = TokioIo::new(stream);
                let _ = match protocol {
                    "h2" => {
                        let executor = hyper_util::rt::TokioExecutor::new();
                        hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service).await
                    }
                    _ => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
                };
            });
        }
    });
    address
}

#[tokio::test]
async fn an_ordinary_server_is_spoken_to_in_the_protocol_of_the_request() {
    let authority = Authority::new();
    let (old, new) = (server(&authority, "http/1.1").await, server(&authority, "h2").await);
    let mut shop = config("shop").over(authority.on(), "old", old).over(authority.on(), "new", new);
    shop.admin = Some(free());
    let shop = shop.start();
    let (old, new) = (shop.outbound()[0].1, shop.outbound()[1].1);
    assert_eq!(client(old).await.get("/").await.text, "scheme none, context false", "it is no sidecar");
    let (answer, _) = connect(new).await.send_request(request("GET", "/", &[]), true).unwrap();
    let seen = read(answer.await.unwrap().into_body()).await.unwrap().0;
    assert_eq!(seen, b"scheme https, context false", "it came over TLS");

    // The other way round the server says that it does not.
    assert_eq!(client(new).await.get("/").await.headers["couplet-error"], "tls_protocol");
    let mut client = connect(old).await;
    let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["couplet-error"]), (502, &"tls_protocol".parse().unwrap()));
    let grpc = request("POST", "/stock.Stock/Take", &[("content-type", "application/grpc")]);
    let (answer, _) = client.send_request(grpc, true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"13".parse().unwrap()));
    refused(&shop, "outbound", "alpn", 3).await;
}

#[tokio::test]
async fn an_ordinary_server_has_the_name_that_was_asked_for_or_gets_no_request() {
    let (authority, stranger) = (Authority::new(), Authority::named("a stranger"));
    let address = server(&authority, "http/1.1").await;
    let named = |name: &str| UpstreamTls { server_name: Some(name.to_owned()), ..authority.on().unwrap() };
    for (tls, reason) in [
        (authority.on(), None),
        (Some(named("localhost")), None),
        (Some(named("payments.example")), Some("wrong_name")),
        (stranger.on(), Some("unknown_issuer")),
    ] {
        let mut shop = config("shop").over(tls, "stock", address);
        shop.admin = Some(free());
        let shop = shop.start();
        let answer = client(shop.outbound()[0].1).await.get("/").await;
        assert_eq!(answer.status.as_u16(), if reason.is_some() { 502 } else { 200 }, "{reason:?}: {}", answer.text);
        if let Some(reason) = reason {
            assert_eq!(answer.headers["couplet-error"], "tls_identity");
            refused(&shop, "outbound", reason, 1).await;
        }
    }
}

/// A server that answers what it gets first with these bytes and closes; or says nothing at all.
async fn garbage(bytes: Option<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut hello = [0; 1024];
                let _ = stream.read(&mut hello).await;
                match bytes {
                    Some(bytes) => drop(stream.write_all(bytes).await),
                    None => std::future::pending().await,
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn what_is_no_tls_at_the_destination_is_a_fault_within_the_timeout() {
    let authority = Authority::new();
    for (bytes, status, word) in [
        (Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice()), 502, "tls"),
        (Some(b"\x16\x03\x03\xff\xff\xff\xff\xff\xff\xff\xff".as_slice()), 502, "tls"),
        (Some(b"\x15\x03\x03\x00\x02\x02\x28".as_slice()), 502, "tls_refused"),
        (Some(b"".as_slice()), 502, "tls"),
        (None, 504, "connect_timeout"),
    ] {
        let mut shop = config("shop").over(authority.on(), "stock", garbage(bytes).await);
        shop.timeouts.connect = Duration::from_millis(300);
        let shop = shop.start();
        let answer = client(shop.outbound()[0].1).await.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.headers["couplet-error"].to_str().unwrap()), (status, word));
        let mut client = connect(shop.outbound()[0].1).await;
        let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
        assert_eq!(answer.await.unwrap().status().as_u16(), status);
        let grpc = request("POST", "/stock.Stock/Take", &[("content-type", "application/grpc")]);
        let (answer, _) = client.send_request(grpc, true).unwrap();
        assert_eq!(answer.await.unwrap().headers()["grpc-status"], "14", "{word}");
    }
}

#[tokio::test]
async fn clients_that_are_no_sidecars_get_the_server_certificate_and_choose_their_protocol() {
    let authority = Authority::new();
    let mut origin = origin().await;
    let mut stock = meshed("stock", &authority);
    stock.tls.server = Some(authority.server());
    stock.app = Some(origin.address);
    let stock = stock.start();
    let stream = tls(stock.inbound().unwrap(), None, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    origin.next().await.reply(200, &[], "fine");
    assert_eq!(answer.await.unwrap().status().as_u16(), 200);
    let old = tls(stock.inbound().unwrap(), None, &["http/1.1"]).await.unwrap();
    assert_eq!(old.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    // A client that offers nothing shows what it speaks.
    let silent = tls(stock.inbound().unwrap(), None, &[]).await.unwrap();
    let (mut client, connection) = h2::client::handshake(silent).await.unwrap();
    tokio::spawn(connection);
    let (answer, _) = client.send_request(request("GET", "/", &[]), true).unwrap();
    origin.next().await.reply(204, &[], "");
    assert_eq!(answer.await.unwrap().status().as_u16(), 204);
    // Sidecars are recognised beside them.
    let shop = meshed("shop", &authority).over(mesh(), "stock", stock.inbound().unwrap()).start();
    let (answer, _) = connect(shop.outbound()[0].1).await.send_request(request("GET", "/", &[]), true).unwrap();
    origin.next().await.reply(200, &[], "");
    assert_eq!(answer.await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_handshake_in_single_bytes_is_taken_and_nonsense_is_refused() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let mut stock = meshed("stock", &authority).app(&app);
    stock.tls.server = Some(authority.server());
    let stock = stock.start();
    // A wire that lets through one byte at a time.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wire = listener.local_addr().unwrap();
    let target = stock.inbound().unwrap();
    tokio::spawn(async move {
        let (mut down, _) = listener.accept().await.unwrap();
        let mut up = TcpStream::connect(target).await.unwrap();
        up.set_nodelay(true).unwrap();
        let mut hello = vec![0; 4096];
        let count = down.read(&mut hello).await.unwrap();
        for byte in &hello[..count] {
            up.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let _ = copy_bidirectional(&mut down, &mut up).await;
    });
    assert!(ask_over_tls(wire, None).await.unwrap().ends_with("fine"));

    // A ClientHello that is longer than anybody's: its length is told, and bytes follow for ever.
    let mut stream = TcpStream::connect(target).await.unwrap();
    let record = [[0x16, 3, 1, 0x40, 0].as_slice(), &[0; 16 * 1024]].concat();
    let mut endless = record.clone();
    endless[5..9].copy_from_slice(&[1, 0, 0xf0, 0]);
    let _ = stream.write_all(&endless).await;
    let _ = stream.write_all(&record).await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
    refused(&stock, "inbound", "hello_too_long", 1).await;

    let mut stream = TcpStream::connect(target).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x00\x09\x01\x00\x00\x05nonse").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    refused(&stock, "inbound", "malformed", 1).await;
    assert_eq!(metric(&stock, "couplet_tls_handshakes_in_flight").await, 0);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_and_too_many_at_once_are_refused() {
    let authority = Authority::new();
    let app = answers(200, "").await;
    let mut stock = meshed("stock", &authority).app(&app);
    stock.timeouts.header = Duration::from_millis(500);
    stock.limits.tls_handshakes = 1;
    let stock = stock.start();
    let start = b"\x16\x03\x01\x02\x00\x01";
    let mut first = TcpStream::connect(stock.inbound().unwrap()).await.unwrap();
    first.write_all(start).await.unwrap();
    reached(&stock, "couplet_tls_handshakes_in_flight", 1).await;
    let mut second = TcpStream::connect(stock.inbound().unwrap()).await.unwrap();
    second.write_all(start).await.unwrap();
    let _ = second.read_to_end(&mut Vec::new()).await;
    refused(&stock, "inbound", "limit", 1).await;
    let _ = first.read_to_end(&mut Vec::new()).await;
    refused(&stock, "inbound", "timeout", 1).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_all_named_and_nothing_starts() {
    let authority = Authority::new();
    let mut wrong = authority.identity("stock").unwrap();
    wrong.key = authority.issue("other", &Says::names(&["spiffe://shop.example/other"])).key;
    let mut config = config("stock");
    config.tls.identity = Some(wrong.clone());
    let mut server = authority.server();
    server.certificate = "/nowhere/server.pem".into();
    std::fs::write(&server.key, "no key").unwrap();
    config.tls.server = Some(server.clone());
    let error = couplet_proxy::start(config).unwrap_err().to_string();
    let mismatch = format!("{}: is not the key of the certificate in", wrong.key.display());
    let no_key = format!("{}: holds no private key", server.key.display());
    for part in [mismatch.as_str(), "/nowhere/server.pem: there is no such file", no_key.as_str()] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

#[tokio::test]
async fn an_identity_that_its_own_roots_do_not_know_is_refused_at_the_start() {
    let (authority, stranger) = (Authority::named("one"), Authority::named("another"));
    let mut config = config("stock");
    config.tls.identity = authority.identity("stock");
    config.tls.identity.as_mut().unwrap().roots = stranger.roots();
    let error = couplet_proxy::start(config.clone()).unwrap_err().to_string();
    for part in
        ["stock.pem: other sidecars with the roots of", "roots.pem would refuse it: none of the roots has issued"]
    {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    // One that has ended is known all the same: it is warned of, and whoever sees it decides.
    let expired = Says { names: &["spiffe://shop.example/stock"], years: (2020, 2021) };
    config.tls.identity = authority.identity_that_says("expired", &expired);
    drop(couplet_proxy::start(config).unwrap());
}

/// Replaces certificate and key of `shop` and `stock` again and again while requests flow, each on a new connection.
#[tokio::test]
async fn no_handshake_fails_while_certificates_are_replaced() {
    const ROTATIONS: u64 = 50;
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let every = Duration::from_millis(100);
    let mut stock = meshed("stock", &authority).app(&app);
    stock.tls.reload = every;
    stock.tls.inbound = InboundTls::Strict;
    let stock = stock.start();
    let mut shop = meshed("shop", &authority).over(mesh(), "stock", stock.inbound().unwrap());
    shop.tls.reload = every;
    // No connection is kept, so that every request needs a handshake.
    shop.timeouts.pool_idle = Duration::from_millis(1);
    let shop = shop.start();
    let address = shop.outbound()[0].1;
    let (over, stopped) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::SeqCst);
    let load: Vec<_> = (0..4)
        .map(|_| {
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                let mut count = 0_u64;
                let mut client = client(address).await;
                while !over.load(stopped) {
                    let answer = client.get("/").await;
                    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "fine"));
                    count += 1;
                }
                count
            })
        })
        .collect();
    let reloads = "couplet_tls_reloads_total{result=\"ok\"}";
    for rotation in 1..=ROTATIONS {
        // The files are written one after another: for a moment key and certificate do not fit.
        authority.identity("stock");
        authority.identity("shop");
        reached(&stock, reloads, rotation).await;
        reached(&shop, reloads, rotation).await;
    }
    over.store(true, stopped);
    let mut requests = 0;
    for load in load {
        requests += load.await.unwrap();
    }
    let handshakes = metric(&stock, "couplet_tls_handshakes_total{side=\"inbound\"}").await;
    assert!(handshakes > ROTATIONS, "{handshakes} handshakes for {requests} requests");
    for proxy in [&stock, &shop] {
        let page = metrics(proxy).await;
        let failed = page.lines().filter(|line| line.starts_with("couplet_tls_refused_total") && !line.ends_with(" 0"));
        assert_eq!(failed.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn a_broken_new_file_leaves_the_old_one_in_force_and_is_counted() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let mut stock = meshed("stock", &authority).app(&app);
    stock.tls.reload = Duration::from_millis(100);
    let key = stock.tls.identity.as_ref().unwrap().key.clone();
    let stock = stock.start();
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nnonsense").unwrap();
    let failed = "couplet_tls_reloads_total{result=\"failed\"}";
    reached(&stock, failed, 1).await;
    let shop = meshed("shop", &authority).over(mesh(), "stock", stock.inbound().unwrap()).start();
    assert_eq!(client(shop.outbound()[0].1).await.get("/").await.text, "fine");
    authority.identity("stock");
    reached(&stock, "couplet_tls_reloads_total{result=\"ok\"}", 1).await;
    let not_after = "couplet_tls_certificate_not_after_timestamp_seconds{certificate=\"identity\"}";
    assert_eq!(metric(&stock, not_after).await, 3_976_214_400, "2096-01-01");
    assert_eq!(metric(&stock, failed).await, 1, "it is counted once, and not at every look");
}

#[tokio::test]
async fn no_secret_is_on_the_page_of_the_configuration() {
    let authority = Authority::new();
    let stock = meshed("stock", &authority);
    let key = std::fs::read_to_string(&stock.tls.identity.as_ref().unwrap().key).unwrap();
    let stock = stock.start();
    let page = client(stock.admin().unwrap()).await.get("/config").await.text;
    assert!(page.contains("stock.key"), "the path is shown");
    assert!(key.lines().filter(|line| !line.starts_with('-')).all(|line| !page.contains(line)));
}

/// Most are wrong somewhere; they come in pieces of any size, and none of them may cost more than its own connection.
#[tokio::test]
async fn two_thousand_strange_client_hellos_do_no_harm() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let mut stock = meshed("stock", &authority).app(&app);
    stock.tls.server = Some(authority.server());
    let stock = stock.start();
    let address = stock.inbound().unwrap();
    let mut random = fastrand::Rng::with_seed(20);
    let long = |count| client_hello(vec![vec![b'x'; 200]; count]);
    let plain = client_hello(vec![b"h2".to_vec(), b"couplet".to_vec()]);
    let originals = [plain, long(1), long(40), long(80), long(200)];
    for round in 0..2_000 {
        let mut hello = random.choice(&originals).unwrap().clone();
        // What identifies it as TLS stays, so that it gets as far as the handshake.
        for _ in 0..random.usize(0..4) {
            let at = random.usize(6..hello.len());
            match random.u8(0..4) {
                0 => hello[at] = random.u8(..),
                1 => hello.truncate(at.max(7)),
                // A value that is reserved so that nobody relies on knowing all of them (GREASE, RFC 8701).
                2 => drop(hello.splice(at..at, [0x1a, 0x1a, 0, 0])),
                _ => hello[at..].iter_mut().take(8).for_each(|byte| *byte = random.u8(..)),
            }
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let piece = [1, 7, 500, 20_000][round % 4];
        for piece in hello.chunks(piece.max(hello.len() / 600)) {
            if stream.write_all(piece).await.is_err() {
                break; // It was refused before its end.
            }
        }
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert!(ask_over_tls(address, None).await.unwrap().ends_with("fine"));
    reached(&stock, "couplet_tls_handshakes_in_flight_peak", 1).await;
    assert_eq!(metric(&stock, "couplet_tls_handshakes_in_flight").await, 0);
}

#[tokio::test]
async fn a_client_whose_connection_is_slow_to_be_made_holds_up_no_other() {
    let authority = Authority::new();
    let address = framed::answering(|_, mut asking| {
        asking.answer.send_response(framed::head(200, &[]), true).unwrap();
    })
    .await;
    let mut stock = meshed("stock", &authority);
    stock.app = Some(address);
    let stock = stock.start();
    // The first connection to this wire is taken, and nothing comes back on it.
    let wire = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shop = meshed("shop", &authority).over(mesh(), "stock", wire.local_addr().unwrap()).start();
    let to = shop.outbound()[0].1;
    let (mut slow, mut quick) = (connect(to).await, connect(to).await);
    let (held_up, _) = slow.send_request(request("GET", "/", &[]), true).unwrap();
    let (silent, _) = wire.accept().await.unwrap();
    let (answer, _) = quick.send_request(request("GET", "/", &[]), true).unwrap();
    let (mut other, _) = wire.accept().await.unwrap();
    let mut upstream = TcpStream::connect(stock.inbound().unwrap()).await.unwrap();
    tokio::spawn(async move { copy_bidirectional(&mut other, &mut upstream).await });
    assert_eq!(answer.await.unwrap().status().as_u16(), 200);
    drop(silent);
    assert_eq!(held_up.await.unwrap().status().as_u16(), 502, "it waited for its own connection all the time");
}
