//! What breakers and limits of destinations did, and where they stand.

use couplet_config::BreakerMode;
use couplet_telemetry::breaker::Count;
use couplet_telemetry::exposition::{Kind, Text};
use couplet_telemetry::histogram::seconds;
use tokio::time::Instant;

use crate::policy::{Breaker, Breakers, Limit};

/// Of a destination that never failed a few lines, so that a thousand of them fit on the page.
pub(super) fn breakers(text: &mut Text, breakers: &Breakers) {
    let now = Instant::now();
    let views: Vec<_> = breakers.all().into_iter().map(|breaker| (breaker.view(now), breaker)).collect();
    let state = "couplet_breaker_state";
    text.family(state, Kind::Gauge, "1 for the state in which the breaker of calls to a service stands.");
    for (view, breaker) in &views {
        text.sample(state, &of(breaker, &[("state", view.stands.as_str())]), 1.0);
    }
    let enforced = "couplet_breaker_enforced";
    text.family(
        enforced,
        Kind::Gauge,
        "Share of what the breaker rejects that really is rejected, where there is any.",
    );
    for (view, breaker) in &views {
        let share = f64::from(view.settings.enforce_percent) / 100.0;
        let share = if view.settings.mode == BreakerMode::Enforce { share } else { 0.0 };
        sample(text, enforced, &of(breaker, &[]), share);
    }
    let calls = "couplet_breaker_calls_total";
    text.family(calls, Kind::Counter, "Calls that were let through, by what their end counts as.");
    for (view, breaker) in &views {
        for (count, n) in view.done.ended() {
            sample(text, calls, &of(breaker, &[("class", count.as_str())]), n as f64);
        }
    }
    let shadow = "couplet_breaker_shadow_outcome_total";
    text.family(shadow, Kind::Counter, "Calls that would have been stopped and were not, by what became of them.");
    for (view, breaker) in &views {
        for (outcome, count) in [
            ("failed", Count::ShadowFailed),
            ("slow", Count::ShadowSlow),
            ("succeeded", Count::ShadowSucceeded),
            ("unknown", Count::ShadowUnknown),
        ] {
            let labels = of(breaker, &[("outcome", outcome)]);
            sample(text, shadow, &labels, view.done.get(count) as f64);
        }
    }
    let counters = [
        ("couplet_breaker_rejected_total", "Calls that were stopped.", Count::Rejected),
        ("couplet_breaker_probes_total", "Calls that were let through to see how they fare.", Count::Probes),
        ("couplet_breaker_opened_total", "Times that calls were stopped, or would have been.", Count::Opened),
        ("couplet_breaker_stopped_seconds_total", "For how long.", Count::Stopped),
        ("couplet_breaker_stale_results_total", "Calls that ended after a change of state.", Count::Stale),
        ("couplet_breaker_shadow_seconds_total", "What calls took that would have been stopped.", Count::ShadowTime),
    ];
    for (name, explanation, count) in counters {
        text.family(name, Kind::Counter, explanation);
        for (view, breaker) in &views {
            let n = view.done.get(count);
            let value = if matches!(count, Count::Stopped | Count::ShadowTime) { seconds(n) } else { n as f64 };
            sample(text, name, &of(breaker, &[]), value);
        }
    }
    for (name, explanation, key, limit) in LIMITS {
        let name = format!("couplet_breaker_{name}_peak");
        text.family(&name, Kind::Gauge, explanation);
        for (_, breaker) in views.iter().filter(|(_, breaker)| !is_of_others(breaker, key)) {
            sample(text, &name, &of(breaker, &[]), limit(breaker).peak() as f64);
        }
    }
    let destinations = views.iter().filter(|(_, breaker)| breaker.class.is_none());
    let endpoints: Vec<_> =
        destinations.map(|(_, breaker)| (&breaker.to, breaker.neighbour.endpoints.view(now))).collect();
    let ejected = "couplet_endpoints_ejected";
    text.family(
        ejected,
        Kind::Gauge,
        "Endpoints of a service that are passed over, or would be where breakers observe.",
    );
    for (to, (noted, _)) in &endpoints {
        let count = noted.iter().filter(|noted| noted.remaining.is_some()).count();
        sample(text, ejected, &[("service_peer_name", to)], count as f64);
    }
    let ejections = "couplet_endpoint_ejections_total";
    text.family(ejections, Kind::Counter, "Endpoints that failed enough to be passed over, by what became of that.");
    for (to, (_, counts)) in &endpoints {
        for (result, count) in counts.each() {
            sample(text, ejections, &[("service_peer_name", to), ("result", result)], count as f64);
        }
    }
    let limited = "couplet_limit_rejected_total";
    let explanation =
        "Calls beyond a limit of their destination; where breakers observe, those that passed all the same.";
    text.family(limited, Kind::Counter, explanation);
    for (_, breaker) in &views {
        for (_, _, key, limit) in LIMITS.into_iter().filter(|(_, _, key, _)| !is_of_others(breaker, key)) {
            let limit = limit(breaker);
            for (result, counter) in [("rejected", &limit.rejected), ("would_reject", &limit.would_reject)] {
                let labels = of(breaker, &[("limit", key), ("result", result)]);
                sample(text, limited, &labels, counter.get() as f64);
            }
        }
    }
    let overflow = "couplet_breakers_overflow_total";
    text.family(overflow, Kind::Counter, "Destinations without a breaker, since there were too many.");
    text.sample(overflow, &[], breakers.overflow.get() as f64);
}

/// The labels of a breaker, and more.
fn of<'a>(breaker: &'a Breaker, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let class = breaker.class.as_deref().map(|class| ("route_class", class));
    std::iter::once(("service_peer_name", &*breaker.to)).chain(class).chain(more.iter().copied()).collect()
}

/// Whether a limit is one of the destination, and this breaker of a class of calls to it.
fn is_of_others(breaker: &Breaker, key: &str) -> bool {
    breaker.class.is_some() && key != "max_in_flight"
}

type Row = (&'static str, &'static str, &'static str, fn(&Breaker) -> &Limit);

/// What is limited: its word, what its peak is, its key, and where it is counted.
const LIMITS: [Row; 3] = [
    ("in_flight", "The most calls to a service that were under way at the same time.", "max_in_flight", |breaker| {
        &breaker.in_flight
    }),
    ("connections", "The most connections to a service at the same time.", "max_connections", |breaker| {
        &breaker.neighbour.connections
    }),
    (
        "pending",
        "The most calls to a service that waited for a connection at the same time.",
        "max_pending",
        |breaker| &breaker.neighbour.pending,
    ),
];

/// What is zero is left out.
fn sample(text: &mut Text, name: &str, labels: &[(&str, &str)], value: f64) {
    if value > 0.0 {
        text.sample(name, labels, value);
    }
}
