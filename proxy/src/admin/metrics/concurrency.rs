//! How many requests the application has, and how many it may have.

use couplet_telemetry::exposition::{Kind, Text};

use crate::policy::Concurrency;

pub(super) fn concurrency(text: &mut Text, concurrency: &Concurrency) {
    let (in_flight, stands) = (&concurrency.in_flight, concurrency.stands());
    let rows = [
        ("couplet_concurrency", "Requests that the application has.", Some(in_flight.get() as f64)),
        ("couplet_concurrency_peak", "The highest value so far.", Some(in_flight.peak() as f64)),
        ("couplet_concurrency_limit", "How many it may have, where that is limited.", stands.limit.map(f64::from)),
        (
            "couplet_concurrency_baseline_seconds",
            "Time to an answer without load, where the limit is adaptive.",
            stands.baseline,
        ),
        (
            "couplet_concurrency_answer_seconds",
            "Time to an answer in the last window, the median, where the limit is adaptive.",
            stands.time,
        ),
    ];
    for (name, explanation, value) in rows {
        text.family(name, Kind::Gauge, explanation);
        if let Some(value) = value {
            text.sample(name, &[], value);
        }
    }
    let name = "couplet_concurrency_rejected_total";
    text.family(name, Kind::Counter, "Requests beyond the limit; where it observes, those that passed all the same.");
    for (result, counter) in [("rejected", &in_flight.rejected), ("would_reject", &in_flight.would_reject)] {
        text.sample(name, &[("result", result)], counter.get() as f64);
    }
}
