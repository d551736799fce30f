//! One tiny service of the demo: a real HTTP server that works, fails and calls others as its scenario says.
//!
//! It knows nothing of Couplet: it calls the addresses that it was given and passes trace headers on, or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    http::Upstream,
    random::Random,
    scenario::{Call, Change, EndpointSpec, ServiceSpec, Step},
};

/// How a service is doing at the moment. Events change it.
#[derive(Debug, Clone)]
pub(crate) struct Mood {
    slowness: f64,
    failures: Option<f64>,
    awake: BTreeSet<String>,
}

impl Mood {
    /// As the scenario describes the service.
    pub(crate) fn usual() -> Self {
        Self { slowness: 1.0, failures: None, awake: BTreeSet::new() }
    }

    /// After `change`.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::SlowDown(factor) => self.slowness = *factor,
            Change::Fail(share) => self.failures = Some(*share),
            Change::StartCalling(callee) => {
                self.awake.insert(callee.clone());
            }
            Change::Recover => (self.slowness, self.failures) = (1.0, None),
        }
    }
}

/// What a service is made of.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    spec: ServiceSpec,
    upstreams: BTreeMap<String, Upstream>,
    mood: watch::Receiver<Mood>,
    random: Random,
}

impl Service {
    /// The service `name`, which calls each of its callees at the address in `upstreams`.
    pub(crate) fn new(
        name: &str,
        spec: ServiceSpec,
        upstreams: impl IntoIterator<Item = (String, SocketAddr)>,
        mood: watch::Receiver<Mood>,
        random: Random,
    ) -> Self {
        let upstreams = upstreams.into_iter().map(|(callee, address)| (callee, Upstream::new(address))).collect();
        Self { name: name.to_owned(), spec, upstreams, mood, random }
    }

    /// Serves whoever connects, until the task is aborted; its connections end with it.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let service = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(Arc::clone(&service).converse(stream));
                    }
                    // Out of file descriptors, for example: others may finish meanwhile.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn converse(self: Arc<Self>, stream: TcpStream) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let answer = service_fn(move |request| {
            let service = Arc::clone(&self);
            async move { Ok::<_, Infallible>(service.answer(request).await) }
        });
        // A connection that breaks is the other side's affair: it sees a failed call.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method(), request.uri().path());
        let mut endpoints = self.spec.endpoints.iter();
        let status = match endpoints.find(|(endpoint, _)| endpoint.matches(method, path)) {
            Some((_, endpoint)) => self.handle(endpoint, &self.forwarded(request.headers())).await,
            None => StatusCode::NOT_FOUND,
        };
        let mut response = Response::new(Full::from(format!("{}: {}\n", self.name, status.as_u16())));
        *response.status_mut() = status;
        response
    }

    async fn handle(&self, endpoint: &EndpointSpec, headers: &HeaderMap) -> StatusCode {
        let (slowness, failures) = {
            let mood = self.mood.borrow();
            (mood.slowness, mood.failures.unwrap_or(endpoint.failures))
        };
        tokio::time::sleep(endpoint.work.sample(&self.random).mul_f64(slowness)).await;
        if self.random.unit() < failures {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        for step in &endpoint.steps {
            let well = match step {
                Step::One(call) => self.call(call, headers).await,
                Step::Together(calls) => all(calls.iter().map(|call| self.call(call, headers))).await,
            };
            if !well {
                return StatusCode::BAD_GATEWAY;
            }
        }
        StatusCode::OK
    }

    /// Makes a call, as often as it says; whether the caller can go on.
    async fn call(&self, call: &Call, headers: &HeaderMap) -> bool {
        if call.dormant && !self.mood.borrow().awake.contains(&call.to.service) {
            return true;
        }
        if call.parallel {
            return all((0..call.times).map(|_| self.call_once(call, headers))).await || call.optional;
        }
        for _ in 0..call.times {
            if !self.call_once(call, headers).await && !call.optional {
                return false;
            }
        }
        true
    }

    /// One call with its retries; whether it succeeded in the end.
    async fn call_once(&self, call: &Call, headers: &HeaderMap) -> bool {
        let Some(upstream) = self.upstreams.get(&call.to.service) else { return false };
        let path = call.to.endpoint.path(&self.random);
        for _ in 0..=call.retries {
            let reply = upstream.send(call.to.endpoint.method(), &path, headers.clone(), PATIENCE).await;
            if reply.is_ok_and(|reply| reply.status < 500) {
                return true;
            }
        }
        false
    }

    /// The headers that go along with every call made for a request.
    fn forwarded(&self, received: &HeaderMap) -> HeaderMap {
        let names: &[&'static str] = if self.spec.forward_headers { &FORWARDED } else { &[] };
        let forward = |name: &&'static str| Some((HeaderName::from_static(name), received.get(*name)?.clone()));
        names.iter().filter_map(forward).collect()
    }
}

/// The trace context of the W3C.
const FORWARDED: [&str; 2] = ["traceparent", "tracestate"];

/// How long a service waits for another: longer than the slowest event makes anyone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether all of them succeed; waits for all of them.
async fn all(calls: impl Iterator<Item = impl Future<Output = bool>>) -> bool {
    join_all(calls).await.into_iter().all(|well| well)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::library;

    /// The services of a scenario, calling one another directly.
    struct Town {
        addresses: BTreeMap<String, SocketAddr>,
        moods: BTreeMap<String, watch::Sender<Mood>>,
        tasks: JoinSet<()>,
    }

    impl Town {
        async fn of(yaml: &str) -> Self {
            let scenario = library::parse("town.yaml", yaml).unwrap();
            let mut listeners = BTreeMap::new();
            for name in scenario.services.keys() {
                listeners.insert(name.clone(), TcpListener::bind("127.0.0.1:0").await.unwrap());
            }
            let addresses: BTreeMap<_, _> =
                listeners.iter().map(|(name, listener)| (name.clone(), listener.local_addr().unwrap())).collect();
            let (mut moods, mut tasks) = (BTreeMap::new(), JoinSet::new());
            for (name, listener) in listeners {
                let (mood, current) = watch::channel(Mood::usual());
                let spec = scenario.services[&name].clone();
                tasks.spawn(Service::new(&name, spec, addresses.clone(), current, Random::new(5)).serve(listener));
                moods.insert(name, mood);
            }
            Self { addresses, moods, tasks }
        }

        async fn get(&self, service: &str, path: &str) -> u16 {
            let upstream = Upstream::new(self.addresses[service]);
            upstream.send(&http::Method::GET, path, HeaderMap::new(), PATIENCE).await.unwrap().status
        }

        fn tell(&self, service: &str, change: &Change) {
            self.moods[service].send_modify(|mood| mood.apply(change));
        }
    }

    const TWO: &str = r"
name: two
about: a shop and its stock
services:
  shop:
    endpoints:
      GET /: {work: 1ms..1ms, steps: [{call: stock GET /}]}
      GET /maybe: {work: 1ms..1ms, steps: [{call: stock GET /, optional: true}]}
      GET /stubborn: {work: 1ms..1ms, steps: [{call: stock GET /, retries: 10}]}
      GET /later: {work: 1ms..1ms, steps: [{call: stock GET /, dormant: true}]}
      GET /many: {work: 1ms..1ms, steps: [{together: [{call: stock GET /, times: 3}, {call: stock GET /, times: 3, parallel: true}]}]}
  stock:
    endpoints:
      GET /: {work: 1ms..1ms}
load: [{entry: shop GET /, rate: 1}]
timeline: [{at: 1s, service: shop, change: {start_calling: stock}, say: now}]
";

    #[tokio::test]
    async fn a_request_succeeds_when_all_its_calls_do() {
        let town = Town::of(TWO).await;
        for path in ["/", "/maybe", "/stubborn", "/later", "/many"] {
            assert_eq!(town.get("shop", path).await, 200, "{path}");
        }
        assert_eq!(town.get("shop", "/unknown").await, 404);
    }

    #[tokio::test]
    async fn a_callee_that_fails_takes_its_caller_along_unless_the_call_is_optional() {
        let town = Town::of(TWO).await;
        town.tell("stock", &Change::Fail(1.0));
        for (path, status) in [("/", 502), ("/many", 502), ("/stubborn", 502), ("/maybe", 200)] {
            assert_eq!(town.get("shop", path).await, status, "{path}");
        }
        town.tell("stock", &Change::Recover);
        assert_eq!(town.get("shop", "/").await, 200);
    }

    #[tokio::test]
    async fn retries_hide_a_callee_that_fails_half_the_time() {
        let town = Town::of(TWO).await;
        town.tell("stock", &Change::Fail(0.5));
        for _ in 0..20 {
            assert_eq!(town.get("shop", "/stubborn").await, 200);
        }
    }

    #[tokio::test]
    async fn a_dormant_call_is_made_only_after_its_event() {
        let town = Town::of(TWO).await;
        town.tell("stock", &Change::Fail(1.0));
        assert_eq!(town.get("shop", "/later").await, 200);
        town.tell("shop", &Change::StartCalling("stock".to_owned()));
        assert_eq!(town.get("shop", "/later").await, 502);
    }

    #[tokio::test]
    async fn trace_headers_are_passed_on_by_those_who_forward_and_by_nobody_else() {
        let town = Town::of(TWO).await;
        let mut received = HeaderMap::new();
        for name in ["traceparent", "tracestate", "cookie"] {
            received.insert(name, "x".parse().unwrap());
        }
        for (forwards, count) in [(true, 2), (false, 0)] {
            let mut spec = library::parse("two.yaml", TWO).unwrap().services["shop"].clone();
            spec.forward_headers = forwards;
            let mood = town.moods["shop"].subscribe();
            let service = Service::new("shop", spec, town.addresses.clone(), mood, Random::new(1));
            assert_eq!(service.forwarded(&received).len(), count);
        }
    }

    #[tokio::test]
    async fn every_service_of_the_monolith_plays_its_part() {
        let mut town = Town::of(include_str!("scenarios/monolith.yaml")).await;
        for path in ["/", "/products", "/products/17"] {
            assert_eq!(town.get("frontend", path).await, 200, "{path}");
        }
        let checkout = Upstream::new(town.addresses["frontend"]);
        for path in ["/checkout", "/returns"] {
            let reply = checkout.send(&http::Method::POST, path, HeaderMap::new(), PATIENCE).await.unwrap();
            assert_eq!((reply.status, &reply.body[..]), (200, &b"frontend: 200\n"[..]), "{path}");
        }
        town.tasks.shutdown().await;
    }
}
