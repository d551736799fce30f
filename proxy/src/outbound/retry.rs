//! Calls on a route that tries again: each try asks the breaker anew and tells it how it ended.

use std::net::SocketAddr;
use std::sync::Arc;

use couplet_config::Retry;
use http::{HeaderMap, Request, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::attempt;
use crate::error::{Denied, Fault};
use crate::forward::{Exchange, send};
use crate::http::{RequestBody, is_grpc, wants_upgrade};
use crate::policy::{Came, Patience, Way, decide, is_for};
use crate::record::Call;
use crate::sidecar::Worker;
use crate::upstream::{Lease, Upstream};

/// Of each body, so much is kept until the head of the answer comes.
const KEPT: usize = 64 * 1024;

/// How calls of this kind are tried again, where they are: not what changes the protocol, or is asked for its body.
pub(super) fn retry<'a>(way: &'a Way, request: &Request<RequestBody>) -> Option<&'a Retry> {
    let headers = request.headers();
    let once = headers.contains_key(header::EXPECT) || wants_upgrade(headers);
    way.route.retry.as_ref().filter(|retry| !once && is_for(retry, request.method()))
}

/// Sends `request`, again where its route says so, and waits for the head of an answer.
///
/// # Errors
/// Why there is none, and how many attempts were made.
pub(super) async fn send_again(
    worker: &Worker,
    upstream: &Arc<Upstream>,
    request: Request<RequestBody>,
    patience: &Patience,
    (way, retry): (&Arc<Way>, &Retry),
    call: &mut Call,
    dress: impl Fn(&mut HeaderMap, &Lease),
) -> Result<Exchange, (Fault, u32)> {
    let metrics = &worker.sidecar.metrics;
    let patience = patience.with(retry.per_try_timeout);
    let (head, mut body) = request.into_parts();
    let grpc = is_grpc(&head.headers);
    let aside = body.take_aside();
    if let Some(budget) = &way.budget {
        budget.deposit();
    }
    let (mut attempts, mut tries) = (0, 0);
    loop {
        let (kept, lender) = body.keep(KEPT, &metrics.kept_bytes);
        let request = Request::from_parts(head.clone(), kept.beside(aside.clone()));
        let reached = Mutex::new(None);
        let noting = |headers: &mut HeaderMap, lease: &Lease| {
            *reached.lock() = Some(lease.connection.address);
            dress(headers, lease);
        };
        let mut result = send(worker, upstream, request, &patience, noting).await;
        tries += 1;
        let made = match &mut result {
            Ok(exchange) => &mut exchange.attempts,
            Err((_, made)) => made,
        };
        attempts += *made;
        *made = attempts;
        let now = Instant::now();
        let wait = match decide(retry, came(&result, grpc), tries, &patience, now, fastrand::f64) {
            None => return result,
            Some(Ok(wait)) => wait,
            Some(Err(denied)) => {
                metrics.retry_denied(denied);
                return result;
            }
        };
        let denied = match lender.is_whole() {
            false => Some(Denied::Body),
            true if way.budget.as_ref().is_some_and(|budget| !budget.withdraw()) => Some(Denied::Budget),
            true => None,
        };
        if let Some(denied) = denied {
            metrics.retry_denied(denied);
            return result;
        }
        conclude(call, &result, reached.into_inner(), now);
        tokio::time::sleep(wait).await;
        if attempt(upstream, Some(way), call, &head.headers, Instant::now()).is_err() {
            metrics.retry_denied(Denied::Breaker);
            return result;
        }
        // Not before: without its body the answer that is here may break.
        body = match lender.take_back() {
            Some(body) => body,
            None => {
                drop(call.take_attempt());
                metrics.retry_denied(Denied::Body);
                return result;
            }
        };
        discard(result);
        metrics.retries.add(&upstream.name);
    }
}

fn came(result: &Result<Exchange, (Fault, u32)>, grpc: bool) -> Came<'_> {
    match result {
        Err((fault, _)) => Came::Nothing(*fault),
        Ok(Exchange { response, rejected, .. }) => {
            Came::Head { status: response.status(), headers: response.headers(), grpc, rejected: rejected.is_some() }
        }
    }
}

/// Tells the breaker how the last try ended.
fn conclude(call: &mut Call, result: &Result<Exchange, (Fault, u32)>, reached: Option<SocketAddr>, now: Instant) {
    let Some(mut attempt) = call.take_attempt() else { return };
    if let Some(endpoint) = reached {
        attempt.reached(endpoint);
    }
    match result {
        Ok(Exchange { response, lease, .. }) => {
            attempt.answered(response.status(), response.headers(), lease.connection.address, false, now);
            attempt.whole(now);
        }
        Err((fault, _)) => attempt.failed(*fault),
    }
}

/// An answer that nobody will see. Where there is nothing behind its head, its connection may be used again.
fn discard(result: Result<Exchange, (Fault, u32)>) {
    if let Ok(exchange) = result
        && exchange.response.body().is_end_stream()
    {
        exchange.lease.give_back(Instant::now());
    }
}
