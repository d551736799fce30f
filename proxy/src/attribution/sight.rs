//! Links at the moment of a call, by what was learned so far and what the open handlers did so far.

use super::memo::Memo;
use super::model::Model;
use super::path::Path;
use super::tally::Odds;

/// What was learned up to now, to be looked up while calls are made. It does not change.
#[derive(Debug, Clone)]
pub struct Sight {
    pub(super) model: Model,
    pub(super) odds: Odds,
    pub(super) trust: f64,
    /// Differs between any two of one estimator.
    pub(super) serial: u64,
}

/// The handlers that are open, and what each has done so far, as far as that is known.
#[derive(Debug, Default)]
pub struct Open {
    handlers: Vec<One>,
    /// Open handlers for which there was no room.
    left_out: usize,
    weights: Vec<f64>,
    memo: Memo,
    /// What the answers in the memo are of.
    serial: u64,
}

#[derive(Debug)]
struct One {
    id: u64,
    group: u64,
    endpoint: u32,
    path: Path,
}

/// Who is likely to make a call that begins now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// The likeliest handler of the likeliest group.
    pub handler: u64,
    /// What its group is.
    pub group: u64,
    /// Probability, 0 to 1, that a handler of that group makes the call.
    pub probability: f64,
    /// Probability that it is this handler.
    pub handler_probability: f64,
}

/// Handlers that are kept: a call is weighed against no more.
const MOST_OPEN: usize = 64;
/// Handlers of one endpoint up to which what each did tells their groups apart: with more, too much of what each is
/// taken to have done was only likely. Then only their numbers count.
const APART: f64 = 3.0;
/// How far the model is believed where the question is whether any handler makes the call: as in draws.
const NOBODY: f64 = 0.5;
/// How much more doubt there is between handlers of one endpoint than the model says.
const ALIKE: f64 = 3.0;
/// Logarithm of the odds beyond which a handler does not count.
const UNTHINKABLE: f64 = 30.0;

impl Open {
    /// A request to `endpoint` is complete. Handlers of one endpoint and `group` need not be told apart. Whether there was room: if
    /// not, nobody can be sure of any call until handlers have ended.
    pub fn handler_started(&mut self, id: u64, group: u64, endpoint: u32, at: u64) -> bool {
        let room = self.handlers.len() < MOST_OPEN;
        self.left_out += usize::from(!room);
        if room {
            self.handlers.push(One { id, group, endpoint, path: Path::new(at, endpoint) });
        }
        room
    }

    /// A request came of which nothing can be kept: nobody can be sure of any call until it has ended.
    pub fn handler_left_out(&mut self) {
        self.left_out += 1;
    }

    /// The last byte of the answer was sent. Whether the handler was known.
    pub fn handler_ended(&mut self, id: u64) -> bool {
        let at = self.handlers.iter().position(|one| one.id == id);
        match at {
            Some(at) => drop(self.handlers.swap_remove(at)),
            None => self.left_out = self.left_out.saturating_sub(1),
        }
        at.is_some()
    }

    /// Whether no handler is open.
    pub fn is_empty(&self) -> bool {
        self.handlers.is_empty() && self.left_out == 0
    }

    /// Who makes a call to `callee` that begins now, of those that `may`; nobody knows where no handler is open, or where
    /// more are than are kept.
    pub fn guess(&mut self, sight: &Sight, callee: u32, at: u64, may: impl Fn(u64) -> bool) -> Option<Guess> {
        if self.left_out > 0 {
            return None;
        }
        if self.serial != sight.serial {
            self.memo.clear();
            self.serial = sight.serial;
        }
        self.weights.clear();
        let mut most = f64::NEG_INFINITY;
        for one in &mut self.handlers {
            let (moment, gap) = one.path.moment(at);
            let weight = match may(one.id) {
                true => self.memo.log_likelihood(&sight.model, moment, gap, callee),
                false => f64::NEG_INFINITY,
            };
            most = most.max(weight);
            self.weights.push(weight);
        }
        if !most.is_finite() {
            return None;
        }
        let share = |weight: f64, trust: f64| ((weight - most) * trust).clamp(-UNTHINKABLE, UNTHINKABLE).exp();
        let mut total = share(sight.odds.background(callee), NOBODY);
        for weight in &mut self.weights {
            *weight = if weight.is_finite() { share(*weight, sight.trust) } else { 0.0 };
            total += *weight;
        }
        // The likeliest group, by the sum over its handlers; each is looked at where its first handler stands.
        let mut best: Option<Guess> = None;
        for (at, one) in self.handlers.iter().enumerate() {
            if self.handlers.iter().take(at).any(|earlier| earlier.is_like(one)) {
                continue;
            }
            let mut guess = Guess { handler: one.id, group: one.group, probability: 0.0, handler_probability: -1.0 };
            let (mut alike, mut others, mut of_endpoint) = (0.0, 0.0, 0.0);
            for (other, weight) in self.handlers.iter().zip(&self.weights) {
                if other.endpoint != one.endpoint {
                    continue;
                }
                let share = weight / total;
                of_endpoint += share;
                if other.group != one.group {
                    others += 1.0;
                    continue;
                }
                alike += 1.0;
                guess.probability += share;
                if share > guess.handler_probability {
                    (guess.handler, guess.handler_probability) = (other.id, share);
                }
            }
            if others > 0.0 {
                guess.probability = match alike + others <= APART {
                    // What tells handlers of one endpoint apart is only what each is taken to have done.
                    true => of_endpoint - ALIKE * (of_endpoint - guess.probability),
                    false => guess.probability.min(of_endpoint * alike / (alike + others)),
                };
            }
            if best.is_none_or(|best| guess.probability > best.probability) {
                best = Some(guess);
            }
        }
        best
    }

    /// A handler makes a call, or is taken to.
    pub fn call_started(&mut self, handler: u64, callee: u32, at: u64) {
        if let Some(one) = self.handlers.iter_mut().find(|one| one.id == handler) {
            one.path.begin(callee, at);
        }
    }

    /// Its answer has come.
    pub fn call_ended(&mut self, handler: u64, callee: u32, at: u64) {
        if let Some(one) = self.handlers.iter_mut().find(|one| one.id == handler) {
            one.path.end(callee, at);
        }
    }
}

impl One {
    fn is_like(&self, other: &Self) -> bool {
        (self.endpoint, self.group) == (other.endpoint, other.group)
    }
}
