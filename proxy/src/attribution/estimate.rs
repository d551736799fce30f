//! The estimator: takes events as they come, decides calls once all that could have made them have ended.

#![expect(clippy::indexing_slicing, reason = "positions in a batch are made with the batch and never leave it")]

use super::batch::Batch;
use super::buffer::{Buffer, Horizon, Link};
use super::learn;
use super::model::Model;
use super::sampler::{Sampler, follow};
use super::settings::{Costs, Settings};
use super::tally::{Expectation, Order, Tally};

/// Links calls to handlers by timing, for one service. See the module for how.
#[derive(Debug)]
pub struct Estimator {
    settings: Settings,
    buffer: Buffer,
    model: Model,
    tally: Tally,
    warm: bool,
    first: Option<u64>,
    now: u64,
    /// Calls that ended since it was last asked whether any can be decided.
    unchecked: usize,
    runs: u64,
    links: Vec<Link>,
    costs: Costs,
}

/// Draws per batch that only find the way, that count, and that doubt.
const UNCOUNTED: usize = 8;
const COUNTED: usize = 24;
const DOUBTING: usize = 12;
/// One counted draw in so many is learned from.
const LEARN_EVERY: usize = 6;
/// How far the model is believed. What follows what is not independent in truth: at 1 the links stated at 0.9 are right
/// far less often, and the draws get stuck; measured over five sets of traces.
const TRUST: f64 = 0.5;
/// How far it is believed by the draws that doubt: what only holds at full trust is not stated.
const DOUBT: f64 = 0.28;

/// What the draws over a batch came to.
struct Drawn {
    /// By call and candidate, the background last: draws in which the call belonged there.
    counts: Vec<Vec<u32>>,
    /// The same over the draws that doubt.
    doubts: Vec<Vec<u32>>,
    /// Some of the draws: by handler, the calls it held.
    examples: Vec<Vec<Vec<u32>>>,
}

impl Estimator {
    /// An estimator that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        let model = Model::new(settings.max_statistics, settings.half_life);
        let tally = Tally::new(settings.max_pairs, settings.stated, settings.half_life);
        Self {
            settings,
            buffer: Buffer::default(),
            model,
            tally,
            warm: false,
            first: None,
            now: 0,
            unchecked: 0,
            runs: 0,
            links: Vec::new(),
            costs: Costs::default(),
        }
    }

    /// A request to `endpoint` is complete. Time does not run back: an earlier `at` is taken as the latest one seen,
    /// here and below.
    pub fn handler_started(&mut self, id: u64, endpoint: u32, at: u64) {
        let at = self.clock(at);
        let known = self.buffer.start_handler(id, endpoint, at);
        self.expect_event(known);
        if known {
            self.tally.handler_started(endpoint, at);
        }
        self.decide_if_due(false);
    }

    /// The last byte of the answer was sent.
    pub fn handler_ended(&mut self, id: u64, at: u64) {
        let at = self.clock(at);
        let known = self.buffer.end_handler(id, at);
        self.expect_event(known);
        self.decide_if_due(false);
    }

    /// A call to the endpoint `callee` began; `handler` where something proves which one made it.
    pub fn call_started(&mut self, id: u64, callee: u32, at: u64, handler: Option<u64>) {
        let at = self.clock(at);
        let known = self.buffer.start_call(id, callee, at, handler);
        self.expect_event(known);
        if known {
            self.tally.call_started(callee, at);
        }
        self.decide_if_due(false);
    }

    /// The last byte of a call's answer came.
    pub fn call_ended(&mut self, id: u64, at: u64) {
        let at = self.clock(at);
        let known = self.buffer.end_call(id, at);
        self.expect_event(known);
        self.unchecked += 1;
        self.decide_if_due(false);
    }

    /// Time has passed: calls that have waited for company longer than the patience are decided as they are.
    pub fn passed(&mut self, now: u64) {
        self.clock(now);
        self.decide_if_due(true);
    }

    /// Decides all calls, whatever is still open. For the end of a run.
    pub fn finish(&mut self) {
        self.decide(Horizon { closed: u64::MAX, decidable: u64::MAX });
    }

    /// Takes the links decided since this was last asked, in order of the start of the calls within each batch.
    pub fn take_links(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links)
    }

    /// Whether a probability is enough to state a link.
    pub fn states(&self, probability: f64) -> bool {
        probability >= self.settings.stated
    }

    /// What each endpoint is expected to call, in order of endpoint and callee.
    pub fn expectations(&self) -> Vec<Expectation> {
        self.tally.expectations()
    }

    /// Calls to a callee that no handler made, over all decided calls to it; none if there are no calls.
    pub fn background(&self, callee: u32) -> Option<f64> {
        self.tally.background(callee)
    }

    /// How two callees stand to one another within the handlings of an endpoint whose calls are all stated.
    pub fn order(&self, endpoint: u32, first: u32, second: u32) -> Order {
        self.tally.order(endpoint, first, second)
    }

    /// Calls per handling by an independent way: non-negative least squares over counts per second, which looks at no
    /// single call. In order of endpoint and callee; empty until there are enough seconds.
    pub fn cross_check(&self) -> Vec<((u32, u32), f64)> {
        self.tally.cross_check()
    }

    /// What the limits cost so far.
    pub fn costs(&self) -> Costs {
        Costs { observations_refused: self.model.refused, pairs_refused: self.tally.refused, ..self.costs }
    }

    /// Handlers, calls and statistics that are kept now.
    pub fn kept(&self) -> (usize, usize, usize) {
        (self.buffer.handlers.len(), self.buffer.calls.len(), self.model.len())
    }

    fn clock(&mut self, at: u64) -> u64 {
        self.first.get_or_insert(at.min(u64::MAX - 1));
        // The end of time itself is after every horizon.
        self.now = self.now.max(at.min(u64::MAX - 1));
        self.now
    }

    fn expect_event(&mut self, known: bool) {
        self.costs.events_ignored += u64::from(!known);
    }

    fn decide_if_due(&mut self, waited: bool) {
        let Settings { max_calls, max_handlers, .. } = self.settings;
        let full = self.buffer.calls.len() >= max_calls || self.buffer.handlers.len() >= max_handlers;
        if self.unchecked < self.settings.batch && !full && !waited {
            return;
        }
        self.unchecked = 0;
        let mut horizon = self.buffer.horizon(self.now, self.settings.longest);
        let enough =
            if self.warm { self.settings.batch.max(self.buffer.calls.len() / 3) } else { self.settings.warm_up };
        let waiting = self.buffer.waiting(horizon.decidable).count();
        let oldest = self.buffer.waiting(horizon.decidable).map(|call| call.start).next();
        let patient = oldest.is_none_or(|start| self.now.saturating_sub(start) < self.settings.patience);
        if full {
            horizon.decidable = horizon.decidable.max(self.buffer.middle() + 1);
        }
        if full || waiting >= enough || !patient {
            self.decide(horizon);
        }
        if full {
            self.costs.handlers_given_up += self.buffer.shrink(max_handlers / 2, max_calls / 2);
        }
    }

    /// Decides the calls that started before the horizon, and learns from the handlers that are done with.
    fn decide(&mut self, horizon: Horizon) {
        self.runs += 1;
        let hurried = self.buffer.waiting(horizon.decidable).filter(|call| call.start >= horizon.closed).count();
        self.costs.calls_hurried += hurried as u64;
        let elapsed = self.now - self.first.unwrap_or(self.now);
        let (background, outlives) = (self.tally.log_background_rates(elapsed), self.tally.outliving_shares());
        let mut batch = self.buffer.batch(horizon.decidable, &outlives, &self.settings, &mut self.costs);
        if batch.calls.is_empty() {
            self.buffer.drop_before(horizon.decidable);
            return;
        }
        if self.warm {
            learn::weigh(&mut batch, &self.model, None);
        } else {
            let (most, half_life) = (self.settings.max_statistics, self.settings.half_life);
            learn::from_nothing(&mut batch, &mut self.model, &background, &outlives, || Model::new(most, half_life));
            self.warm = true;
        }
        let drawn = self.draw(&batch, &background, &outlives);
        self.learn(&batch, &drawn);
        self.state(&batch, &drawn, horizon);
        let dropped = self.buffer.stated_handlings(horizon.decidable, self.settings.stated);
        dropped.iter().for_each(|(endpoint, calls)| self.tally.handling(*endpoint, calls));
        self.buffer.drop_before(horizon.decidable);
    }

    fn draw(&self, batch: &Batch, background: &[f64], outlives: &[f64]) -> Drawn {
        let mut counts: Vec<Vec<u32>> = batch.calls.iter().map(|call| vec![0; call.candidates.len() + 1]).collect();
        let (mut doubts, mut examples) = (counts.clone(), Vec::new());
        let mut sampler = Sampler::new(batch, &self.model, background, outlives, self.runs);
        for sweep in 0..UNCOUNTED + COUNTED + DOUBTING {
            let doubting = sweep >= UNCOUNTED + COUNTED;
            sampler.trust = if doubting { DOUBT } else { TRUST };
            sampler.sweep();
            if sweep < UNCOUNTED {
                continue;
            }
            let into = if doubting { &mut doubts } else { &mut counts };
            for (count, owner) in into.iter_mut().zip(&sampler.owner) {
                let background = count.len() - 1;
                count[owner.unwrap_or(background)] += 1;
            }
            if !doubting && (sweep + 1 - UNCOUNTED).is_multiple_of(LEARN_EVERY) {
                examples.push((0..batch.handlers.len()).map(|handler| sampler.held(handler).to_vec()).collect());
            }
        }
        Drawn { counts, doubts, examples }
    }

    /// Learns from handlers to which nothing can be added any more, each once.
    fn learn(&mut self, batch: &Batch, drawn: &Drawn) {
        let weight = 1.0 / drawn.examples.len() as f64;
        for (handler, _) in batch.handlers.iter().enumerate().filter(|(_, handler)| handler.retires) {
            self.model.age();
            self.tally.age();
            for held in &drawn.examples {
                follow(batch, handler, &held[handler], |moment, event| self.model.observe(moment, event, weight));
            }
        }
    }

    fn state(&mut self, batch: &Batch, drawn: &Drawn, horizon: Horizon) {
        let all = COUNTED as f64;
        for (at, (of, count)) in batch.calls.iter().zip(&drawn.counts).enumerate() {
            let doubt = &drawn.doubts[at];
            let call = &mut self.buffer.calls[at];
            if call.decided.is_some() {
                continue;
            }
            let best = (0..count.len()).max_by_key(|&at| (count[at], count.len() - at)).unwrap_or(0);
            let owner = of.candidates.get(best);
            call.owner = owner.map(|&handler| self.buffer.handlers[handler as usize].id);
            if call.start >= horizon.decidable {
                continue;
            }
            let exact = call.exact.is_some() && call.exact == call.owner;
            let probability = if exact {
                1.0
            } else {
                (f64::from(count[best]) / all + f64::from(doubt[best]) / DOUBTING as f64) / 2.0
            };
            call.decided = Some(probability);
            self.links.push(Link { call: call.id, handler: call.owner, probability, exact });
            let shares = of.candidates.iter().zip(count).filter(|(_, count)| **count > 0);
            let shares = shares.map(|(&handler, &count)| {
                let handler = &batch.handlers[handler as usize];
                (handler.endpoint, f64::from(count) / all, of.nested(handler))
            });
            self.tally.call(of.callee, owner.map(|_| probability), shares);
        }
    }
}
