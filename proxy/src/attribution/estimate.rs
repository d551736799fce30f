//! The estimator: takes events as they come, decides calls once all that could have made them have ended.

#![expect(clippy::indexing_slicing, reason = "positions in a batch are made with the batch and never leave it")]

use super::batch::{Batch, Believed};
use super::buffer::{Buffer, Horizon, Link};
use super::learn;
use super::memo::Memo;
use super::model::Model;
use super::path::follow;
use super::sampler::{Sampler, TRUST, places};
use super::settings::{Costs, Settings};
use super::sight::Sight;
use super::tally::{Counted, Expectation, Odds, Order, Tally};

/// Links calls to handlers by timing, for one service. See the module for how.
#[derive(Debug)]
pub struct Estimator {
    settings: Settings,
    buffer: Buffer,
    model: Model,
    memo: Memo,
    odds: Odds,
    batch: Batch,
    tally: Tally,
    warm: bool,
    first: Option<u64>,
    now: u64,
    /// Calls that ended since it was last asked whether any can be decided.
    unchecked: usize,
    runs: u64,
    /// Questions to the model that may still be asked.
    credit: f64,
    /// Questions that draws cost by candidate, of late.
    each: f64,
    links: Vec<Link>,
    costs: Costs,
}

/// Sweeps over a batch that only find the way, that count, and that doubt.
const UNCOUNTED: usize = 8;
const COUNTED: usize = 24;
const DOUBTING: usize = 12;
/// One counted sweep in so many is learned from.
const LEARN_EVERY: usize = 6;
/// Disagreement of the two ways to find expectations from which they are uncertain.
const UNCERTAIN: f64 = 0.15;
/// Calls whose questions may be asked at once.
const BURST: f64 = 10_000.0;
/// Questions that draws cost by candidate, before the first were made; how far the latest ones change that.
const EACH: f64 = 15.0;
const ADAPT: f64 = 0.5;
/// How far beyond what was expected draws may go, and what they may cost in any case.
const MISJUDGED: f64 = 4.0;
const FREE: f64 = 10_000.0;

/// What the draws over a batch came to.
struct Drawn {
    /// By call and candidate, the background last: how likely it is that the call belongs there.
    shares: Vec<f32>,
    /// The same by the sweeps that doubt.
    doubtful: Vec<f32>,
    /// Some of the draws: the owner of each call.
    examples: Vec<Vec<Option<u32>>>,
    /// Whether they were drawn at all; else everything is linked at sight.
    drawn: bool,
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
            memo: Memo::default(),
            odds: Odds::default(),
            batch: Batch::default(),
            tally,
            warm: false,
            first: None,
            now: 0,
            unchecked: 0,
            runs: 0,
            credit: 0.0,
            each: EACH,
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
            self.credit =
                (self.credit + self.settings.questions_per_call).min(BURST * self.settings.questions_per_call);
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

    /// Events were lost: forgets the handlers and calls at hand, decides none of them, and keeps what was learned.
    pub fn interrupted(&mut self) {
        self.buffer.clear();
        self.unchecked = 0;
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

    /// What was counted since the start, by endpoint and callee: what expectations are made of.
    pub fn counted(&self) -> impl Iterator<Item = Counted> + '_ {
        self.tally.counted()
    }

    /// Calls that no handler made, by callee: those that are nearly certain, and the others.
    pub fn background_calls(&self) -> impl Iterator<Item = (u32, f64, f64)> + '_ {
        self.tally.background_calls()
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

    /// Share of the calls, 0 to 1, that the expectations and the independent way see at different endpoints; none until
    /// there are enough seconds. Costly: it solves for the independent way.
    pub fn disagreement(&self) -> Option<f64> {
        self.tally.disagreement()
    }

    /// Whether what a service calls is in doubt as a whole.
    pub fn is_uncertain(&self) -> bool {
        self.disagreement().is_some_and(|share| share > UNCERTAIN)
    }

    /// What was learned so far, for links at the moment of a call; none before the first look.
    pub fn sight(&self) -> Option<Sight> {
        self.warm.then(|| {
            let mut odds = Odds::default();
            self.tally.odds(self.elapsed(), &mut odds);
            Sight { model: self.model.clone(), odds, trust: self.settings.sight, serial: self.runs }
        })
    }

    /// What the limits cost so far.
    pub fn costs(&self) -> Costs {
        Costs { observations_refused: self.model.refused, pairs_refused: self.tally.refused, ..self.costs }
    }

    /// Handlers, calls and statistics that are kept now.
    pub fn kept(&self) -> (usize, usize, usize) {
        (self.buffer.handlers.len(), self.buffer.calls.len(), self.model.len())
    }

    fn elapsed(&self) -> u64 {
        self.now - self.first.unwrap_or(self.now)
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
        let few = !self.warm && waiting < self.settings.fewest;
        if full || waiting >= enough || !patient && !few {
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
        self.tally.odds(self.elapsed(), &mut self.odds);
        let mut batch = std::mem::take(&mut self.batch);
        self.buffer.batch(horizon.decidable, &self.odds, &self.settings, &mut self.costs, &mut batch);
        if !batch.calls.is_empty() {
            self.decide_batch(&mut batch, horizon);
        }
        self.batch = batch;
        for handler in &self.buffer.handlers {
            if handler.end.is_some_and(|end| end < horizon.decidable) {
                self.tally.done(handler.endpoint);
            }
        }
        self.buffer.drop_before(horizon.decidable);
    }

    fn decide_batch(&mut self, batch: &mut Batch, horizon: Horizon) {
        let affordable = self.affordable(batch);
        if self.warm {
            learn::weigh(batch, batch.calls.len(), &self.model, &mut self.memo, &self.odds, None);
        } else {
            let (most, half_life) = (self.settings.max_statistics, self.settings.half_life);
            let fresh = || Model::new(most, half_life);
            learn::from_nothing(batch, &mut self.model, &mut self.memo, &self.odds, fresh);
        }
        let drawn = if affordable { self.draw(batch) } else { None };
        let drawn = drawn.unwrap_or_else(|| Drawn::at_sight(batch));
        // What was learned from this very batch is not surprised by it.
        let judges = std::mem::replace(&mut self.warm, true);
        self.learn(batch, &drawn, judges);
        self.state(batch, &drawn, horizon);
        let dropped = self.buffer.stated_handlings(horizon.decidable, self.settings.stated);
        dropped.iter().for_each(|(endpoint, calls)| self.tally.handling(*endpoint, calls));
    }

    /// Whether what was asked so far leaves room for more. A debt is paid off by the calls that come; the first look at
    /// a service, which is always taken, is bounded by itself.
    fn affordable(&self, batch: &Batch) -> bool {
        self.credit >= self.expected_cost(batch)
    }

    /// Questions that draws over a batch are expected to cost, by what the last ones cost.
    fn expected_cost(&self, batch: &Batch) -> f64 {
        let open: usize = batch.calls.iter().filter(|call| !call.settled).map(|call| call.candidates.len()).sum();
        self.each * open as f64
    }

    /// Draws over a batch, or gives up where that costs far more than was expected.
    fn draw(&mut self, batch: &Batch) -> Option<Drawn> {
        let expected = self.expected_cost(batch);
        let most = expected * MISJUDGED + FREE;
        let before = self.memo.asked;
        let mut sampler = Sampler::new(batch, &self.model, &mut self.memo, &self.odds, self.runs);
        let mut examples = Vec::new();
        let mut shares = Vec::new();
        let mut swept = 0;
        while swept < UNCOUNTED + COUNTED + DOUBTING && (sampler.asked() - before) as f64 <= most {
            sampler.sweep(if swept < UNCOUNTED + COUNTED { TRUST } else { self.settings.doubt });
            swept += 1;
            if swept == UNCOUNTED {
                sampler.take_shares();
            } else if swept == UNCOUNTED + COUNTED {
                shares = sampler.take_shares();
            }
            let counted = (UNCOUNTED + 1..=UNCOUNTED + COUNTED).contains(&swept);
            if counted && (swept - UNCOUNTED).is_multiple_of(LEARN_EVERY) {
                examples.push(sampler.owner.clone());
            }
        }
        let whole = swept == UNCOUNTED + COUNTED + DOUBTING;
        let doubtful = sampler.take_shares();
        let asked = (self.memo.asked - before) as f64;
        self.credit -= asked;
        if expected > 0.0 {
            let whole_cost = asked * ((UNCOUNTED + COUNTED + DOUBTING) as f64 / swept.max(1) as f64);
            self.each += ADAPT * (self.each * whole_cost / expected - self.each);
        }
        whole.then_some(Drawn { shares, doubtful, examples, drawn: true })
    }

    /// Learns from handlers to which nothing can be added any more, each once; and how well what they did was known.
    fn learn(&mut self, batch: &Batch, drawn: &Drawn, judges: bool) {
        let weight = 1.0 / drawn.examples.len() as f64;
        let mut learned = 0.0;
        let mut held: Vec<Vec<u32>> = vec![Vec::new(); batch.handlers.len()];
        for (example, owners) in drawn.examples.iter().enumerate() {
            held.iter_mut().for_each(Vec::clear);
            for (n, owner) in owners.iter().enumerate() {
                if let Some(owner) = owner {
                    held[*owner as usize].push(n as u32);
                }
            }
            for (handler, of) in batch.handlers.iter().enumerate().filter(|(_, handler)| handler.retires) {
                if example == 0 {
                    self.model.age();
                    self.tally.age();
                    if judges {
                        follow(batch, handler, &held[handler], |moment, _, event| {
                            let (surprising, predicted) = self.model.surprise(moment, event);
                            self.tally.happened(of.endpoint, surprising, predicted);
                        });
                    }
                }
                follow(batch, handler, &held[handler], |moment, gap, event| {
                    learned += weight;
                    self.model.observe(moment, gap, event, weight);
                });
            }
        }
        self.memo.refresh(&self.model, learned);
    }

    fn state(&mut self, batch: &Batch, drawn: &Drawn, horizon: Horizon) {
        for (at, of) in batch.calls.iter().enumerate() {
            let call = &mut self.buffer.calls[at];
            if call.decided.is_some() {
                continue;
            }
            let places = places(of, at as u32);
            let (shares, doubtful) = (&drawn.shares[places.clone()], &drawn.doubtful[places]);
            let best = (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b]).then(b.cmp(&a))).unwrap_or(0);
            let owner = batch.candidates(of).get(best);
            call.owner = owner.map(|&handler| self.buffer.handlers[handler as usize].id);
            call.sight = of.sight;
            if call.start >= horizon.decidable {
                continue;
            }
            let exact = call.exact.is_some() && call.exact == call.owner;
            let probability = if exact { 1.0 } else { f64::from(shares[best].min(doubtful[best])) };
            let endpoint_probability = match owner {
                Some(&owner) if !exact => {
                    let endpoint = batch.handlers[owner as usize].endpoint;
                    let alike = |&(&handler, _): &(&u32, &f32)| batch.handlers[handler as usize].endpoint == endpoint;
                    let sum = |shares: &[f32]| {
                        batch
                            .candidates(of)
                            .iter()
                            .zip(shares)
                            .filter(alike)
                            .map(|(_, share)| f64::from(*share))
                            .sum::<f64>()
                    };
                    sum(shares).min(sum(doubtful))
                }
                _ => probability,
            };
            call.decided = Some(probability);
            self.costs.calls_at_sight += u64::from(!drawn.drawn && !of.settled);
            self.links.push(Link { call: call.id, handler: call.owner, probability, endpoint_probability, exact });
            let by_endpoint = batch.candidates(of).iter().zip(shares).filter(|(_, share)| **share > 0.0);
            let by_endpoint = by_endpoint.map(|(&handler, &share)| {
                let handler = &batch.handlers[handler as usize];
                (handler.endpoint, f64::from(share), of.nested(handler))
            });
            // What confirms that an endpoint calls somebody is what would be stated of the call's endpoint.
            let of_endpoint = endpoint_probability as f32;
            let sure = match drawn.drawn || of.settled {
                true => Believed { full: of_endpoint, half: of_endpoint },
                false => of.sight,
            };
            let nobody = owner.is_none().then_some(probability);
            self.tally.call(of.callee, &sure, nobody, by_endpoint);
        }
    }
}

impl Drawn {
    /// Each call with the owner that it has in the batch, and full doubt about those that are not settled.
    fn at_sight(batch: &Batch) -> Self {
        let mut shares = vec![0.0; batch.candidates.len() + batch.calls.len()];
        let mut doubtful = shares.clone();
        for (n, call) in batch.calls.iter().enumerate() {
            let places = places(call, n as u32);
            let owner = call.owner.and_then(|owner| batch.place(call, owner));
            let at = owner.map_or(places.end - 1, |place| places.start + place);
            shares[at] = 1.0;
            doubtful[at] = if call.settled || call.candidates.is_empty() { 1.0 } else { 0.0 };
        }
        let examples = vec![batch.calls.iter().map(|call| call.owner).collect()];
        Self { shares, doubtful, examples, drawn: false }
    }
}
