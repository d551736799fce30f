//! Services, an analyzer and proxies on real sockets, made so that tests read like sentences.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use couplet_config::{AnalyzerLink, Outbound, ProxyConfig, Target};
use couplet_proxy::Running;
use couplet_telemetry::otlp::{Bounds, decode};
use couplet_telemetry::report::Report;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

pub(crate) type Body = Full<Bytes>;

/// A service that keeps the head of every request it gets.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Request<()>>>>,
}

/// A service that answers every request with `respond`.
pub(crate) async fn service<F>(respond: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Service
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen: Arc<Mutex<Vec<Request<()>>>> = Arc::default();
    let (kept, respond) = (Arc::clone(&seen), Arc::new(respond));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (kept, respond) = (Arc::clone(&kept), Arc::clone(&respond));
            let service = service_fn(move |request: Request<Incoming>| {
                let (kept, respond) = (Arc::clone(&kept), Arc::clone(&respond));
                async move {
                    let (parts, body) = request.into_parts();
                    kept.lock().push(Request::from_parts(parts.clone(), ()));
                    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                    Ok::<_, Infallible>(respond(Request::from_parts(parts, body)).await)
                }
            });
            let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(server);
        }
    });
    Service { address, seen }
}

/// A service that answers everything with this status and text.
pub(crate) async fn answers(status: u16, text: &'static str) -> Service {
    service(move |_| async move { answer(status, text) }).await
}

/// A service that answers `late` once for every permit that is added to the gate.
pub(crate) async fn gated() -> (Service, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let service = service(move |_| {
        let gate = Arc::clone(&waiting);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(200, "late")
        }
    })
    .await;
    (service, gate)
}

pub(crate) fn answer(status: u16, text: &'static str) -> Response<Body> {
    Response::builder().status(status).body(Full::from(text)).unwrap()
}

impl Service {
    /// The heads it got, in order.
    pub(crate) fn seen(&self) -> Vec<Request<()>> {
        self.seen.lock().clone()
    }
}

/// An analyzer that keeps every report, and can be told to be away.
pub(crate) struct Analyzer {
    pub(crate) address: SocketAddr,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    bodies: Mutex<Vec<Bytes>>,
    away: AtomicBool,
    turned_away: AtomicU64,
    change: Notify,
}

pub(crate) async fn analyzer() -> Analyzer {
    let inbox: Arc<Inbox> = Arc::default();
    let kept = Arc::clone(&inbox);
    let service = service(move |request: Request<Bytes>| {
        let status = if kept.away.load(Ordering::SeqCst) {
            kept.turned_away.fetch_add(1, Ordering::SeqCst);
            503
        } else {
            kept.bodies.lock().push(request.into_body());
            200
        };
        kept.change.notify_waiters();
        async move { answer(status, "") }
    })
    .await;
    Analyzer { address: service.address, inbox }
}

impl Analyzer {
    pub(crate) fn go_away(&self, away: bool) {
        self.inbox.away.store(away, Ordering::SeqCst);
    }

    /// The reports it took, in order.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let bounds = Bounds { paths: 10_000, calls: 10_000 };
        self.inbox.bodies.lock().iter().flat_map(|body| decode(body, &bounds).unwrap().reports).collect()
    }

    /// Waits until it has turned away `count` attempts.
    pub(crate) async fn turned_away(&self, count: u64) {
        loop {
            let change = self.inbox.change.notified();
            if self.inbox.turned_away.load(Ordering::SeqCst) >= count {
                return;
            }
            change.await;
        }
    }
}

/// A proxy configuration with all listeners on free ports.
pub(crate) fn config(service: &str) -> ProxyConfig {
    let mut config = ProxyConfig::new(service);
    config.inbound = free();
    config.admin = None;
    config.timeouts.drain = std::time::Duration::from_secs(10);
    config.telemetry.window = std::time::Duration::from_millis(100);
    config
}

pub(crate) fn free() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) trait Shape {
    fn app(self, app: &Service) -> Self;
    fn to(self, name: &str, target: SocketAddr) -> Self;
    fn reports_to(self, analyzer: &Analyzer) -> Self;
    fn start(self) -> Running;
}

impl Shape for ProxyConfig {
    fn app(mut self, app: &Service) -> Self {
        self.app = Some(app.address);
        self
    }

    fn to(mut self, name: &str, target: SocketAddr) -> Self {
        let target = Target { host: target.ip().to_string(), port: target.port() };
        self.outbound.push(Outbound::new(name, free(), target.into()));
        self
    }

    fn reports_to(mut self, analyzer: &Analyzer) -> Self {
        let url = format!("http://{}", analyzer.address).parse().unwrap();
        self.analyzer = Some(AnalyzerLink::new(url));
        self
    }

    fn start(self) -> Running {
        couplet_proxy::start(self).unwrap()
    }
}

/// Stops a proxy without holding up the services it still needs.
pub(crate) async fn stop(proxy: Running) {
    tokio::task::spawn_blocking(|| proxy.stop()).await.unwrap();
}

/// A client on one connection.
pub(crate) struct Client(hyper::client::conn::http1::SendRequest<Body>);

pub(crate) async fn client(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    Client(sender)
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Client {
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        self.0.send_request(request).await.unwrap()
    }

    pub(crate) async fn ask(&mut self, request: Request<Body>) -> Answer {
        let (head, body) = self.send(request).await.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, text }
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.ask(get(target, &[])).await
    }
}

pub(crate) fn get(target: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri(target).header("host", "service.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

/// Calls `address` with the trace headers of `request`, as an application does that passes them on.
pub(crate) async fn pass_on(request: &Request<Bytes>, address: SocketAddr, target: &str) -> Answer {
    let names = ["traceparent", "tracestate"];
    let kept: Vec<_> =
        names.into_iter().filter_map(|n| request.headers().get(n).map(|v| (n, v.to_str().unwrap()))).collect();
    client(address).await.ask(get(target, &kept)).await
}

/// An address that is known only later: services call sidecars that in turn need the services' addresses.
#[derive(Clone, Default)]
pub(crate) struct Later(Arc<Mutex<Option<SocketAddr>>>);

impl Later {
    pub(crate) fn is(&self, address: SocketAddr) {
        *self.0.lock() = Some(address);
    }

    pub(crate) fn get(&self) -> SocketAddr {
        self.0.lock().unwrap()
    }
}

/// Resident memory of this process, in bytes. None where several tests share a process: it would be that of all of them.
pub(crate) fn resident() -> Option<usize> {
    if std::env::var_os("NEXTEST").is_none() {
        let _ =
            writeln!(std::io::stderr(), "SKIPPED a figure of memory: it needs a process for each test (cargo nextest)");
        return None;
    }
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    Some(status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096)
}

/// Bytes by which this process has grown since `before`.
pub(crate) fn growth(before: Option<usize>) -> Option<usize> {
    before.zip(resident()).map(|(before, now)| now.saturating_sub(before))
}

/// The metrics page of a proxy that has an admin listener.
pub(crate) async fn metrics(proxy: &Running) -> String {
    client(proxy.admin().unwrap()).await.get("/metrics").await.text
}

/// The sample of a metric whose name and labels stand like this on the page.
pub(crate) async fn metric(proxy: &Running, name: &str) -> u64 {
    let page = metrics(proxy).await;
    let sample = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    sample.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse::<f64>().unwrap() as u64
}
