//! The budgets: what Couplet may cost beside its peers, and whether it does.

use serde::Serialize;

use crate::Results;
use crate::cases::Case;
use crate::measure::Measured;
use crate::rig::peers::Peer;

/// One budget. `is` is absent where what it takes was not measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bar {
    pub(crate) what: &'static str,
    pub(crate) is: Option<f64>,
    pub(crate) first_bar: f64,
    pub(crate) goal: f64,
}

impl Bar {
    /// What was not measured is not known to be met.
    pub(crate) fn is_met(&self) -> bool {
        self.is.is_some_and(|is| is <= self.first_bar)
    }
}

/// All of them.
pub(crate) fn all(cases: &[Case], results: &Results) -> Vec<Bar> {
    let value = |case: &str, peer: Peer, of: &dyn Fn(&Measured) -> Option<f64>| {
        let number = cases.iter().position(|known| known.name == case)?;
        median(results.get(&(number, peer))?, of)
    };
    let ratio = |case: &str, peer: Peer, to: Peer, of: &dyn Fn(&Measured) -> Option<f64>| {
        Some(value(case, peer, of)? / value(case, to, of)?)
    };
    let cpu = |measured: &Measured| measured.cpu;
    let p50 = |measured: &Measured| measured.latency.map(|latency| latency.p50);
    let p99 = |measured: &Measured| measured.latency.map(|latency| latency.p99);
    let beside = |case: &str| ratio(case, Peer::Couplet, Peer::Haproxy, &cpu);
    let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
    let resident = |measured: &Measured| Some(mib(measured.resident));
    let before = |measured: &Measured| Some(mib(measured.resident_before));
    let per_connection = |measured: &Measured| measured.per_connection.map(|bytes| bytes / 1024.0);
    let after = |measured: &Measured| measured.after_burst;
    let spread = |many: &str, few: &str| Some(value(many, Peer::Couplet, &cpu)? / value(few, Peer::Couplet, &cpu)?);
    let bar = |what, is, first_bar, goal| Bar { what, is, first_bar, goal };
    vec![
        bar("small GET, processor time ÷ HAProxy's", beside("small"), 1.45, 0.90),
        bar("2 000 requests/s, the same", beside("rate"), 1.1, 0.75),
        bar("64 KiB, the same", beside("64KiB"), 1.1, 0.90),
        bar("HTTP/2, the same", beside("http2"), 1.6, 1.0),
        bar("small GET, processor time ÷ Envoy's", ratio("small", Peer::Couplet, Peer::Envoy, &cpu), 0.5, 0.3),
        bar("telemetry on ÷ off, small GET", ratio("small", Peer::Couplet, Peer::CoupletQuiet, &cpu), 1.15, 1.05),
        bar("2 000 requests/s, p50 ÷ HAProxy's", ratio("rate", Peer::Couplet, Peer::Haproxy, &p50), 1.2, 0.9),
        bar("2 000 requests/s, p99 ÷ HAProxy's", ratio("rate", Peer::Couplet, Peer::Haproxy, &p99), 1.3, 1.0),
        bar("idle, MiB", value("idle", Peer::Couplet, &before), 15.0, 8.0),
        bar("for each idle connection, KiB", value("idle", Peer::Couplet, &per_connection), 24.0, 4.0),
        bar("100 edges and 1 000 connections, MiB", value("idle-edges-100", Peer::Couplet, &resident), 45.0, 16.0),
        bar("memory after a burst ÷ before", value("burst", Peer::Couplet, &after), 1.2, 1.1),
        bar("1 000 edges ÷ 1 edge, processor time", spread("edges-1000", "edges-1"), 1.1, 1.05),
        bar("1 000 endpoints ÷ 10, processor time", spread("endpoints-1000", "endpoints-10"), 1.1, 1.05),
    ]
}

/// The middle one of what `of` finds; of an even number, the lower of the two in the middle.
pub(crate) fn median(measured: &[Measured], of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<_> = measured.iter().filter_map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}
