//! Captured requests reach whom the application asked for, over both protocols, and applications notice nothing.

use std::io::Read as _;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::peers::{answer, ask, connect, greeted, greeter, http, settings_awaited, settings_first};
use crate::world::{APP, Families, PROXY, World, say, world};

/// Where something is waited for, it is for longer.
const STALL: Duration = Duration::from_secs(1);

/// Both pods with rules and a sidecar; the first calls the second.
fn captured(test: &str, families: Families) -> Option<(World, Vec<crate::harness::Program>)> {
    let world = world(test, families)?;
    let sidecars = world.pods.iter().zip(["shop", "stock"]).map(|(pod, service)| {
        pod.init("");
        pod.sidecar(service, "")
    });
    let sidecars = sidecars.collect();
    Some((world, sidecars))
}

fn addresses(world: &World, families: Families) -> Vec<IpAddr> {
    let stock = &world.pods[1];
    match families {
        Families::Ipv4 => vec![stock.ipv4],
        Families::Dual => vec![stock.ipv4, stock.ipv6],
    }
}

#[test]
fn requests_reach_the_address_that_the_application_asked_for() {
    for families in [Families::Ipv4, Families::Dual] {
        let Some((world, _sidecars)) = captured("requests over both families", families) else { return };
        let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
        for address in addresses(&world, families) {
            let heads = http(&stock, APP, (address, 8080), |_| "here".to_owned());
            let answer = shop.inside(APP, move || ask((address, 8080), "/a", "stock.shop.svc:8080", ""));
            assert_eq!((answer.status, answer.body.as_str()), (200, "here"), "{}", answer.head);
            let heads = heads.lock().unwrap();
            let head = heads[0].to_lowercase();
            assert!(head.contains("host: stock.shop.svc:8080") && head.contains("traceparent: "), "{head}");
            assert!(!head.contains("couplet-context"), "the context is for the sidecar alone: {head}");
        }
        let both = addresses(&world, families).len() as f64;
        for pod in [&shop, &stock] {
            assert_eq!(pod.metric("couplet_protocol_verdicts_total{protocol=\"http1\"}"), Some(both));
        }
        let opened = shop.metric("couplet_upstream_connections_opened_total");
        assert_eq!(opened, Some(both), "the connection that was made at once carries the request");
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let families = Families::Dual;
    let Some((world, _sidecars)) = captured("a server that speaks first", families) else { return };
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    for address in addresses(&world, families) {
        greeter(&stock, APP, (address, 3306));
        settings_first(&stock, APP, (address, 50051));
        let times = (0..3).map(|_| {
            let greeting = shop.inside(APP, move || greeted((address, 3306)));
            let settings = shop.inside(APP, move || settings_awaited((address, 50051)));
            say(&format!(
                "first word through two sidecars over {address}: greeting {greeting:?}, settings {settings:?}"
            ));
            greeting.max(settings)
        });
        // One of them was not held up by whatever else this machine does.
        assert!(times.min().unwrap() < STALL, "nothing is waited for");
    }
    for (protocol, count) in [("opaque", 6.0), ("http2", 6.0), ("tls", 0.0), ("http1", 0.0)] {
        let series = format!("couplet_protocol_verdicts_total{{protocol=\"{protocol}\"}}");
        assert_eq!(shop.metric(&series), Some(count), "{protocol}");
    }
}

#[test]
fn verdicts_on_bytes_that_are_there_take_no_time() {
    let families = Families::Ipv4;
    let Some((world, _sidecars)) = captured("verdicts", families) else { return };
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    let address = stock.ipv4;
    http(&stock, APP, (address, 8080), |_| "here".to_owned());
    greeter(&stock, APP, (address, 3306));
    for _ in 0..50 {
        shop.inside(APP, move || ask((address, 8080), "/a", "stock", ""));
        shop.inside(APP, move || greeted((address, 3306)));
    }
    for pod in [&shop, &stock] {
        let all = pod.metric("couplet_protocol_verdict_seconds_count").unwrap();
        let fast = pod.metric("couplet_protocol_verdict_seconds_bucket{le=\"0.05\"}").unwrap();
        let sum = pod.metric("couplet_protocol_verdict_seconds_sum").unwrap();
        say(&format!("{all} verdicts in {:.1} ms altogether; {fast} of them within 50 ms", 1e3 * sum));
        assert_eq!(all, fast);
        assert!(all > 50.0, "requests share connections between the sidecars");
    }
}

#[test]
fn a_request_in_pieces_is_still_a_request_and_a_word_without_an_end_is_passed_on() {
    let Some((world, _sidecars)) = captured("pieces", Families::Ipv4) else { return };
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    let address = stock.ipv4;
    let heads = http(&stock, APP, (address, 8080), |_| "here".to_owned());
    shop.inside(APP, move || {
        let mut stream = connect((address, 8080));
        for piece in ["GE", "T", " /", "a HTTP/1.1\r\nhost: stock\r\n\r\n"] {
            stream.write_all(piece.as_bytes()).unwrap();
            std::thread::yield_now();
        }
        assert_eq!(answer(&mut stream).unwrap().status, 200);
    });
    assert_eq!(heads.lock().unwrap().len(), 1);
    // Two capitals may become a method for ever; after a second they are what they are.
    crate::peers::serve(&stock, APP, (address, 7000), |mut stream| {
        let mut two = [0; 2];
        stream.read_exact(&mut two).unwrap();
        stream.write_all(&two).unwrap();
    });
    shop.inside(APP, move || {
        let mut stream = connect((address, 7000));
        stream.write_all(b"OK").unwrap();
        let mut two = [0; 2];
        stream.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"OK");
    });
    assert_eq!(shop.metric("couplet_protocol_verdicts_total{protocol=\"opaque\"}"), Some(1.0));
}

#[test]
fn a_dead_address_is_a_502_for_a_request_and_a_reset_for_anything_else() {
    let Some((world, _sidecars)) = captured("a dead address", Families::Dual) else { return };
    let shop = world.pods[0].clone();
    // Nobody listens on the node; and nobody is there at all.
    for address in addresses(&world, Families::Dual) {
        let node = match address {
            IpAddr::V4(_) => world.outside().ipv4,
            IpAddr::V6(_) => world.outside().ipv6,
        };
        let answer = shop.inside(APP, move || ask((node, 81), "/", "gone", ""));
        assert_eq!(answer.status, 502, "{}", answer.head);
        assert!(answer.head.to_lowercase().contains("couplet-error: connect"), "{}", answer.head);
        let (error, took) = shop.inside(APP, move || {
            let began = Instant::now();
            // The handshake is with the sidecar: it succeeds.
            let mut stream = TcpStream::connect((node, 82)).unwrap();
            let mut byte = [0];
            (stream.read(&mut byte).unwrap_err().kind(), began.elapsed())
        });
        say(&format!("reset of a silent client of a dead address after {took:?}"));
        assert_eq!(error, ErrorKind::ConnectionReset);
    }
    assert_eq!(shop.metric("couplet_captured_resets_total"), Some(2.0));
}

#[test]
fn a_loop_is_refused_and_counted() {
    let Some(world) = world("a loop", Families::Ipv4) else { return };
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    shop.init("");
    // As the applications' user: the rules do not leave its connections alone.
    let _sidecar = shop.sidecar_as(APP, "shop", "");
    let address = stock.ipv4;
    greeter(&stock, APP, (address, 3306));
    let took = shop.inside(APP, move || {
        let began = Instant::now();
        let mut stream = connect((address, 3306));
        let mut byte = [0];
        assert!(stream.read(&mut byte).is_err(), "nothing comes of it");
        began.elapsed()
    });
    let loops = shop.metric("couplet_captured_loops_total").unwrap();
    say(&format!("a loop was refused after {took:?}, {loops} connections"));
    assert!(took < Duration::from_secs(1) && (1.0..10.0).contains(&loops), "{took:?}, {loops}");
    // Nor is the listener itself a destination.
    shop.inside(APP, || {
        let mut stream = TcpStream::connect("127.0.0.1:15401").unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut text = String::new();
        assert!(stream.read_to_string(&mut text).is_err() || text.is_empty(), "{text}");
    });
    assert!(shop.metric("couplet_captured_loops_total").unwrap() > loops);
}

#[test]
fn a_mark_leaves_the_proxy_alone_where_it_has_no_user_of_its_own() {
    let Some(world) = world("a mark", Families::Ipv4) else { return };
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    shop.init("");
    let _sidecar = shop.sidecar_as(0, "shop", "--set capture.mark=0x21");
    let address = stock.ipv4;
    http(&stock, APP, (address, 8080), |_| "here".to_owned());
    assert_eq!(shop.inside(APP, move || ask((address, 8080), "/", "stock", "")).status, 200);
    assert_eq!(shop.metric("couplet_captured_loops_total"), Some(0.0));
}

#[test]
fn skipped_ports_and_networks_go_past_the_proxy() {
    let Some(world) = world("skipped ports", Families::Ipv4) else { return };
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    shop.init("--skip-outbound-ports 3300-3310 --skip-networks 10.77.0.254/32");
    stock.init("--only inbound --skip-inbound-ports 22");
    let (address, node) = (stock.ipv4, world.outside());
    greeter(&stock, APP, (address, 22));
    greeter(&node, APP, (node.ipv4, 5432));
    let at = node.ipv4;
    shop.inside(APP, move || greeted((at, 5432)));
    // Captured on its way out, and nobody is there to take it: no proxy runs.
    let refused = shop.inside(APP, move || TcpStream::connect((address, 22)).unwrap_err().kind());
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    // The proxy's own connections go out, and port 22 of the other pod is not captured.
    shop.inside(PROXY, move || greeted((address, 22)));
    greeter(&stock, APP, (address, 3306));
    let refused = shop.inside(APP, move || TcpStream::connect((address, 3306)).unwrap_err().kind());
    assert_eq!(refused, ErrorKind::ConnectionRefused, "skipped on its way out, captured on its way in");
}

#[test]
fn connections_that_go_past_the_proxy_are_seen_until_the_rules_are_there() {
    let Some(world) = world("connections past the proxy", Families::Ipv4) else { return };
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    let _sidecar = shop.sidecar_as(PROXY, "shop", "");
    let order = |direction: &str| {
        let number = |name: &str| shop.metric(&format!("{name}{{direction=\"{direction}\"}}")).unwrap();
        let (captured, past) = ("couplet_captured_connections_total", "couplet_capture_bypassed_connections");
        (number(captured), number(past), number("couplet_capture_in_order"))
    };
    assert_eq!((order("outbound"), order("inbound")), ((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)));
    greeter(&stock, APP, (stock.ipv4, 3306));
    greeter(&shop, APP, (shop.ipv4, 3306));
    let (there, here) = (stock.ipv4, shop.ipv4);
    let open = |from: &crate::world::Pod, to: IpAddr| {
        from.inside(APP, move || {
            let mut stream = connect((to, 3306));
            assert_eq!(crate::peers::read_line(&mut stream).as_deref(), Some("220 ready\n"));
            stream
        })
    };
    let past = (open(&shop, there), open(&stock, here));
    assert_eq!((order("outbound"), order("inbound")), ((0.0, 1.0, 0.0), (0.0, 1.0, 0.0)));
    drop(past);
    shop.init("");
    let captured = (open(&shop, there), open(&stock, here));
    assert_eq!((order("outbound"), order("inbound")), ((1.0, 0.0, 1.0), (1.0, 0.0, 1.0)));
    drop(captured);
}
