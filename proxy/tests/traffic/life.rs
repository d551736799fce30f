//! Coming up and going down.

use std::net::TcpListener;

use crate::harness::*;

#[tokio::test]
async fn a_port_in_use_names_the_port_and_the_option_and_leaves_nothing_running() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let shop = answers(200, "").await;
    let mut config = config("shop").app(&shop);
    config.admin = Some(taken.local_addr().unwrap());
    for workers in [1, 2] {
        config.workers = workers;
        let error = couplet_proxy::start(config.clone()).unwrap_err().to_string();
        let port = taken.local_addr().unwrap().port().to_string();
        assert!(error.contains(&port) && error.contains("--admin") && error.contains("in use"), "{error}");
    }
}

#[tokio::test]
async fn stopping_lets_a_request_in_flight_end_and_counts_it() {
    let analyzer = analyzer().await;
    let (shop, gate) = gated().await;
    let proxy = config("shop").app(&shop).reports_to(&analyzer).start();
    let address = proxy.inbound().unwrap();
    let mut first = client(address).await;
    let request = tokio::spawn(async move { first.get("/").await });
    while shop.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn(stop(proxy));
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    assert_eq!(request.await.unwrap().text, "late");
    stopping.await.unwrap();
    let handled: u64 =
        analyzer.reports().iter().flat_map(|report| &report.paths).map(|path| path.stats.outcomes.total()).sum();
    assert_eq!(handled, 1);
}

#[tokio::test]
async fn several_workers_share_the_listeners_and_the_handlers() {
    let analyzer = analyzer().await;
    let shop = answers(200, "").await;
    let mut config = config("shop").app(&shop).reports_to(&analyzer);
    config.workers = 3;
    let proxy = config.start();
    for _ in 0..60 {
        assert_eq!(client(proxy.inbound().unwrap()).await.get("/").await.status.as_u16(), 200);
    }
    stop(proxy).await;
    let handled: u64 =
        analyzer.reports().iter().flat_map(|report| &report.paths).map(|path| path.stats.outcomes.total()).sum();
    assert_eq!(handled, 60);
}

#[tokio::test]
async fn the_admin_listener_tells_whether_it_is_ready_and_what_it_counts() {
    let shop = answers(200, "").await;
    let mut config = config("shop").app(&shop);
    config.admin = Some(free());
    let proxy = config.start();
    client(proxy.inbound().unwrap()).await.get("/orders/17").await;
    let mut admin = client(proxy.admin().unwrap()).await;
    assert_eq!(admin.get("/livez").await.status.as_u16(), 200);
    assert_eq!(admin.get("/readyz").await.text, "ready\n");
    assert!(admin.get("/readyz?verbose").await.text.contains("requests in flight 0"));
    let metrics = admin.get("/metrics").await.text;
    assert!(
        metrics.contains("http_server_request_duration_seconds_count{http_route=\"GET /orders/{id}\"} 1"),
        "{metrics}"
    );
    let config: serde_json::Value = serde_json::from_str(&admin.get("/config").await.text).unwrap();
    assert_eq!(config["service"], "shop");
    assert_eq!(admin.get("/nothing").await.status.as_u16(), 404);
}
