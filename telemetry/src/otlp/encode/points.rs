//! Metrics and their data points.

use super::super::write::{Writer, signed, zigzag};
use super::{Evidence, Links, words};
use crate::counts::Counts;
use crate::example::Example;
use crate::histogram::{Histogram, SCALE, seconds};
use crate::path::PathId;

/// When the window began and ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What one point says beside its number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Text(&'static str, &'a str),
    Path(&'static str, PathId),
    Int(&'static str, u64),
    Flag(&'static str, bool),
}

impl Attribute<'_> {
    #[inline]
    fn write(&self, field: u32, out: &mut Writer) {
        match self {
            Attribute::Text(key, value) => out.text(field, key, value),
            Attribute::Path(key, path) => out.text(field, key, path.hex().as_ref()),
            Attribute::Int(key, value) => out.int(field, key, *value),
            Attribute::Flag(key, value) => out.flag(field, key, *value),
        }
    }
}

/// The attributes that name each row, written once: every metric repeats them.
#[derive(Debug, Default)]
pub(super) struct Keys {
    out: Writer,
    /// Where each attribute ends.
    ends: Vec<usize>,
    /// How many attributes name a row.
    each: usize,
}

impl Keys {
    /// The keys of rows, of which `each` has so many.
    pub(super) fn of<R>(rows: &[R], each: usize, mut write: impl FnMut(&R, &mut Self)) -> Self {
        let mut keys = Self { each, ..Self::default() };
        rows.iter().for_each(|row| write(row, &mut keys));
        keys
    }

    pub(super) fn push(&mut self, key: &'static str, value: impl AsRef<str>) {
        self.out.text_inside(key, value.as_ref());
        self.ends.push(self.out.len());
    }
}

impl Keys {
    /// The key of every row, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Key<'_>> {
        let mut from = 0;
        self.ends.chunks(self.each.max(1)).map(move |ends| {
            let key = Key { bytes: self.out.as_slice(), from, ends };
            from = ends.last().copied().unwrap_or(from);
            key
        })
    }
}

/// The attributes that name a row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Key<'a> {
    bytes: &'a [u8],
    from: usize,
    ends: &'a [usize],
}

impl Key<'_> {
    /// Where there are no rows.
    pub(super) const NONE: Key<'static> = Key { bytes: &[], from: 0, ends: &[] };

    #[inline]
    fn write(&self, field: u32, out: &mut Writer) {
        let mut from = self.from;
        for end in self.ends {
            out.sized(field, self.bytes.get(from..*end).unwrap_or_default());
            from = *end;
        }
    }
}

/// The metrics of a report, while they are written.
#[derive(Debug)]
pub(super) struct Metrics<'w> {
    pub(super) out: &'w mut Writer,
    pub(super) times: Times,
}

// Fields of a `Metric`.
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL: u32 = 10;

/// Since the last window, and not since ever.
const DELTA: u64 = 1;

impl Metrics<'_> {
    /// A sum; zeros are left out, since absent means zero.
    pub(super) fn sum(&mut self, name: &str, unit: &str, write: impl FnOnce(&mut Numbers<'_>)) {
        self.metric(name, unit, SUM, |out, times| write(&mut Numbers { out, times, since: true }));
    }

    /// What is true at the end of the window.
    pub(super) fn gauge(&mut self, name: &str, unit: &str, write: impl FnOnce(&mut Numbers<'_>)) {
        self.metric(name, unit, GAUGE, |out, times| write(&mut Numbers { out, times, since: false }));
    }

    /// A sum by evidence.
    pub(super) fn links<'a>(&mut self, name: &str, rows: impl Iterator<Item = (Links, Key<'a>)>) {
        self.sum(name, "1", |sum| {
            for (links, key) in rows {
                for evidence in Evidence::ALL {
                    let attribute = Attribute::Text(words::EVIDENCE, evidence.as_str());
                    sum.add(links.get(evidence), key, &[attribute]);
                }
            }
        });
    }

    /// Distributions of whole numbers; empty ones are left out.
    pub(super) fn counts(&mut self, name: &str, write: impl FnOnce(&mut Distributions<'_>)) {
        self.metric(name, "1", HISTOGRAM, |out, times| write(&mut Distributions { out, times }));
    }

    /// Distributions of durations.
    pub(super) fn durations(&mut self, name: &str, write: impl FnOnce(&mut Durations<'_>)) {
        self.metric(name, "s", EXPONENTIAL, |out, times| write(&mut Durations { out, times }));
    }

    /// A metric, unless it has no points.
    fn metric(&mut self, name: &str, unit: &str, data: u32, write: impl FnOnce(&mut Writer, Times)) {
        let (before, times) = (self.out.len(), self.times);
        let mut some = false;
        self.out.message(2, |out| {
            out.sized(1, name.as_bytes());
            out.sized(3, unit.as_bytes());
            out.message(data, |out| {
                let begun = out.len();
                write(out, times);
                some = out.len() > begun;
                if data != GAUGE {
                    out.varint(2, DELTA);
                }
                if data == SUM {
                    out.varint(3, 1); // it only grows
                }
            });
        });
        if !some {
            self.out.truncate(before);
        }
    }
}

/// Points that are numbers.
#[derive(Debug)]
pub(super) struct Numbers<'w> {
    out: &'w mut Writer,
    times: Times,
    /// Whether they count from when the window began.
    since: bool,
}

impl Numbers<'_> {
    #[inline]
    pub(super) fn add(&mut self, n: u64, key: Key<'_>, attributes: &[Attribute<'_>]) {
        if n > 0 {
            self.set(n, key, attributes);
        }
    }

    #[inline]
    pub(super) fn set(&mut self, n: u64, key: Key<'_>, attributes: &[Attribute<'_>]) {
        let Times { start, end } = self.times;
        let start = if self.since { start } else { 0 };
        self.out.message(1, |out| {
            times(out, Times { start, end });
            out.fixed64(6, signed(n));
            key.write(7, out);
            attributes.iter().for_each(|attribute| attribute.write(7, out));
        });
    }
}

/// Points that are distributions of whole numbers. The values that occurred are the bounds, so nothing is rounded.
#[derive(Debug)]
pub(super) struct Distributions<'w> {
    out: &'w mut Writer,
    times: Times,
}

impl Distributions<'_> {
    #[inline]
    pub(super) fn add(&mut self, counts: &Counts, key: Key<'_>) {
        let Some((first, _)) = counts.iter().next() else { return };
        self.out.message(1, |out| {
            times(out, self.times);
            out.fixed64(4, counts.count());
            out.fixed64(5, (counts.sum() as f64).to_bits());
            // One bucket more than bounds: nothing is above the largest value.
            out.fixed64s(6, counts.iter().map(|(_, times)| times).chain([0]));
            out.fixed64s(7, counts.iter().map(|(value, _)| f64::from(value).to_bits()));
            key.write(9, out);
            out.fixed64(11, f64::from(first).to_bits());
            out.fixed64(12, f64::from(counts.max()).to_bits());
        });
    }
}

/// Points that are distributions of durations; empty ones are told as well.
#[derive(Debug)]
pub(super) struct Durations<'w> {
    out: &'w mut Writer,
    times: Times,
}

impl Durations<'_> {
    #[inline]
    pub(super) fn add(
        &mut self,
        histogram: &Histogram,
        key: Key<'_>,
        attributes: &[Attribute<'_>],
        examples: impl IntoIterator<Item = Example>,
    ) {
        let seconds = |nanos| seconds(nanos).to_bits();
        self.out.message(1, |out| {
            key.write(1, out);
            attributes.iter().for_each(|attribute| attribute.write(1, out));
            times(out, self.times);
            let some = histogram.count() > 0;
            if some {
                out.fixed64(4, histogram.count());
                out.fixed64(5, seconds(histogram.sum()));
            }
            out.varint(6, zigzag(SCALE));
            if histogram.zeros() > 0 {
                out.fixed64(7, histogram.zeros());
            }
            if some {
                let (offset, buckets) = histogram.dense();
                out.message(8, |out| {
                    if offset != 0 {
                        out.varint(1, zigzag(offset));
                    }
                    if !buckets.is_empty() {
                        out.varints(2, buckets);
                    }
                });
            }
            examples.into_iter().for_each(|example| out.message(11, |out| exemplar(out, &example)));
            if some {
                out.fixed64(12, seconds(histogram.min()));
                out.fixed64(13, seconds(histogram.max()));
            }
        });
    }
}

/// An `Exemplar`: the request took so long, and this is its trace.
fn exemplar(out: &mut Writer, example: &Example) {
    out.fixed64(2, example.trace.at);
    out.fixed64(3, seconds(example.duration).to_bits());
    out.sized(5, &example.trace.id.to_be_bytes());
    for attribute in [
        Attribute::Text(words::OUTCOME, example.outcome.as_str()),
        Attribute::Int(words::EXAMPLE_CALLS, example.calls.into()),
        Attribute::Flag(words::EXAMPLE_SAMPLED, example.trace.sampled),
    ] {
        attribute.write(7, out);
    }
}

#[inline]
fn times(out: &mut Writer, times: Times) {
    if times.start > 0 {
        out.fixed64(2, times.start);
    }
    if times.end > 0 {
        out.fixed64(3, times.end);
    }
}
