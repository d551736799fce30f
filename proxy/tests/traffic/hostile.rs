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
    let counted = metric(&proxy, "couplet_summaries_untrusted_total").await;
    assert_eq!(counted, (traceparents.len() * tracestates.len()) as u64, "nobody sends one with a request");
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

/// What is forged: a header, how, with what value, and what counts it.
type Forgery = (&'static str, &'static str, String, &'static str);

/// Each of the headers by which proxies and traces speak: spoofed, cut short, and too long.
fn forgeries() -> Vec<Forgery> {
    let context = "1;00000000000000aa;00000000000000bb;3;00000000000000cc;e;admin";
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let summary = "1;7;900;5000;";
    vec![
        ("couplet-context", "spoofed", context.to_owned(), "couplet_contexts_untrusted_total"),
        ("couplet-context", "truncated", context[..30].to_owned(), "couplet_contexts_untrusted_total"),
        ("couplet-context", "oversize", format!("{context};{}", "x".repeat(9_000)), "couplet_contexts_untrusted_total"),
        ("couplet-summary", "spoofed", summary.to_owned(), "couplet_summaries_untrusted_total"),
        ("couplet-summary", "truncated", summary[..5].to_owned(), "couplet_summaries_untrusted_total"),
        ("couplet-summary", "oversize", format!("{summary}{}", "x".repeat(9_000)), "couplet_summaries_untrusted_total"),
        ("traceparent", "truncated", traceparent[..40].to_owned(), "couplet_traceparents_malformed_total"),
        ("traceparent", "oversize", traceparent.repeat(100), "couplet_traceparents_malformed_total"),
        ("tracestate", "truncated", "couplet".to_owned(), "couplet_tracestates_malformed_total"),
        ("tracestate", "oversize", format!("a={}", "x".repeat(9_000)), "couplet_tracestates_malformed_total"),
        // What is well formed in a trace header is a trace: it is what it does to others that must not happen, see below.
        ("traceparent", "spoofed", traceparent.to_owned(), ""),
        ("tracestate", "spoofed", "couplet=00000000000000aa".to_owned(), ""),
    ]
}

/// The same strangers' request in every forged form: the graph is that of honest requests, to the last count, and the
/// one counter says so.
#[tokio::test]
async fn each_header_spoofed_truncated_or_oversize_leaves_the_graph_as_it_is_and_is_counted_once() {
    let honest = forged(None).await;
    assert_eq!(honest.1, 2 * TIMES, "two services handled each request");
    for forgery in forgeries() {
        let (header, how, ..) = &forgery;
        let name = format!("{header}, {how}");
        assert_eq!(forged(Some(forgery)).await, honest, "{name}");
    }
}

const TIMES: u64 = 3;

/// The graph of shop and stock where strangers send this; asserts that each time is counted, and that applications are not
/// told.
async fn forged(forgery: Option<Forgery>) -> (Vec<(String, String, bool, Evidence)>, u64, u64) {
    let analyzer = analyzer().await;
    let in_answer = forgery.clone().filter(|(header, ..)| *header == "couplet-summary");
    let stock = service(move |_| {
        let mut response = answer(200, "fine");
        if let Some((header, _, value, _)) = &in_answer {
            response.headers_mut().insert(*header, value.parse().unwrap());
        }
        async move { response }
    })
    .await;
    let to_stock = Later::default();
    let address = to_stock.clone();
    let shop = service(move |request: Request<Bytes>| {
        let address = address.get();
        async move {
            let stock = pass_on(&request, address, "/stock").await;
            assert_eq!(stock.text, "fine");
            assert!(!stock.headers.contains_key("couplet-summary"));
            answer(200, "fine")
        }
    })
    .await;
    let stock_proxy = config("stock").app(&stock).reports_to(&analyzer).start();
    // The one who forges a summary is not behind a sidecar.
    let stock_at = match &forgery {
        Some(("couplet-summary", ..)) => stock.address,
        _ => stock_proxy.inbound().unwrap(),
    };
    let mut inner = config("shop").app(&shop).to("stock", stock_at).reports_to(&analyzer);
    inner.admin = Some(free());
    inner.trust.networks = vec!["10.0.0.0/8".parse().unwrap()];
    let proxy = inner.start();
    to_stock.is(proxy.outbound().remove(0).1);
    let mut stranger = client(proxy.inbound().unwrap()).await;
    for _ in 0..TIMES {
        let headers = forgery.as_ref().map(|(header, _, value, _)| (*header, value.as_str()));
        let traced = ("traceparent", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let state = forgery.as_ref().is_some_and(|(header, ..)| *header == "tracestate");
        let headers: Vec<_> = headers.into_iter().chain(state.then_some(traced)).collect();
        let answer = stranger.ask(get("/", &headers)).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "fine"));
        assert!(!answer.headers.contains_key("couplet-summary"));
    }
    if let Some((header, .., counter)) = forgery.as_ref().filter(|(.., counter)| !counter.is_empty()) {
        // A summary came with the request and with the answer.
        let told = if *header == "couplet-summary" { 2 * TIMES } else { TIMES };
        assert_eq!(metric(&proxy, counter).await, told, "{counter}");
    }
    stop(proxy).await;
    stop(stock_proxy).await;
    for head in shop.seen() {
        assert!(!head.headers().contains_key("couplet-context") && !head.headers().contains_key("couplet-summary"));
        assert_eq!(head.headers()["tracestate"].to_str().unwrap().matches("couplet=").count(), 1);
    }
    let reports = analyzer.reports();
    let (mut paths, mut handlings) = graph(&reports);
    if stock_at == stock.address {
        // Nobody counted them there; they are what they are with a sidecar.
        paths.push(("stock".to_owned(), "GET /stock".to_owned(), false, Evidence::Exact));
        handlings += TIMES;
    }
    let links = reports.iter().flat_map(|report| &report.calls).map(|call| call.stats.links.get(Evidence::Exact)).sum();
    (paths, handlings, links)
}

/// A stranger names the trace, and the handler, of somebody else's request while that is served: with what applications
/// usually pass on, neither gets the other's calls; with the trace alone nobody can tell, and nothing is claimed.
#[tokio::test]
async fn a_stranger_who_names_the_trace_of_another_request_gets_none_of_its_calls() {
    for passes_state_on in [true, false] {
        let analyzer = analyzer().await;
        let (stock, gate) = gated().await;
        let to_stock = Later::default();
        let address = to_stock.clone();
        let shop = service(move |request: Request<Bytes>| {
            let address = address.get();
            async move {
                let name = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                let mut headers = vec![("traceparent", name("traceparent").unwrap())];
                headers.extend(name("tracestate").filter(|_| passes_state_on).map(|state| ("tracestate", state)));
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let target = request.uri().path().to_owned();
                client(address).await.ask(get(&target, &headers)).await;
                answer(200, "fine")
            }
        })
        .await;
        let mut config = config("shop").app(&shop).to("stock", stock.address).reports_to(&analyzer);
        config.admin = Some(free());
        config.telemetry.timing = false;
        let proxy = config.start();
        to_stock.is(proxy.outbound().remove(0).1);
        let inbound = proxy.inbound().unwrap();
        let ask = |path: &'static str, state: String| async move {
            let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            client(inbound).await.ask(get(path, &[("traceparent", trace), ("tracestate", &state)])).await
        };
        let victim = tokio::spawn(ask("/victim", String::new()));
        // Its call is under way before the stranger comes, who names its handler as well.
        while stock.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        let state = shop.seen()[0].headers()["tracestate"].to_str().unwrap().to_owned();
        let stranger = tokio::spawn(ask("/stranger", state));
        while stock.seen().len() < 2 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert_eq!((victim.await.unwrap().text.as_str(), stranger.await.unwrap().text.as_str()), ("fine", "fine"));
        let ambiguous = metric(&proxy, "couplet_links_ambiguous_total").await;
        assert_eq!(ambiguous, u64::from(!passes_state_on));
        stop(proxy).await;
        let reports = analyzer.reports();
        let calls: Vec<_> = reports.iter().flat_map(|report| &report.calls).collect();
        for call in calls {
            let path = reports.iter().flat_map(|report| &report.paths).find(|path| path.path.id == call.path);
            let endpoint = path.map_or("(unlinked)", |path| path.path.endpoint.as_str());
            let callee = call.callee.endpoint();
            let own = endpoint == callee && call.stats.links.get(Evidence::Exact) > 0;
            let unclaimed =
                call.stats.links.get(Evidence::Unknown) > 0 && !passes_state_on && callee == "GET /stranger";
            assert!(own || unclaimed, "a call for {callee} is counted in {endpoint}: {:?}", call.stats.links);
        }
    }
}
