//! `/faults`: which faults are injected into calls on purpose, by whom, why, until when, and how many calls met them.

use std::time::Duration;

use couplet_telemetry::exposition::{Kind, Text};
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::parameters::Parameters;
use crate::policy::{Aim, Injection, Injections};

/// All of them.
#[derive(Serialize)]
pub(super) struct Page {
    service: String,
    faults: Vec<Entry>,
    /// Those that are over, the newest first.
    ended: Vec<Ended>,
    /// Calls that are held up just now.
    held: u64,
    /// Calls that were to be held up and were not, since too many are.
    spared: u64,
}

/// One that is in force.
#[derive(Serialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    fault: Fault,
    remaining_ms: u64,
}

/// One that is over.
#[derive(Serialize)]
struct Ended {
    #[serde(flatten)]
    fault: Fault,
    ended: &'static str,
}

#[derive(Serialize)]
struct Fault {
    id: u64,
    to: String,
    method: Option<String>,
    path: Option<String>,
    percent: f64,
    delay_ms: Option<u64>,
    status: Option<u16>,
    grpc_status: Option<u8>,
    by: String,
    why: String,
    delayed: u64,
    aborted: u64,
}

pub(super) fn page(service: &str, injections: &Injections, now: Instant) -> Page {
    injections.sweep(now);
    let (active, ended) = injections.all();
    Page {
        service: service.to_owned(),
        faults: active.iter().map(|injection| entry(injection, now)).collect(),
        ended: ended.iter().map(|over| Ended { fault: fault(&over.injection), ended: over.how.as_str() }).collect(),
        held: injections.held.get(),
        spared: injections.spared.get(),
    }
}

pub(super) fn entry(injection: &Injection, now: Instant) -> Entry {
    Entry { fault: fault(injection), remaining_ms: millis(injection.until.saturating_duration_since(now)) }
}

fn fault(injection: &Injection) -> Fault {
    let Aim { to, method, path, percent, delay, status, grpc, by, why } = injection.aim.clone();
    Fault {
        id: injection.id,
        to,
        method: method.map(|method| method.to_string()),
        path,
        percent,
        delay_ms: delay.map(millis),
        status: status.map(|status| status.as_u16()),
        grpc_status: grpc,
        by,
        why,
        delayed: injection.delayed.get(),
        aborted: injection.aborted.get(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads what somebody wants, and for how long.
///
/// # Errors
/// A sentence that says what is missing or wrong, and how to write it.
pub(super) fn read(parameters: &[(String, String)]) -> Result<(Aim, Duration), String> {
    let known = ["to", "method", "path", "percent", "delay", "status", "grpc_status", "for", "by", "why"];
    let given = Parameters::of(parameters, &known, FORM)?;
    let aim = Aim {
        to: given.text("to", "whose calls meet it")?,
        method: given.find("method").map(method).transpose()?,
        path: given.find("path").map(path).transpose()?,
        percent: percent(given.find("percent").ok_or_else(|| format!("`percent` is missing; {FORM}"))?)?,
        delay: given.find("delay").map(delay).transpose()?,
        status: given.find("status").map(status).transpose()?,
        grpc: given.find("grpc_status").map(grpc_status).transpose()?,
        by: given.text("by", "who wants it")?,
        why: given.text("why", "what it is for")?,
    };
    if (aim.delay, aim.status, aim.grpc) == (None, None, None) {
        return Err(format!("it does nothing: at least one of `delay`, `status` and `grpc_status` is needed; {FORM}"));
    }
    Ok((aim, given.lasts()?))
}

const FORM: &str = "write it like ?to=stock&percent=10&delay=200ms&status=503&for=5m&by=ann&why=drill";
const LONGEST_DELAY: Duration = Duration::from_secs(5 * 60);
const LONGEST_PATH: usize = 1_024;

fn method(text: &str) -> Result<Method, String> {
    // Methods are written large; others exist, and nobody means them.
    let upper = text.bytes().all(|byte| byte.is_ascii_uppercase());
    Method::from_bytes(text.as_bytes()).ok().filter(|_| upper).ok_or(format!("`method`: `{text}` is none, such as GET"))
}

fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && text.len() <= LONGEST_PATH && !text.contains(['?', '#']) {
        true => Ok(text.to_owned()),
        false => Err(format!("`path`: `{text}` is not the beginning of a path, such as /items/")),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 100.0);
    share.ok_or(format!("`percent`: `{text}` is no share above 0 and up to 100"))
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = couplet_config::parse_duration(text).map_err(|error| format!("`delay`: {error}"))?;
    match (Duration::from_millis(1)..=LONGEST_DELAY).contains(&delay) {
        true => Ok(delay),
        false => Err("`delay` must be between 1ms and 5m".to_owned()),
    }
}

fn status(text: &str) -> Result<StatusCode, String> {
    let status = text.parse().ok().filter(|status| (400..=599).contains(status));
    status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or("`status` must be between 400 and 599".to_owned())
}

fn grpc_status(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|code| (1..=16).contains(code)).ok_or("`grpc_status` must be between 1 and 16".to_owned())
}

/// What is counted of it.
pub(super) fn count(text: &mut Text, injections: &Injections) {
    let (name, explanation) = ("couplet_faults_active", "Faults that are injected into calls on purpose.");
    text.family(name, Kind::Gauge, explanation);
    text.sample(name, &[], injections.all().0.len() as f64);
    let name = "couplet_faults_injected_total";
    text.family(name, Kind::Counter, "Calls that met one, by destination and what it did.");
    for (kind, counts) in [("delay", &injections.delayed), ("abort", &injections.aborted)] {
        counts.each(|to, n| text.sample(name, &[("service_peer_name", to), ("kind", kind)], n as f64));
    }
    let name = "couplet_faults_spared_total";
    text.family(name, Kind::Counter, "Calls that were to be held up and were not, since too many are.");
    text.sample(name, &[], injections.spared.get() as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(query: &str) -> Result<(Aim, Duration), String> {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
        read(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn an_order_is_read_as_it_is_meant() {
        let (aim, lasts) = order(
            "to=stock&percent=0.5&delay=200ms&status=503&grpc_status=14&method=GET&path=/items/&for=5m&by=ann&why=drill",
        )
        .unwrap();
        assert_eq!(lasts, Duration::from_secs(300));
        let expected = Aim {
            to: "stock".to_owned(),
            method: Some(Method::GET),
            path: Some("/items/".to_owned()),
            percent: 0.5,
            delay: Some(Duration::from_millis(200)),
            status: Some(StatusCode::SERVICE_UNAVAILABLE),
            grpc: Some(14),
            by: "ann".to_owned(),
            why: "drill".to_owned(),
        };
        assert_eq!(aim, expected);
    }

    #[test]
    fn no_fault_is_injected_for_ever_by_nobody_or_for_nothing() {
        let rest = "for=5m&by=ann&why=drill";
        for (query, reason) in [
            (format!("percent=10&status=503&{rest}"), "whose calls"),
            (format!("to=stock&status=503&{rest}"), "`percent` is missing"),
            (format!("to=stock&percent=10&{rest}"), "does nothing"),
            (format!("to=stock&percent=0&status=503&{rest}"), "no share above 0"),
            (format!("to=stock&percent=101&status=503&{rest}"), "no share above 0"),
            (format!("to=stock&percent=NaN&status=503&{rest}"), "no share above 0"),
            (format!("to=stock&percent=10&status=200&{rest}"), "between 400 and 599"),
            (format!("to=stock&percent=10&grpc_status=0&{rest}"), "between 1 and 16"),
            (format!("to=stock&percent=10&delay=6m&{rest}"), "between 1ms and 5m"),
            (format!("to=stock&percent=10&delay=0s&{rest}"), "between 1ms and 5m"),
            (format!("to=stock&percent=10&status=503&path=items&{rest}"), "the beginning of a path"),
            (format!("to=stock&percent=10&status=503&method=get&{rest}"), "such as GET"),
            (format!("to=stock&percent=10&status=503&ttl=5m&{rest}"), "means nothing"),
            ("to=stock&percent=10&status=503&by=ann&why=drill".to_owned(), "for ever"),
            ("to=stock&percent=10&status=503&for=48h&by=ann&why=drill".to_owned(), "between 1s and 24h"),
            ("to=stock&percent=10&status=503&for=5m&why=drill".to_owned(), "who wants it"),
            ("to=stock&percent=10&status=503&for=5m&by=ann".to_owned(), "what it is for"),
        ] {
            let message = order(&query).unwrap_err();
            assert!(message.contains(reason), "{query}: {message}");
        }
    }
}
