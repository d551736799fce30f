//! What an outsider writes into the headers by which proxies and traces speak changes no graph, breaks no request, and is
//! counted.

use bytes::Bytes;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::report::{PathKind, Report};
use http::Request;

use crate::harness::*;

/// Contexts that somebody made up, and parts of real ones.
fn contexts() -> Vec<String> {
    let good = "1;00000000000000aa;00000000000000bb;3;00000000000000cc;e;admin";
    let mut all: Vec<String> = (0..good.len()).step_by(7).map(|end| good[..end].to_owned()).collect();
    all.extend([
        good.to_owned(),
        good.repeat(200),
        good.replace(";3;", ";4294967295;"),
        good.replace("admin", &"a".repeat(4_000)),
        good.replace("admin", "../../etc"),
        good.replace(";e;", ";E;"),
        good.replace("aa;", "gg;"),
        "0".repeat(8_000),
    ]);
    all
}

fn traceparents() -> Vec<String> {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    vec![
        good.to_owned(),
        good[..30].to_owned(),
        good.replace("00-0af", "ff-0af"),
        good.to_uppercase(),
        good.repeat(100),
        "00-00000000000000000000000000000000-0000000000000000-00".to_owned(),
        "-".repeat(5_000),
    ]
}

fn tracestates() -> Vec<String> {
    vec![
        "couplet=00000000000000ff".to_owned(),
        "couplet=".to_owned(),
        "couplet=ffffffffffffffffffffffff".to_owned(),
        vec!["couplet=0000000000000001"; 300].join(","),
        ",".repeat(6_000),
        format!("vendor={}", "x".repeat(6_000)),
        "vendor".to_owned(),
    ]
}

/// The paths of all reports as (service, endpoint, parent known, evidence), and how many handlings there were.
fn graph(reports: &[Report]) -> (Vec<(String, String, bool, Evidence)>, u64) {
    let paths = || reports.iter().flat_map(|report| report.paths.iter().map(move |path| (report, path)));
    let mut known: Vec<_> = paths()
        .filter(|(_, path)| path.path.kind == PathKind::Handler)
        .map(|(report, path)| {
            let definition = &path.path;
            (
                report.origin.service.clone(),
                definition.endpoint.clone(),
                definition.parent.is_some(),
                definition.evidence,
            )
        })
        .collect();
    known.sort_unstable();
    known.dedup();
    (known, paths().map(|(_, path)| path.stats.outcomes.total()).sum())
}

/// shop calls stock with the trace headers that it got; a stranger calls shop with whatever it likes. Nobody trusts the
/// network that the stranger is in, so shop and stock know one another by what they observe.
#[tokio::test]
async fn what_a_stranger_writes_changes_no_graph_and_is_counted() {
    let analyzer = analyzer().await;
    let stock = answers(200, "fine").await;
    let stock_proxy = config("stock").app(&stock).reports_to(&analyzer).start();
    let to_stock = Later::default();
    let address = to_stock.clone();
    let shop = service(move |request: Request<Bytes>| {
        let address = address.get();
        async move {
            let stock = pass_on(&request, address, "/stock").await;
            assert_eq!(stock.text, "fine");
            answer(200, "fine")
        }
    })
    .await;
    // The strangers' side is not trusted; the way to stock is.
    let mut inner = config("shop").app(&shop).to("stock", stock_proxy.inbound().unwrap()).reports_to(&analyzer);
    inner.admin = Some(free());
    inner.trust.networks = vec!["10.0.0.0/8".parse().unwrap()];
    let proxy = inner.start();
    to_stock.is(proxy.outbound()[0].1);

    let mut stranger = client(proxy.inbound().unwrap()).await;
    let mut sent = 0;
    let (contexts, traceparents, tracestates) = (contexts(), traceparents(), tracestates());
    for context in &contexts {
        let answer = stranger.ask(get("/", &[("couplet-context", context)])).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "fine"), "{context}");
        assert!(!answer.headers.contains_key("couplet-summary"), "nothing is told to a stranger");
        sent += 1;
    }
    for traceparent in &traceparents {
        for tracestate in &tracestates {
            let headers = [
                ("traceparent", traceparent.as_str()),
                ("tracestate", tracestate),
                ("couplet-summary", "1;9;9;9;AAAA"),
            ];
            let answer = stranger.ask(get("/", &headers)).await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "fine"), "{traceparent} {tracestate}");
            sent += 1;
        }
    }
    assert_eq!(metric(&proxy, "couplet_contexts_untrusted_total").await, contexts.len() as u64);
    // All but the good one, and those of the others that are longer than may be or have a member without a value.
    let (bad_parents, bad_states) = (traceparents.len() - 1, 4);
    let counted = metric(&proxy, "couplet_traceparents_malformed_total").await;
    assert_eq!(counted, (bad_parents * tracestates.len()) as u64);
    let counted = metric(&proxy, "couplet_tracestates_malformed_total").await;
    assert_eq!(counted, (bad_states * traceparents.len()) as u64);
    stop(proxy).await;
    stop(stock_proxy).await;

    let (paths, handlings) = graph(&analyzer.reports());
    assert_eq!(handlings, 2 * sent);
    let own = |service: &str, endpoint: &str| (service.to_owned(), endpoint.to_owned(), false, Evidence::Exact);
    assert_eq!(paths, [own("shop", "GET /"), own("stock", "GET /stock")], "two roots: no chain was made up");
    let heads = shop.seen();
    let all = |name: &str| heads.iter().filter(|head| head.headers().contains_key(name)).count();
    assert_eq!((all("couplet-context"), all("couplet-summary"), all("traceparent")), (0, 0, heads.len()));
    let states = heads.iter().map(|head| head.headers()["tracestate"].to_str().unwrap());
    assert!(states.clone().all(|state| state.len() <= 512 && state.matches("couplet=").count() == 1));
}

/// A service without a sidecar that answers with summaries, as far as it can make them up.
#[tokio::test]
async fn a_summary_that_is_made_up_changes_no_figure_unless_it_was_asked_for_and_none_that_cannot_be_read() {
    let good = format!("1;200;4000000;99;{}", "AAAB".repeat(16));
    let mut summaries: Vec<String> = (0..good.len()).step_by(9).map(|end| good[..end].to_owned()).collect();
    summaries.extend([
        "1;256;0;0;".to_owned(),
        good.repeat(50),
        "1;-1;0;0;".to_owned(),
        "1;0;0;0;;;x;y".to_owned(),
        "9".repeat(7_000),
    ]);
    for trusted in [true, false] {
        let analyzer = analyzer().await;
        let told = summaries.clone();
        let stock = service(move |request: Request<Bytes>| {
            let n: usize = request.uri().path().trim_start_matches("/n").parse().unwrap();
            let mut response = answer(200, "fine");
            response.headers_mut().insert("couplet-summary", told[n % told.len()].parse().unwrap());
            async move { response }
        })
        .await;
        let to_stock = Later::default();
        let address = to_stock.clone();
        let shop = service(move |request: Request<Bytes>| {
            let address = address.get();
            async move {
                let target = request.uri().path().to_owned();
                assert_eq!(pass_on(&request, address, &target).await.text, "fine");
                answer(200, "fine")
            }
        })
        .await;
        let mut config = config("shop").app(&shop).to("stock", stock.address).reports_to(&analyzer);
        config.admin = Some(free());
        if !trusted {
            config.trust.networks = vec!["10.0.0.0/8".parse().unwrap()];
        }
        let proxy = config.start();
        to_stock.is(proxy.outbound()[0].1);
        let mut client = client(proxy.inbound().unwrap()).await;
        for n in 0..summaries.len() {
            let answer = client.get(&format!("/n{n}")).await;
            assert_eq!(answer.text, "fine");
            assert!(!answer.headers.contains_key("couplet-summary"));
        }
        let counted = metric(&proxy, "couplet_summaries_malformed_total").await
            + metric(&proxy, "couplet_summaries_untrusted_total").await;
        stop(proxy).await;
        assert!(counted > 0, "{counted} of {}", summaries.len());
        let reports = analyzer.reports();
        let stats = || reports.iter().flat_map(|report| &report.paths).map(|path| &path.stats);
        assert_eq!(stats().map(|stats| stats.depth_below.max()).max(), Some(1), "only the call itself is seen");
        assert_eq!(stats().map(|stats| stats.calls_below.max()).max(), Some(1));
    }
}
