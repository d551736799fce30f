//! What linking costs per call, beside what it costs to record a call whose handler is known.

use std::hint::black_box;

use couplet_proxy::attribution::Settings;
use couplet_telemetry::window::Window;

use crate::replay::{linked, processor_time};
use crate::sample::{CALL, LIMITS, callee, handling, path, used};
use crate::score::FEWEST_HANDLERS;
use crate::traces::{Trace, retimed};

/// Titles of [`line`].
pub(crate) const HEADER: &str =
    "set              rate     L    calls | µs/call  of recording | at sight % | at once: µs/call";

/// Measures one set at one rate, all services together, each trace as many `times`, with the settings as they come.
pub(crate) fn line(traces: &[Trace], set: &str, rate: f64, seed: u32, times: usize) -> String {
    let (mut calls, mut spent, mut at_once, mut at_sight, mut in_flight) = (0, 0.0, 0.0, 0, 0.0f64);
    for traffic in retimed(traces, rate, seed, times).values() {
        if traffic.handlers.len() >= FEWEST_HANDLERS * times && !traffic.calls.is_empty() {
            let linked = linked(traffic, Settings::default());
            calls += traffic.calls.len();
            spent += linked.spent.as_secs_f64();
            at_once += linked.at_once.as_secs_f64();
            at_sight += linked.costs.calls_at_sight;
            in_flight = in_flight.max(traffic.in_flight());
        }
    }
    let each = spent * 1e6 / (calls as f64).max(1.0);
    let at_once = at_once * 1e6 / (calls as f64).max(1.0);
    let ratio = each / recording();
    let at_sight = 100.0 * at_sight as f64 / (calls as f64).max(1.0);
    format!(
        "{set:14} {rate:>6} {in_flight:5.1} {calls:>8} | {each:7.2} {ratio:13.1} | {at_sight:10.1} | {at_once:16.2}"
    )
}

/// Microseconds for one handling with one call whose link is known, as it is written to the window.
fn recording() -> f64 {
    const ROUNDS: u32 = 200_000;
    let (path, callee) = (path(17), callee(4));
    let (call, uses) = (CALL, used(&callee));
    let handling = handling(&uses);
    let mut window = Window::new(LIMITS);
    let started = processor_time();
    for _ in 0..ROUNDS {
        window.call(&path, &callee, black_box(&call));
        window.handling(&path, black_box(&handling));
    }
    (processor_time() - started).as_secs_f64() * 1e6 / f64::from(ROUNDS)
}
