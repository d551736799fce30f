//! Another configuration while the proxy runs: no request notices, and a bad one changes nothing.

use std::net::TcpListener;

use couplet_config::{Outbound, ProxyConfig};
use couplet_proxy::{ReloadError, Reloaded, Running};

use crate::harness::*;
use crate::pki::*;
use crate::secured::*;

fn applied(proxy: &mut Running, config: ProxyConfig) -> u64 {
    match proxy.reload(Ok(config)) {
        Ok(Reloaded::Applied { generation, .. }) => generation,
        other => panic!("{other:?}"),
    }
}

fn on_admin(service: &str) -> ProxyConfig {
    let mut config = config(service);
    config.admin = Some(free());
    config
}

async fn shows(proxy: &Running, line: &str) -> bool {
    metrics(proxy).await.lines().any(|found| found == line)
}

#[tokio::test]
async fn a_destination_moves_while_its_listener_and_open_connections_stay() {
    let (old, new) = (answers(200, "old").await, answers(200, "new").await);
    let before = config("shop").to("stock", old.address);
    let mut proxy = before.clone().start();
    let (_, listen) = proxy.outbound()[0];
    let mut first = client(listen).await;
    assert_eq!(first.get("/").await.text, "old");

    let mut after = before;
    after.outbound[0].target = config("").to("stock", new.address).outbound[0].target.clone();
    assert_eq!(applied(&mut proxy, after), 2);
    assert_eq!(proxy.outbound()[0].1, listen);
    assert_eq!(client(listen).await.get("/").await.text, "new");
    let last = first.get("/").await;
    assert_eq!(last.text, "old", "an open connection is not cut");
    assert_eq!(last.headers["connection"], "close", "but it hears that it ends");
}

#[tokio::test]
async fn a_request_in_flight_ends_under_the_configuration_that_it_began_under() {
    let (shop, gate) = gated().await;
    let before = config("shop").app(&shop);
    let mut proxy = before.clone().start();
    let mut waiting = client(proxy.inbound().unwrap()).await;
    let request = tokio::spawn(async move { waiting.get("/").await });
    while shop.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let other = answers(200, "other").await;
    applied(&mut proxy, before.app(&other));
    assert_eq!(client(proxy.inbound().unwrap()).await.get("/").await.text, "other");
    gate.add_permits(1);
    let answer = request.await.unwrap();
    assert_eq!((answer.text.as_str(), &answer.headers["connection"]), ("late", &"close".parse().unwrap()));
}

#[tokio::test]
async fn listeners_come_and_go() {
    let stock = answers(200, "stock").await;
    let before = config("shop").to("stock", stock.address);
    let mut proxy = before.clone().start();
    let (_, gone) = proxy.outbound()[0];
    let mut open = client(gone).await;
    open.get("/").await;

    applied(&mut proxy, config("shop").to("prices", stock.address));
    let (name, new) = proxy.outbound()[0].clone();
    assert_eq!(name, "prices");
    assert_eq!(client(new).await.get("/").await.text, "stock");
    assert_eq!(open.get("/").await.text, "stock", "a connection outlives its listener by one answer");
    while tokio::net::TcpStream::connect(gone).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_the_kernel_had_accepted_when_its_listener_went_is_served() {
    let stock = answers(200, "stock").await;
    let before = config("shop").to("stock", stock.address);
    let mut proxy = before.clone().start();
    let (_, gone) = proxy.outbound()[0];
    for _ in 0..20 {
        let mut waiting = Vec::new();
        for _ in 0..20 {
            waiting.push(tokio::net::TcpStream::connect(gone).await.unwrap());
        }
        applied(&mut proxy, config("shop").to("prices", stock.address));
        for stream in waiting {
            let io = hyper_util::rt::TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let response = sender.send_request(get("/", &[])).await.unwrap();
            assert_eq!(response.status().as_u16(), 200);
        }
        let mut again = before.clone();
        again.outbound[0].listen = gone;
        while proxy.reload(Ok(again.clone())).is_err() {
            // The old listener may still be on its way out.
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_port_that_cannot_be_had_changes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let stock = answers(200, "stock").await;
    let before = on_admin("shop").to("stock", stock.address);
    let mut proxy = before.clone().start();
    let (_, listen) = proxy.outbound()[0];
    let mut open = client(listen).await;

    let mut after = before.clone().to("prices", stock.address);
    after.outbound[0].name = "renamed".to_owned();
    after.outbound[1].listen = taken.local_addr().unwrap();
    let error = proxy.reload(Ok(after)).unwrap_err().to_string();
    assert!(error.contains("prices") && error.contains("in use"), "{error}");
    assert_eq!(proxy.outbound(), [("stock".to_owned(), listen)]);
    let answer = open.get("/").await;
    assert_eq!((answer.text.as_str(), answer.headers.get("connection")), ("stock", None));
    assert!(shows(&proxy, "couplet_config_reloads_total{result=\"refused\"} 1").await);
    assert!(shows(&proxy, "couplet_config_last_reload_success 0").await);
    let page = client(proxy.admin().unwrap()).await.get("/config").await.text;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&page["generation"], page["problem"].as_str()), (&1.into(), Some(error.as_str())));
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_nothing_is_half_done() {
    let stock = answers(200, "stock").await;
    let before = config("shop").to("stock", stock.address);
    let mut proxy = before.clone().start();
    let mut after = before.to("prices", stock.address);
    after.service = "cart".to_owned();
    after.workers = 2;
    let error = proxy.reload(Ok(after)).unwrap_err();
    assert!(matches!(&error, ReloadError::Restart(keys) if *keys == ["service", "workers"]), "{error}");
    assert_eq!(proxy.outbound().len(), 1);
}

#[tokio::test]
async fn every_way_in_which_a_reload_can_end_is_counted_and_shown() {
    let stock = answers(200, "stock").await;
    let before = on_admin("shop").to("stock", stock.address);
    let mut proxy = before.clone().start();
    assert!(matches!(proxy.reload(Ok(before.clone())), Ok(Reloaded::Unchanged)));
    assert!(proxy.reload(Err("proxy.yaml:1:1: no".to_owned())).is_err());
    assert!(shows(&proxy, "couplet_config_last_reload_success 0").await);
    let mut after = before;
    after.outbound.push(Outbound::parse("prices@127.0.0.1:0=127.0.0.1:1").unwrap());
    applied(&mut proxy, after);
    for line in [
        "couplet_config_reloads_total{result=\"applied\"} 1",
        "couplet_config_reloads_total{result=\"unchanged\"} 1",
        "couplet_config_reloads_total{result=\"refused\"} 1",
        "couplet_config_last_reload_success 1",
        "couplet_config_generation 2",
    ] {
        assert!(shows(&proxy, line).await, "{line}");
    }
}

#[tokio::test]
async fn fifty_reloads_under_load_lose_no_request_and_every_one_is_counted() {
    let analyzer = analyzer().await;
    let (one, two) = (answers(200, "one").await, answers(200, "two").await);
    for workers in [1, 2] {
        let mut before = config("shop").app(&one).reports_to(&analyzer);
        before.workers = workers;
        let after = before.clone().app(&two);
        let mut proxy = before.clone().start();
        let address = proxy.inbound().unwrap();
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let done = std::sync::Arc::clone(&done);
                tokio::spawn(async move {
                    let (mut served, mut kept) = (0_u64, None);
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let mut connection = match kept.take() {
                            Some(connection) => connection,
                            None => client(address).await,
                        };
                        let answer = connection.get("/").await;
                        assert_eq!(answer.status.as_u16(), 200);
                        served += 1;
                        // Half of the clients keep their connections for as long as they may.
                        if number % 2 == 0 && !answer.headers.contains_key("connection") {
                            kept = Some(connection);
                        }
                    }
                    served
                })
            })
            .collect();
        for n in 0..50 {
            let next = if n % 2 == 0 { after.clone() } else { before.clone() };
            let seen = one.seen().len() + two.seen().len();
            assert_eq!(applied(&mut proxy, next), n + 2);
            while one.seen().len() + two.seen().len() < seen + 20 {
                tokio::task::yield_now().await;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut served = 0;
        for client in clients {
            served += client.await.unwrap();
        }
        let earlier = handled(&analyzer);
        stop(proxy).await;
        assert!(earlier <= handled(&analyzer));
        let instance = analyzer.reports().last().unwrap().origin.instance.clone();
        let reports = analyzer.reports();
        let own = reports.iter().filter(|report| report.origin.instance == instance);
        let counted: u64 = own.flat_map(|report| &report.paths).map(|path| path.stats.outcomes.total()).sum();
        assert_eq!(counted, served, "with {workers} workers");
    }
}

fn handled(analyzer: &Analyzer) -> u64 {
    analyzer.reports().iter().flat_map(|report| &report.paths).map(|path| path.stats.outcomes.total()).sum()
}

#[tokio::test]
async fn other_files_of_tls_are_shown_to_whoever_connects_next() {
    let authority = Authority::new();
    let app = answers(200, "fine").await;
    let before = meshed("stock", &authority).app(&app);
    let mut stock = before.clone().start();
    let expects = |id: &str| {
        let identity = Some(couplet_config::SpiffeId::parse(id).unwrap());
        let tls = couplet_config::UpstreamTls { identity, ..couplet_config::UpstreamTls::default() };
        meshed("shop", &authority).over(Some(tls), "stock", stock.inbound().unwrap()).start()
    };
    let (old, new) = (expects("spiffe://shop.example/stock"), expects("spiffe://shop.example/renamed"));
    let status = async |shop: &Running| client(shop.outbound()[0].1).await.get("/").await.status.as_u16();
    assert_eq!((status(&old).await, status(&new).await), (200, 502));

    let mut after = before.clone();
    after.tls.identity = authority.identity("renamed");
    let Ok(Reloaded::Applied { keys, .. }) = stock.reload(Ok(after.clone())) else { panic!("it changes live") };
    assert_eq!(keys, ["tls.identity"]);
    assert_eq!(status(&new).await, 200);
    // What shows the old identity is kept for a moment, and ends with its next answer.
    while status(&old).await == 200 {}

    // Files that cannot be used change nothing.
    let mut broken = after.clone();
    broken.tls.identity.as_mut().unwrap().key = "/nowhere/stock.key".into();
    let error = stock.reload(Ok(broken)).unwrap_err().to_string();
    assert!(error.contains("/nowhere/stock.key: there is no such file"), "{error}");
    assert_eq!(status(&new).await, 200);

    // Nothing in the clear from now on, but from this host; then no TLS at all.
    after.tls.inbound = couplet_config::InboundTls::Off;
    applied(&mut stock, after);
    while status(&new).await == 200 {}
    assert_eq!(client(stock.inbound().unwrap()).await.get("/").await.text, "fine");
}
