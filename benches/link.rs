//! What linking costs: processor time of a proxy per request (one in, one call out) with the usual headers, linking on and
//! off, in turns on one machine.
//!
//! `cargo bench --bench link`. The figure to hold is the ratio; it has to stay at or below 1.05.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use couplet_config::{Linking, Outbound, ProxyConfig};
use couplet_proxy::Running;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

const ROUNDS: usize = 15;
const REQUESTS: usize = 3_000;
/// Everything by which requests are linked.
const KNOWN: [&str; 11] = [
    "traceparent",
    "b3",
    "x-b3-traceid",
    "uber-trace-id",
    "x-datadog-trace-id",
    "x-cloud-trace-context",
    "x-amzn-trace-id",
    "grpc-trace-bin",
    "sw8",
    "x-request-id",
    "baggage",
];
const COPIED: [&str; 3] = ["traceparent", "tracestate", "x-request-id"];

type Sender = SendRequest<Empty<Bytes>>;

/// A proxy with its application, and the threads that carry its traffic.
struct Measured {
    _proxy: Running,
    threads: Vec<String>,
    client: Sender,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stock = serve(|_| async {}).await?;
        let off = Linking { ignore: KNOWN.map(str::to_owned).to_vec(), learn: false, ..Linking::default() };
        let mut on = start(stock, Linking::default(), true).await?;
        let mut off = start(stock, off, false).await?;
        // Connections are made and names learned before anything counts.
        for proxy in [&mut on, &mut off] {
            proxy.round(REQUESTS).await?;
        }
        let (mut ratios, mut costs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // Whoever comes first must not always be the same one.
            let (first, second) = if round % 2 == 0 { (&mut on, &mut off) } else { (&mut off, &mut on) };
            let (first, second) = (first.round(REQUESTS).await?, second.round(REQUESTS).await?);
            let (on, off) = if round % 2 == 0 { (first, second) } else { (second, first) };
            ratios.push(on / off);
            costs.push(on / 1e3);
        }
        let mut out = std::io::stdout().lock();
        let requests = ROUNDS * REQUESTS;
        writeln!(
            out,
            "linking on: {:.1} µs of processor time per request with one call ({requests} requests)",
            median(&mut costs)
        )?;
        writeln!(out, "linking on ÷ off: {:.3} (median of {ROUNDS} rounds in turns)", median(&mut ratios))?;
        Ok(())
    })
}

impl Measured {
    /// Nanoseconds of processor time per request.
    async fn round(&mut self, requests: usize) -> anyhow::Result<f64> {
        let before = self.spent()?;
        for n in 0..requests {
            let trace = format!("00-{:032x}-00000000000000aa-01", n + 1);
            let request = Request::builder().uri("/checkout").header("host", "shop").header("accept", "*/*");
            let request = request.header("user-agent", "bench").header("traceparent", trace);
            ask(&mut self.client, request.header("x-request-id", format!("request-{n}")).body(Empty::new())?).await?;
        }
        Ok((self.spent()? - before) as f64 / requests as f64)
    }

    /// What its threads have had of processors so far, in nanoseconds.
    fn spent(&self) -> anyhow::Result<u64> {
        let of = |thread: &String| -> anyhow::Result<u64> {
            let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))?;
            Ok(text.split(' ').next().context("empty")?.parse()?)
        };
        self.threads.iter().map(of).sum()
    }
}

async fn start(stock: SocketAddr, linking: Linking, timing: bool) -> anyhow::Result<Measured> {
    let way: Arc<OnceLock<SocketAddr>> = Arc::default();
    let (leads, kept): (_, Arc<Mutex<Option<Sender>>>) = (Arc::clone(&way), Arc::default());
    let shop = serve(move |headers: HeaderMap| {
        let (way, kept) = (Arc::clone(&leads), Arc::clone(&kept));
        async move {
            let _ = call(&way, &kept, &headers).await;
        }
    })
    .await?;
    let before = workers()?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let mut config = ProxyConfig::new("shop");
    (config.app, config.inbound, config.admin, config.link) = (Some(shop), any, None, linking);
    // Calls that no header links would be linked by timing.
    config.telemetry.timing = timing;
    config
        .outbound
        .push(Outbound::parse(&format!("stock@127.0.0.1:0={stock}")).map_err(|problem| anyhow!("{problem}"))?);
    let proxy = couplet_proxy::start(config)?;
    let threads = workers()?.difference(&before).cloned().collect();
    let (_, outbound) = proxy.outbound().into_iter().next().context("no way out")?;
    way.get_or_init(|| outbound);
    let client = connect(proxy.inbound().context("no way in")?).await?;
    Ok(Measured { _proxy: proxy, threads, client })
}

/// The call of the application, with the headers that it got.
async fn call(way: &OnceLock<SocketAddr>, kept: &Mutex<Option<Sender>>, headers: &HeaderMap) -> anyhow::Result<()> {
    let mut kept = kept.lock().await;
    if kept.is_none() {
        *kept = Some(connect(*way.get().context("too early")?).await?);
    }
    let sender = kept.as_mut().context("no connection")?;
    let mut request = Request::builder().uri("/stock").header("host", "stock").header("accept", "*/*");
    for name in COPIED {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    ask(sender, request.body(Empty::new())?).await
}

async fn ask(sender: &mut Sender, request: Request<Empty<Bytes>>) -> anyhow::Result<()> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "{}", response.status());
    response.into_body().collect().await?;
    Ok(())
}

async fn connect(address: SocketAddr) -> anyhow::Result<Sender> {
    let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A service that does this with the headers of every request, and answers.
async fn serve<F>(respond: impl Fn(HeaderMap) -> F + Send + Sync + 'static) -> anyhow::Result<SocketAddr>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let respond = Arc::new(respond);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let respond = Arc::clone(&respond);
            let service = service_fn(move |request: Request<Incoming>| {
                let respond = Arc::clone(&respond);
                async move {
                    respond(request.headers().clone()).await;
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"done"))))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}

/// The threads of this process that carry traffic of proxies.
fn workers() -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        if fs::read_to_string(thread.path().join("comm"))?.trim() == "couplet-worker" {
            found.insert(thread.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
