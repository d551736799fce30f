//! Which headers link calls to the requests that make them: known, learned, switched off; through real proxies.

use bytes::Bytes;
use couplet_config::ProxyConfig;
use couplet_proxy::Running;
use couplet_telemetry::outcome::{Evidence, Links};
use couplet_telemetry::propagation::{Client as HttpClient, Propagation};
use couplet_telemetry::report::Report;
use http::Request;
use serde_json::Value;

use crate::harness::*;

/// A service that copies only these headers to its one call.
async fn copying(names: &'static [&'static str], address: &Later) -> Service {
    let address = address.clone();
    service(move |request: Request<Bytes>| {
        let address = address.get();
        async move {
            let kept: Vec<_> = names
                .iter()
                .filter_map(|name| Some((*name, request.headers().get(*name)?.to_str().ok()?)))
                .chain([("user-agent", "python-requests/2.32.3")])
                .collect();
            client(address).await.ask(get("/stock", &kept)).await;
            answer(200, "")
        }
    })
    .await
}

/// shop → stock, where shop copies only these headers.
async fn pair(names: &'static [&'static str], analyzer: &Analyzer) -> (Running, Running, ProxyConfig) {
    let stock = answers(200, "").await;
    let stock_proxy = config("stock").app(&stock).reports_to(analyzer).start();
    let to_stock = Later::default();
    let shop = copying(names, &to_stock).await;
    let mut config = config("shop").app(&shop).to("stock", stock_proxy.inbound().unwrap()).reports_to(analyzer);
    config.admin = Some(free());
    // What no header links is not to be linked by anything else here, however long a test takes.
    config.telemetry.timing = false;
    let proxy = config.clone().start();
    to_stock.is(proxy.outbound().remove(0).1);
    (proxy, stock_proxy, config)
}

/// So many requests, `together` at a time, each with an id of its own in `header`.
async fn ask(proxy: &Running, header: &'static str, first: usize, requests: usize, together: usize) {
    let address = proxy.inbound().unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for worker in 0..together {
        asking.spawn(async move {
            let mut client = client(address).await;
            for n in (first + worker..first + requests).step_by(together) {
                let id = format!("request-{n}");
                client.ask(get("/checkout", &[(header, &id)])).await;
            }
        });
    }
    asking.join_all().await;
}

fn links(reports: &[Report], service: &str) -> Links {
    let mut links = Links::default();
    let calls = reports.iter().filter(|report| report.origin.service == service).flat_map(|report| &report.calls);
    calls.for_each(|call| links.merge(&call.stats.links));
    links
}

async fn page(proxy: &Running) -> Value {
    serde_json::from_str(&client(proxy.admin().unwrap()).await.get("/links").await.text).unwrap()
}

fn header<'a>(page: &'a Value, name: &str) -> &'a Value {
    let all = page["headers"].as_array().unwrap();
    all.iter().find(|header| header["name"] == name).unwrap_or_else(|| panic!("no {name} in {page:#}"))
}

#[tokio::test]
async fn a_service_that_copies_only_a_header_of_its_own_becomes_exact_after_warm_up_and_stays_so_over_a_reload() {
    let analyzer = analyzer().await;
    let (mut proxy, stock_proxy, mut changed) = pair(&["x-correlation-id"], &analyzer).await;
    ask(&proxy, "x-correlation-id", 0, 400, 5).await;
    let warm = page(&proxy).await;
    assert_eq!(header(&warm, "x-correlation-id")["source"], "learned", "{warm:#}");

    let exact = |page: &Value| (page["exact"].as_u64().unwrap(), page["unknown"].as_u64().unwrap());
    let before = exact(&warm);
    ask(&proxy, "x-correlation-id", 1_000, 200, 5).await;
    let after = exact(&page(&proxy).await);
    assert_eq!((after.0 - before.0, after.1 - before.1), (200, 0), "every call is exact from now on");

    changed.timeouts.connect = std::time::Duration::from_secs(3);
    proxy.reload(Ok(changed.clone())).unwrap();
    ask(&proxy, "x-correlation-id", 2_000, 50, 5).await;
    let reloaded = exact(&page(&proxy).await);
    assert_eq!((reloaded.0 - after.0, reloaded.1 - after.1), (50, 0), "what was learned survives a reload");

    changed.link.ignore = vec!["x-correlation-id".to_owned()];
    proxy.reload(Ok(changed)).unwrap();
    ask(&proxy, "x-correlation-id", 3_000, 50, 5).await;
    let off = page(&proxy).await;
    assert_eq!(exact(&off).1 - reloaded.1, 50, "and can be switched off");
    assert_eq!(
        (header(&off, "x-correlation-id")["source"].as_str(), off["propagates"].as_str()),
        (Some("off"), Some("partly"))
    );
    assert!(!off.to_string().contains("request-1"), "no value is shown");
    let metrics = metrics(&proxy).await;
    assert!(metrics.contains(r#"couplet_link_headers_total{header="x-correlation-id",event="linked"}"#), "{metrics}");

    stop(proxy).await;
    stop(stock_proxy).await;
    let reports = analyzer.reports();
    assert_eq!(links(&reports, "shop").total(), 700);
    let mut told = Propagation::default();
    reports.iter().filter(|report| report.origin.service == "shop").for_each(|report| told.merge(&report.propagation));
    assert!(told.headers["x-correlation-id"].linked >= 250, "{told:?}");
    assert_eq!(told.headers["traceparent"].outbound, 0, "{told:?}");
    assert_eq!(told.clients[&HttpClient::Requests].total(), 700);
}

#[tokio::test]
async fn each_of_the_usual_headers_links_by_itself() {
    for (name, value) in [
        ("b3", "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1"),
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
        ("uber-trace-id", "48485a3953bb6124:a2fb4a1d1a96d312:0:1"),
        ("x-datadog-trace-id", "5208512171318403364"),
        ("x-cloud-trace-context", "105445aa7843bc8bf206b12000100000/1;o=1"),
        ("x-amzn-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"),
        ("grpc-trace-bin", "AABkZWZnaGlqa2xtbm9wcXJzAWFiY2RlZmdoAgE"),
        ("sw8", "1-VFJBQ0U0Mg==-U0VH-3-c2hvcA==-aTE=-L2FwaQ==-ODA="),
        ("x-request-id", "c6b2e1e2-3f0a-4c58-9d8f-000000000042"),
        ("baggage", "order=42"),
    ] {
        let analyzer = analyzer().await;
        let names: &'static [&'static str] = Box::leak(Box::new([name]));
        let (proxy, stock_proxy, _) = pair(names, &analyzer).await;
        client(proxy.inbound().unwrap()).await.ask(get("/checkout", &[(name, value)])).await;
        stop(proxy).await;
        stop(stock_proxy).await;
        assert_eq!(links(&analyzer.reports(), "shop").get(Evidence::Exact), 1, "{name}");
    }
}

#[tokio::test]
async fn an_application_that_reads_b3_or_traceparent_sees_one_trace() {
    let shop = answers(200, "").await;
    let proxy = config("shop").app(&shop).start();
    let b3 = "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1";
    let mut client = client(proxy.inbound().unwrap()).await;
    client.ask(get("/", &[("b3", b3)])).await;
    client
        .ask(get(
            "/",
            &[("x-b3-traceid", "48485a3953bb6124"), ("x-b3-spanid", "a2fb4a1d1a96d312"), ("x-b3-sampled", "0")],
        ))
        .await;
    let seen = shop.seen();
    let traceparent = |n: usize| seen[n].headers()["traceparent"].to_str().unwrap();
    assert_eq!(traceparent(0), "00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01");
    assert_eq!(traceparent(1), "00-000000000000000048485a3953bb6124-a2fb4a1d1a96d312-00");
}

#[tokio::test]
async fn what_the_caller_says_of_its_evidence_is_kept_on_the_path() {
    let analyzer = analyzer().await;
    let stock = answers(200, "").await;
    let proxy = config("stock").app(&stock).reports_to(&analyzer).start();
    let mut client = client(proxy.inbound().unwrap()).await;
    for (evidence, times) in [("e", 3), ("i", 2)] {
        let context = format!("1;00000000000000aa;00000000000000aa;0;00000000000000aa;{evidence};shop");
        for _ in 0..times {
            client.ask(get("/", &[("couplet-context", &context)])).await;
        }
    }
    stop(proxy).await;
    let reports = analyzer.reports();
    let mut links = Links::default();
    let paths: Vec<_> = reports.iter().flat_map(|report| &report.paths).collect();
    paths.iter().for_each(|path| links.merge(&path.stats.links));
    assert_eq!([Evidence::Exact, Evidence::Inferred].map(|evidence| links.get(evidence)), [3, 2]);
    assert!(paths.iter().any(|path| path.path.evidence == Evidence::Inferred), "the weakest counts");
}
