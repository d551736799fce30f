//! Calls per handling without looking at any single call: which mix of endpoints explains the calls of each second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Length of a bin in nanoseconds: long against a handling, so that its calls fall into its bin.
const BIN: u64 = 1_000_000_000;
/// Bins kept, and those needed before anything is said.
const KEPT: usize = 300;
const NEEDED: usize = 20;
const ROUNDS: usize = 300;
/// Endpoints and callees that are looked at, the busiest of them: what it costs grows with both, and strangers make up
/// names.
const MOST_ENDPOINTS: usize = 64;
const MOST_CALLEES: usize = 128;
/// Calls of a callee, and handlings of an endpoint, below which nothing can be said.
const FEWEST: f64 = 20.0;

#[derive(Debug, Default)]
struct Bin {
    number: u64,
    handlings: BTreeMap<u32, f64>,
    calls: BTreeMap<u32, f64>,
}

/// Handlings and calls per second, as far back as is kept.
#[derive(Debug)]
pub(super) struct Seconds {
    bins: VecDeque<Bin>,
    most: usize,
}

impl Seconds {
    pub(super) fn new(most: usize) -> Self {
        Self { bins: VecDeque::new(), most }
    }

    pub(super) fn handling(&mut self, endpoint: u32, at: u64) {
        let most = self.most;
        if let Some(bin) = self.bin(at) {
            add(&mut bin.handlings, endpoint, most);
        }
    }

    pub(super) fn call(&mut self, callee: u32, at: u64) {
        let most = self.most;
        if let Some(bin) = self.bin(at) {
            add(&mut bin.calls, callee, most);
        }
    }

    fn bin(&mut self, at: u64) -> Option<&mut Bin> {
        let number = at / BIN;
        if self.bins.back().is_none_or(|last| last.number < number) {
            self.bins.push_back(Bin { number, ..Bin::default() });
            if self.bins.len() > KEPT {
                self.bins.pop_front();
            }
        }
        self.bins.back_mut()
    }

    /// Minimises `|calls - handlings × expectation|²` for each callee, expectations not below zero, by multiplicative
    /// updates (Lee and Seung, 2001). None before there are enough seconds.
    pub(super) fn solve(&self) -> Option<Solution> {
        self.solve_for(MOST_ENDPOINTS, MOST_CALLEES)
    }

    fn solve_for(&self, most_endpoints: usize, most_callees: usize) -> Option<Solution> {
        if self.bins.len() < NEEDED {
            return None;
        }
        let (endpoints, other_endpoints) = busiest(self.bins.iter().map(|bin| &bin.handlings), most_endpoints);
        let (callees, other_callees) = busiest(self.bins.iter().map(|bin| &bin.calls), most_callees);
        // The last column is that of all other endpoints together: those that are looked at do not answer for them.
        let row = |bin: &Bin| -> Vec<f64> {
            let known = endpoints.iter().map(|endpoint| bin.handlings.get(endpoint).copied().unwrap_or(0.0));
            let others = bin.handlings.iter().filter(|(endpoint, _)| other_endpoints.contains(endpoint));
            known.chain([others.map(|(_, count)| count).sum()]).collect()
        };
        let problem = Problem::new(self.bins.iter().map(row).collect());
        let mut pairs = BTreeMap::new();
        for &callee in &callees {
            let calls: Vec<f64> = self.bins.iter().map(|bin| bin.calls.get(&callee).copied().unwrap_or(0.0)).collect();
            let solved = problem.solve(&calls);
            pairs.extend(endpoints.iter().zip(solved).map(|(&endpoint, x)| ((endpoint, callee), x)));
        }
        Some(Solution { pairs, other_endpoints, other_callees })
    }
}

/// What was found.
#[derive(Debug)]
pub(super) struct Solution {
    /// Calls per handling, by endpoint and callee.
    pub(super) pairs: BTreeMap<(u32, u32), f64>,
    other_endpoints: BTreeSet<u32>,
    other_callees: BTreeSet<u32>,
}

impl Solution {
    /// Whether nothing is said of a pair because there were busier ones.
    pub(super) fn leaves_out(&self, (endpoint, callee): (u32, u32)) -> bool {
        self.other_endpoints.contains(&endpoint) || self.other_callees.contains(&callee)
    }
}

/// The names that are counted most, and often enough, in their order; and all others.
fn busiest<'a>(counts: impl Iterator<Item = &'a BTreeMap<u32, f64>>, most: usize) -> (Vec<u32>, BTreeSet<u32>) {
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    counts.flatten().for_each(|(name, count)| *sums.entry(*name).or_default() += count);
    let mut names: Vec<(u32, f64)> = sums.into_iter().collect();
    names.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let enough = names.partition_point(|(_, count)| *count >= FEWEST);
    let others = names.split_off(most.min(enough)).into_iter().map(|(name, _)| name).collect();
    let mut names: Vec<u32> = names.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    (names, others)
}

/// One system of equations for many right-hand sides.
struct Problem {
    rows: Vec<Vec<f64>>,
    /// The products of each two columns.
    squared: Vec<Vec<f64>>,
}

impl Problem {
    fn new(rows: Vec<Vec<f64>>) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        let mut squared = vec![vec![0.0; width]; width];
        for row in &rows {
            for (sums, a) in squared.iter_mut().zip(row).filter(|(_, a)| **a != 0.0) {
                sums.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b);
            }
        }
        Self { rows, squared }
    }

    fn solve(&self, wanted: &[f64]) -> Vec<f64> {
        let mut target = vec![0.0; self.squared.len()];
        for (row, value) in self.rows.iter().zip(wanted) {
            target.iter_mut().zip(row).for_each(|(sum, a)| *sum += a * value);
        }
        let mut x = vec![0.5; target.len()];
        for _ in 0..ROUNDS {
            let now: Vec<f64> = self.squared.iter().map(|row| row.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
            for ((x, target), now) in x.iter_mut().zip(&target).zip(now) {
                *x *= target / now.max(1e-12);
            }
        }
        x
    }
}

fn add(counts: &mut BTreeMap<u32, f64>, key: u32, most: usize) {
    if counts.len() < most || counts.contains_key(&key) {
        *counts.entry(key).or_default() += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_strangers_make_up_do_not_hide_what_is_busy() {
        let mut seconds = Seconds::new(2_048);
        for second in 0..60 {
            let at = second * BIN;
            let handlings = 5 + second % 7;
            for _ in 0..handlings {
                seconds.handling(1, at);
                seconds.call(1, at);
                seconds.call(1, at);
            }
            for name in 0..20 {
                let name = 100 + second as u32 * 20 + name;
                seconds.handling(name, at);
                seconds.call(name, at);
            }
        }
        let solved = seconds.solve().unwrap();
        assert_eq!(solved.pairs.keys().collect::<Vec<_>>(), [&(1, 1)]);
        assert!((solved.pairs[&(1, 1)] - 2.0).abs() < 0.2, "{}", solved.pairs[&(1, 1)]);
        assert!(!solved.leaves_out((1, 1)));
        assert!((100..1_300).all(|name| solved.leaves_out((name, 1)) && solved.leaves_out((1, name))));
    }

    #[test]
    fn the_busiest_are_looked_at_and_no_more_than_so_many() {
        let mut seconds = Seconds::new(2_048);
        for second in 0..60 {
            for name in (0..40).filter(|name| second % 40 <= *name) {
                // The higher the number, the busier.
                seconds.handling(name as u32, second * BIN);
                seconds.call(name as u32, second * BIN);
            }
        }
        let solved = seconds.solve_for(4, 8).unwrap();
        let looked_at: Vec<_> = solved.pairs.keys().copied().collect();
        let busiest: Vec<_> = (36..40).flat_map(|endpoint| (32..40).map(move |callee| (endpoint, callee))).collect();
        assert_eq!(looked_at, busiest);
        assert!(solved.leaves_out((35, 39)) && solved.leaves_out((39, 31)));
    }
}
