//! Answers of the model, kept from one weighing to the next: the same few things are asked over and over.

use std::collections::HashMap;

use super::density::{BINS, Gap};
use super::hash::Spread;
use super::model::{Model, Moment, gap_keys};

/// What the model said while it had seen much the same.
#[derive(Debug, Default)]
pub(super) struct Memo {
    next: HashMap<u64, Next, Spread>,
    rows: HashMap<u64, u32, Spread>,
    /// Logarithms by bin of each row; not a number where nobody asked yet.
    gaps: Vec<[f32; BINS]>,
    /// Observations since this began.
    observed: f64,
    /// Questions answered so far: what the estimator spends nearly all of its time on.
    pub(super) asked: u64,
}

/// What is known of an event at a moment: how likely it is to come next, and the row of its gaps.
#[derive(Debug, Clone, Copy)]
struct Next {
    log: f32,
    row: u32,
}

/// Share of new observations from which answers are asked for anew.
const NEWS: f64 = 0.05;
/// Answers kept at a time.
const MOST: usize = 32_768;
const MOST_ROWS: usize = 2_048;

impl Memo {
    /// Forgets all answers if the model has learned enough to give others.
    pub(super) fn refresh(&mut self, model: &Model, learned: f64) {
        self.observed += learned;
        if self.observed > NEWS * model.observed() {
            self.clear();
        }
    }

    /// Forgets all answers.
    pub(super) fn clear(&mut self) {
        self.next.clear();
        self.rows.clear();
        self.gaps.clear();
        self.observed = 0.0;
    }

    /// Logarithm of how likely it is that `event` comes at this moment after this gap, per tick of time.
    pub(super) fn log_likelihood(&mut self, model: &Model, moment: Moment, gap: Gap, event: u32) -> f64 {
        self.asked += 1;
        let key = moment.key(event);
        let next = match self.next.get(&key) {
            Some(next) => *next,
            None => self.ask(model, moment, event, key),
        };
        let Some(log) = self.gaps.get_mut(next.row as usize).and_then(|row| row.get_mut(gap.bin)) else { return 0.0 };
        if log.is_nan() {
            *log = model.log_gap(moment, event, gap.bin) as f32;
        }
        f64::from(next.log) + f64::from(*log) - gap.stretch
    }

    #[cold]
    fn ask(&mut self, model: &Model, moment: Moment, event: u32, key: u64) -> Next {
        if self.next.len() >= MOST || self.gaps.len() >= MOST_ROWS {
            self.clear();
        }
        let [_, gaps] = gap_keys(moment, event);
        let row = *self.rows.entry(gaps).or_insert_with(|| {
            self.gaps.push([f32::NAN; BINS]);
            (self.gaps.len() - 1) as u32
        });
        let next = Next { log: model.log_next(moment, event) as f32, row };
        self.next.insert(key, next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{END, Last};
    use super::*;

    fn moment(last: Last) -> Moment {
        Moment { endpoint: 3, last, history: 0 }
    }

    #[test]
    fn an_answer_is_the_models_until_there_is_news() {
        let (mut model, mut memo) = (Model::new(64, 1_000.0), Memo::default());
        let (at, gap) = (moment(Last::START), Gap::new(2_000_000));
        let direct = |model: &Model| model.log_next(at, 7) + model.log_gap(at, 7, gap.bin) - gap.stretch;
        for _ in 0..10 {
            model.observe(at, gap, 7, 1.0);
        }
        let before = memo.log_likelihood(&model, at, gap, 7);
        assert!((before - direct(&model)).abs() < 1e-5);
        model.observe(at, gap, END, 1.0);
        assert_eq!(memo.log_likelihood(&model, at, gap, 7), before);
        memo.refresh(&model, 1.0);
        assert!((memo.log_likelihood(&model, at, gap, 7) - direct(&model)).abs() < 1e-5);
        assert!(memo.log_likelihood(&model, at, gap, 7) < before);
        assert_eq!(memo.asked, 4);
    }

    #[test]
    fn answers_do_not_pile_up() {
        let (model, mut memo) = (Model::new(64, 1_000.0), Memo::default());
        for callee in 0..3 * MOST as u32 {
            memo.log_likelihood(&model, moment(Last::call_end(callee % 50)), Gap::new(1_000), callee);
        }
        assert!(memo.next.len() <= MOST && memo.gaps.len() <= MOST_ROWS && memo.rows.len() <= MOST_ROWS);
    }
}
