//! Feeds the traffic of one service to the estimator, event by event.

use std::time::Duration;

use couplet_proxy::attribution::{Costs, Estimator, Expectation, Link, Settings};

use crate::traces::Traffic;

/// What the estimator made of a service.
pub(crate) struct Linked {
    pub(crate) links: Vec<Link>,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) least_squares: Vec<((u32, u32), f64)>,
    pub(crate) costs: Costs,
    /// Processor time of feeding all events and taking all links.
    pub(crate) spent: Duration,
}

/// What happens, in the order in which it does when several happen at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    HandlerStarts,
    CallEnds,
    CallStarts,
    CallOfNoLengthEnds,
    HandlerEnds,
}

/// Links and expectations of the service; handlers and calls are named by their position.
pub(crate) fn linked(traffic: &Traffic, settings: Settings) -> Linked {
    let mut events: Vec<(u64, Event, usize)> = Vec::new();
    for (n, handler) in traffic.handlers.iter().enumerate() {
        events.push((handler.start, Event::HandlerStarts, n));
        events.push((handler.end, Event::HandlerEnds, n));
    }
    for (n, call) in traffic.calls.iter().enumerate() {
        events.push((call.start, Event::CallStarts, n));
        let ends = if call.end > call.start { Event::CallEnds } else { Event::CallOfNoLengthEnds };
        events.push((call.end, ends, n));
    }
    events.sort_unstable();
    let started = processor_time();
    let mut estimator = Estimator::new(settings);
    let mut links = Vec::new();
    for (at, event, n) in events {
        let id = n as u64;
        match event {
            Event::HandlerStarts => estimator.handler_started(id, traffic.handlers[n].endpoint, at),
            Event::CallStarts => estimator.call_started(id, traffic.calls[n].callee, at, None),
            Event::CallEnds | Event::CallOfNoLengthEnds => estimator.call_ended(id, at),
            Event::HandlerEnds => estimator.handler_ended(id, at),
        }
        links.append(&mut estimator.take_links());
    }
    estimator.finish();
    links.append(&mut estimator.take_links());
    let spent = processor_time() - started;
    let (expectations, least_squares) = (estimator.expectations(), estimator.cross_check());
    Linked { links, expectations, least_squares, costs: estimator.costs(), spent }
}

/// Processor time of this thread so far: what others do on the machine does not count.
pub(crate) fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
