//! What the proxy counts of itself: plain atomics, bumped on the request path, read by the admin side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use couplet_telemetry::names::OTHER;
use parking_lot::Mutex;

use crate::error::{Abuse, Denied, Fault, Refusal};
use crate::http1::Violation;

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down, and its highest value so far.
#[derive(Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    /// One more; the new value.
    pub(crate) fn up(&self) -> u64 {
        let now = self.up_for_now();
        self.reached(now);
        now
    }

    /// One more that may have to go [`down`](Self::down) at once: it is no peak until it has been [`reached`](Self::reached).
    pub(crate) fn up_for_now(&self) -> u64 {
        self.now.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn reached(&self, now: u64) {
        if now > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
    }

    pub(crate) fn down(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// Bytes that are kept in memory for somebody, up to a limit.
#[derive(Default)]
pub(crate) struct Quota(AtomicU64);

/// All of them together.
const MOST_KEPT: u64 = 16 * 1024 * 1024;

impl Quota {
    /// Whether there is room for so many more; they count from then on.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= MOST_KEPT {
            return true;
        }
        self.0.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for each of the first so many names; the others share one.
#[derive(Default)]
pub(crate) struct ByName(Mutex<BTreeMap<String, u64>>);

impl ByName {
    /// Counts one more for `name`. Takes a lock: for what happens seldom.
    pub(crate) fn add(&self, name: &str) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(name) {
            *count += 1;
        } else {
            let name = if counts.len() < MAX_NAMES { name } else { OTHER };
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// All names and their counts.
    pub(crate) fn each(&self, mut each: impl FnMut(&str, u64)) {
        self.0.lock().iter().for_each(|(name, count)| each(name, *count));
    }
}

/// What the limits of the estimator cost so far, by reason.
#[derive(Default)]
pub(crate) struct TimingLimits(Mutex<Vec<(&'static str, u64)>>);

impl TimingLimits {
    pub(crate) fn set(&self, costs: Vec<(&'static str, u64)>) {
        *self.0.lock() = costs;
    }

    /// Each reason and what it cost.
    pub(crate) fn each(&self, mut each: impl FnMut(&'static str, u64)) {
        self.0.lock().iter().for_each(|(reason, cost)| each(reason, *cost));
    }
}

/// Names that have a counter of their own.
const MAX_NAMES: usize = 256;

/// Everything that is counted outside the windows.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    /// Those of the above that end when the proxy drains.
    pub(crate) inbound_connections: Gauge,
    /// Listeners for such connections.
    pub(crate) inbound_listeners: Gauge,
    /// Connections to the admin listener.
    pub(crate) admin_connections: Gauge,
    pub(crate) admin_refused: Counter,
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) connections_malformed: Counter,
    pub(crate) connections_timed_out: Counter,
    /// Connections and tunnels in which nothing moved.
    pub(crate) streams_timed_out: Counter,
    /// Connections that the kernel brought here.
    pub(crate) captured_outbound: Counter,
    pub(crate) captured_inbound: Counter,
    /// Listeners to which new connections could not be steered, and from which they could not be turned away.
    pub(crate) takeover_unsteered: Counter,
    pub(crate) takeover_unturned: Counter,
    /// Captured connections that would have come back to this proxy.
    pub(crate) captured_loops: Counter,
    /// Captured connections that were reset, since there was none to their destination.
    pub(crate) captured_reset: Counter,
    /// Connections that are passed on untouched.
    pub(crate) opaque_connections: Gauge,
    /// Such connections that were silent for too long.
    pub(crate) opaque_idle: Counter,
    /// Requests of the platform, such as probes.
    pub(crate) infra_requests: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) requests_in_flight: Gauge,
    pub(crate) upstream_connections_opened: Counter,
    pub(crate) upstream_connections_reused: Counter,
    pub(crate) upstream_replays: Counter,
    /// Calls that were tried again, since their route says so, by destination.
    pub(crate) retries: ByName,
    retries_denied: [Counter; Denied::ALL.len()],
    /// Bodies of requests, kept until the heads of their answers come.
    pub(crate) kept_bytes: Arc<Quota>,
    /// Calls of gRPC whose `grpc-timeout` cannot be read.
    pub(crate) grpc_timeouts_malformed: Counter,
    /// HTTP/1 connections to upstreams that nobody uses.
    pub(crate) upstream_idle: Gauge,
    /// Such connections that were closed since there were too many.
    pub(crate) upstream_idle_overflow: Counter,
    pub(crate) explicit_upstreams_overflow: Counter,
    /// Endpoints that workers know; each worker counts its own.
    pub(crate) endpoints: Gauge,
    /// Endpoints of names beyond the limit of one name.
    pub(crate) endpoints_overflow: Counter,
    /// Names beyond the limit of names.
    pub(crate) names_overflow: Counter,
    pub(crate) resolution_failures: Counter,
    pub(crate) connect_failures: ByName,
    pub(crate) contexts_malformed: Counter,
    pub(crate) contexts_untrusted: Counter,
    /// Requests with a `traceparent` or `tracestate` that cannot be read, or is too long.
    pub(crate) traceparents_malformed: Counter,
    pub(crate) tracestates_malformed: Counter,
    pub(crate) summaries_malformed: Counter,
    pub(crate) summaries_untrusted: Counter,
    /// Calls that no header links: on a path that timing made clear at once, on none that it did, and those that it made
    /// clear once they had ended.
    pub(crate) timing_inferred: Counter,
    pub(crate) timing_abstained: Counter,
    pub(crate) timing_inferred_later: Counter,
    /// Events that timing was not told, since the thread was too far behind.
    pub(crate) timing_events_lost: Counter,
    /// Handlers and calls whose endpoints are beyond those that timing tells apart.
    pub(crate) timing_names_refused: Counter,
    /// Calls of which nothing could be said at once since another worker was writing down what it knew.
    pub(crate) timing_busy: Counter,
    /// What the limits of the estimator cost, as it last said.
    pub(crate) timing_limits: TimingLimits,
    pub(crate) reports_sent: Counter,
    pub(crate) reports_refused: Counter,
    pub(crate) report_failures: Counter,
    /// TLS handshakes of clients that are under way.
    pub(crate) tls_handshakes: Gauge,
    pub(crate) tls_accepted: Counter,
    pub(crate) tls_connected: Counter,
    /// Connections to destinations that nobody configured on which a sidecar answered.
    pub(crate) mesh_secured: Counter,
    /// Those that go in the clear, since none did.
    pub(crate) mesh_clear: Counter,
    /// Those of them where one had answered before.
    pub(crate) mesh_downgrades: Counter,
    pub(crate) tls_reloads: Counter,
    pub(crate) tls_reloads_failed: Counter,
    tls_refused_inbound: [Counter; Refusal::ALL.len()],
    tls_refused_outbound: [Counter; Refusal::ALL.len()],
    pub(crate) reloads_applied: Counter,
    pub(crate) reloads_unchanged: Counter,
    pub(crate) reloads_refused: Counter,
    faults: [Counter; Fault::ALL.len()],
    abuses: [Counter; Abuse::ALL.len()],
    malformed_requests: [Counter; Violation::ALL.len()],
    malformed_responses: [Counter; Violation::ALL.len()],
}

impl Metrics {
    /// Counts an answer that the proxy made itself.
    pub(crate) fn fault(&self, fault: Fault) {
        if let Some(counter) = self.faults.get(fault as usize) {
            counter.add(1);
        }
    }

    /// Counts a client with which there is no TLS.
    pub(crate) fn tls_refused_inbound(&self, why: Refusal) {
        if let Some(counter) = self.tls_refused_inbound.get(why as usize) {
            counter.add(1);
        }
    }

    /// Counts a connection to an upstream on which there is no TLS.
    pub(crate) fn tls_refused_outbound(&self, why: Refusal) {
        if let Some(counter) = self.tls_refused_outbound.get(why as usize) {
            counter.add(1);
        }
    }

    /// The connections on which there was no TLS: `inbound` or `outbound`, and why.
    pub(crate) fn tls_refused(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let sides = [("inbound", &self.tls_refused_inbound), ("outbound", &self.tls_refused_outbound)];
        sides.into_iter().flat_map(|(side, counters)| {
            let counts = Refusal::ALL.into_iter().zip(counters);
            counts.map(move |(why, counter)| (side, why.as_str(), counter.get()))
        })
    }

    /// Counts a call that could have been tried again and was not.
    pub(crate) fn retry_denied(&self, why: Denied) {
        if let Some(counter) = self.retries_denied.get(why as usize) {
            counter.add(1);
        }
    }

    /// The calls that could have been tried again and were not, by reason.
    pub(crate) fn retries_denied(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Denied::ALL.into_iter().zip(&self.retries_denied).map(|(why, counter)| (why.as_str(), counter.get()))
    }

    /// Counts an HTTP/2 connection that was cut for a flood of frames.
    pub(crate) fn abuse(&self, abuse: Abuse) {
        if let Some(counter) = self.abuses.get(abuse as usize) {
            counter.add(1);
        }
    }

    /// The HTTP/2 connections that were cut, by kind of flood.
    pub(crate) fn abuses(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Abuse::ALL.into_iter().zip(&self.abuses).map(|(abuse, counter)| (abuse.as_str(), counter.get()))
    }

    /// Counts an HTTP/1 connection of a client that was ended for what it sent.
    pub(crate) fn malformed_request(&self, violation: Violation) {
        if let Some(counter) = self.malformed_requests.get(violation as usize) {
            counter.add(1);
        }
    }

    /// Counts an HTTP/1 connection to an upstream that was ended for what came on it.
    pub(crate) fn malformed_response(&self, violation: Violation) {
        if let Some(counter) = self.malformed_responses.get(violation as usize) {
            counter.add(1);
        }
    }

    /// The HTTP/1 connections that were ended for what was sent on them: `request` or `response`, and by kind.
    pub(crate) fn malformed(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let sides = [("request", &self.malformed_requests), ("response", &self.malformed_responses)];
        sides.into_iter().flat_map(|(side, counters)| {
            let counts = Violation::ALL.into_iter().zip(counters);
            counts.map(move |(violation, counter)| (side, violation.word(), counter.get()))
        })
    }

    /// The answers that the proxy made itself, by reason.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Fault::ALL.into_iter().zip(&self.faults).map(|(fault, counter)| (fault.answer().reason, counter.get()))
    }
}
