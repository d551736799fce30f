//! The admin listener: is it alive, is it ready, what does it count, how is it configured, how does it name endpoints and
//! link calls.
//! Served from the control thread, so that no scrape delays a request.

mod breakers;
mod bypass;
mod endpoints;
mod faults;
mod links;
mod metrics;
mod parameters;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Path, Query, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use couplet_config::ProxyConfig;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::drain::{Phase, Watch};
use crate::link::Headers;
use crate::policy::Concurrency;
use crate::ship::Collector;
use crate::sidecar::InForce;

/// What the admin listener knows and may do.
pub(crate) struct Admin {
    pub(crate) in_force: Arc<InForce>,
    pub(crate) collector: Arc<Collector>,
    pub(crate) headers: Arc<Headers>,
    pub(crate) concurrency: Arc<Concurrency>,
    pub(crate) drain: Watch,
    /// Told what somebody asks for.
    pub(crate) ask: mpsc::Sender<Ask>,
}

/// What the admin listener is asked for, and cannot do by itself.
#[derive(Debug)]
pub enum Ask {
    /// To take the proxy down in order.
    ShutDown,
    /// To read the configuration again.
    Reload(Answer),
}

/// Where the one who asked for a reload hears what came of it.
#[derive(Debug)]
pub struct Answer(oneshot::Sender<Result<String, String>>);

impl Answer {
    /// Says in a sentence what came of it. Nobody listens where that took too long.
    pub fn say(self, what: Result<String, String>) {
        let _ = self.0.send(what);
    }
}

/// How long a reload is waited for.
const RELOAD_WITHIN: Duration = Duration::from_secs(10);

/// Serves until the proxy is gone.
pub(crate) async fn serve(admin: Admin, listener: tokio::net::TcpListener) {
    let in_force = Arc::clone(&admin.in_force);
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/healthz", get(ready))
        .route("/metrics", get(metrics))
        .route("/config", get(config))
        .route("/endpoints", get(endpoints))
        .route("/breakers", get(breakers))
        .route("/breakers/{to}", get(breaker).post(order))
        .route("/faults", get(faults).post(inject).delete(remove_all))
        .route("/faults/{id}", delete(remove))
        .route("/links", get(links))
        .route("/shutdown", post(shutdown))
        .route("/reload", post(reload))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "there is /livez /readyz /metrics /config /endpoints /breakers /faults /links, POST /breakers/NAME, /faults, \
                 /reload and /shutdown, DELETE /faults and /faults/ID\n",
            )
        })
        .with_state(Arc::new(admin));
    serve::accept(in_force, routes, listener).await;
}

async fn ready(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let phase = admin.drain.phase();
    let (status, word) = match phase {
        Phase::Serving => (StatusCode::OK, "ready"),
        Phase::Draining | Phase::Closing => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    };
    let verbose = query.is_some_and(|query| query.split('&').any(|key| key == "verbose"));
    if !verbose {
        return (status, format!("{word}\n")).into_response();
    }
    let sidecar = admin.in_force.sidecar();
    let metrics = &sidecar.metrics;
    let text = format!(
        "{word}\nconnections {}\nrequests in flight {}\nreports delivered {}\nreport attempts failed {}\n",
        metrics.connections.get(),
        metrics.requests_in_flight.get(),
        metrics.reports_sent.get(),
        metrics.report_failures.get(),
    );
    (status, text).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let text = metrics::write(&admin.in_force, &admin.collector, &admin.headers, &admin.concurrency);
    ([(header::CONTENT_TYPE, couplet_telemetry::exposition::MEDIA_TYPE)], text).into_response()
}

/// The configuration in force, and which one that is.
#[derive(Serialize)]
struct ConfigPage<'a> {
    /// Counted from 1.
    generation: u64,
    /// Of all keys but secrets: the same for proxies with the same configuration.
    hash: String,
    /// Why the last attempt to replace it failed, if it did.
    problem: Option<&'a str>,
    #[serde(flatten)]
    config: &'a ProxyConfig,
}

/// Secrets are redacted by their type.
async fn config(State(admin): State<Arc<Admin>>) -> Response {
    let sidecar = admin.in_force.sidecar();
    let config = &sidecar.config;
    let written = serde_json::to_vec(config).unwrap_or_default();
    let hash = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&written));
    let problem = admin.in_force.problem();
    json(&ConfigPage { generation: sidecar.generation, hash, problem: problem.as_deref(), config })
}

/// How requests are grouped into endpoints, and why.
async fn endpoints(State(admin): State<Arc<Admin>>) -> Response {
    json(&endpoints::page(&admin.in_force.sidecar().config, &admin.collector))
}

/// Where every breaker stands, and why.
async fn breakers(State(admin): State<Arc<Admin>>) -> Response {
    let sidecar = admin.in_force.sidecar();
    json(&breakers::page(&sidecar.config.service, &sidecar.breakers, Instant::now()))
}

async fn breaker(
    State(admin): State<Arc<Admin>>,
    Path(to): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    match admin.in_force.sidecar().breakers.known(&to, class(&parameters)) {
        Some(breaker) => json(&breakers::entry(&breaker, Instant::now())),
        None => unknown(&admin, NO_BREAKER, &to),
    }
}

/// The class of calls whose breaker is asked for, if it is one of a class.
fn class(parameters: &[(String, String)]) -> Option<&str> {
    parameters.iter().find(|(key, _)| key == "class").map(|(_, class)| class.as_str())
}

/// Somebody wants a breaker to be open or closed, for a time.
async fn order(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(to): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    if let Some(forbidden) = forbidden(peer) {
        return forbidden;
    }
    let order = match breakers::Order::read(&parameters) {
        Ok(order) => order,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem + "\n").into_response(),
    };
    let breaker = admin.in_force.sidecar().breakers.known(&to, class(&parameters));
    let Some(breaker) = breaker else { return unknown(&admin, NO_BREAKER, &to) };
    let now = Instant::now();
    match order {
        breakers::Order::Force { forced, lasts } => breaker.force(forced, lasts, now),
        breakers::Order::Release => drop(breaker.release(now)),
    }
    json(&breakers::entry(&breaker, now))
}

const NO_BREAKER: &str = "there is no breaker for calls";

/// There is nothing of a destination; what there is instead.
fn unknown(admin: &Admin, what: &str, to: &str) -> Response {
    let known = admin.in_force.sidecar().breakers.all();
    let names: Vec<&str> = known.iter().map(|breaker| &*breaker.to).take(20).collect();
    let names = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
    (StatusCode::NOT_FOUND, format!("{what} to {to}; there is: {names}\n")).into_response()
}

/// Which faults are injected, and which were of late.
async fn faults(State(admin): State<Arc<Admin>>) -> Response {
    let sidecar = admin.in_force.sidecar();
    json(&faults::page(&sidecar.config.service, &sidecar.injections, Instant::now()))
}

/// Somebody wants faults in calls, for a time.
async fn inject(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    if let Some(forbidden) = forbidden(peer) {
        return forbidden;
    }
    let (aim, lasts) = match faults::read(&parameters) {
        Ok(order) => order,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem + "\n").into_response(),
    };
    let sidecar = admin.in_force.sidecar();
    if sidecar.breakers.known(&aim.to, None).is_none() {
        return unknown(&admin, "there are no calls", &aim.to);
    }
    let now = Instant::now();
    match sidecar.injections.add(aim, lasts, now) {
        Ok(injection) => (StatusCode::CREATED, json(&faults::entry(&injection, now))).into_response(),
        Err(problem) => (StatusCode::CONFLICT, problem + "\n").into_response(),
    }
}

async fn remove(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(id): Path<u64>,
) -> Response {
    if let Some(forbidden) = forbidden(peer) {
        return forbidden;
    }
    match admin.in_force.sidecar().injections.remove(id) {
        true => faults(State(admin)).await,
        false => (StatusCode::NOT_FOUND, format!("no fault {id} is in force\n")).into_response(),
    }
}

async fn remove_all(State(admin): State<Arc<Admin>>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Response {
    if let Some(forbidden) = forbidden(peer) {
        return forbidden;
    }
    admin.in_force.sidecar().injections.remove_all();
    faults(State(admin)).await
}

/// How calls are linked, and what is learned about it.
async fn links(State(admin): State<Arc<Admin>>) -> Response {
    json(&links::page(&admin.in_force.sidecar().config, &admin.collector, &admin.headers))
}

fn json(page: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(page) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Reading is for everybody who can reach the listener, changing only for this machine.
fn forbidden(peer: SocketAddr) -> Option<Response> {
    let local = peer.ip().to_canonical().is_loopback();
    (!local).then(|| (StatusCode::FORBIDDEN, "only from loopback\n").into_response())
}

async fn shutdown(State(admin): State<Arc<Admin>>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Response {
    if let Some(forbidden) = forbidden(peer) {
        return forbidden;
    }
    // Where it is full somebody has asked already.
    let _ = admin.ask.try_send(Ask::ShutDown);
    (StatusCode::ACCEPTED, "going down\n").into_response()
}

async fn reload(State(admin): State<Arc<Admin>>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Response {
    if let Some(forbidden) = forbidden(peer) {
        return forbidden;
    }
    let (answer, answered) = oneshot::channel();
    let asked = async {
        let _ = admin.ask.send(Ask::Reload(Answer(answer))).await;
        answered.await
    };
    let (status, text) = match tokio::time::timeout(RELOAD_WITHIN, asked).await {
        Ok(Ok(Ok(text))) => (StatusCode::OK, text),
        Ok(Ok(Err(text))) => (StatusCode::CONFLICT, text),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "nobody reads configurations here".to_owned()),
    };
    (status, text + "\n").into_response()
}
