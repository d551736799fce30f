//! The metrics of a `ResourceMetrics`, and the data points of a metric.

use super::super::schema::{self, METRIC, Schema};
use super::super::wire::{DEPTH, Reader, WireError, sized};
use super::words;

pub(super) const GAUGE: u32 = sized(5);
pub(super) const SUM: u32 = sized(7);
pub(super) const HISTOGRAM: u32 = sized(9);
pub(super) const EXPONENTIAL: u32 = sized(10);
pub(super) const SUMMARY: u32 = sized(11);

/// One metric: its name, and where its data begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    /// Key of the field that holds the data; 0 where there are none. Of several kinds, the last one counts.
    pub(super) kind: u32,
    data: Reader<'a>,
}

/// Hands every metric of a `ResourceMetrics` to a function.
pub(super) fn each<'a, E: From<WireError>>(
    bytes: &'a [u8],
    mut hand: impl FnMut(Metric<'a>) -> Result<(), E>,
) -> Result<(), E> {
    const SCOPE_METRICS: u32 = sized(2);
    const METRICS: u32 = sized(2);
    let mut fields = Reader::new(bytes);
    while let Some(key) = fields.key()? {
        if key != SCOPE_METRICS {
            // Who looked for the resource has checked it.
            fields.skip(key, DEPTH - 1)?;
            continue;
        }
        let mut fields = Reader::new(fields.sized()?);
        while let Some(key) = fields.key()? {
            match key {
                METRICS => hand(Metric::read(fields.sized()?)?)?,
                _ => schema::SCOPE_METRICS.pass(key, &mut fields, DEPTH - 2)?,
            }
        }
    }
    Ok(())
}

/// How many data points there are, of metrics that nobody reads.
pub(super) fn points(bytes: &[u8]) -> Result<u64, WireError> {
    let mut points = 0;
    each(bytes, |metric| {
        metric.check()?;
        metric.points(|_| {
            points += 1;
            Ok::<_, WireError>(())
        })
    })?;
    Ok(points)
}

impl<'a> Metric<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, WireError> {
        const NAME: u32 = sized(1);
        let mut fields = Reader::new(bytes);
        let mut metric = Self { name: "", kind: 0, data: fields };
        loop {
            let here = fields;
            match fields.key()? {
                None => return Ok(metric),
                Some(NAME) => metric.name = std::str::from_utf8(fields.text()?).map_err(|_| WireError::Text)?,
                Some(key @ (GAUGE | SUM | HISTOGRAM | EXPONENTIAL | SUMMARY)) => {
                    fields.sized()?;
                    if metric.kind != key {
                        metric.check_until(here.len())?;
                        (metric.kind, metric.data) = (key, here);
                    }
                }
                Some(key) => METRIC.pass(key, &mut fields, DEPTH - 3)?,
            }
        }
    }

    /// Whether its points define what those of the others add to.
    pub(super) fn defines(&self) -> bool {
        matches!(self.name, words::SERVER_DURATION | words::CLIENT_DURATION)
    }

    /// Hands every data point to a function.
    pub(super) fn points<E: From<WireError>>(&self, mut hand: impl FnMut(&'a [u8]) -> Result<(), E>) -> Result<(), E> {
        const DATA_POINTS: u32 = sized(1);
        let Some(schema) = self.schema() else { return Ok(()) };
        let mut fields = self.data;
        while let Some(key) = fields.key()? {
            if key != self.kind {
                METRIC.pass(key, &mut fields, DEPTH - 3)?;
                continue;
            }
            let mut fields = Reader::new(fields.sized()?);
            while let Some(key) = fields.key()? {
                match key {
                    DATA_POINTS => hand(fields.sized()?)?,
                    _ => schema.pass(key, &mut fields, DEPTH - 4)?,
                }
            }
        }
        Ok(())
    }

    /// Checks the data, where nobody reads them.
    pub(super) fn check(&self) -> Result<(), WireError> {
        self.check_until(0)
    }

    fn check_until(&self, rest: usize) -> Result<(), WireError> {
        let mut fields = self.data;
        while self.kind != 0 && fields.len() > rest {
            match fields.key()? {
                Some(key) => METRIC.pass(key, &mut fields, DEPTH - 3)?,
                None => break,
            }
        }
        Ok(())
    }

    fn schema(&self) -> Option<&'static Schema> {
        match self.kind {
            GAUGE => Some(&schema::GAUGE),
            SUM => Some(&schema::SUM),
            HISTOGRAM => Some(&schema::HISTOGRAM),
            EXPONENTIAL => Some(&schema::EXPONENTIAL),
            SUMMARY => Some(&schema::SUMMARY),
            _ => None,
        }
    }
}
