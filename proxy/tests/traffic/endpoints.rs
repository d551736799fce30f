//! How endpoints get their names, on both sides of a call, and what the admin listener tells of it.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::harness::*;

const USERS: [&str; 4] = ["ann", "bob", "cid", "dan"];

async fn page(proxy: &couplet_proxy::Running) -> Value {
    serde_json::from_str(&client(proxy.admin().unwrap()).await.get("/endpoints").await.text).unwrap()
}

#[tokio::test]
async fn a_segment_with_too_many_values_is_one_endpoint_and_the_admin_listener_shows_why() {
    let shop = answers(200, "").await;
    let mut config = config("shop").app(&shop);
    (config.admin, config.endpoints.max_values) = (Some(free()), 3);
    config.endpoints.templates = vec!["/static/{file}".to_owned()];
    config.workers = 1;
    let proxy = config.start();
    let mut client = client(proxy.inbound().unwrap()).await;
    for user in USERS.iter().chain(&["eve", "fay"]) {
        client.get(&format!("/users/{user}/cart")).await;
        client.get(&format!("/static/{user}.css")).await;
    }
    // An answer is on its way a moment before its request is counted; the next request on the connection is behind it.
    client.get("/").await;
    let page = page(&proxy).await;
    assert_eq!(page["learned"][0]["template"], "GET /users/{id}");
    assert_eq!(page["learned"][0]["examples"], json!(["ann", "bob", "cid"]));
    assert_eq!((&page["learned"][0]["requests"], &page["learned"][0]["direction"]), (&json!(2), &json!("inbound")));
    assert_eq!(page["learned"].as_array().unwrap().len(), 1, "a configured template is not learned: {page:#}");
    assert_eq!(page["endpoints"]["GET /users/{id}/cart"], 2);
    assert_eq!(page["endpoints"]["GET /static/{file}"], 6);
    assert_eq!((&page["max_values"], &page["segments_refused"]), (&json!(3), &json!(0)));
}

#[tokio::test]
async fn names_that_nobody_answers_to_and_grpc_methods_are_not_merged() {
    let shop = service(|request: Request<Bytes>| async move {
        answer(if request.uri().path().starts_with("/none") { 404 } else { 200 }, "")
    })
    .await;
    let mut config = config("shop").app(&shop);
    (config.admin, config.endpoints.max_values) = (Some(free()), 3);
    let proxy = config.start();
    let mut client = client(proxy.inbound().unwrap()).await;
    for user in USERS.iter().chain(&["eve", "fay"]) {
        client.get(&format!("/none-{user}")).await;
        client.ask(get(&format!("/shop.Users2026/Get-{user}"), &[("content-type", "application/grpc+proto")])).await;
    }
    client.get("/cart").await;
    let page = page(&proxy).await;
    assert_eq!(page["learned"], json!([]));
    assert_eq!(page["endpoints"]["GET /none-ann"], 1);
    assert_eq!(page["endpoints"]["GET /shop.Users2026/Get-ann"], 1);
}

#[tokio::test]
async fn the_callers_proxy_names_a_call_as_the_callees_does_from_the_first_answer_on() {
    let analyzer = analyzer().await;
    let stock = answers(200, "").await;
    let mut stock_config = config("stock").app(&stock).reports_to(&analyzer);
    stock_config.endpoints.templates = vec!["/items/{colour}/sizes".to_owned()];
    let stock_proxy = stock_config.start();
    let mut shop_config = config("shop").to("stock", stock_proxy.inbound().unwrap()).reports_to(&analyzer);
    shop_config.admin = Some(free());
    let shop_proxy = shop_config.start();
    let mut client = client(shop_proxy.outbound()[0].1).await;
    for colour in ["red", "green", "blue", "white"] {
        let answer = client.get(&format!("/items/{colour}/sizes")).await;
        assert!(!answer.headers.contains_key("couplet-summary"));
    }
    let page = page(&shop_proxy).await;
    stop(shop_proxy).await;
    stop(stock_proxy).await;
    let calls = |endpoint: &str| -> u64 {
        let reports = analyzer.reports();
        let calls = reports.iter().flat_map(|report| &report.calls);
        calls.filter(|call| call.callee.endpoint() == endpoint).map(|call| call.stats.outcomes.total()).sum()
    };
    assert_eq!((calls("GET /items/red/sizes"), calls("GET /items/{id}/sizes")), (1, 3));
    assert_eq!(
        (&page["learned"][0]["template"], &page["learned"][0]["by"]),
        (&json!("GET /items/{id}"), &json!("told"))
    );
    assert_eq!(page["learned"][0]["service"], "stock");
}

#[tokio::test]
async fn what_one_worker_learns_all_know() {
    let shop = answers(200, "").await;
    let mut config = config("shop").app(&shop);
    (config.admin, config.endpoints.max_values, config.workers) = (Some(free()), 3, 3);
    let proxy = config.start();
    // Each connection belongs to one worker; the admin page collects from all of them.
    let mut first = client(proxy.inbound().unwrap()).await;
    for user in USERS {
        first.get(&format!("/users/{user}")).await;
    }
    first.get("/").await;
    page(&proxy).await;
    for user in ["eve", "fay", "gus", "hal", "ida", "joe", "kim", "leo", "mia", "ned"] {
        client(proxy.inbound().unwrap()).await.get(&format!("/users/{user}")).await;
    }
    let page = page(&proxy).await;
    let names: Vec<_> = page["endpoints"].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        ["GET /", "GET /users/ann", "GET /users/bob", "GET /users/cid", "GET /users/dan", "GET /users/{id}"]
    );
    assert_eq!(page["learned"].as_array().unwrap().len(), 1);
}
