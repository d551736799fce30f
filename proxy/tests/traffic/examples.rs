//! Traces of a few requests of every path: told to the analyzer, the same by every proxy on the way, and what is no trace
//! never.

use couplet_telemetry::example::{Example, Examples, Kind};

use crate::harness::*;

const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

/// The examples of all paths of a service.
fn examples(analyzer: &Analyzer, service: &str) -> Examples {
    let mut examples = Examples::default();
    let reports = analyzer.reports();
    let own = reports.iter().filter(|report| report.origin.service == service);
    own.flat_map(|report| &report.paths).for_each(|path| examples.merge(&path.stats.examples));
    examples
}

fn traceparent(trace: u128, flags: &str) -> String {
    format!("00-{trace:032x}-b7ad6b7169203331-{flags}")
}

#[tokio::test]
async fn a_request_that_failed_is_told_by_its_trace_wherever_it_passed() {
    let analyzer = analyzer().await;
    let stock = service(|request: http::Request<bytes::Bytes>| async move {
        answer(if request.uri().path() == "/broken" { 500 } else { 200 }, "")
    })
    .await;
    let stock_proxy = config("stock").app(&stock).reports_to(&analyzer).start();
    let to_stock = Later::default();
    let next = to_stock.clone();
    let shop = service(move |request: http::Request<bytes::Bytes>| {
        let next = next.get();
        async move {
            let target = request.uri().path().to_owned();
            answer(pass_on(&request, next, &target).await.status.as_u16(), "")
        }
    })
    .await;
    let shop_proxy =
        config("shop").app(&shop).to("stock", stock_proxy.inbound().unwrap()).reports_to(&analyzer).start();
    to_stock.is(shop_proxy.outbound().remove(0).1);
    let mut client = client(shop_proxy.inbound().unwrap()).await;
    for (n, path) in (0..).zip(["/", "/broken", "/"]) {
        client.ask(get(path, &[("traceparent", &traceparent(TRACE + n, "01"))])).await;
    }
    stop(shop_proxy).await;
    stop(stock_proxy).await;
    for service in ["shop", "stock"] {
        let examples = examples(&analyzer, service);
        let failed = examples.get(Kind::Failed).unwrap();
        assert_eq!((failed.trace.id, failed.trace.sampled), (TRACE + 1, true), "{service}");
        assert!(failed.trace.at > 1_600_000_000_000_000_000, "dated by its window: {}", failed.trace.at);
        let slowest = examples.get(Kind::Slowest).unwrap();
        assert!((TRACE..TRACE + 3).contains(&slowest.trace.id), "{service}");
    }
}

#[tokio::test]
async fn what_is_no_trace_is_never_told_and_one_that_nobody_records_says_so() {
    let analyzer = analyzer().await;
    let app = answers(200, "").await;
    let proxy = config("shop").app(&app).reports_to(&analyzer).start();
    let mut client = client(proxy.inbound().unwrap()).await;
    let nonsense = "00-hunter2hunter2hunter2hunter2hunt-b7ad6b7169203331-01";
    client.ask(get("/odd", &[("traceparent", nonsense)])).await;
    client.ask(get("/plain", &[("traceparent", &traceparent(TRACE, "00"))])).await;
    stop(proxy).await;
    let reports = analyzer.reports();
    let told = |endpoint: &str| -> Vec<Example> {
        let paths = reports.iter().flat_map(|report| &report.paths).filter(|path| path.path.endpoint == endpoint);
        paths.flat_map(|path| path.stats.examples.distinct()).collect()
    };
    let [odd] = told("GET /odd")[..] else { panic!("{:?}", told("GET /odd")) };
    assert_ne!(odd.trace.id, TRACE, "the application was given another one");
    let [plain] = told("GET /plain")[..] else { panic!("{:?}", told("GET /plain")) };
    assert_eq!((plain.trace.id, plain.trace.sampled), (TRACE, false));
}
