//! What the proxy counts of itself: plain atomics, bumped on the request path, read by the admin side.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Fault;

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
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        if now > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
        now
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

/// Everything that is counted outside the windows.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) connections_malformed: Counter,
    pub(crate) connections_timed_out: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) requests_in_flight: Gauge,
    pub(crate) upstream_connections_opened: Counter,
    pub(crate) upstream_connections_reused: Counter,
    pub(crate) upstream_replays: Counter,
    pub(crate) explicit_upstreams_overflow: Counter,
    pub(crate) contexts_malformed: Counter,
    pub(crate) contexts_untrusted: Counter,
    pub(crate) summaries_malformed: Counter,
    pub(crate) summaries_untrusted: Counter,
    pub(crate) reports_sent: Counter,
    pub(crate) reports_refused: Counter,
    pub(crate) report_failures: Counter,
    faults: [Counter; Fault::ALL.len()],
}

impl Metrics {
    /// Counts an answer that the proxy made itself.
    pub(crate) fn fault(&self, fault: Fault) {
        if let Some(counter) = self.faults.get(fault as usize) {
            counter.add(1);
        }
    }

    /// The answers that the proxy made itself, by reason.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Fault::ALL.into_iter().zip(&self.faults).map(|(fault, counter)| (fault.answer().reason, counter.get()))
    }
}
