//! The admin listener: is it alive, is it ready, what does it count, how is it configured, how does it name endpoints. Served from the control
//! thread, so that no scrape delays a request.

mod endpoints;
mod metrics;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use serde::Serialize;
use tokio::sync::Notify;

use crate::drain::{Phase, Watch};
use crate::ship::Collector;
use crate::sidecar::Sidecar;

/// What the admin listener knows and may do.
pub(crate) struct Admin {
    pub(crate) sidecar: Arc<Sidecar>,
    pub(crate) collector: Arc<Collector>,
    pub(crate) drain: Watch,
    /// Told when somebody asks the proxy to go down.
    pub(crate) shutdown: Arc<Notify>,
}

/// Serves until the proxy is gone.
pub(crate) async fn serve(admin: Admin, listener: tokio::net::TcpListener) {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/healthz", get(ready))
        .route("/metrics", get(metrics))
        .route("/config", get(config))
        .route("/endpoints", get(endpoints))
        .route("/shutdown", post(shutdown))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "there is /livez /readyz /metrics /config /endpoints and POST /shutdown\n")
        })
        .with_state(Arc::new(admin));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    // Errors of single connections do not come back; there is no other.
    let _ = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await;
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
    let metrics = &admin.sidecar.metrics;
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
    let text = metrics::write(&admin.sidecar, &admin.collector);
    ([(header::CONTENT_TYPE, couplet_telemetry::exposition::MEDIA_TYPE)], text).into_response()
}

/// The configuration in force; secrets are redacted by their type.
async fn config(State(admin): State<Arc<Admin>>) -> Response {
    json(&admin.sidecar.config)
}

/// How requests are grouped into endpoints, and why.
async fn endpoints(State(admin): State<Arc<Admin>>) -> Response {
    json(&endpoints::page(&admin.sidecar.config, &admin.collector))
}

fn json(page: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(page) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Reading is for everybody who can reach the listener, changing only for this machine.
async fn shutdown(State(admin): State<Arc<Admin>>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "only from loopback\n").into_response();
    }
    admin.shutdown.notify_one();
    (StatusCode::ACCEPTED, "going down\n").into_response()
}
