//! What the last failures were: evidence for whoever wants to know why calls are stopped.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use couplet_telemetry::breaker::Cause;
use tokio::time::Instant;

use crate::error::Fault;

/// What is known of a call's end beside what it counts as.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Failed {
    pub(crate) what: Option<What>,
    /// The endpoint that failed, where one was reached.
    pub(crate) endpoint: Option<SocketAddr>,
    /// The trace of the call, or zero.
    pub(crate) trace: u128,
    /// The destination asks not to be called for so long.
    pub(crate) retry_after: Option<Duration>,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// An answer with this status.
    Http(u16),
    /// A gRPC answer with this code.
    Grpc(u8),
    /// No `grpc-status` came.
    NoGrpcStatus,
    /// The answer broke off.
    Broken,
    /// The client's deadline passed.
    Deadline,
    /// There was no answer.
    Fault(Fault),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Http(status) => write!(f, "http_{status}"),
            What::Grpc(code) => write!(f, "grpc_{code}"),
            What::NoGrpcStatus => f.write_str("no_grpc_status"),
            What::Broken => f.write_str("broken"),
            What::Deadline => f.write_str("deadline"),
            What::Fault(fault) => f.write_str(fault.answer().reason),
        }
    }
}

/// The last failures. Those before the last so many are counted, not named.
#[derive(Debug, Default)]
pub(super) struct Causes(VecDeque<(Instant, What, Option<SocketAddr>, u128)>);

impl Causes {
    pub(super) fn add(&mut self, failed: &Failed, now: Instant) {
        let Some(what) = failed.what else { return };
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, what, failed.endpoint, failed.trace));
    }

    /// Those within the window, grouped; the most frequent first.
    pub(super) fn within(&self, window: Duration, now: Instant) -> Vec<Cause> {
        let mut causes: Vec<(What, Option<SocketAddr>, u32, u128)> = Vec::new();
        for (at, what, endpoint, trace) in &self.0 {
            if now.saturating_duration_since(*at) > window {
                continue;
            }
            match causes.iter_mut().find(|cause| cause.0 == *what && cause.1 == *endpoint) {
                Some((_, _, count, last)) => (*count, *last) = (*count + 1, *trace),
                None => causes.push((*what, *endpoint, 1, *trace)),
            }
        }
        causes.sort_by_key(|(_, _, count, _)| std::cmp::Reverse(*count));
        let named = |(what, endpoint, n, trace): (What, Option<SocketAddr>, u32, u128)| Cause {
            class: what.to_string(),
            n,
            endpoint: endpoint.map(|endpoint| endpoint.to_string()),
            trace: (trace != 0).then(|| format!("{trace:032x}")),
        };
        causes.into_iter().map(named).collect()
    }
}

/// Failures that are kept: 4 KiB for each breaker whose destination fails.
const KEPT: usize = 64;
