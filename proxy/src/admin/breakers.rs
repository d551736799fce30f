//! `/breakers`: where every breaker stands and why, what it stops or would have stopped, and the last changes with their
//! evidence. Somebody on this machine can stop calls by hand, for a time and with a reason.

use std::net::SocketAddr;
use std::time::Duration;

use couplet_config::BreakerMode;
use couplet_telemetry::breaker::{BreakerCounts, Cause, Count, Transition, WouldHave};
use couplet_telemetry::histogram::seconds;
use serde::Serialize;
use tokio::time::Instant;

use super::parameters::Parameters;
use crate::policy::{Breaker, Breakers, Counts, Forced, Noted, Stands, View};

/// All breakers.
#[derive(Serialize)]
pub(super) struct Page {
    service: String,
    breakers: Vec<Entry>,
    /// Destinations that have none, since there are too many.
    without_breaker: u64,
    /// The last ones, the newest first.
    transitions: Vec<Transition>,
    /// How many there were since the proxy began.
    transitions_total: u64,
}

/// One breaker.
#[derive(Serialize)]
pub(super) struct Entry {
    from: String,
    to: String,
    /// The class of calls that it is for, where it is for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    mode: BreakerMode,
    enforce_percent: u32,
    state: &'static str,
    /// Calls are stopped, and the next one would be let through to see how it fares.
    eligible: bool,
    /// How long the state lasts, where that depends on time alone.
    remaining_ms: Option<u64>,
    epoch: u64,
    window: Window,
    in_flight: u64,
    in_flight_peak: u64,
    connections: u64,
    connections_peak: u64,
    pending: u64,
    pending_peak: u64,
    /// The limits, where there are any.
    max_in_flight: Option<u32>,
    max_connections: Option<u32>,
    max_pending: Option<u32>,
    /// What they rejected, and would have rejected where breakers observe.
    limit_rejected: u64,
    limit_would_reject: u64,
    calls: Calls,
    /// What enforcing would have done.
    would_have: WouldHave,
    causes: Vec<Cause>,
    forced: Option<ByHand>,
    /// Endpoints that failed of late, where there are several.
    endpoints: Vec<Endpoint>,
    /// What became of endpoints that fail, since the proxy began.
    ejections: std::collections::BTreeMap<&'static str, u64>,
}

/// An endpoint of which something bad is known.
#[derive(Serialize)]
struct Endpoint {
    address: SocketAddr,
    /// In a row.
    failures: u32,
    connect_failures: u32,
    /// Times that it was ejected, less what has decayed since.
    times: u32,
    /// For how long it is still ejected, or would be where breakers observe.
    ejected_ms: Option<u64>,
}

/// Calls within the window.
#[derive(Serialize)]
struct Window {
    total: u32,
    failed: u32,
    throttled: u32,
    no_connection: u32,
    slow: u32,
    /// Failures in a row.
    consecutive: u32,
    rate: f64,
}

/// Calls since the proxy began, by what their end counted as.
#[derive(Serialize)]
struct Calls {
    #[serde(flatten)]
    ended: std::collections::BTreeMap<&'static str, u64>,
    rejected: u64,
    probes: u64,
    /// Those that began before the last change of state, and decided nothing.
    stale: u64,
    opened: u64,
    stopped_seconds: f64,
}

/// A state that somebody wants.
#[derive(Serialize)]
struct ByHand {
    by: String,
    why: String,
}

pub(super) fn page(service: &str, breakers: &Breakers, now: Instant) -> Page {
    let (transitions, transitions_total) = breakers.transitions.last();
    Page {
        service: service.to_owned(),
        breakers: breakers.all().iter().map(|breaker| entry(breaker, now)).collect(),
        without_breaker: breakers.overflow.get(),
        transitions: transitions.iter().map(|transition| (**transition).clone()).collect(),
        transitions_total,
    }
}

pub(super) fn entry(breaker: &Breaker, now: Instant) -> Entry {
    let View { settings, stands, epoch, remaining, counts, consecutive, done, causes, forced } = breaker.view(now);
    let (noted, ejections) = breaker.neighbour.endpoints.view(now);
    let (connections, pending) = (&breaker.neighbour.connections, &breaker.neighbour.pending);
    let limits = [&breaker.in_flight, connections, pending];
    Entry {
        from: breaker.from.to_string(),
        to: breaker.to.to_string(),
        class: breaker.class.as_deref().map(str::to_owned),
        mode: settings.mode,
        enforce_percent: settings.enforce_percent,
        state: stands.as_str(),
        eligible: stands == Stands::Open && remaining == Some(Duration::ZERO),
        remaining_ms: remaining.map(millis),
        epoch,
        window: window(&counts, consecutive),
        in_flight: breaker.in_flight.get(),
        in_flight_peak: breaker.in_flight.peak(),
        connections: connections.get(),
        connections_peak: connections.peak(),
        pending: pending.get(),
        pending_peak: pending.peak(),
        max_in_flight: settings.max_in_flight,
        max_connections: settings.max_connections,
        max_pending: settings.max_pending,
        limit_rejected: limits.map(|limit| limit.rejected.get()).iter().sum(),
        limit_would_reject: limits.map(|limit| limit.would_reject.get()).iter().sum(),
        calls: calls(&done),
        would_have: WouldHave::from(&done),
        causes,
        forced: forced.map(by_hand),
        endpoints: noted.iter().map(endpoint).collect(),
        ejections: ejections.each().into_iter().collect(),
    }
}

fn window(counts: &Counts, consecutive: u32) -> Window {
    Window {
        total: counts.total,
        failed: counts.failed,
        throttled: counts.throttled,
        no_connection: counts.local,
        slow: counts.slow,
        consecutive,
        rate: counts.failure_rate(),
    }
}

fn calls(done: &BreakerCounts) -> Calls {
    Calls {
        ended: done.ended().map(|(count, n)| (count.as_str(), n)).collect(),
        rejected: done.get(Count::Rejected),
        probes: done.get(Count::Probes),
        stale: done.get(Count::Stale),
        opened: done.get(Count::Opened),
        stopped_seconds: seconds(done.get(Count::Stopped)),
    }
}

fn endpoint(noted: &Noted) -> Endpoint {
    let Noted { address, failures, connect_failures, times, remaining } = *noted;
    Endpoint { address, failures, connect_failures, times, ejected_ms: remaining.map(millis) }
}

fn by_hand(forced: Forced) -> ByHand {
    ByHand { by: forced.by, why: forced.why }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What somebody asks for: `state=open|closed|auto&for=5m&by=ann&why=drill`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Force {
        forced: Forced,
        lasts: Duration,
    },
    /// The breaker finds its state by itself again.
    Release,
}

impl Order {
    /// Reads the parameters of a query.
    ///
    /// # Errors
    /// A sentence that says what is missing or wrong, and how to write it.
    pub(super) fn read(parameters: &[(String, String)]) -> Result<Self, String> {
        let parameters = Parameters::of(parameters, &["state", "class", "for", "by", "why"], FORM)?;
        let open = match parameters.find("state") {
            Some("open") => true,
            Some("closed") => false,
            Some("auto") => return Ok(Order::Release),
            Some(other) => return Err(format!("there is no state `{other}`; {FORM}")),
            None => return Err(format!("`state` is missing; {FORM}")),
        };
        let lasts = parameters.lasts()?;
        let (by, why) = (parameters.text("by", "who wants it")?, parameters.text("why", "what it is for")?);
        Ok(Order::Force { forced: Forced { by, why, open }, lasts })
    }
}

const FORM: &str = "write it like ?state=open&for=5m&by=ann&why=drill, where state is open, closed or auto";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Order, String> {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
        Order::read(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_is_forced_for_ever_or_by_nobody() {
        let forced = Forced { by: "ann".to_owned(), why: "drill".to_owned(), open: true };
        let lasts = Duration::from_secs(300);
        assert_eq!(read("state=open&for=5m&by=ann&why=drill"), Ok(Order::Force { forced, lasts }));
        assert_eq!(read("state=auto"), Ok(Order::Release));
        for (query, reason) in [
            ("state=open&by=ann&why=drill", "for ever"),
            ("state=open&for=5m&for=6m&by=ann&why=drill", "twice"),
            ("state=open&for=5m&why=drill", "who wants it"),
            ("state=open&for=5m&by=ann", "what it is for"),
            ("state=open&for=5&by=ann&why=drill", "a unit is missing"),
            ("state=open&for=48h&by=ann&why=drill", "between 1s and 24h"),
            ("state=shut&for=5m&by=ann&why=drill", "no state `shut`"),
            ("for=5m&by=ann&why=drill", "`state` is missing"),
            ("state=open&ttl=5m", "`ttl` means nothing"),
        ] {
            let message = read(query).unwrap_err();
            assert!(message.contains(reason), "{query}: {message}");
        }
    }
}
