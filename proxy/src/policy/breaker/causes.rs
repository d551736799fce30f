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
pub(super) struct Causes {
    /// What went wrong where, and the trace of the last one. A failure is kept by its place in here: there are a thousand
    /// breakers, and few ways to fail.
    kinds: Vec<(What, Option<SocketAddr>, u128)>,
    /// When each was, in milliseconds after `since`, and its kind.
    last: VecDeque<(u32, u8)>,
    since: Option<Instant>,
}

impl Causes {
    pub(super) fn add(&mut self, failed: &Failed, now: Instant) {
        let Some(what) = failed.what else { return };
        let kind = (what, failed.endpoint, failed.trace);
        let since = *self.since.get_or_insert(now);
        let known = self.kinds.iter().position(|kind| kind.0 == what && kind.1 == failed.endpoint);
        let place = known.or_else(|| (self.kinds.len() < KINDS).then_some(self.kinds.len()));
        let place = place.unwrap_or_else(|| self.least());
        match self.kinds.get_mut(place) {
            Some(slot) => *slot = kind,
            None => self.kinds.push(kind),
        }
        if self.last.len() >= KEPT {
            self.last.pop_front();
        }
        self.last.push_back((millis(now, since), place as u8));
    }

    /// The kind whose last failure is the longest ago, with which its failures are forgotten.
    fn least(&mut self) -> usize {
        let newest = |place: usize| self.last.iter().rposition(|(_, kind)| usize::from(*kind) == place);
        let least = (0..self.kinds.len()).min_by_key(|place| newest(*place)).unwrap_or(0);
        self.last.retain(|(_, kind)| usize::from(*kind) != least);
        least
    }

    /// Those within the window, grouped; the most frequent first.
    pub(super) fn within(&self, window: Duration, now: Instant) -> Vec<Cause> {
        let now = self.since.map_or(0, |since| millis(now, since));
        let window = u32::try_from(window.as_millis()).unwrap_or(u32::MAX);
        let recent = |place: usize| {
            let of_kind = self.last.iter().filter(|(_, kind)| usize::from(*kind) == place);
            of_kind.filter(|(at, _)| now.saturating_sub(*at) <= window).count()
        };
        let counted = self.kinds.iter().enumerate().map(|(place, kind)| (recent(place), kind));
        let mut causes: Vec<_> = counted.filter(|(n, _)| *n > 0).collect();
        causes.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        let named = |(n, (what, endpoint, trace)): (usize, &(What, Option<SocketAddr>, u128))| Cause {
            class: what.to_string(),
            n: n as u32,
            endpoint: endpoint.map(|endpoint| endpoint.to_string()),
            trace: (*trace != 0).then(|| format!("{trace:032x}")),
        };
        causes.into_iter().map(named).collect()
    }
}

/// Of a breaker that has stood for longer than 49 days the last failures all seem to be recent.
fn millis(now: Instant, since: Instant) -> u32 {
    u32::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u32::MAX)
}

/// Failures that are kept.
const KEPT: usize = 64;
/// Ways to fail, by endpoint, that are kept apart.
const KINDS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(status: u16, endpoint: u8, trace: u128) -> Failed {
        let endpoint = Some(SocketAddr::from(([10, 0, 0, endpoint], 80)));
        Failed { what: Some(What::Http(status)), endpoint, trace, retry_after: None }
    }

    #[test]
    fn failures_are_grouped_by_kind_and_endpoint_and_named_by_the_last_one() {
        let (mut causes, now) = (Causes::default(), Instant::now());
        for n in 0..100 {
            causes.add(&failed(if n % 4 == 0 { 502 } else { 500 }, 1, n + 1), now);
        }
        let shown = causes.within(Duration::from_secs(10), now);
        let short: Vec<_> = shown.iter().map(|cause| (cause.class.as_str(), cause.n)).collect();
        assert_eq!(short, [("http_500", 48), ("http_502", 16)], "of the last 64");
        assert_eq!(shown[0].trace.as_deref(), Some(&*format!("{:032x}", 100)));
        assert!(causes.within(Duration::from_secs(10), now + Duration::from_secs(11)).is_empty());
    }

    #[test]
    fn of_more_kinds_than_are_kept_apart_the_oldest_goes_with_its_failures() {
        let (mut causes, now) = (Causes::default(), Instant::now());
        for endpoint in 0..=KINDS as u8 {
            causes.add(&failed(500, endpoint, 0), now);
            causes.add(&failed(500, 1, 0), now);
        }
        let shown = causes.within(Duration::from_secs(10), now);
        assert_eq!(shown.len(), KINDS);
        assert_eq!(shown[0].n as usize, KINDS + 2, "the one that goes on failing stays");
        let gone = shown.iter().all(|cause| cause.endpoint.as_deref() != Some("10.0.0.0:80"));
        assert!(gone, "{shown:?}");
    }
}
