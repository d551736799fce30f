//! What destinations speak, as found out of late: a connection to one that speaks HTTP is made when it is needed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use couplet_telemetry::histogram::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

/// For how long a verdict is believed.
const TTL: Duration = Duration::from_secs(600);
/// Destinations whose verdict is kept.
const MOST: usize = 4_096;

/// What a destination speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    Tls,
    Opaque,
}

impl Spoken {
    pub(crate) const ALL: [Spoken; 4] = [Spoken::Http1, Spoken::Http2, Spoken::Tls, Spoken::Opaque];

    /// The word in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Spoken::Http1 => "http1",
            Spoken::Http2 => "http2",
            Spoken::Tls => "tls",
            Spoken::Opaque => "opaque",
        }
    }
}

/// What was found out about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) spoken: Spoken,
    /// Whether the server spoke first: some clients wait for that.
    pub(crate) server_first: bool,
}

/// The verdicts on captured connections.
#[derive(Default)]
pub(crate) struct Verdicts(Mutex<Known>);

#[derive(Default)]
struct Known {
    destinations: HashMap<SocketAddr, (Verdict, Instant)>,
    /// All verdicts since the beginning, in the order of [`Spoken::ALL`].
    counts: [u64; Spoken::ALL.len()],
    /// From the first byte of either side to the verdict.
    took: Histogram,
    overflow: u64,
}

/// What there is to say about verdicts.
pub(crate) struct Said {
    pub(crate) kept: [(Spoken, u64); Spoken::ALL.len()],
    pub(crate) counts: [(Spoken, u64); Spoken::ALL.len()],
    pub(crate) took: Histogram,
    pub(crate) overflow: u64,
}

impl Verdicts {
    /// Whether within the last ten minutes a client began to speak HTTP to the destination: then the next one will.
    pub(crate) fn is_http(&self, destination: SocketAddr, now: Instant) -> bool {
        let known = self.0.lock();
        let verdict = known.destinations.get(&destination);
        let fresh = verdict.filter(|(_, at)| now.saturating_duration_since(*at) < TTL);
        fresh.is_some_and(|(verdict, _)| {
            !verdict.server_first && matches!(verdict.spoken, Spoken::Http1 | Spoken::Http2)
        })
    }

    /// A verdict was reached, so long after the first byte.
    pub(crate) fn found(&self, destination: SocketAddr, verdict: Verdict, took: Duration, now: Instant) {
        let mut known = self.0.lock();
        if let Some(count) = known.counts.get_mut(verdict.spoken as usize) {
            *count += 1;
        }
        known.took.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if known.destinations.len() >= MOST && !known.destinations.contains_key(&destination) {
            known.destinations.retain(|_, (_, at)| now.saturating_duration_since(*at) < TTL);
            if known.destinations.len() >= MOST {
                known.overflow += 1;
                return;
            }
        }
        known.destinations.insert(destination, (verdict, now));
    }

    /// What is kept now, and what was counted since the beginning.
    pub(crate) fn said(&self, now: Instant) -> Said {
        let known = self.0.lock();
        let fresh = |spoken: Spoken| {
            let of = known.destinations.values();
            of.filter(|(kept, at)| kept.spoken == spoken && now.saturating_duration_since(*at) < TTL).count() as u64
        };
        Said {
            kept: Spoken::ALL.map(|spoken| (spoken, fresh(spoken))),
            counts: Spoken::ALL.map(|spoken| (spoken, known.counts.get(spoken as usize).copied().unwrap_or(0))),
            took: known.took.clone(),
            overflow: known.overflow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> SocketAddr {
        SocketAddr::from((u32::try_from(n).unwrap().to_be_bytes(), 80))
    }

    fn client_spoke(spoken: Spoken) -> Verdict {
        Verdict { spoken, server_first: false }
    }

    #[test]
    fn a_verdict_is_believed_for_ten_minutes() {
        let (verdicts, now) = (Verdicts::default(), Instant::now());
        verdicts.found(address(1), client_spoke(Spoken::Http1), Duration::ZERO, now);
        assert!(verdicts.is_http(address(1), now + TTL - Duration::from_secs(1)));
        assert!(!verdicts.is_http(address(1), now + TTL) && !verdicts.is_http(address(2), now));
        verdicts.found(address(1), client_spoke(Spoken::Opaque), Duration::ZERO, now);
        assert!(!verdicts.is_http(address(1), now), "the last one counts");
    }

    #[test]
    fn a_client_that_waits_for_the_settings_of_its_server_is_not_kept_waiting_the_next_time() {
        let (verdicts, now) = (Verdicts::default(), Instant::now());
        verdicts.found(address(1), Verdict { spoken: Spoken::Http2, server_first: true }, Duration::ZERO, now);
        assert!(!verdicts.is_http(address(1), now));
    }

    #[test]
    fn old_verdicts_make_room_and_no_more_than_the_limit_are_kept() {
        let (verdicts, now) = (Verdicts::default(), Instant::now());
        (0..MOST + 7).for_each(|n| verdicts.found(address(n), client_spoke(Spoken::Http1), Duration::ZERO, now));
        let said = verdicts.said(now);
        assert_eq!((said.kept[0].1, said.counts[0].1, said.overflow), (MOST as u64, MOST as u64 + 7, 7));
        verdicts.found(address(MOST + 100), client_spoke(Spoken::Http2), Duration::ZERO, now + TTL);
        assert!(verdicts.is_http(address(MOST + 100), now + TTL));
    }
}
