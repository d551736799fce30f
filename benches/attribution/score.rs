//! What was linked and expected, held against the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::baselines::{first_in_first_out, nearest_parent};
use crate::replay::Linked;
use crate::traces::Traffic;

/// Sums over the services of one set at one rate.
#[derive(Default)]
pub(crate) struct Score {
    in_flight: f64,
    calls: usize,
    right: usize,
    all: Stated,
    light: Stated,
    now: Stated,
    now_of_two: Stated,
    nearest_parent: usize,
    first_in_first_out: usize,
    error: f64,
    least_squares: Option<f64>,
    pairs: usize,
    found: usize,
    invented: usize,
    cost: u64,
    spent: Duration,
}

#[derive(Default)]
struct Stated {
    calls: usize,
    stated: usize,
    right: usize,
}

/// Services with fewer handlers than this are left out: there is nothing to learn from.
pub(crate) const FEWEST_HANDLERS: usize = 30;
/// Handlers in flight up to which stated links are also looked at apart.
const LIGHT: f64 = 6.0;
const STATED: f64 = 0.9;
/// Calls from which a true pair must be found.
const MUST: f64 = 20.0;

impl Score {
    /// Titles of [`Self::line`].
    pub(crate) const HEADER: &str = "set              rate     L | link % parent   fifo | cover  right | L<=6: cover  right | \
        error %  nnls | pairs  false | bounds cost  µs/call";

    /// Adds one service.
    pub(crate) fn add(&mut self, traffic: &Traffic, linked: &Linked) {
        let in_flight = traffic.in_flight();
        self.in_flight = self.in_flight.max(in_flight);
        self.calls += traffic.calls.len();
        let mut stated = Stated { calls: traffic.calls.len(), ..Stated::default() };
        for link in &linked.links {
            let handler = link.handler.map(|handler| traffic.handlers[handler as usize].identity);
            let right = handler == Some(traffic.calls[link.call as usize].handler);
            self.right += usize::from(right);
            if handler.is_some() && link.probability >= STATED {
                stated.stated += 1;
                stated.right += usize::from(right);
            }
        }
        if in_flight <= LIGHT {
            self.light.add(&stated);
        }
        self.all.add(&stated);
        self.guessed(traffic, linked);
        self.spent += linked.spent;
        self.nearest_parent += nearest_parent(traffic);
        self.first_in_first_out += first_in_first_out(traffic);
        let costs = linked.costs;
        self.cost += costs.handlers_given_up + costs.calls_hurried + costs.candidates_left_out;
        self.cost += costs.calls_at_sight + costs.observations_refused + costs.pairs_refused + costs.events_ignored;
        self.expect(traffic, linked);
    }

    fn guessed(&mut self, traffic: &Traffic, linked: &Linked) {
        self.now.calls += linked.seen;
        self.now_of_two.calls += linked.seen;
        let by_identity: HashMap<_, _> = traffic.handlers.iter().enumerate().map(|(n, h)| (h.identity, n)).collect();
        let kinds = [(&mut self.now, &linked.guesses, 1), (&mut self.now_of_two, &linked.guesses_of_two, 2)];
        for (stated, guesses, groups) in kinds {
            for (call, guess) in traffic.calls.iter().zip(guesses) {
                let Some(guess) = guess.filter(|guess| guess.probability >= STATED) else { continue };
                let truth = by_identity[&call.handler];
                let same = traffic.handlers[guess.handler as usize].endpoint == call.endpoint;
                stated.stated += 1;
                stated.right += usize::from(same && guess.group == (truth % groups) as u64);
            }
        }
    }

    fn expect(&mut self, traffic: &Traffic, linked: &Linked) {
        let mut truth: BTreeMap<(u32, u32), f64> = BTreeMap::new();
        let mut handled: BTreeMap<u32, f64> = BTreeMap::new();
        traffic.calls.iter().for_each(|call| *truth.entry((call.endpoint, call.callee)).or_default() += 1.0);
        traffic.handlers.iter().for_each(|handler| *handled.entry(handler.endpoint).or_default() += 1.0);
        let of = |endpoint: u32| handled.get(&endpoint).copied().unwrap_or(1.0);
        let said = linked.expectations.iter().map(|e| ((e.endpoint, e.callee), e.calls)).collect();
        self.error += difference(&truth, &said);
        if !linked.least_squares.is_empty() {
            let solved = linked.least_squares.iter().map(|&((e, callee), per)| ((e, callee), per * of(e))).collect();
            *self.least_squares.get_or_insert(0.0) += difference(&truth, &solved);
        }
        let told: BTreeSet<_> = linked.expectations.iter().filter(|e| e.told).map(|e| (e.endpoint, e.callee)).collect();
        self.invented += told.iter().filter(|key| !truth.contains_key(key)).count();
        for (key, _) in truth.iter().filter(|(_, calls)| **calls >= MUST) {
            self.pairs += 1;
            self.found += usize::from(told.contains(key));
        }
    }

    /// Stated links that are right, %; none if nothing is stated.
    pub(crate) fn right_of_all(&self) -> Option<f64> {
        self.all.right()
    }

    /// The same of services with few handlers in flight.
    pub(crate) fn right_of_light(&self) -> Option<f64> {
        self.light.right()
    }

    /// Share of the calls whose link is stated, %.
    pub(crate) fn cover(&self) -> f64 {
        percent(self.all.stated as f64, self.all.calls as f64)
    }

    /// One line of the table.
    pub(crate) fn line(&self, set: &str, rate: &str) -> String {
        let nnls =
            self.least_squares.map_or("-".to_owned(), |error| format!("{:.1}", percent(error, self.calls as f64)));
        format!(
            "{set:14} {rate:>6} {:5.1} | {:6.1} {:6.1} {:6.1} | {} | {:>12} | {}  {} | {:7.1} {nnls:>5} | {:>2}/{:<2} {:>6} | {:11} {:8.2}",
            self.in_flight,
            percent(self.right as f64, self.calls as f64),
            percent(self.nearest_parent as f64, self.calls as f64),
            percent(self.first_in_first_out as f64, self.calls as f64),
            self.all.text(),
            self.light.text(),
            self.now.text(),
            self.now_of_two.text(),
            percent(self.error, self.calls as f64),
            self.found,
            self.pairs,
            self.invented,
            self.cost,
            self.spent.as_secs_f64() * 1e6 / self.calls as f64,
        )
    }
}

impl Stated {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.stated += other.stated;
        self.right += other.right;
    }

    fn right(&self) -> Option<f64> {
        (self.stated > 0).then(|| percent(self.right as f64, self.stated as f64))
    }

    fn text(&self) -> String {
        let cover = percent(self.stated as f64, self.calls as f64);
        format!("{cover:5.1} {:6.1}", percent(self.right as f64, self.stated as f64))
    }
}

/// Half the sum of differences: calls that are expected in the wrong place.
fn difference(truth: &BTreeMap<(u32, u32), f64>, said: &BTreeMap<(u32, u32), f64>) -> f64 {
    let of = |map: &BTreeMap<(u32, u32), f64>, key| map.get(key).copied().unwrap_or(0.0);
    let keys: BTreeSet<_> = truth.keys().chain(said.keys()).collect();
    keys.into_iter().map(|key| (of(truth, key) - of(said, key)).abs() / 2.0).sum()
}

fn percent(part: f64, whole: f64) -> f64 {
    100.0 * part / whole.max(1.0)
}
