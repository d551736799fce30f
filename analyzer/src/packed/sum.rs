//! Adds up what is packed without unpacking it: two rows of numbers become one, and room is needed for nothing but bytes.
//! What comes of it is what comes of unpacking both and packing their sum.

use std::cmp::Ordering;

use couplet_telemetry::report::Origins;

use super::bytes::{Reader, Writer};
use super::{DURATION, origins_in, read_origins};

/// Room that is used again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The sum.
    pub(super) sum: Writer,
    /// What stands behind the numbers.
    tail: Writer,
    counts: [Vec<(u32, u64)>; 3],
    buckets: [Vec<(i32, u64)>; 3],
}

/// What measures are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// How many distributions of whole numbers there are.
    pub(super) counts: usize,
    /// Whether there are origins of failures.
    pub(super) origins: bool,
}

/// Adds two rows of `N` numbers, the last of which are of durations; the sum is in the scratch.
pub(super) fn add_up<const N: usize>(one: &[u8], other: &[u8], form: Form, scratch: &mut Scratch) {
    let Scratch { sum, tail, counts, buckets } = scratch;
    sum.clear();
    tail.clear();
    let (mut one, mut other) = (Reader::new(one), Reader::new(other));
    let (mut numbers, more): ([u64; N], [u64; N]) = (one.numbers(), other.numbers());
    for _ in 0..form.counts {
        let [first, second, both] = counts;
        let ((sum, max), (more, larger)) = (one.values(first), other.values(second));
        merge(first, second, both);
        tail.values(both, sum.saturating_add(more), max.max(larger));
    }
    if form.origins {
        origins(&mut one, &mut other, tail);
    }
    let [first, second, both] = buckets;
    one.filled(first);
    other.filled(second);
    merge(first, second, both);
    tail.filled(both);
    // A smallest one there is only where there is any.
    let least = [(&numbers, first.is_empty()), (&more, second.is_empty())].map(|(numbers, no_buckets)| {
        let [_, min, _, zeros] = durations(numbers);
        (!no_buckets || zeros > 0).then_some(min)
    });
    let most = durations(&numbers)[2].max(durations(&more)[2]);
    numbers.iter_mut().zip(more).for_each(|(number, more)| *number = number.saturating_add(more));
    if let [.., min, max, _] = numbers.as_mut_slice() {
        *min = least.into_iter().flatten().min().unwrap_or(0);
        *max = most;
    }
    sum.numbers::<N>(numbers.into_iter());
    sum.raw(tail.bytes());
}

/// Sum, smallest, largest and zeros.
fn durations<const N: usize>(numbers: &[u64; N]) -> [u64; DURATION] {
    numbers.last_chunk().copied().unwrap_or_default()
}

/// Nearly always there are none.
fn origins(one: &mut Reader<'_>, other: &mut Reader<'_>, tail: &mut Writer) {
    let mut all = Origins::default();
    read_origins(one, &mut all);
    read_origins(other, &mut all);
    origins_in(tail, &all);
}

/// Both, sorted, as one.
fn merge<K: Ord + Copy>(mut one: &[(K, u64)], mut other: &[(K, u64)], both: &mut Vec<(K, u64)>) {
    both.clear();
    while let ([(key, n), rest @ ..], [(same, more), others @ ..]) = (one, other) {
        match key.cmp(same) {
            Ordering::Less => {
                both.push((*key, *n));
                one = rest;
            }
            Ordering::Greater => {
                both.push((*same, *more));
                other = others;
            }
            Ordering::Equal => {
                both.push((*key, n.saturating_add(*more)));
                (one, other) = (rest, others);
            }
        }
    }
    both.extend_from_slice(one);
    both.extend_from_slice(other);
}
