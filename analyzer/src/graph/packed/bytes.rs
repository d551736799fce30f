//! Numbers of as many bytes as they need (LEB128), and what is made of them.

use couplet_telemetry::counts::Counts;
use couplet_telemetry::histogram::Histogram;

/// Writes numbers.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// `N` numbers: first which of them are not zero, then those.
    pub(super) fn numbers<const N: usize>(&mut self, numbers: impl Iterator<Item = u64>) {
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

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Values by their distance from one another. Sum and largest follow only where the values do not tell them.
    pub(super) fn counts(&mut self, counts: &Counts) {
        let told = of_values(counts.iter());
        let more = told != (counts.sum(), counts.max());
        self.number((counts.iter().count() as u64) << 1 | u64::from(more));
        let mut last = 0;
        for (value, times) in counts.iter() {
            self.number(u64::from(value - last));
            self.number(times);
            last = value;
        }
        if more {
            self.number(counts.sum());
            self.number(u64::from(counts.max()));
        }
    }

    /// How many buckets hold something, where the first one is, and all counts from there; of empty ones in a row, how many.
    pub(super) fn buckets(&mut self, histogram: &Histogram) {
        self.number(histogram.buckets().count() as u64);
        let mut expected = None;
        for (index, count) in histogram.buckets() {
            match expected {
                None => self.number(zigzag(index)),
                Some(expected) if index > expected => {
                    self.number(0);
                    self.number(u64::from(index.abs_diff(expected)));
                }
                Some(_) => {}
            }
            self.number(count);
            expected = Some(index + 1);
        }
    }
}

/// Reads numbers. Behind the end of the bytes there are only zeros.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn number(&mut self) -> u64 {
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

    pub(super) fn numbers<const N: usize>(&mut self) -> [u64; N] {
        let mut numbers = [0; N];
        let Some((filled, rest)) = self.bytes.split_first_chunk() else { return numbers };
        self.bytes = rest;
        let mut filled = u32::from_le_bytes(*filled);
        while filled != 0 {
            let number = self.number();
            if let Some(slot) = numbers.get_mut(filled.trailing_zeros() as usize) {
                *slot = number;
            }
            filled &= filled - 1;
        }
        numbers
    }

    pub(super) fn text(&mut self) -> &'a str {
        let length = usize::try_from(self.number()).unwrap_or(usize::MAX).min(self.bytes.len());
        let (text, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        str::from_utf8(text).unwrap_or_default()
    }

    pub(super) fn counts(&mut self) -> Counts {
        let head = self.number();
        let mut last = 0_u32;
        let mut values = Vec::with_capacity((head >> 1) as usize);
        for _ in 0..head >> 1 {
            last = last.saturating_add(self.number() as u32);
            values.push((last, self.number()));
        }
        let (sum, max) =
            if head & 1 == 1 { (self.number(), self.number() as u32) } else { of_values(values.iter().copied()) };
        Counts::from_parts(values, sum, max)
    }

    /// Goes past what [`Reader::counts`] would read.
    pub(super) fn skip_counts(&mut self) {
        let head = self.number();
        for _ in 0..(head >> 1) + (head & 1) {
            let _ = (self.number(), self.number());
        }
    }

    pub(super) fn histogram(&mut self, zeros: u64, sum: u64, min: u64, max: u64) -> Histogram {
        let filled = self.number();
        if filled == 0 {
            return Histogram::from_parts(zeros, 0, &[], sum, min, max);
        }
        let offset = unzigzag(self.number());
        let mut buckets: Vec<u64> = Vec::with_capacity(2 * filled as usize);
        for _ in 0..filled {
            let mut count = self.number();
            if count == 0 {
                buckets.resize(buckets.len() + self.number() as usize, 0);
                count = self.number();
            }
            buckets.push(count);
        }
        Histogram::from_parts(zeros, offset, &buckets, sum, min, max)
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
