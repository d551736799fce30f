//! Data points, field by field.

use super::super::schema::{BUCKETS, EXEMPLAR, EXPONENTIAL_POINT, HISTOGRAM_POINT, NUMBER_POINT};
use super::super::wire::{Reader, WireError, fixed64, sized, varint, zigzag};
use super::attributes::{Attribute, Attributes, Scratch};
use super::{Fault, POINT, words};
use crate::counts::Counts;
use crate::example::{Example, Examples, Trace};
use crate::histogram::{Histogram, SCALE};

/// Most buckets of one histogram that are read.
const MAX_BUCKETS: usize = 2_048;
/// Exemplars of one point that are read; a proxy sends three at most.
const MAX_EXEMPLARS: usize = 8;
/// Attributes of one exemplar that are read.
const MAX_EXEMPLAR_ATTRIBUTES: usize = 8;

/// When it was; the report itself says so once.
const START: u32 = fixed64(2);
const TIME: u32 = fixed64(3);

/// Reads a `NumberDataPoint`: its attributes, and its value where that is a whole number.
pub(super) fn number<'a>(bytes: &'a [u8], attributes: &mut Scratch<'a>) -> Result<Option<i64>, WireError> {
    const AS_DOUBLE: u32 = fixed64(4);
    const AS_INT: u32 = fixed64(6);
    const ATTRIBUTES: u32 = sized(7);
    let mut value = None;
    attributes.clear();
    let mut fields = Reader::new(bytes);
    while let Some(key) = fields.key()? {
        match key {
            ATTRIBUTES => attributes.push(fields.sized()?),
            AS_INT => value = Some(fields.fixed64()?.cast_signed()),
            START | TIME => drop(fields.fixed64()?),
            AS_DOUBLE => {
                fields.fixed64()?;
                value = None;
            }
            _ => NUMBER_POINT.pass(key, &mut fields, POINT)?,
        }
    }
    Ok(value)
}

/// The numbers of a point, read into the same room again and again.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    counts: Vec<u64>,
    bounds: Vec<u64>,
    sum: f64,
    min: f64,
    max: f64,
    scale: i32,
    zeros: u64,
    offset: i32,
    examples: Examples,
    /// How many exemplars there were.
    exemplars: usize,
}

impl Numbers {
    fn clear(&mut self) {
        self.counts.clear();
        self.bounds.clear();
        (self.sum, self.min, self.max) = (0.0, 0.0, 0.0);
        (self.scale, self.zeros, self.offset) = (0, 0, 0);
        (self.examples, self.exemplars) = (Examples::default(), 0);
    }

    /// Reads a `HistogramDataPoint`.
    pub(super) fn histogram<'a>(&mut self, bytes: &'a [u8], attributes: &mut Scratch<'a>) -> Result<(), WireError> {
        const COUNT: u32 = fixed64(4);
        const SUM: u32 = fixed64(5);
        const BUCKET: u32 = fixed64(6);
        const BUCKETS: u32 = sized(6);
        const BOUND: u32 = fixed64(7);
        const BOUNDS: u32 = sized(7);
        const ATTRIBUTES: u32 = sized(9);
        const MIN: u32 = fixed64(11);
        const MAX: u32 = fixed64(12);
        self.clear();
        attributes.clear();
        let mut fields = Reader::new(bytes);
        while let Some(key) = fields.key()? {
            match key {
                ATTRIBUTES => attributes.push(fields.sized()?),
                BUCKETS => unpack(&mut self.counts, fields.sized()?)?,
                BOUNDS => unpack(&mut self.bounds, fields.sized()?)?,
                SUM => self.sum = f64::from_bits(fields.fixed64()?),
                MAX => self.max = f64::from_bits(fields.fixed64()?),
                START | TIME | COUNT | MIN => drop(fields.fixed64()?),
                BUCKET => self.counts.push(fields.fixed64()?),
                BOUND => self.bounds.push(fields.fixed64()?),
                _ => HISTOGRAM_POINT.pass(key, &mut fields, POINT)?,
            }
        }
        Ok(())
    }

    /// Reads an `ExponentialHistogramDataPoint`.
    pub(super) fn exponential<'a>(&mut self, bytes: &'a [u8], attributes: &mut Scratch<'a>) -> Result<(), WireError> {
        const ATTRIBUTES: u32 = sized(1);
        const COUNT: u32 = fixed64(4);
        const SUM: u32 = fixed64(5);
        const SCALE: u32 = varint(6);
        const ZEROS: u32 = fixed64(7);
        const POSITIVE: u32 = sized(8);
        const MIN: u32 = fixed64(12);
        const MAX: u32 = fixed64(13);
        const EXEMPLARS: u32 = sized(11);
        self.clear();
        attributes.clear();
        let mut fields = Reader::new(bytes);
        while let Some(key) = fields.key()? {
            match key {
                ATTRIBUTES => attributes.push(fields.sized()?),
                POSITIVE => self.buckets(fields.sized()?)?,
                EXEMPLARS => self.exemplar(fields.sized()?)?,
                SUM => self.sum = f64::from_bits(fields.fixed64()?),
                MIN => self.min = f64::from_bits(fields.fixed64()?),
                MAX => self.max = f64::from_bits(fields.fixed64()?),
                SCALE => self.scale = zigzag(fields.varint()?),
                ZEROS => self.zeros = fields.fixed64()?,
                START | TIME | COUNT => drop(fields.fixed64()?),
                _ => EXPONENTIAL_POINT.pass(key, &mut fields, POINT)?,
            }
        }
        Ok(())
    }

    fn buckets(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        const OFFSET: u32 = varint(1);
        const COUNT: u32 = varint(2);
        const COUNTS: u32 = sized(2);
        let mut fields = Reader::new(bytes);
        while let Some(key) = fields.key()? {
            match key {
                OFFSET => self.offset = zigzag(fields.varint()?),
                COUNTS => {
                    let mut packed = Reader::new(fields.sized()?);
                    while packed.len() > 0 {
                        self.counts.push(packed.varint()?);
                    }
                }
                COUNT => self.counts.push(fields.varint()?),
                _ => BUCKETS.pass(key, &mut fields, POINT - 1)?,
            }
        }
        Ok(())
    }

    fn exemplar(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        EXEMPLAR.check(bytes, POINT - 1)?;
        self.exemplars += 1;
        if self.exemplars <= MAX_EXEMPLARS
            && let Some(example) = example(bytes)?
        {
            self.examples.add(&example);
        }
        Ok(())
    }

    /// The examples of the point that was read.
    pub(super) fn take_examples(&mut self) -> Examples {
        std::mem::take(&mut self.examples)
    }

    /// What the point that was read says of whole numbers.
    pub(super) fn as_counts(&self, name: &str) -> Result<Counts, Fault> {
        if self.bounds.len() > MAX_BUCKETS || self.counts.len() != self.bounds.len() + 1 {
            return Err(Fault::Report(format!("{name}: bounds and counts do not fit one another")));
        }
        let values = self.bounds.iter().map(|bound| whole(f64::from_bits(*bound)) as u32);
        Ok(Counts::from_parts(values.zip(self.counts.iter().copied()), whole(self.sum) as u64, whole(self.max) as u32))
    }

    /// What the point that was read says of durations.
    pub(super) fn as_durations(&self, name: &str) -> Result<Histogram, Fault> {
        if self.scale != SCALE {
            return Err(Fault::Report(format!("{name}: scale {} where {SCALE} is expected", self.scale)));
        }
        if self.counts.len() > MAX_BUCKETS {
            return Err(Fault::Report(format!("{name}: more than {MAX_BUCKETS} buckets")));
        }
        let nanos = |seconds: f64| whole(seconds * 1e9) as u64;
        let (sum, min, max) = (nanos(self.sum), nanos(self.min), nanos(self.max));
        Ok(Histogram::from_parts(self.zeros, self.offset, &self.counts, sum, min, max))
    }
}

/// Reads an `Exemplar` that was checked. None where it is not one of ours: somebody on the way may add some.
fn example(bytes: &[u8]) -> Result<Option<Example>, WireError> {
    const AT: u32 = fixed64(2);
    const AS_DOUBLE: u32 = fixed64(3);
    const TRACE: u32 = sized(5);
    const AS_INT: u32 = fixed64(6);
    const ATTRIBUTES: u32 = sized(7);
    let (mut at, mut seconds, mut id) = (0, None, None);
    let mut attributes: Vec<Attribute<'_>> = Vec::new();
    let mut fields = Reader::new(bytes);
    while let Some(key) = fields.key()? {
        match key {
            AT => at = fields.fixed64()?,
            AS_DOUBLE => seconds = Some(f64::from_bits(fields.fixed64()?)),
            AS_INT => {
                fields.fixed64()?;
                seconds = None;
            }
            TRACE => id = fields.sized()?.try_into().ok().map(u128::from_be_bytes),
            ATTRIBUTES if attributes.len() < MAX_EXEMPLAR_ATTRIBUTES => {
                attributes.push(Attribute::read(fields.sized()?, POINT - 2)?);
            }
            _ => EXEMPLAR.pass(key, &mut fields, POINT - 1)?,
        }
    }
    let attributes = Attributes(&attributes);
    let (Some(id), Some(seconds), Ok(outcome)) = (id, seconds, attributes.outcome()) else { return Ok(None) };
    let calls = attributes.int(words::EXAMPLE_CALLS).map_or(0, |calls| u32::try_from(calls).unwrap_or(u32::MAX));
    let sampled = attributes.flag(words::EXAMPLE_SAMPLED).unwrap_or(false);
    let duration = whole(seconds * 1e9) as u64;
    Ok(Some(Example { trace: Trace { id, sampled, at }, duration, outcome, calls }))
}

/// Adds packed numbers of eight bytes.
fn unpack(numbers: &mut Vec<u64>, bytes: &[u8]) -> Result<(), WireError> {
    let (whole, rest) = bytes.as_chunks();
    numbers.extend(whole.iter().map(|bytes| u64::from_le_bytes(*bytes)));
    if rest.is_empty() { Ok(()) } else { Err(WireError::Truncated) }
}

/// The nearest whole number. Casts from here saturate, and NaN becomes 0.
fn whole(number: f64) -> f64 {
    number.round()
}
