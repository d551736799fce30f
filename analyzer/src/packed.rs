//! Measures in few bytes: what a graph keeps of a million paths, and what slots are made of.
//!
//! Most of what can be counted is zero and most of the rest is small, so only what is not zero is written, as numbers of
//! as many bytes as they need. Nothing at all is written of measures of nothing. The bytes never change once they are
//! shared: graph and snapshots hold on to the same ones until the graph has something to add.

mod bytes;
mod sum;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use couplet_telemetry::counts::Counts;
use couplet_telemetry::example::Examples;
use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::outcome::{Evidence, Links, Outcome, Outcomes};
use couplet_telemetry::report::{CallStats, HandlingStats, Joint, Origins};

pub(crate) use self::bytes::{Reader, Writer};
pub(crate) use self::sum::Scratch;
use self::sum::{Form, add_up};

/// Measures, packed. What is asked for is unpacked; see the accessors of each kind.
pub struct Packed<T> {
    bytes: Arc<[u8]>,
    of: PhantomData<fn() -> T>,
}

/// Measures that can be packed, and add up.
pub trait Measures: Default {
    /// Writes all of it.
    fn write(&self, writer: &mut Writer);
    /// Reads what was written; of no bytes at all, nothing.
    fn read(reader: &mut Reader<'_>) -> Self;
    /// Adds what was written of two; none of them is empty. The sum is in the scratch.
    fn add_up(one: &[u8], other: &[u8], scratch: &mut Scratch);
}

impl<T: Measures> Packed<T> {
    /// The same in few bytes.
    #[must_use]
    pub fn new(measures: &T) -> Self {
        let mut writer = Writer::default();
        measures.write(&mut writer);
        Self::of_bytes(Arc::from(writer.bytes()))
    }

    /// All of it.
    #[must_use]
    pub fn unpack(&self) -> T {
        T::read(&mut self.reader())
    }

    /// Adds what was written of other measures.
    pub(crate) fn merge_bytes(&mut self, other: &[u8], scratch: &mut Scratch) {
        if other.is_empty() {
            return;
        }
        if self.bytes.is_empty() {
            *self = Self::of_bytes(Arc::from(other));
            return;
        }
        T::add_up(&self.bytes, other, scratch);
        let sum = scratch.sum.bytes();
        // As long as nobody else holds on to the bytes, and there are as many, they are used again.
        match Arc::get_mut(&mut self.bytes) {
            Some(bytes) if bytes.len() == sum.len() => bytes.copy_from_slice(sum),
            _ => self.bytes = Arc::from(sum),
        }
    }

    /// All of these together. The only one of its kind is shared, not copied.
    pub(crate) fn sum<'a>(mut all: impl Iterator<Item = &'a Self>, scratch: &mut Scratch) -> Self
    where
        T: 'a,
    {
        let Some(first) = all.next() else { return Self::default() };
        let mut sum = first.clone();
        all.for_each(|other| sum.merge_bytes(&other.bytes, scratch));
        sum
    }

    /// What was written of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(&self.bytes)
    }

    fn of_bytes(bytes: Arc<[u8]>) -> Self {
        Self { bytes, of: PhantomData }
    }
}

/// How many handlings or calls there are in what was written of them: how they ended comes first.
pub(crate) fn total(measures: &[u8]) -> u64 {
    Reader::new(measures).first::<OUTCOMES>().iter().fold(0, |sum, number| sum.saturating_add(*number))
}

impl<T> Clone for Packed<T> {
    fn clone(&self) -> Self {
        Self { bytes: Arc::clone(&self.bytes), of: PhantomData }
    }
}

impl<T> Default for Packed<T> {
    fn default() -> Self {
        Self { bytes: Arc::default(), of: PhantomData }
    }
}

impl<T: Measures + fmt::Debug> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unpack().fmt(f)
    }
}

/// What most measures of handlings are made of, without anything that takes room of its own.
#[derive(Debug, Clone, Default)]
pub struct HandlingTotals {
    /// Handlings by how they ended.
    pub outcomes: Outcomes,
    /// Nanoseconds of them.
    pub nanos: u64,
    /// Nanoseconds of them in which a blocking call was open.
    pub blocked: u64,
    /// Nanoseconds of all blocking calls added up.
    pub busy: u64,
}

/// What most measures of calls are made of, without anything that takes room of its own.
#[derive(Debug, Clone, Default)]
pub struct CallTotals {
    /// Calls by how they ended.
    pub outcomes: Outcomes,
    /// How they were linked.
    pub links: Links,
    /// Handlings with at least one, by whether one failed and whether the handling did.
    pub joint: Joint,
    /// Calls that ended before their handler did.
    pub blocking: u64,
    /// Nanoseconds in which handlings waited for them.
    pub blocked: u64,
    /// Attempts on the wire.
    pub attempts: u64,
    /// Requests that injected faults held up before they became calls.
    pub delayed: u64,
    /// Requests that injected faults answered: they are no calls.
    pub aborted: u64,
    /// Nanoseconds of all of them.
    pub nanos: u64,
    /// Handlings that made at least one.
    pub users: u64,
}

impl Packed<HandlingStats> {
    /// Handlings by how they ended.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.totals().outcomes
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.outcomes().total()
    }

    /// The sums.
    #[must_use]
    pub fn totals(&self) -> HandlingTotals {
        let numbers: [u64; HANDLING_NUMBERS] = self.reader().numbers();
        let mut numbers = numbers.into_iter();
        let (outcomes, _, _) = (outcomes_of(&mut numbers), links_of(&mut numbers), links_of(&mut numbers));
        let [blocked, busy, _, _, nanos] = std::array::from_fn(|_| next(&mut numbers));
        HandlingTotals { outcomes, nanos, blocked, busy }
    }
}

impl Packed<HandlingStats> {
    /// What the callee of these handlings knows of the calls.
    pub(crate) fn server_side(&self) -> ServerSide {
        let mut reader = self.reader();
        let numbers: [u64; HANDLING_NUMBERS] = reader.numbers();
        let [.., sum, min, max, zeros] = numbers;
        let outcomes = outcomes_of(&mut numbers.into_iter());
        for _ in 0..COUNTS {
            reader.skip_counts();
        }
        for _ in 0..reader.length() {
            let _ = (reader.text(), reader.number());
        }
        ServerSide { outcomes, duration: reader.histogram(zeros, sum, min, max) }
    }
}

impl Packed<CallStats> {
    /// Calls by how they ended.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.totals().outcomes
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.outcomes().total()
    }

    /// How they were linked.
    #[must_use]
    pub fn links(&self) -> Links {
        self.totals().links
    }

    /// The sums.
    #[must_use]
    pub fn totals(&self) -> CallTotals {
        let numbers: [u64; CALL_NUMBERS] = self.reader().numbers();
        let mut numbers = numbers.into_iter();
        let (outcomes, links) = (outcomes_of(&mut numbers), links_of(&mut numbers));
        let joint = joint_of(&mut numbers);
        let [blocking, blocked, attempts, delayed, aborted, _, _, users, nanos] =
            std::array::from_fn(|_| next(&mut numbers));
        CallTotals { outcomes, links, joint, blocking, blocked, attempts, delayed, aborted, nanos, users }
    }

    /// Calls per handling that made at least one.
    #[must_use]
    pub fn per_handling(&self) -> Counts {
        let mut reader = self.reader();
        let _: [u64; CALL_NUMBERS] = reader.numbers();
        reader.counts()
    }

    /// How long they took.
    #[must_use]
    pub fn duration(&self) -> Histogram {
        let mut reader = self.reader();
        let [.., sum, min, max, zeros]: [u64; CALL_NUMBERS] = reader.numbers();
        reader.skip_counts();
        reader.histogram(zeros, sum, min, max)
    }
}

/// What a callee knows of calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerSide {
    /// Calls by how they ended.
    pub outcomes: Outcomes,
    /// Durations of their handlings.
    pub duration: Histogram,
}

impl ServerSide {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.outcomes.merge(&other.outcomes);
        self.duration.merge(&other.duration);
    }
}

impl Packed<ServerSide> {
    /// Calls by how they ended.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        let numbers: [u64; SERVER_NUMBERS] = self.reader().numbers();
        outcomes_of(&mut numbers.into_iter())
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.outcomes().total()
    }

    /// Durations of their handlings.
    #[must_use]
    pub fn duration(&self) -> Histogram {
        self.unpack().duration
    }
}

const OUTCOMES: usize = Outcome::ALL.len();
const LINKS: usize = Evidence::ALL.len();
/// Sum, smallest, largest, zeros.
const DURATION: usize = 4;
/// Distributions of whole numbers over handlings.
const COUNTS: usize = 5;
const HANDLING_NUMBERS: usize = OUTCOMES + 2 * LINKS + 4 + DURATION;
const CALL_NUMBERS: usize = OUTCOMES + LINKS + 4 + 8 + DURATION;
const SERVER_NUMBERS: usize = OUTCOMES + DURATION;

impl Measures for HandlingStats {
    fn write(&self, writer: &mut Writer) {
        // Whoever adds a measure is told here that it is to be kept.
        let Self {
            outcomes,
            links,
            duration,
            blocked,
            busy,
            asynchronous,
            calls,
            callees,
            depth_below,
            calls_below,
            services_below,
            below,
            retries,
            origins,
            // Kept beside the graph, of far fewer paths.
            examples: _,
        } = self;
        if *self == Self::default() {
            return;
        }
        let numbers = [*blocked, *busy, *asynchronous, *retries];
        let numbers =
            numbers_of(outcomes).chain(links_in(links)).chain(links_in(below)).chain(numbers).chain(heads(duration));
        writer.numbers::<HANDLING_NUMBERS>(numbers);
        for counts in [calls, callees, depth_below, calls_below, services_below] {
            writer.counts(counts);
        }
        origins_in(writer, origins);
        writer.buckets(duration);
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let numbers: [u64; HANDLING_NUMBERS] = reader.numbers();
        let mut numbers = numbers.into_iter();
        let (outcomes, links, below) = (outcomes_of(&mut numbers), links_of(&mut numbers), links_of(&mut numbers));
        let [blocked, busy, asynchronous, retries] = std::array::from_fn(|_| next(&mut numbers));
        let [sum, min, max, zeros] = std::array::from_fn(|_| next(&mut numbers));
        let [calls, callees, depth_below, calls_below, services_below]: [Counts; COUNTS] =
            std::array::from_fn(|_| reader.counts());
        let mut origins = Origins::default();
        read_origins(reader, &mut origins);
        let duration = reader.histogram(zeros, sum, min, max);
        Self {
            outcomes,
            links,
            duration,
            blocked,
            busy,
            asynchronous,
            calls,
            callees,
            depth_below,
            calls_below,
            services_below,
            below,
            retries,
            origins,
            examples: Examples::default(),
        }
    }

    fn add_up(one: &[u8], other: &[u8], scratch: &mut Scratch) {
        add_up::<HANDLING_NUMBERS>(one, other, Form { counts: COUNTS, origins: true }, scratch);
    }
}

/// All but the time to the first byte: nothing that is said of a graph rests on it, and slots keep it.
impl Measures for CallStats {
    fn write(&self, writer: &mut Writer) {
        let Self {
            outcomes,
            duration,
            first_byte: _,
            blocking,
            links,
            blocked,
            per_handling,
            joint,
            attempts,
            delayed,
            aborted,
            request_bytes,
            response_bytes,
        } = self;
        if *self == Self::default() {
            return;
        }
        let Joint { neither, handling_only, call_only, both } = *joint;
        let users = per_handling.count();
        let numbers = [*blocking, *blocked, *attempts, *delayed, *aborted, *request_bytes, *response_bytes, users];
        let joint = [neither, handling_only, call_only, both];
        let numbers = numbers_of(outcomes).chain(links_in(links)).chain(joint).chain(numbers).chain(heads(duration));
        writer.numbers::<CALL_NUMBERS>(numbers);
        writer.counts(per_handling);
        writer.buckets(duration);
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let numbers: [u64; CALL_NUMBERS] = reader.numbers();
        let mut numbers = numbers.into_iter();
        let (outcomes, links) = (outcomes_of(&mut numbers), links_of(&mut numbers));
        let joint = joint_of(&mut numbers);
        let [blocking, blocked, attempts, delayed, aborted, request_bytes, response_bytes, _] =
            std::array::from_fn(|_| next(&mut numbers));
        let [sum, min, max, zeros] = std::array::from_fn(|_| next(&mut numbers));
        let per_handling = reader.counts();
        let duration = reader.histogram(zeros, sum, min, max);
        Self {
            outcomes,
            duration,
            first_byte: Histogram::default(),
            blocking,
            links,
            blocked,
            per_handling,
            joint,
            attempts,
            delayed,
            aborted,
            request_bytes,
            response_bytes,
        }
    }

    fn add_up(one: &[u8], other: &[u8], scratch: &mut Scratch) {
        add_up::<CALL_NUMBERS>(one, other, Form { counts: 1, origins: false }, scratch);
    }
}

impl Measures for ServerSide {
    fn write(&self, writer: &mut Writer) {
        let Self { outcomes, duration } = self;
        if outcomes.total() == 0 && duration.count() == 0 {
            return;
        }
        writer.numbers::<SERVER_NUMBERS>(numbers_of(outcomes).chain(heads(duration)));
        writer.buckets(duration);
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let numbers: [u64; SERVER_NUMBERS] = reader.numbers();
        let mut numbers = numbers.into_iter();
        let outcomes = outcomes_of(&mut numbers);
        let [sum, min, max, zeros] = std::array::from_fn(|_| next(&mut numbers));
        Self { outcomes, duration: reader.histogram(zeros, sum, min, max) }
    }

    fn add_up(one: &[u8], other: &[u8], scratch: &mut Scratch) {
        add_up::<SERVER_NUMBERS>(one, other, Form { counts: 0, origins: false }, scratch);
    }
}

impl Measures for Histogram {
    fn write(&self, writer: &mut Writer) {
        writer.histogram(self);
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let [sum, min, max, zeros] = reader.numbers();
        reader.histogram(zeros, sum, min, max)
    }

    fn add_up(one: &[u8], other: &[u8], scratch: &mut Scratch) {
        add_up::<DURATION>(one, other, Form { counts: 0, origins: false }, scratch);
    }
}

fn numbers_of(outcomes: &Outcomes) -> impl Iterator<Item = u64> + '_ {
    Outcome::ALL.into_iter().map(|outcome| outcomes.get(outcome))
}

fn links_in(links: &Links) -> impl Iterator<Item = u64> + '_ {
    Evidence::ALL.into_iter().map(|evidence| links.get(evidence))
}

fn heads(duration: &Histogram) -> [u64; DURATION] {
    [duration.sum(), duration.min(), duration.max(), duration.zeros()]
}

fn outcomes_of(numbers: &mut impl Iterator<Item = u64>) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for outcome in Outcome::ALL {
        outcomes.add(outcome, next(numbers));
    }
    outcomes
}

fn links_of(numbers: &mut impl Iterator<Item = u64>) -> Links {
    let mut links = Links::default();
    for evidence in Evidence::ALL {
        links.add(evidence, next(numbers));
    }
    links
}

fn joint_of(numbers: &mut impl Iterator<Item = u64>) -> Joint {
    let [neither, handling_only, call_only, both] = std::array::from_fn(|_| next(numbers));
    Joint { neither, handling_only, call_only, both }
}

fn origins_in(writer: &mut Writer, origins: &Origins) {
    writer.number(origins.iter().count() as u64);
    for (service, times) in origins.iter() {
        writer.text(service);
        writer.number(times);
    }
}

fn read_origins(reader: &mut Reader<'_>, origins: &mut Origins) {
    for _ in 0..reader.length() {
        let service = reader.text();
        origins.add(service, reader.number());
    }
}

fn next(numbers: &mut impl Iterator<Item = u64>) -> u64 {
    numbers.next().unwrap_or(0)
}

#[cfg(test)]
mod tests;
