//! Requests to an explicit (forward) proxy: the application names the destination in the request itself.

use std::sync::Arc;

use couplet_config::Target;
use couplet_telemetry::outcome::Outcome;
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, header};
use tokio::time::Instant;

use super::injected::{Injected, meet, with};
use super::{attempt, open, patience, refuse, reject};
use crate::error::Fault;
use crate::forward::{Reply, connect_through, refusal, relay};
use crate::http::{RequestBody, Verdict, head, is_grpc};
use crate::record::Call;
use crate::sidecar::Worker;
use crate::upstream::Upstream;

/// Serves one request to the explicit proxy.
pub(crate) async fn serve(worker: &Arc<Worker>, request: Request<RequestBody>) -> Response<Reply<Call>> {
    let destination = match Destination::of(&request) {
        Ok(destination) => destination,
        Err(why) => {
            worker.sidecar.metrics.fault(Fault::BadRequest);
            return refusal(Fault::BadRequest, why, None, is_grpc(request.headers()));
        }
    };
    let upstream = upstream(worker, &destination).await;
    if request.method() == Method::CONNECT {
        return tunnel(worker, &upstream, request).await;
    }
    // Sending it brings the target into the form that the destination expects.
    super::serve(worker, &upstream, request).await
}

/// The destination that a request names.
struct Destination {
    host: String,
    port: u16,
}

impl Destination {
    fn of(request: &Request<RequestBody>) -> Result<Self, &'static str> {
        let uri = request.uri();
        if request.method() != Method::CONNECT && uri.scheme_str().is_some_and(|scheme| scheme != "http") {
            return Err("only http:// can be requested in the clear; use CONNECT for others");
        }
        let named = match uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => request.headers().get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()),
        };
        let authority = named.ok_or("an explicit proxy needs an absolute request target or a Host")?;
        if authority.as_str().contains('@') {
            return Err("user information has no place in a request target");
        }
        let host = authority.host().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        if host.is_empty() {
            return Err("the destination has no name");
        }
        let port = match (authority.port_u16(), request.method() == Method::CONNECT) {
            (Some(port), _) => port,
            (None, true) => return Err("CONNECT needs a port"),
            (None, false) => 80,
        };
        Ok(Self { host, port })
    }

    /// The name under which calls are recorded: the host, and the port where it is not the usual one.
    fn name(&self) -> String {
        if self.port == 80 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// A configured destination of that name, else a running sidecar that the analyzer knows, else what DNS says.
async fn upstream(worker: &Arc<Worker>, destination: &Destination) -> Arc<Upstream> {
    let configured = worker.sidecar.config.outbound.iter().zip(&worker.outbound);
    if let Some((_, upstream)) = configured.into_iter().find(|(to, _)| to.name.eq_ignore_ascii_case(&destination.host))
    {
        return Arc::clone(upstream);
    }
    let now = Instant::now();
    if let Some(names) = &worker.sidecar.names
        && let Some((name, sidecars)) = names.resolve(&destination.host).await
    {
        return worker.explicit(&name, sidecars, now);
    }
    let target = Target { host: destination.host.clone(), port: destination.port };
    let upstream = worker.explicit(&destination.name(), target.into(), now);
    if let Some(names) = &worker.sidecar.names
        && !upstream.is_known(&worker.connector).await
        && let Some((name, sidecars)) = names.appears(&destination.host).await
    {
        // It was only just started.
        return worker.explicit(&name, sidecars, Instant::now());
    }
    upstream
}

/// CONNECT: bytes both ways. Whatever is inside, the call and its destination are seen.
async fn tunnel(
    worker: &Arc<Worker>,
    upstream: &Arc<Upstream>,
    mut request: Request<RequestBody>,
) -> Response<Reply<Call>> {
    let downstream = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let (mut told, mut delayed) = (None, false);
    if worker.sidecar.injections.any() {
        match Box::pin(meet(worker, upstream, &parts)).await {
            Injected::Aborted(response) => return *response,
            Injected::Passed { told: says, delayed: held } => (told, delayed) = (says, held),
        }
    }
    let now = Instant::now();
    let (mut call, in_flight) = open(worker, upstream, &head(&parts), now);
    call.delayed(delayed);
    let way = worker.sidecar.routes.of(&upstream.name, parts.uri.path());
    if let Err(refused) = attempt(upstream, way, &mut call, &parts.headers, now) {
        return reject(worker, &refused, call, false);
    }
    if in_flight > worker.sidecar.config.limits.requests_in_flight as u64 {
        return refuse(worker, Fault::InFlight, upstream, call, false);
    }
    let patience = patience(worker, way, &parts.headers, false, now);
    match connect_through(&worker.connector, upstream, patience.connect).await {
        Err(fault) => refuse(worker, fault, upstream, call, false),
        Ok(stream) => {
            call.attempted(1);
            let now = Instant::now();
            if let Some(attempt) = call.attempt() {
                attempt.connected(now);
            }
            call.answered(Verdict::Known(Outcome::Ok), None, now);
            relay(worker, downstream, stream, call);
            let mut response = Response::new(Reply::none());
            *response.status_mut() = StatusCode::OK;
            with(response, told)
        }
    }
}
