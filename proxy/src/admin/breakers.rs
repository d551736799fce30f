//! `/breakers`: where every breaker stands and why, what it stops or would have stopped, and the last changes with their
//! evidence. Somebody on this machine can stop calls by hand, for a time and with a reason.

use std::time::Duration;

use couplet_config::BreakerMode;
use serde::Serialize;
use tokio::time::Instant;

use crate::policy::{Breaker, Breakers, Cause, Counts, Forced, Stands, Tally, Transition, View};

/// All breakers.
#[derive(Serialize)]
pub(super) struct Page {
    service: String,
    breakers: Vec<Entry>,
    /// Destinations that have none, since there are too many.
    without_breaker: u64,
    /// The last ones, the newest first.
    transitions: Vec<Change>,
    /// How many there were since the proxy began.
    transitions_total: u64,
}

/// One breaker.
#[derive(Serialize)]
pub(super) struct Entry {
    from: String,
    to: String,
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
    calls: Calls,
    /// What enforcing would have done.
    would_have: WouldHave,
    causes: Vec<Failures>,
    forced: Option<ByHand>,
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

/// What became of calls that would have been stopped.
#[derive(Serialize)]
struct WouldHave {
    rejected: u64,
    failed: u64,
    slow: u64,
    succeeded: u64,
    unknown: u64,
    /// The time that all of them took.
    seconds: f64,
    /// The share of them that failed anyway; nothing where there were none.
    precision: Option<f64>,
}

/// Failures of one kind among the last ones.
#[derive(Serialize)]
struct Failures {
    class: String,
    n: u32,
    endpoint: Option<String>,
    trace: Option<String>,
}

/// A state that somebody wants.
#[derive(Serialize)]
struct ByHand {
    by: String,
    why: String,
}

/// One change of state.
#[derive(Serialize)]
pub(super) struct Change {
    ts: String,
    number: u64,
    edge: String,
    breaker: &'static str,
    epoch: u64,
    from: &'static str,
    to: &'static str,
    mode: BreakerMode,
    /// Whether calls really are stopped, or only would be.
    stops: bool,
    reason: &'static str,
    rule: Option<String>,
    observed: Observed,
    causes: Vec<Failures>,
    open_for_ms: Option<u64>,
    attempt: u32,
    forced: Option<ByHand>,
    /// Of the rules in force.
    config: String,
}

#[derive(Serialize)]
struct Observed {
    #[serde(flatten)]
    window: Window,
    in_flight: u64,
    p99_ms: Option<f64>,
}

pub(super) fn page(service: &str, breakers: &Breakers, now: Instant) -> Page {
    let (transitions, transitions_total) = breakers.transitions.last();
    Page {
        service: service.to_owned(),
        breakers: breakers.all().iter().map(|breaker| entry(breaker, now)).collect(),
        without_breaker: breakers.overflow.get(),
        transitions: transitions.iter().map(|transition| change(transition)).collect(),
        transitions_total,
    }
}

pub(super) fn entry(breaker: &Breaker, now: Instant) -> Entry {
    let View { settings, stands, epoch, remaining, counts, consecutive, tally, causes, forced } = breaker.view(now);
    Entry {
        from: breaker.from.to_string(),
        to: breaker.to.to_string(),
        mode: settings.mode,
        enforce_percent: settings.enforce_percent,
        state: stands.as_str(),
        eligible: stands == Stands::Open && remaining == Some(Duration::ZERO),
        remaining_ms: remaining.map(millis),
        epoch,
        window: window(&counts, consecutive),
        in_flight: breaker.in_flight.get(),
        in_flight_peak: breaker.in_flight.peak(),
        calls: calls(&tally),
        would_have: would_have(&tally),
        causes: causes.iter().map(failures).collect(),
        forced: forced.map(by_hand),
    }
}

pub(super) fn change(transition: &Transition) -> Change {
    let change = &transition.change;
    Change {
        ts: humantime::format_rfc3339_millis(transition.at).to_string(),
        number: transition.number,
        edge: format!("{}→{}", transition.from, transition.to),
        breaker: "edge",
        epoch: change.epoch,
        from: change.from.as_str(),
        to: change.to.as_str(),
        mode: transition.mode,
        stops: transition.stops(),
        reason: change.reason.as_str(),
        rule: transition.rule.clone(),
        observed: Observed {
            window: window(&change.counts, change.consecutive),
            in_flight: transition.in_flight,
            p99_ms: transition.p99.map(|time| time.as_secs_f64() * 1_000.0),
        },
        causes: transition.causes.iter().map(failures).collect(),
        open_for_ms: change.open_for.map(millis),
        attempt: change.attempt,
        forced: transition.forced.clone().map(by_hand),
        config: format!("xxh3:{:016x}", transition.config),
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

fn calls(tally: &Tally) -> Calls {
    Calls {
        ended: tally.by_class().map(|(class, count)| (class.as_str(), count)).collect(),
        rejected: tally.rejected,
        probes: tally.probes,
        stale: tally.stale,
        opened: tally.opened,
        stopped_seconds: tally.stopped.as_secs_f64(),
    }
}

fn would_have(tally: &Tally) -> WouldHave {
    let shadow = &tally.shadow;
    WouldHave {
        rejected: shadow.total(),
        failed: shadow.failed,
        slow: shadow.slow,
        succeeded: shadow.succeeded,
        unknown: shadow.unknown,
        seconds: shadow.time.as_secs_f64(),
        precision: (shadow.total() > 0).then(|| shadow.failed as f64 / shadow.total() as f64),
    }
}

fn failures(cause: &Cause) -> Failures {
    Failures {
        class: cause.what.to_string(),
        n: cause.count,
        endpoint: cause.endpoint.map(|endpoint| endpoint.to_string()),
        trace: (cause.trace != 0).then(|| format!("{:032x}", cause.trace)),
    }
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
        let find = |key: &str| parameters.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        if let Some((unknown, _)) =
            parameters.iter().find(|(key, _)| !["state", "for", "by", "why"].contains(&key.as_str()))
        {
            return Err(format!("`{unknown}` means nothing here; {FORM}"));
        }
        let open = match find("state") {
            Some("open") => true,
            Some("closed") => false,
            Some("auto") => return Ok(Order::Release),
            Some(other) => return Err(format!("there is no state `{other}`; {FORM}")),
            None => return Err(format!("`state` is missing; {FORM}")),
        };
        let text = |key: &str, what: &str| match find(key).map(str::trim) {
            Some(text) if (1..=MAX_TEXT).contains(&text.len()) => Ok(text.to_owned()),
            Some(_) => Err(format!("`{key}` must have 1 to {MAX_TEXT} characters; {FORM}")),
            None => Err(format!("`{key}` is missing: {what}; {FORM}")),
        };
        let lasts = find("for").ok_or_else(|| format!("`for` is missing: nothing is forced for ever; {FORM}"))?;
        let lasts = couplet_config::parse_duration(lasts).map_err(|error| format!("`for`: {error}"))?;
        if !(Duration::from_secs(1)..=LONGEST).contains(&lasts) {
            return Err("`for` must be between 1s and 24h".to_owned());
        }
        let (by, why) = (text("by", "who wants it")?, text("why", "what it is for")?);
        Ok(Order::Force { forced: Forced { by, why, open }, lasts })
    }
}

const FORM: &str = "write it like ?state=open&for=5m&by=ann&why=drill, where state is open, closed or auto";
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_TEXT: usize = 200;

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
