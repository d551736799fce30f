//! Sends a request upstream and hands the answer back. Knows connections and bodies; what a request means was decided
//! before.

mod reply;
mod tunnel;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

pub(crate) use reply::{Reply, refusal};
pub(crate) use tunnel::{bridge, connect_through, relay};

use crate::error::Fault;
use crate::http::{RequestBody, strip_hop_by_hop, wants_upgrade};
use crate::sidecar::Worker;
use crate::upstream::{Lease, Upstream};

/// An answer's head, and what is needed for the rest of it.
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    /// The connection it came on.
    pub(crate) lease: Lease,
    pub(crate) attempts: u32,
    /// Both ends, where the answer changes the protocol of the connection.
    pub(crate) upgrade: Option<(OnUpgrade, OnUpgrade)>,
}

/// Sends `request` and waits for the answer's head.
///
/// `dress` sets the header fields that depend on where the connection leads. A request of which no byte reached the
/// wire (the upstream had closed an idle connection) is sent again on another connection; no other is.
///
/// # Errors
/// Why there is no answer, and how many attempts were made.
pub(crate) async fn send(
    worker: &Worker,
    upstream: &Arc<Upstream>,
    mut request: Request<RequestBody>,
    dress: impl Fn(&mut HeaderMap, &Lease),
) -> Result<Exchange, (Fault, u32)> {
    let downstream = prepare(&mut request);
    let mut attempts = 0;
    loop {
        let mut lease = upstream.lease(&worker.connector).await.map_err(|fault| (fault, attempts))?;
        dress(request.headers_mut(), &lease);
        attempts += 1;
        let answer = answer(worker, lease.connection.sender.try_send_request(request)).await;
        let mut response = match answer.ok_or((Fault::RequestTimeout, attempts))? {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                Some(unsent) if lease.connection.reused => {
                    worker.sidecar.metrics.upstream_replays.add(1);
                    request = unsent;
                    continue;
                }
                _ => return Err((Fault::Reset, attempts)),
            },
        };
        let upgrade = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| downstream.map(|downstream| (downstream, hyper::upgrade::on(&mut response))))
            .flatten();
        restore(&mut response, upgrade.is_some());
        return Ok(Exchange { response, lease, attempts, upgrade });
    }
}

/// Makes the head fit for the next hop. Where the request asks for another protocol, the downstream end is kept.
fn prepare(request: &mut Request<RequestBody>) -> Option<OnUpgrade> {
    let upgrade = wants_upgrade(request.headers());
    strip_hop_by_hop(request.headers_mut());
    *request.version_mut() = http::Version::HTTP_11;
    let protocol = upgrade?;
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(header::UPGRADE, protocol);
    Some(hyper::upgrade::on(request))
}

/// Makes the answer's head fit for the way back.
fn restore(response: &mut Response<Incoming>, upgraded: bool) {
    let protocol = if upgraded { response.headers().get(header::UPGRADE).cloned() } else { None };
    strip_hop_by_hop(response.headers_mut());
    *response.version_mut() = http::Version::HTTP_11;
    if let Some(protocol) = protocol {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
    }
}

/// The answer, or nothing where `timeouts.request` is set and over. Coarse timers: this is set up for every request.
async fn answer<T>(worker: &Worker, answer: impl Future<Output = T>) -> Option<T> {
    match worker.sidecar.config.timeouts.request {
        None => Some(answer.await),
        Some(limit) => pingora_timeout::fast_timeout::fast_timeout(limit, answer).await.ok(),
    }
}
