//! Requests to an explicit (forward) proxy: the application names the destination in the request itself.

use std::sync::Arc;

use couplet_config::Target;
use couplet_telemetry::outcome::Outcome;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{open, refuse};
use crate::error::Fault;
use crate::forward::{Reply, connect_through, refusal, relay};
use crate::http::head;
use crate::record::Call;
use crate::sidecar::Worker;
use crate::upstream::Upstream;

/// Serves one request to the explicit proxy.
pub(crate) async fn serve(worker: &Arc<Worker>, mut request: Request<Incoming>) -> Response<Reply<Call>> {
    let destination = match Destination::of(&request) {
        Ok(destination) => destination,
        Err(why) => {
            worker.sidecar.metrics.fault(Fault::BadRequest);
            return refusal(Fault::BadRequest, why, None);
        }
    };
    let upstream = upstream(worker, &destination).await;
    if request.method() == Method::CONNECT {
        return tunnel(worker, &upstream, request).await;
    }
    destination.rewrite(&mut request);
    super::serve(worker, &upstream, request).await
}

/// The destination that a request names.
struct Destination {
    host: String,
    port: u16,
    authority: Authority,
}

impl Destination {
    fn of(request: &Request<Incoming>) -> Result<Self, &'static str> {
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
        Ok(Self { host, port, authority })
    }

    /// The name under which calls are recorded: the host, and the port where it is not the usual one.
    fn name(&self) -> String {
        if self.port == 80 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Origin form and `Host`, as the destination expects it.
    fn rewrite(&self, request: &mut Request<Incoming>) {
        let target = request.uri().path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(target.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        // RFC 9112, section 3.2.2: the authority of the target wins over Host.
        if let Ok(host) = HeaderValue::from_str(self.authority.as_str()) {
            request.headers_mut().insert(header::HOST, host);
        }
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
        && let Some((name, address)) = names.resolve(&destination.host).await
    {
        let target = Target { host: address.ip().to_string(), port: address.port() };
        return worker.explicit(&name, target, now);
    }
    let target = Target { host: destination.host.clone(), port: destination.port };
    worker.explicit(&destination.name(), target, now)
}

/// CONNECT: bytes both ways. Whatever is inside, the call and its destination are seen.
async fn tunnel(
    worker: &Arc<Worker>,
    upstream: &Arc<Upstream>,
    mut request: Request<Incoming>,
) -> Response<Reply<Call>> {
    let downstream = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let (mut call, in_flight) = open(worker, upstream, &head(&parts), Instant::now());
    if in_flight > worker.sidecar.config.limits.requests_in_flight as u64 {
        return refuse(worker, Fault::InFlight, &upstream.name, call);
    }
    match connect_through(&worker.connector, &upstream.target).await {
        Err(fault) => refuse(worker, fault, &upstream.name, call),
        Ok(stream) => {
            call.attempted(1);
            call.answered(Outcome::Ok, None, Instant::now());
            relay(downstream, stream, call);
            let mut response = Response::new(Reply::none());
            *response.status_mut() = StatusCode::OK;
            response
        }
    }
}
