//! Feeds the traffic of one service to the estimator, event by event.

use std::time::Duration;

use couplet_proxy::attribution::{Costs, Estimator, Expectation, Guess, Link, Open, Settings, Sight};

use crate::traces::Traffic;

/// What the estimator made of a service.
pub(crate) struct Linked {
    pub(crate) links: Vec<Link>,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) least_squares: Vec<((u32, u32), f64)>,
    pub(crate) costs: Costs,
    /// By call, what was guessed when it was made; none before the first look, or where no handler was open. Handlers of
    /// an endpoint are one group, or two by turns.
    pub(crate) guesses: Vec<Option<Guess>>,
    pub(crate) guesses_of_two: Vec<Option<Guess>>,
    /// Calls made since the first look.
    pub(crate) seen: usize,
    /// Processor time of feeding all events and taking all links.
    pub(crate) spent: Duration,
    /// The same of what the request path does for links at once.
    pub(crate) at_once: Duration,
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

/// What happens in a service, in order.
fn events(traffic: &Traffic) -> Vec<(u64, Event, usize)> {
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
    events
}

/// Links and expectations of the service; handlers and calls are named by their position.
pub(crate) fn linked(traffic: &Traffic, settings: Settings) -> Linked {
    let events = events(traffic);
    let (started, mut aside) = (processor_time(), Duration::ZERO);
    let mut estimator = Estimator::new(settings);
    let mut links = Vec::new();
    let mut now = Now::new(traffic, 1);
    let mut now_of_two = Now::new(traffic, 2);
    for (at, event, n) in events {
        let id = n as u64;
        match event {
            Event::HandlerStarts => estimator.handler_started(id, traffic.handlers[n].endpoint, at),
            Event::CallStarts => estimator.call_started(id, traffic.calls[n].callee, at, None),
            Event::CallEnds | Event::CallOfNoLengthEnds => estimator.call_ended(id, at),
            Event::HandlerEnds => estimator.handler_ended(id, at),
        }
        links.append(&mut estimator.take_links());
        let paused = processor_time();
        now.event(traffic, &estimator, links.len(), at, event, n);
        now_of_two.event(traffic, &estimator, links.len(), at, event, n);
        aside += processor_time() - paused;
    }
    estimator.finish();
    links.append(&mut estimator.take_links());
    let spent = processor_time() - started - aside;
    let at_once = estimator.sight().map_or(Duration::ZERO, |sight| looked_up(traffic, sight));
    let (expectations, least_squares) = (estimator.expectations(), estimator.cross_check());
    Linked {
        links,
        expectations,
        least_squares,
        costs: estimator.costs(),
        guesses: now.guesses,
        guesses_of_two: now_of_two.guesses,
        seen: now.seen,
        spent,
        at_once,
    }
}

/// Processor time of all that the request path does for links at once, with what was learned in the end.
fn looked_up(traffic: &Traffic, sight: Sight) -> Duration {
    let events = events(traffic);
    let mut now = Now { sight: Some(sight), ..Now::new(traffic, 1) };
    let started = processor_time();
    events.into_iter().for_each(|(at, event, n)| now.looks_up(traffic, at, event, n));
    processor_time() - started
}

/// What is known at the moment of each call, by what was learned up to a little before.
#[derive(Default)]
struct Now {
    open: Open,
    sight: Option<Sight>,
    learned: usize,
    guesses: Vec<Option<Guess>>,
    seen: usize,
    /// Groups that the handlers of an endpoint are in.
    groups: usize,
}

/// Calls decided after which what was learned is looked at again.
const RENEWED: usize = 500;

impl Now {
    fn new(traffic: &Traffic, groups: usize) -> Self {
        Self { guesses: vec![None; traffic.calls.len()], groups, ..Self::default() }
    }

    fn event(&mut self, traffic: &Traffic, estimator: &Estimator, decided: usize, at: u64, event: Event, n: usize) {
        if decided > 0 && (self.sight.is_none() || decided >= self.learned + RENEWED) {
            (self.sight, self.learned) = (estimator.sight(), decided);
        }
        self.looks_up(traffic, at, event, n);
    }

    fn looks_up(&mut self, traffic: &Traffic, at: u64, event: Event, n: usize) {
        let id = n as u64;
        match event {
            Event::HandlerStarts => {
                let endpoint = traffic.handlers[n].endpoint;
                self.open.handler_started(id, (n % self.groups) as u64, endpoint, at);
            }
            Event::HandlerEnds => {
                self.open.handler_ended(id);
            }
            Event::CallStarts => {
                let callee = traffic.calls[n].callee;
                let Some(sight) = &self.sight else { return };
                self.seen += 1;
                self.guesses[n] = self.open.guess(sight, callee, at, |_| true);
                if let Some(guess) = self.guesses[n] {
                    self.open.call_started(guess.handler, callee, at);
                }
            }
            Event::CallEnds | Event::CallOfNoLengthEnds => {
                if let Some(guess) = self.guesses[n] {
                    self.open.call_ended(guess.handler, traffic.calls[n].callee, at);
                }
            }
        }
    }
}

/// Processor time of this thread so far: what others do on the machine does not count.
pub(crate) fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
