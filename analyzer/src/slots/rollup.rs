//! What one service reported in one slot, all its replicas together: packed, as bytes.
//!
//! The bytes are OTLP again, gzipped: one report with everything that was measured, and an empty one for every further
//! replica, so that none is forgotten. Whoever can read what proxies send can read a rollup.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use couplet_telemetry::otlp::{self, Bounds};
use couplet_telemetry::propagation::Propagation;
use couplet_telemetry::report::{Origin, Report};
use couplet_telemetry::window::{Window, WindowLimits};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Tier;
use crate::gzip;

/// Paths and calls of one rollup at most; what is beyond goes into another one. So no reader ever holds much at once.
const ENTRIES: usize = 5_000;
/// Bytes of one rollup at most, unpacked: far more than so many entries can have.
const UNPACKED: usize = 256 << 20;

/// Bytes of a whole slot at most, unpacked.
const FETCHED: usize = 2 << 30;

/// What one service reported in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// Length of the slot.
    pub tier: Tier,
    /// Its start, milliseconds since the Unix epoch.
    pub start: u64,
    /// Its end. Less than its length after the start where it was sealed early.
    pub end: u64,
    /// Whose reports.
    pub service: Arc<str>,
    /// The reports: OTLP, gzipped.
    pub body: Bytes,
    /// Where it is in the history; none where it is in memory only.
    pub row: Option<i64>,
}

impl Rollup {
    /// The reports; none where the bytes are not what was packed.
    #[must_use]
    pub fn reports(&self, bounds: &Bounds) -> Option<Vec<Report>> {
        let bytes = gzip::unpack(&self.body, UNPACKED).ok()?;
        Some(otlp::decode(&bytes, bounds).ok()?.reports)
    }
}

/// Folds slots into one of `tier`, service by service. Rollups whose bytes cannot be read are left out; how many.
#[must_use]
pub fn fold(rollups: &[Arc<Rollup>], tier: Tier, bounds: &Bounds, limits: WindowLimits) -> (Vec<Rollup>, u64) {
    let mut by_service: BTreeMap<&str, Vec<&Rollup>> = BTreeMap::new();
    for rollup in rollups {
        by_service.entry(&rollup.service).or_default().push(rollup);
    }
    let (mut folded, mut unreadable) = (Vec::new(), 0);
    for (service, parts) in by_service {
        // One service at a time: that is all that is ever unpacked.
        let mut gathered = Gathered::new(limits);
        for part in &parts {
            match part.reports(bounds) {
                Some(reports) => reports.iter().for_each(|report| gathered.absorb(report)),
                None => unreadable += 1,
            }
        }
        let start = parts.iter().map(|part| part.start).min().unwrap_or(0);
        let end = parts.iter().map(|part| part.end).max().unwrap_or(start);
        folded.extend(gathered.pack(service, tier, (start, end)));
    }
    (folded, unreadable)
}

/// The rollups of a slot of ten seconds as it is fetched from a running analyzer: all of them, one after the other. None
/// where the bytes are no such thing.
#[must_use]
pub fn fetched(body: &[u8], times: (u64, u64), bounds: &Bounds, limits: WindowLimits) -> Option<Vec<Rollup>> {
    let bytes = gzip::unpack(body, FETCHED).ok()?;
    let mut services: BTreeMap<String, Gathered> = BTreeMap::new();
    for report in otlp::decode(&bytes, bounds).ok()?.reports {
        let service = report.origin.service.clone();
        services.entry(service).or_insert_with(|| Gathered::new(limits)).absorb(&report);
    }
    let pack = |(service, gathered): (String, Gathered)| gathered.pack(&service, Tier::Seconds, times);
    Some(services.into_iter().flat_map(pack).collect())
}

/// The reports of one service, while they gather.
#[derive(Debug)]
pub(super) struct Gathered {
    window: Window,
    /// Who reported, with the last sequence of each.
    sources: BTreeMap<String, (Origin, u64)>,
    times: Option<(u64, u64)>,
}

impl Gathered {
    pub(super) fn new(limits: WindowLimits) -> Self {
        Self { window: Window::new(limits), sources: BTreeMap::new(), times: None }
    }

    /// Adds a report; whoever calls sees to it that it is one of this service.
    pub(super) fn absorb(&mut self, report: &Report) {
        self.window.absorb(report);
        match self.sources.get_mut(&report.origin.instance) {
            Some((_, sequence)) => *sequence = (*sequence).max(report.sequence),
            None => {
                // Where it listens is of today; nobody asks for it later.
                let origin = Origin { inbound: None, ..report.origin.clone() };
                self.sources.insert(report.origin.instance.clone(), (origin, report.sequence));
            }
        }
        if report.start > 0 && report.end >= report.start {
            let (start, end) = self.times.unwrap_or((report.start, report.end));
            self.times = Some((start.min(report.start), end.max(report.end)));
        }
    }

    /// What its memory is in proportion to.
    pub(super) fn len(&self) -> usize {
        self.window.len() + self.sources.len()
    }

    pub(super) fn pack(self, service: &str, tier: Tier, (start, end): (u64, u64)) -> Vec<Rollup> {
        let Self { mut window, sources, times } = self;
        let mut sources = sources.into_values();
        let Some((origin, sequence)) = sources.next() else { return Vec::new() };
        let (first, last) = times.unwrap_or_default();
        let empty = |(origin, sequence)| Report {
            origin,
            sequence,
            start: first,
            end: last,
            paths: Vec::new(),
            calls: Vec::new(),
            opaque: Vec::new(),
            expected: Vec::new(),
            propagation: Propagation::default(),
            breakers: Vec::new(),
            losses: Vec::new(),
        };
        let mut parts = window.close(origin, sequence, first, last).into_parts(ENTRIES).into_iter();
        // The requests of several reports, one after the other, are the request with all of them: so protobuf has it.
        let mut bytes = parts.next().as_ref().map(otlp::encode).unwrap_or_default();
        sources.map(empty).for_each(|report| bytes.extend(otlp::encode(&report)));
        let bodies = std::iter::once(bytes).chain(parts.map(|report| otlp::encode(&report)));
        let service: Arc<str> = service.into();
        let rollup = |bytes: Vec<u8>| Rollup {
            tier,
            start,
            end,
            service: Arc::clone(&service),
            body: packed(&bytes),
            row: None,
        };
        bodies.map(rollup).collect()
    }
}

fn packed(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default().into() // writing to memory cannot fail
}
