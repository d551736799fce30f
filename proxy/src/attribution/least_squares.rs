//! Calls per handling without looking at any single call: which mix of endpoints explains the calls of each second.

use std::collections::{BTreeMap, VecDeque};

/// Length of a bin in nanoseconds: long against a handling, so that its calls fall into its bin.
const BIN: u64 = 1_000_000_000;
/// Bins kept, and those needed before anything is said.
const KEPT: usize = 300;
const NEEDED: usize = 20;
const ROUNDS: usize = 300;

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
    /// updates (Lee and Seung, 2001).
    pub(super) fn solve(&self) -> Vec<((u32, u32), f64)> {
        if self.bins.len() < NEEDED {
            return Vec::new();
        }
        let mut endpoints: BTreeMap<u32, f64> = BTreeMap::new();
        let mut callees: BTreeMap<u32, ()> = BTreeMap::new();
        for bin in &self.bins {
            bin.handlings.iter().for_each(|(endpoint, count)| *endpoints.entry(*endpoint).or_default() += count);
            callees.extend(bin.calls.keys().map(|callee| (*callee, ())));
        }
        let endpoints: Vec<u32> = endpoints.into_keys().collect();
        let row = |bin: &Bin| -> Vec<f64> {
            endpoints.iter().map(|e| bin.handlings.get(e).copied().unwrap_or(0.0)).collect()
        };
        let rows: Vec<Vec<f64>> = self.bins.iter().map(row).collect();
        let mut all = Vec::new();
        for &callee in callees.keys() {
            let calls: Vec<f64> = self.bins.iter().map(|bin| bin.calls.get(&callee).copied().unwrap_or(0.0)).collect();
            let solved = non_negative(&rows, &calls, endpoints.len());
            all.extend(endpoints.iter().zip(solved).map(|(&endpoint, x)| ((endpoint, callee), x)));
        }
        all.sort_by_key(|(key, _)| *key);
        all
    }
}

fn non_negative(rows: &[Vec<f64>], wanted: &[f64], width: usize) -> Vec<f64> {
    let mut x = vec![0.5; width];
    let product = |values: &[f64]| -> Vec<f64> {
        let mut sums = vec![0.0; width];
        for (row, value) in rows.iter().zip(values) {
            sums.iter_mut().zip(row).for_each(|(sum, a)| *sum += a * value);
        }
        sums
    };
    let target = product(wanted);
    for _ in 0..ROUNDS {
        let got: Vec<f64> = rows.iter().map(|row| row.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
        let now = product(&got);
        for ((x, target), now) in x.iter_mut().zip(&target).zip(now) {
            *x *= target / now.max(1e-12);
        }
    }
    x
}

fn add(counts: &mut BTreeMap<u32, f64>, key: u32, most: usize) {
    if counts.len() < most || counts.contains_key(&key) {
        *counts.entry(key).or_default() += 1.0;
    }
}
