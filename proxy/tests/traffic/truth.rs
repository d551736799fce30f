//! Depth, calls and distinct services of every root, against the truth of the load generator: trees of calls over services
//! with two replicas each, every replica with a real proxy.
//!
//! In short as it stands: 3 000 requests. `COUPLET_HEAVY=1` makes it 100 000.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use couplet_config::{Destinations, Outbound, ProxyConfig};
use couplet_proxy::Running;
use couplet_telemetry::counts::Counts;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::report::HandlingStats;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::harness::*;

const SERVICES: usize = 7;
const REPLICAS: usize = 2;
const AT_ONCE: usize = 12;

/// What one request makes a service do: calls, one after the other or all at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    service: usize,
    together: bool,
    calls: Vec<Plan>,
}

/// What a root must say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Truth {
    depth: u32,
    calls: u32,
    services: u32,
}

impl Plan {
    /// A tree of some calls, deep ones among them.
    fn grow(random: &mut fastrand::Rng, service: usize, left: &mut u32, level: u32) -> Self {
        let mut calls = Vec::new();
        let most = random.u32(0..=3);
        while *left > 0 && level < 8 && calls.len() < most as usize {
            *left -= 1;
            let callee = random.usize(..SERVICES);
            calls.push(Self::grow(random, callee, left, level + 1));
        }
        Self { service, together: random.bool(), calls }
    }

    fn truth(&self) -> Truth {
        let mut services = BTreeSet::new();
        self.services(&mut services);
        services.remove(&self.service);
        Truth { depth: self.depth(), calls: self.count(), services: services.len() as u32 }
    }

    fn depth(&self) -> u32 {
        let hop = |call: &Plan| call.depth() + u32::from(call.service != self.service);
        self.calls.iter().map(hop).max().unwrap_or(0)
    }

    fn count(&self) -> u32 {
        self.calls.iter().map(|call| 1 + call.count()).sum()
    }

    fn services(&self, into: &mut BTreeSet<usize>) {
        into.insert(self.service);
        self.calls.iter().for_each(|call| call.services(into));
    }

    /// As a header: `2(3,-4(1))`.
    fn write(&self, out: &mut String) {
        out.push_str(if self.together { "-" } else { "" });
        out.push_str(&self.service.to_string());
        out.push('(');
        for call in &self.calls {
            call.write(out);
        }
        out.push(')');
    }

    fn read(text: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Self {
        let together = text.next_if_eq(&'-').is_some();
        let service = text.next().and_then(|digit| digit.to_digit(10)).unwrap() as usize;
        assert_eq!(text.next(), Some('('));
        let mut calls = Vec::new();
        while text.next_if_eq(&')').is_none() {
            calls.push(Self::read(text));
        }
        Self { service, together, calls }
    }
}

impl Truth {
    /// Letters, so that no part of it is taken for an id: every truth has an endpoint of its own.
    fn endpoint(self) -> String {
        let letters = |n: u32| n.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect::<String>();
        format!("/depth-{}/calls-{}/services-{}", letters(self.depth), letters(self.calls), letters(self.services))
    }
}

/// Connections that are kept, by where they lead.
#[derive(Default)]
struct Pool(Mutex<BTreeMap<SocketAddr, Vec<Client>>>);

impl Pool {
    async fn ask(&self, address: SocketAddr, request: Request<http_body_util::Full<Bytes>>) -> Answer {
        let kept = self.0.lock().entry(address).or_default().pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => client(address).await,
        };
        let answer = connection.ask(request).await;
        self.0.lock().entry(address).or_default().push(connection);
        answer
    }
}

/// One replica of a service, and where its sidecar takes calls for each service.
struct Replica {
    pool: Pool,
    ways: OnceLock<Vec<SocketAddr>>,
}

impl Replica {
    async fn handle(self: Arc<Self>, headers: HeaderMap) {
        let plan = headers.get("x-plan").unwrap().to_str().unwrap().to_owned();
        let plan = Plan::read(&mut plan.chars().peekable());
        let calls = plan.calls.iter().map(|call| Arc::clone(&self).call(call.clone(), headers.clone()));
        if plan.together {
            all(calls).await;
        } else {
            for call in calls {
                call.await;
            }
        }
    }

    async fn call(self: Arc<Self>, call: Plan, headers: HeaderMap) {
        let mut plan = String::new();
        call.write(&mut plan);
        let text = |name: &str| headers.get(name).unwrap().to_str().unwrap();
        let request = get(
            "/plan",
            &[("x-plan", &plan), ("traceparent", text("traceparent")), ("tracestate", text("tracestate"))],
        );
        let way = *self.ways.get().unwrap().get(call.service).unwrap();
        assert_eq!(self.pool.ask(way, request).await.status.as_u16(), 200);
    }
}

/// Runs all of them at the same time.
async fn all<F: Future<Output = ()> + Send + 'static>(futures: impl Iterator<Item = F>) {
    let mut set = tokio::task::JoinSet::new();
    futures.for_each(|future| drop(set.spawn(future)));
    set.join_all().await;
}

/// An application beside which nothing is remembered.
async fn application() -> (SocketAddr, Arc<Replica>) {
    let replica = Arc::new(Replica { pool: Pool::default(), ways: OnceLock::new() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Arc::clone(&replica);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let serving = Arc::clone(&serving);
            let service = service_fn(move |request: Request<Incoming>| {
                let serving = Arc::clone(&serving);
                async move {
                    serving.handle(request.headers().clone()).await;
                    Ok::<_, Infallible>(answer(200, "done"))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, replica)
}

fn sidecar(service: usize, app: SocketAddr, analyzer: &Analyzer) -> ProxyConfig {
    let mut config = config(&format!("service-{service}")).reports_to(analyzer);
    config.app = Some(app);
    config.endpoints.learn = false;
    config.telemetry.max_endpoints = 10_000;
    config.telemetry.max_paths = 100_000;
    config.telemetry.max_callees = 100_000;
    config.telemetry.window = std::time::Duration::from_secs(1);
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_know_depth_calls_and_services_of_every_request() {
    let requests = if std::env::var_os("COUPLET_HEAVY").is_some() { 100_000 } else { 3_000 };
    let analyzer = analyzer().await;
    let mut running: Vec<(usize, ProxyConfig, Running, Arc<Replica>)> = Vec::new();
    for service in 0..SERVICES {
        for _ in 0..REPLICAS {
            let (address, replica) = application().await;
            let config = sidecar(service, address, &analyzer);
            let proxy = config.clone().start();
            running.push((service, config, proxy, replica));
        }
    }
    // Everybody may call everybody, so nobody can be told before all have begun: a reload tells them.
    let inbound = |of: usize| {
        let replicas = running.iter().filter(move |(service, ..)| *service == of);
        replicas.map(|(.., proxy, _)| proxy.inbound().unwrap().to_string()).collect::<Vec<_>>().join(",")
    };
    let everybody: Vec<Destinations> =
        (0..SERVICES).map(|service| Destinations::parse(&inbound(service)).unwrap()).collect();
    for (_, config, proxy, replica) in &mut running {
        let named = everybody.iter().enumerate();
        let outbound = named.map(|(service, to)| Outbound::new(format!("service-{service}"), free(), to.clone()));
        config.outbound = outbound.collect();
        proxy.reload(Ok(config.clone())).unwrap();
        replica.ways.set(proxy.outbound().into_iter().map(|(_, address)| address).collect()).unwrap();
    }

    let entries: Vec<SocketAddr> =
        running.iter().filter(|(service, ..)| *service == 0).map(|(.., proxy, _)| proxy.inbound().unwrap()).collect();
    let mut generating = tokio::task::JoinSet::new();
    for worker in 0..AT_ONCE {
        let entry = entries[worker % entries.len()];
        generating.spawn(async move {
            let mut random = fastrand::Rng::with_seed(worker as u64);
            let mut truths: BTreeMap<Truth, u64> = BTreeMap::new();
            let mut client = client(entry).await;
            for _ in (worker..requests).step_by(AT_ONCE) {
                let mut left = random.u32(0..=10);
                let plan = Plan::grow(&mut random, 0, &mut left, 0);
                let mut text = String::new();
                plan.write(&mut text);
                let truth = plan.truth();
                *truths.entry(truth).or_default() += 1;
                let answer = client.ask(get(&truth.endpoint(), &[("x-plan", &text)])).await;
                assert_eq!(answer.status.as_u16(), 200);
            }
            truths
        });
    }
    let mut truths: BTreeMap<String, (Truth, u64)> = BTreeMap::new();
    for (truth, times) in generating.join_all().await.into_iter().flatten() {
        truths.entry(format!("GET {}", truth.endpoint())).or_insert((truth, 0)).1 += times;
    }
    for (.., proxy, _) in running {
        stop(proxy).await;
    }

    let mut roots: BTreeMap<String, HandlingStats> = BTreeMap::new();
    let reports = analyzer.reports();
    let lost: u64 = reports.iter().flat_map(|report| &report.losses).map(|(_, times)| times).sum();
    for path in reports.iter().flat_map(|report| &report.paths).filter(|path| path.path.parent.is_none()) {
        roots.entry(path.path.endpoint.clone()).or_default().merge(&path.stats);
    }
    let only = |counts: &Counts, value: u32, times: u64| counts.iter().eq([(value, times)]);
    let mut right = 0;
    for (endpoint, (truth, times)) in &truths {
        let stats = &roots[endpoint];
        assert_eq!(stats.outcomes.total(), *times, "{endpoint}");
        let figures = [
            (&stats.depth_below, truth.depth),
            (&stats.calls_below, truth.calls),
            (&stats.services_below, truth.services),
        ];
        for (counts, value) in figures {
            assert!(only(counts, value, *times), "{truth:?}: {:?}", counts.iter().collect::<Vec<_>>());
        }
        assert_eq!(stats.below.get(Evidence::Exact), *times, "{endpoint}");
        right += times;
    }
    assert_eq!((right, roots.len(), lost), (requests as u64, truths.len(), 0), "no root but those that were asked for");
    eprintln!("{right} of {requests} roots right: depth, calls, services; {} different trees", truths.len());
}
