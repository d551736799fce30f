//! Numbers of as many bytes as they need (LEB128), and what is made of them.

use couplet_telemetry::counts::Counts;
use couplet_telemetry::histogram::Histogram;

/// Writes numbers.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// `N` numbers: first which of them are not zero, then those.
    pub(crate) fn numbers<const N: usize>(&mut self, numbers: impl Iterator<Item = u64>) {
        const { assert!(N <= 32, "there are 32 bits to say which of them are not zero") };
        let (start, mut filled) = (self.bytes.len(), 0_u32);
        self.bytes.extend_from_slice(&[0; 4]);
        for (position, number) in numbers.take(N).enumerate() {
            if number > 0 {
                filled |= 1 << position;
                self.number(number);
            }
        }
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&filled.to_le_bytes());
        }
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.sized(text.as_bytes());
    }

    /// Bytes behind their length.
    pub(crate) fn sized(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(crate) fn fixed64(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// An empty writer again, with the room that it has.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Values by their distance from one another. Sum and largest follow only where the values do not tell them.
    pub(crate) fn counts(&mut self, counts: &Counts) {
        self.list(|| counts.iter(), counts.sum(), counts.max());
    }

    /// The same of values in ascending order.
    pub(super) fn values(&mut self, values: &[(u32, u64)], sum: u64, max: u32) {
        self.list(|| values.iter().copied(), sum, max);
    }

    fn list<I: Iterator<Item = (u32, u64)>>(&mut self, values: impl Fn() -> I, sum: u64, max: u32) {
        let more = of_values(values()) != (sum, max);
        self.number((values().count() as u64) << 1 | u64::from(more));
        let mut last = 0;
        for (value, times) in values() {
            self.number(u64::from(value - last));
            self.number(times);
            last = value;
        }
        if more {
            self.number(sum);
            self.number(u64::from(max));
        }
    }

    /// All of a distribution of durations; nothing of an empty one.
    pub(crate) fn histogram(&mut self, histogram: &Histogram) {
        if histogram.count() > 0 {
            let heads = [histogram.sum(), histogram.min(), histogram.max(), histogram.zeros()];
            self.numbers::<4>(heads.into_iter());
            self.buckets(histogram);
        }
    }

    /// How many buckets hold something, where the first one is, and all counts from there; of empty ones in a row, how many.
    pub(crate) fn buckets(&mut self, histogram: &Histogram) {
        self.indexed(histogram.buckets().count(), histogram.buckets());
    }

    /// The same of buckets in ascending order, all of which hold something.
    pub(super) fn filled(&mut self, buckets: &[(i32, u64)]) {
        self.indexed(buckets.len(), buckets.iter().copied());
    }

    fn indexed(&mut self, filled: usize, buckets: impl Iterator<Item = (i32, u64)>) {
        self.number(filled as u64);
        let mut expected = None;
        for (index, count) in buckets {
            match expected {
                None => self.number(zigzag(index)),
                Some(expected) if index > expected => {
                    self.number(0);
                    self.number(u64::from(index.abs_diff(expected)));
                }
                Some(_) => {}
            }
            self.number(count);
            expected = Some(index.saturating_add(1));
        }
    }
}

/// Buckets of one histogram that are read at most: far more than there are.
const BUCKETS: usize = 1_024;

/// Reads numbers. Behind the end of the bytes there are only zeros. Whatever the bytes are, what is read takes no more room
/// than some hundred times theirs, and no more steps than there are bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[inline]
    pub(crate) fn number(&mut self) -> u64 {
        match self.bytes {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.bytes = rest;
                u64::from(*byte)
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> u64 {
        let (mut number, mut shift) = (0_u64, 0);
        while let Some((byte, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if *byte < 0x80 {
                break;
            }
            shift += 7;
        }
        number
    }

    pub(crate) fn numbers<const N: usize>(&mut self) -> [u64; N] {
        let mut numbers = [0; N];
        let Some((filled, rest)) = self.bytes.split_first_chunk() else { return numbers };
        self.bytes = rest;
        self.fill(u32::from_le_bytes(*filled), &mut numbers);
        numbers
    }

    /// The first `N` of more numbers; what follows is not looked at.
    pub(super) fn first<const N: usize>(mut self) -> [u64; N] {
        let mut numbers = [0; N];
        if let Some((filled, rest)) = self.bytes.split_first_chunk() {
            self.bytes = rest;
            self.fill(u32::from_le_bytes(*filled) & ((1 << N) - 1), &mut numbers);
        }
        numbers
    }

    fn fill(&mut self, mut filled: u32, numbers: &mut [u64]) {
        while filled != 0 {
            let number = self.number();
            if let Some(slot) = numbers.get_mut(filled.trailing_zeros() as usize) {
                *slot = number;
            }
            filled &= filled - 1;
        }
    }

    pub(crate) fn text(&mut self) -> &'a str {
        self.sized().and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Bytes behind their length; none where there are not as many.
    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()).ok()?;
        let (bytes, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(bytes)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    pub(crate) fn fixed64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// How many of something follow: never more than there are bytes.
    pub(crate) fn length(&mut self) -> usize {
        let number = self.number();
        self.at_most(number)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn counts(&mut self) -> Counts {
        let mut values = Vec::new();
        let (sum, max) = self.values(&mut values);
        Counts::from_parts(values, sum, max)
    }

    /// The values that [`Reader::counts`] would read, their sum and the largest.
    pub(super) fn values(&mut self, values: &mut Vec<(u32, u64)>) -> (u64, u32) {
        values.clear();
        let head = self.number();
        let length = self.at_most(head >> 1);
        values.reserve_exact(length);
        let mut last = 0_u32;
        for _ in 0..length {
            last = last.saturating_add(self.number() as u32);
            values.push((last, self.number()));
        }
        if head & 1 == 1 { (self.number(), self.number() as u32) } else { of_values(values.iter().copied()) }
    }

    /// Goes past what [`Reader::counts`] would read.
    pub(crate) fn skip_counts(&mut self) {
        let head = self.number();
        for _ in 0..self.at_most((head >> 1) + (head & 1)) {
            let _ = (self.number(), self.number());
        }
    }

    /// So many, or as many as there are bytes.
    fn at_most(&self, number: u64) -> usize {
        usize::try_from(number).unwrap_or(usize::MAX).min(self.bytes.len())
    }

    pub(crate) fn histogram(&mut self, zeros: u64, sum: u64, min: u64, max: u64) -> Histogram {
        let filled = self.length().min(BUCKETS);
        if filled == 0 {
            return Histogram::from_parts(zeros, 0, &[], sum, min, max);
        }
        let offset = unzigzag(self.number());
        let mut buckets: Vec<u64> = Vec::with_capacity(2 * filled);
        for _ in 0..filled {
            let mut count = self.number();
            if count == 0 {
                let empty = usize::try_from(self.number()).unwrap_or(usize::MAX);
                buckets.resize(buckets.len().saturating_add(empty).min(BUCKETS), 0);
                count = self.number();
            }
            buckets.push(count);
        }
        Histogram::from_parts(zeros, offset, &buckets, sum, min, max)
    }
}

impl Reader<'_> {
    /// The buckets that hold something, as [`Reader::histogram`] would read them.
    pub(super) fn filled(&mut self, buckets: &mut Vec<(i32, u64)>) {
        buckets.clear();
        let filled = self.length().min(BUCKETS);
        if filled == 0 {
            return;
        }
        let mut index = unzigzag(self.number());
        for _ in 0..filled {
            let mut count = self.number();
            if count == 0 {
                let empty = i32::try_from(self.number()).unwrap_or(i32::MAX);
                index = index.saturating_add(empty);
                count = self.number();
            }
            buckets.push((index, count));
            index = index.saturating_add(1);
        }
    }
}

/// Sum and largest of values that are kept exactly.
fn of_values(values: impl Iterator<Item = (u32, u64)>) -> (u64, u32) {
    let add = |(sum, max): (u64, u32), (value, times): (u32, u64)| {
        (sum.saturating_add(u64::from(value).saturating_mul(times)), max.max(value))
    };
    values.fold((0, 0), add)
}

/// Small numbers of either sign as small numbers.
fn zigzag(number: i32) -> u64 {
    u64::from(((number << 1) ^ (number >> 31)) as u32)
}

fn unzigzag(number: u64) -> i32 {
    let number = number as u32;
    (number >> 1) as i32 ^ -((number & 1) as i32)
}
