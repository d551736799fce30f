//! Requests of the application that the kernel brought here: they go where the application wanted them to go, and are
//! counted under the name that it used.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use couplet_config::{Destination, Target};
use couplet_telemetry::names::is_service_name;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{attempt, open, refuse, reject};
use crate::forward::Reply;
use crate::http::{Protocol, RequestBody, head, is_grpc};
use crate::record::Call;
use crate::sidecar::Worker;
use crate::upstream::{Dial, Early, Upstream};

/// A captured connection with requests on it.
pub(crate) struct Captured {
    destination: SocketAddr,
    early: Early,
    /// The name of the last request, and its upstream: nearly always the next one's as well.
    last: Mutex<Option<(Option<HeaderValue>, Arc<Upstream>)>>,
}

impl Captured {
    /// `early` is the connection to the destination that was asked for before the first request came.
    pub(crate) fn new(destination: SocketAddr, early: Option<Dial>) -> Self {
        Self { destination, early: Early::new(early), last: Mutex::default() }
    }

    fn upstream(&self, worker: &Worker, request: &Request<RequestBody>) -> Arc<Upstream> {
        let authority = request.uri().authority();
        let host = request.headers().get(header::HOST).filter(|_| authority.is_none());
        let mut last = self.last.lock();
        if authority.is_none()
            && let Some((name, upstream)) = &*last
            && name.as_ref() == host
        {
            return Arc::clone(upstream);
        }
        let named = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let name = authority.or(named.as_ref()).map(Authority::host);
        let upstream = worker.captured(&peer_name(worker, name, self.destination), self.destination, Instant::now());
        if authority.is_none() {
            *last = Some((host.cloned(), Arc::clone(&upstream)));
        }
        upstream
    }
}

/// Serves one captured request.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    captured: &Captured,
    request: Request<RequestBody>,
) -> Response<Reply<Call>> {
    let upstream = captured.upstream(worker, &request);
    match captured.early.settle(&worker.connector, &upstream, Protocol::of(request.version())).await {
        Ok(()) => super::serve(worker, &upstream, request).await,
        Err(fault) => {
            let (parts, _) = request.into_parts();
            let now = Instant::now();
            let (mut call, _) = open(worker, &upstream, &head(&parts), now);
            let grpc = is_grpc(&parts.headers);
            let way = worker.sidecar.routes.of(&upstream.name, parts.uri.path());
            match attempt(&upstream, way, &mut call, &parts.headers, now) {
                Ok(()) => refuse(worker, fault, &upstream, call, grpc),
                Err(refused) => reject(worker, &refused, call, grpc),
            }
        }
    }
}

/// The name under which a captured destination is counted. A name that the application used says more than an address,
/// but never where anything is sent.
pub(crate) fn peer_name(worker: &Worker, host: Option<&str>, destination: SocketAddr) -> String {
    let config = &worker.sidecar.config;
    let names = worker.sidecar.names.as_deref();
    if let Some(host) = host.map(|host| host.trim_end_matches('.').to_ascii_lowercase()).filter(|host| is_name(host)) {
        for name in [Some(host.as_str()), service_of(&host)].into_iter().flatten() {
            if let Some(to) = config.outbound.iter().find(|to| to.name.eq_ignore_ascii_case(name)) {
                return to.name.clone();
            }
            if let Some(service) = names.and_then(|names| names.spelled(name)) {
                return service;
            }
        }
        return match (service_of(&host), destination.port()) {
            (Some(service), _) => service.to_owned(),
            (None, 80 | 443) => host,
            (None, port) => format!("{host}:{port}"),
        };
    }
    let leads_there = |to: &&couplet_config::Outbound| {
        to.target.iter().any(|target| match target {
            Destination::Target(Target { host, port }) => {
                *port == destination.port() && host.parse() == Ok(destination.ip())
            }
            Destination::Service(_) => false,
        })
    };
    if let Some(to) = config.outbound.iter().find(leads_there) {
        return to.name.clone();
    }
    let known = names.and_then(|names| names.at(destination.ip()));
    known.unwrap_or_else(|| format!("{}:{}", destination.ip(), destination.port()))
}

fn is_name(host: &str) -> bool {
    is_service_name(host) && host.trim_matches(['[', ']']).parse::<IpAddr>().is_err() && !host.contains(':')
}

/// The service that a name inside of a cluster means: `stock`, `stock.shop.svc`, `stock.shop.svc.cluster.local`.
fn service_of(host: &str) -> Option<&str> {
    let mut labels = host.split('.');
    let service = labels.next()?;
    match (labels.next(), labels.next()) {
        (None, _) | (Some(_), Some("svc")) => Some(service),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_inside_of_a_cluster_mean_a_service_and_others_stand_for_themselves() {
        for name in ["stock", "stock.shop.svc", "stock.shop.svc.cluster.local"] {
            assert_eq!(service_of(name), Some("stock"), "{name}");
        }
        for name in ["stock.shop", "api.example.org", "svc.example.org"] {
            assert_eq!(service_of(name), None, "{name}");
        }
    }

    #[test]
    fn addresses_are_no_names() {
        assert!(is_name("stock") && is_name("api.example.org"));
        assert!(!is_name("10.0.0.1") && !is_name("[::1]") && !is_name("::1") && !is_name("a b"));
    }
}
