//! A service that forwards no header at all: its chains come out as they would with headers, and say that timing found
//! them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use couplet_proxy::Running;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::Report;
use http::Request;
use tokio::task::JoinSet;

use crate::harness::*;

/// A shop whose `GET /a` asks stock, `GET /b` prices, and both then tell audit. It passes nothing on.
struct Shop {
    analyzer: Analyzer,
    proxies: Vec<Running>,
    _services: Vec<Service>,
}

/// Takes a few milliseconds, as services do.
async fn work() {
    tokio::time::sleep(Duration::from_micros(fastrand::u64(1_000..4_000))).await;
}

impl Shop {
    async fn open(forwards: bool) -> Self {
        let analyzer = analyzer().await;
        let (mut proxies, mut services, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["stock", "prices", "audit"] {
            let service = service(|_| async {
                work().await;
                answer(200, "")
            })
            .await;
            let proxy = config(name).app(&service).reports_to(&analyzer).start();
            targets.push((name, proxy.inbound().unwrap()));
            proxies.push(proxy);
            services.push(service);
        }
        let to: [Later; 3] = Default::default();
        let addresses = to.clone();
        let shop = service(move |mut request: Request<Bytes>| {
            let to = addresses.each_ref().map(Later::get);
            async move {
                if !forwards {
                    request.headers_mut().clear();
                }
                let (first, path) = if request.uri().path() == "/a" { (to[0], "/x") } else { (to[1], "/y") };
                work().await;
                pass_on(&request, first, path).await;
                work().await;
                pass_on(&request, to[2], "/log").await;
                work().await;
                answer(200, "")
            }
        })
        .await;
        let mut shop_config = config("shop").app(&shop).reports_to(&analyzer);
        for (name, address) in targets {
            shop_config = shop_config.to(name, address);
        }
        let shop_proxy = shop_config.start();
        to.iter().zip(shop_proxy.outbound()).for_each(|(to, (_, address))| to.is(address));
        proxies.insert(0, shop_proxy);
        services.push(shop);
        Self { analyzer, proxies, _services: services }
    }

    /// So many requests side by side, again and again: of both kinds in turn where they come one by one.
    async fn serve(&self, side_by_side: usize, rounds: usize) {
        let address = self.proxies.first().and_then(Running::inbound).unwrap();
        let mut clients = JoinSet::new();
        for _ in 0..side_by_side {
            clients.spawn(async move {
                let mut client = client(address).await;
                for round in 0..rounds {
                    let path = if side_by_side > 1 || round.is_multiple_of(2) { "/a" } else { "/b" };
                    assert_eq!(client.get(path).await.status, 200);
                }
            });
        }
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
    }

    /// Serves requests until timing links calls.
    async fn learn(&self, side_by_side: usize) {
        for _ in 0..40 {
            self.serve(side_by_side, 100 / side_by_side).await;
            if links(&self.analyzer.reports()).contains_key(&Evidence::Inferred) {
                return;
            }
        }
        panic!("nothing was learned from 4000 requests: {:?}", links(&self.analyzer.reports()));
    }

    async fn close(self) -> Vec<Report> {
        for proxy in self.proxies {
            stop(proxy).await;
        }
        self.analyzer.reports()
    }
}

/// Calls of the shop by how they were linked.
fn links(reports: &[Report]) -> BTreeMap<Evidence, u64> {
    let mut sums = BTreeMap::new();
    for call in reports.iter().filter(|report| report.origin.service == "shop").flat_map(|report| &report.calls) {
        for evidence in Evidence::ALL.into_iter().filter(|evidence| call.stats.links.get(*evidence) > 0) {
            *sums.entry(evidence).or_default() += call.stats.links.get(evidence);
        }
    }
    sums
}

/// Handlings by path.
fn handlings(reports: &[Report]) -> BTreeMap<PathId, u64> {
    let mut sums = BTreeMap::new();
    for path in reports.iter().flat_map(|report| &report.paths) {
        *sums.entry(path.path.id).or_default() += path.stats.outcomes.total();
    }
    sums.retain(|_, count| *count > 0);
    sums
}

/// What `after` has more of than `before`.
fn since(before: &BTreeMap<PathId, u64>, after: &BTreeMap<PathId, u64>) -> BTreeMap<PathId, u64> {
    let more = after.iter().map(|(path, count)| (*path, count - before.get(path).copied().unwrap_or(0)));
    more.filter(|(_, count)| *count > 0).collect()
}

/// The chains that headers prove.
async fn proved(side_by_side: usize) -> Vec<PathId> {
    let shop = Shop::open(true).await;
    shop.serve(side_by_side, 10).await;
    let reports = shop.close().await;
    assert_eq!(links(&reports).keys().collect::<Vec<_>>(), [&Evidence::Exact]);
    handlings(&reports).into_keys().collect()
}

async fn same_chains_at(side_by_side: usize) {
    let proved = proved(side_by_side).await;
    assert_eq!(proved.len(), if side_by_side > 1 { 3 } else { 6 }, "a root or two, and two calls below each");
    let shop = Shop::open(false).await;
    shop.learn(side_by_side).await;
    // What is measured begins with nothing under way, and is reported by the time all proxies are down.
    shop.serve(1, 1).await;
    let rounds = 1_200 / side_by_side;
    let analyzer_before = shop.analyzer.reports();
    let before = handlings(&analyzer_before);
    shop.serve(side_by_side, rounds).await;
    let reports = shop.close().await;
    let more = since(&before, &handlings(&reports));
    let total: u64 = more.values().sum();
    let on_proved: u64 = proved.iter().filter_map(|path| more.get(path)).sum();
    assert!(total >= (side_by_side * rounds * 3) as u64, "{total}");
    assert!(on_proved as f64 >= 0.95 * total as f64, "{side_by_side}: {on_proved} of {total} on {proved:?}: {more:?}");
    let evidence = reports.iter().flat_map(|report| &report.paths).filter(|path| path.path.parent.is_some());
    assert!(evidence.clone().all(|path| path.path.evidence != Evidence::Exact), "nothing is proved");
    let expected: Vec<_> = reports.iter().flat_map(|report| &report.expected).collect();
    let calls = |endpoint: &str, callee: &str| {
        let of = expected.iter().filter(|e| e.endpoint == endpoint && e.callee.service() == callee);
        let (calls, handlings) = of.fold((0.0, 0), |sum, e| (sum.0 + e.stats.calls(), sum.1 + e.stats.handlings));
        calls / (handlings as f64).max(1.0)
    };
    let endpoints: &[(&str, &str, &str)] = match side_by_side {
        1 => &[("GET /a", "stock", "prices"), ("GET /b", "prices", "stock")],
        _ => &[("GET /a", "stock", "prices")],
    };
    for (endpoint, callee, other) in endpoints {
        for (callee, wanted) in [(*callee, 1.0), ("audit", 1.0), (*other, 0.0)] {
            let found = calls(endpoint, callee);
            assert!((found - wanted).abs() < 0.1, "{endpoint} calls {callee} {found} times: {expected:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_of_a_service_that_forwards_nothing_are_those_of_headers_one_at_a_time() {
    same_chains_at(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_of_a_service_that_forwards_nothing_are_those_of_headers_fifteen_at_a_time() {
    same_chains_at(15).await;
}

#[tokio::test]
async fn switched_off_timing_claims_nothing() {
    let analyzer = analyzer().await;
    let leaf = answers(200, "").await;
    let to = Later::default();
    let address = to.clone();
    let app = service(move |_| {
        let address: SocketAddr = address.get();
        async move {
            client(address).await.get("/x").await;
            answer(200, "")
        }
    })
    .await;
    let mut config = config("shop").app(&app).to("leaf", leaf.address).reports_to(&analyzer);
    config.telemetry.timing = false;
    let proxy = config.start();
    to.is(proxy.outbound()[0].1);
    let mut client = client(proxy.inbound().unwrap()).await;
    for _ in 0..700 {
        client.get("/a").await;
    }
    stop(proxy).await;
    let reports = analyzer.reports();
    assert_eq!(links(&reports), BTreeMap::from([(Evidence::Unknown, 700)]));
    assert!(reports.iter().all(|report| report.expected.is_empty()));
}
