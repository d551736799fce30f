//! OTLP → report. Whatever arrives is hostile until proven: sizes are bounded, numbers saturate, names are checked.
//!
//! The bytes are read where they are, as protobuf and as what protobuf carries in one pass: no message is built that
//! would be taken apart again. [`rows`] finds what a data point belongs to without reading it.

mod attributes;
mod breakers;
mod define;
mod fill;
mod metrics;
mod points;
mod rows;

use std::sync::Arc;

use thiserror::Error;

use self::attributes::{Attribute, Attributes};
use self::fill::Parts;
use super::schema::{self, REQUEST, RESOURCE};
use super::wire::{DEPTH, Reader, WireError, sized};
use super::words;
use crate::endpoint::truncate;
use crate::names::{MAX_SERVICE_BYTES, is_service_name};
use crate::opaque::OpaqueReport;
use crate::report::{Callee, ExpectedReport, Origin, Report};

/// Longest instance, version and address that is read, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// How deep what is in a data point may be nested: it is the fifth message from the outside.
const POINT: u32 = DEPTH - 5;

/// How large one report may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most paths.
    pub paths: usize,
    /// Most pairs of path and callee endpoint; and most peers of opaque connections.
    pub calls: usize,
}

/// What an export request held.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Couplet's reports.
    pub reports: Vec<Report>,
    /// Data points that are not Couplet's.
    pub ignored: u64,
}

/// Why an export request cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes are not the protobuf message that they should be.
    #[error("not an OTLP metrics request: {0}")]
    Protobuf(String),
    /// An attribute is missing, or of a form that no proxy sends.
    #[error("report of {instance:?}: {problem}")]
    Malformed {
        /// The sender as it calls itself, shortened.
        instance: String,
        /// What is wrong.
        problem: String,
    },
}

/// What is wrong with a report: with its bytes, or with what they say.
#[derive(Debug)]
enum Fault {
    Wire(WireError),
    Report(String),
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Fault::Wire(error)
    }
}

impl From<String> for Fault {
    fn from(problem: String) -> Self {
        Fault::Report(problem)
    }
}

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        DecodeError::Protobuf(error.to_string())
    }
}

/// Reads an `ExportMetricsServiceRequest`.
///
/// # Errors
/// Where the bytes are no such message, or one of the reports in it cannot be trusted; then nothing of it is used.
pub fn decode(bytes: &[u8], bounds: &Bounds) -> Result<Decoded, DecodeError> {
    const RESOURCE_METRICS: u32 = sized(1);
    let mut decoded = Decoded { reports: Vec::new(), ignored: 0 };
    let mut fields = Reader::new(bytes);
    while let Some(key) = fields.key()? {
        match key {
            RESOURCE_METRICS => one(fields.sized()?, bounds, &mut decoded)?,
            _ => REQUEST.pass(key, &mut fields, DEPTH)?,
        }
    }
    Ok(decoded)
}

/// Reads a `ResourceMetrics`.
fn one(bytes: &[u8], bounds: &Bounds, decoded: &mut Decoded) -> Result<(), DecodeError> {
    let resource = resource(bytes)?;
    let resource = Attributes(&resource);
    let Some(sequence) = resource.int(words::SEQUENCE) else {
        decoded.ignored += metrics::points(bytes)?;
        return Ok(());
    };
    let report = report(bytes, &resource, sequence, bounds).map_err(|fault| match fault {
        Fault::Wire(error) => error.into(),
        Fault::Report(problem) => {
            let mut instance = resource.text(words::INSTANCE).unwrap_or_default().to_owned();
            truncate(&mut instance, MAX_NAME_BYTES);
            DecodeError::Malformed { instance, problem }
        }
    })?;
    decoded.reports.push(report);
    Ok(())
}

/// The attributes of the resource of a `ResourceMetrics`, wherever in it they stand.
fn resource(bytes: &[u8]) -> Result<Vec<Attribute<'_>>, WireError> {
    const RESOURCE_FIELD: u32 = sized(1);
    const SCOPE_METRICS: u32 = sized(2);
    const ATTRIBUTES: u32 = sized(1);
    let mut attributes = Vec::new();
    let mut fields = Reader::new(bytes);
    while let Some(key) = fields.key()? {
        match key {
            RESOURCE_FIELD => {
                let mut fields = Reader::new(fields.sized()?);
                while let Some(key) = fields.key()? {
                    match key {
                        ATTRIBUTES => attributes.push(Attribute::read(fields.sized()?, DEPTH - 3)?),
                        _ => RESOURCE.pass(key, &mut fields, DEPTH - 2)?,
                    }
                }
            }
            // They are read for themselves.
            SCOPE_METRICS => drop(fields.sized()?),
            _ => schema::RESOURCE_METRICS.pass(key, &mut fields, DEPTH - 1)?,
        }
    }
    Ok(attributes)
}

fn report(bytes: &[u8], resource: &Attributes<'_, '_>, sequence: u64, bounds: &Bounds) -> Result<Report, Fault> {
    let origin = origin(resource)?;
    let mut parts = Parts::new(*bounds);
    // Definitions come first, whatever order a Collector on the way left the metrics in.
    metrics::each(bytes, |metric| if metric.defines() { parts.define(&metric) } else { Ok(()) })?;
    parts.settle()?;
    metrics::each(bytes, |metric| if metric.defines() { Ok(()) } else { parts.fill(&metric) })?;
    let opaque = parts.opaque.into_iter().map(|((peer, protocol), stats)| OpaqueReport { peer, protocol, stats });
    let opaque = opaque.collect();
    let expected = parts.expected.into_iter().map(|((endpoint, service, callee), stats)| ExpectedReport {
        endpoint,
        callee: Arc::new(Callee::new(service, callee)),
        stats,
    });
    let expected = expected.collect();
    let start = resource.int(words::WINDOW_START).unwrap_or(0);
    let end = resource.int(words::WINDOW_END).unwrap_or(start).max(start);
    Ok(Report {
        origin,
        sequence,
        start,
        end,
        paths: parts.paths.into_inner(),
        calls: parts.calls.into_inner(),
        opaque,
        expected,
        propagation: parts.propagation,
        breakers: parts.breakers.into_values().collect(),
        losses: parts.losses.into_iter().collect(),
    })
}

fn origin(attributes: &Attributes<'_, '_>) -> Result<Origin, String> {
    let service = attributes.required(words::SERVICE)?;
    if !is_service_name(service) {
        return Err(format!(
            "{} is not a service name (1 to {MAX_SERVICE_BYTES} letters, digits, '.', '_', '-', ':')",
            words::SERVICE
        ));
    }
    let instance = attributes.required(words::INSTANCE)?;
    let optional = |key: &str| attributes.text(key).map(str::to_owned);
    let origin = Origin {
        service: service.to_owned(),
        instance: instance.to_owned(),
        version: optional(words::VERSION),
        inbound: optional(words::INBOUND),
    };
    let longest =
        [Some(instance.len()), origin.version.as_ref().map(String::len), origin.inbound.as_ref().map(String::len)];
    if instance.is_empty() || longest.into_iter().flatten().any(|bytes| bytes > MAX_NAME_BYTES) {
        return Err(format!("instance, version and address must have 1 to {MAX_NAME_BYTES} bytes"));
    }
    Ok(origin)
}
