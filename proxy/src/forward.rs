//! Sends a request upstream and hands the answer back. Knows connections and bodies; what a request means was decided
//! before.

mod reply;
mod timer;
mod tunnel;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use couplet_telemetry::names::{REJECT_HEADER, SUMMARY_HEADER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use pingora_timeout::fast_timeout::fast_timeout;
use tokio::time::Instant;

pub(crate) use reply::{Reply, refusal};
pub(crate) use tunnel::{bridge, connect_through, relay};

use crate::error::Fault;
use crate::http::{
    Expectation, Incoming, Protocol, RequestBody, check_interim, check_response, has_hop_by_hop, origin_form,
    strip_hop_by_hop, wants_upgrade,
};
use crate::policy::Patience;
use crate::sidecar::Worker;
use crate::upstream::{Lease, Unanswered, Upstream};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const SUMMARY: HeaderName = HeaderName::from_static(SUMMARY_HEADER);
const REJECT: HeaderName = HeaderName::from_static(REJECT_HEADER);

/// An answer's head, and what is needed for the rest of it.
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    /// The connection it came on.
    pub(crate) lease: Lease,
    pub(crate) attempts: u32,
    /// What the other side says of everything below; taken off the answer.
    pub(crate) summary: Option<HeaderValue>,
    /// Which breaker further down is the cause, as the other side says; taken off the answer.
    pub(crate) rejected: Option<HeaderValue>,
    /// Both ends, where the answer changes the protocol of the connection.
    pub(crate) upgrade: Option<(OnUpgrade, OnUpgrade)>,
}

/// Sends `request` and waits for the answer's head. What came as HTTP/2 goes on as HTTP/2.
///
/// `dress` sets the header fields that depend on where the connection leads. A request of which the upstream provably
/// processed no byte (it had closed an idle connection) is sent once more, on another connection; no other is.
///
/// # Errors
/// Why there is no answer, and how many attempts were made.
pub(crate) async fn send(
    worker: &Worker,
    upstream: &Arc<Upstream>,
    mut request: Request<RequestBody>,
    patience: &Patience,
    dress: impl Fn(&mut HeaderMap, &Lease),
) -> Result<Exchange, (Fault, u32)> {
    let protocol = Protocol::of(request.version());
    let connect = request.method() == Method::CONNECT;
    let expectation = expectation(&mut request);
    let via = worker.sidecar.config.headers.via;
    let received = request.version();
    let mut downstream = prepare(&mut request);
    if via {
        name_proxy(request.headers_mut(), received);
    }
    let hostless = protocol == Protocol::Http1 && !request.headers().contains_key(header::HOST) && !connect;
    let client = request.body().client();
    let aside = request.body_mut().take_aside();
    let max_fields = worker.sidecar.config.limits.header_fields;
    let mut interim = |answer: Response<()>| {
        let (mut parts, ()) = answer.into_parts();
        if let Err(why) = check_interim(&parts, max_fields) {
            tracing::debug!(upstream = upstream.name, why, "a malformed interim answer was refused");
            return false;
        }
        strip_hop_by_hop(&mut parts.headers, false);
        if via {
            name_proxy(&mut parts.headers, parts.version);
        }
        aside.tell(Response::from_parts(parts, ()));
        true
    };
    let mut attempts = 0;
    loop {
        // What is waited for stays where it is made: it is large, and would have room in `within` once more.
        let connecting =
            within(patience, pin!(upstream.lease(&worker.connector, protocol, &client, patience.connect))).await;
        let mut lease = connecting.and_then(|connected| connected).map_err(|fault| (fault, attempts))?;
        if hostless {
            name_host(request.headers_mut(), &lease);
        }
        dress(request.headers_mut(), &lease);
        patience.shorten(request.headers_mut(), Instant::now);
        if let Some(expectation) = &expectation {
            lease.asks(expectation.clone());
            tell(expectation, &mut request);
        }
        attempts += 1;
        let answer = within(patience, pin!(lease.send(request, &aside, &mut interim))).await;
        let response = match answer.map_err(|fault| (fault, attempts))? {
            Ok(response) => response,
            Err(Unanswered { unsent: Some(unsent), .. }) if attempts == 1 => {
                worker.sidecar.metrics.upstream_replays.add(1);
                request = unsent;
                continue;
            }
            Err(Unanswered { fault, .. }) => return Err((fault, attempts)),
        };
        if let Some(expectation) = &expectation {
            expectation.answered(!response.status().is_success());
        }
        let (mut parts, body) = response.into_parts();
        if protocol == Protocol::Http2
            && let Err(why) = check_response(&parts, max_fields)
        {
            tracing::debug!(upstream = upstream.name, why, "a malformed answer was refused");
            return Err((Fault::MalformedResponse, attempts));
        }
        let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let downstream = downstream.take().filter(|_| switching || connect && parts.status.is_success());
        if switching && downstream.is_none() {
            // Nobody asked for it: what follows would be read as an answer by the one side and not by the other.
            return Err((Fault::MalformedResponse, attempts));
        }
        let (mut summary, mut rejected) = (None, None);
        if has_hop_by_hop(&parts.headers) {
            summary = parts.headers.get(SUMMARY).cloned();
            rejected = parts.headers.get(REJECT).cloned();
            strip_hop_by_hop(&mut parts.headers, switching);
        }
        if expectation.as_ref().is_some_and(Expectation::is_refused) {
            // The body that was announced will never be read, so the connection ends. The codec sees that at once only if
            // nobody holds the body any more when the head is written; else the client would not be told.
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if via {
            name_proxy(&mut parts.headers, parts.version);
        }
        if protocol == Protocol::Http1 {
            parts.version = Version::HTTP_11;
        }
        let mut response = Response::from_parts(parts, body);
        let upgrade = downstream.map(|downstream| (downstream, hyper::upgrade::on(&mut response)));
        return Ok(Exchange { response, lease, attempts, summary, rejected, upgrade });
    }
}

/// What the upstream is to say before the body is read, where the client waits for that. In HTTP/1.0 it does not; over
/// HTTP/2 the client hears the upstream itself, and what it sends before is taken as it comes.
fn expectation(request: &mut Request<RequestBody>) -> Option<Expectation> {
    let expects = request.headers().get(header::EXPECT)?.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let waits = expects && request.version() == Version::HTTP_11 && !request.body().is_end_stream();
    waits.then(|| request.body_mut().wait())
}

/// Listens to what the upstream says before it answers.
fn tell(expectation: &Expectation, request: &mut Request<RequestBody>) {
    let expectation = expectation.clone();
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            expectation.wanted();
        }
    });
}

/// Makes the head fit for the next hop. Where the request may change the protocol, the downstream end is kept.
fn prepare(request: &mut Request<RequestBody>) -> Option<OnUpgrade> {
    let upgrade = wants_upgrade(request.headers());
    strip_hop_by_hop(request.headers_mut(), upgrade);
    if request.version() == Version::HTTP_2 {
        said_once(request.headers_mut());
        if request.uri().scheme().is_none() {
            // Named by Host alone; the library takes it for one that was HTTP/1 before and sets no :authority.
            *request.version_mut() = Version::HTTP_11;
        }
        return None;
    }
    *request.version_mut() = Version::HTTP_11;
    let method = request.method().clone();
    let mut uri = std::mem::take(request.uri_mut());
    origin_form(&method, &mut uri, request.headers_mut());
    *request.uri_mut() = uri;
    (upgrade || method == Method::CONNECT).then(|| hyper::upgrade::on(request))
}

/// No two requests have the same parent: as what the proxy itself writes (`context::text`), it is not indexed.
fn said_once(headers: &mut HeaderMap) {
    if let Some(parent) = headers.get_mut(TRACEPARENT) {
        parent.set_sensitive(true);
    }
}

/// `Via`: behind whatever stands there, with the version in which the message came.
fn name_proxy(headers: &mut HeaderMap, received: Version) {
    let name = match received {
        Version::HTTP_10 => "1.0 couplet",
        Version::HTTP_2 => "2.0 couplet",
        _ => "1.1 couplet",
    };
    headers.append(header::VIA, HeaderValue::from_static(name));
}

/// HTTP/1.0 does without `Host`, HTTP/1.1 does not: the address stands in for a name that nobody gave.
fn name_host(headers: &mut HeaderMap, lease: &Lease) {
    if let Ok(host) = HeaderValue::from_str(&lease.connection.address.to_string()) {
        headers.insert(header::HOST, host);
    }
}

/// What comes within the time that the head of an answer has, or what it is where it does not. Coarse timers: this is set
/// up for every request whose time is limited.
async fn within<T>(patience: &Patience, answer: Pin<&mut impl Future<Output = T>>) -> Result<T, Fault> {
    if patience.is_endless() {
        return Ok(answer.await);
    }
    let Some((left, fault)) = patience.head(Instant::now()) else { return Ok(answer.await) };
    if left.is_zero() {
        return Err(fault);
    }
    // Below a millisecond the timers of the library know no time.
    fast_timeout(left.max(Duration::from_millis(1)), answer).await.map_err(|_| fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_that_a_request_brings_is_not_indexed_and_the_rest_is() {
        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers = HeaderMap::from_iter([field("traceparent", "00-1-2-01"), field("accept", "text/html")]);
        said_once(&mut headers);
        assert_eq!([&headers["traceparent"], &headers["accept"]].map(HeaderValue::is_sensitive), [true, false]);
    }
}
