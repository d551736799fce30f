//! Reports in few bytes: the form in which roll-ups are kept, in memory and on disk, and reports on disk until they are part
//! of one.
//!
//! ```text
//! body    := "CPL" form report*
//! report  := flags (service instance version? inbound? sequence start end | rest) names callees paths calls examples?
//! rest    := OTLP, gzipped where it is long: the report without its paths and calls, where there is more than who reports
//! names   := count text*
//! callees := count (service endpoint)*         as positions among the names
//! path    := id flags parent? root? caller? endpoint depth measures
//! call    := path callee measures first-byte   the path as its distance from that of the call before
//! examples: see there
//! ```
//!
//! Nearly all of a roll-up is paths and calls, and these are packed as the graph keeps them: half the bytes of gzipped OTLP,
//! in a tenth of the time. Names that many rows repeat are there once. Files may come from anybody: what is read is checked as
//! what comes over the wire.

mod examples;

use std::collections::HashMap;
use std::sync::Arc;

use couplet_telemetry::example::Examples;
use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::names::{MAX_ENDPOINT_BYTES, is_service_name};
use couplet_telemetry::otlp::{self, Bounds};
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::path::PathId;
use couplet_telemetry::propagation::Propagation;
use couplet_telemetry::report::{
    CallReport, CallStats, Callee, HandlingStats, Origin, PathDefinition, PathKind, PathReport, Report,
};
use foldhash::fast::RandomState;

use crate::gzip;
use crate::packed::{Measures, Reader, Writer};

/// What such bytes begin with; the last byte is the form. Neither gzip nor a protobuf message of ours begins like that.
const MAGIC: &[u8; 4] = b"CPL\x01";
/// Bytes of all that is neither path nor call at most, unpacked.
const REST: usize = 256 << 20;
/// More bytes of that are gzipped.
const LONG: usize = 4 << 10;
/// Longest name of an instance or a version.
const MAX_NAME_BYTES: usize = 256;

/// Of a report.
mod flag {
    pub(super) const REST: u8 = 1;
    pub(super) const VERSION: u8 = 2;
    pub(super) const INBOUND: u8 = 4;
    pub(super) const EXAMPLES: u8 = 8;
}

/// Of a path, beside its kind (two bits) and its evidence (three).
mod bit {
    pub(super) const PARENT: u8 = 1 << 5;
    pub(super) const CALLER: u8 = 1 << 6;
    pub(super) const ROOT: u8 = 1 << 7;
}

const KINDS: [PathKind; 3] = [PathKind::Handler, PathKind::Unlinked, PathKind::Overflow];

/// Whether these bytes are reports in this form.
pub(crate) fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// A row of a path, as it was measured or as it was packed.
pub(super) trait Handled {
    fn path(&self) -> &PathDefinition;
    /// Packs its handlings.
    fn pack(&self, out: &mut Writer);
    /// Where there are any.
    fn examples(&self) -> Option<&Examples>;
}

/// A row of a path and a callee, as it was measured or as it was packed.
pub(super) trait Called {
    fn path(&self) -> PathId;
    fn callee(&self) -> &Callee;
    /// Packs the calls, but for their time to the first byte.
    fn pack(&self, out: &mut Writer);
    /// Packs that.
    fn pack_first_byte(&self, out: &mut Writer);
}

impl Handled for PathReport {
    fn path(&self) -> &PathDefinition {
        &self.path
    }

    fn pack(&self, out: &mut Writer) {
        self.stats.write(out);
    }

    fn examples(&self) -> Option<&Examples> {
        Some(&self.stats.examples).filter(|examples| !examples.is_empty())
    }
}

impl Called for CallReport {
    fn path(&self) -> PathId {
        self.path
    }

    fn callee(&self) -> &Callee {
        &self.callee
    }

    fn pack(&self, out: &mut Writer) {
        self.stats.write(out);
    }

    fn pack_first_byte(&self, out: &mut Writer) {
        self.stats.first_byte.write(out);
    }
}

/// Reports, one after the other.
pub(crate) fn write<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Vec<u8> {
    let mut body = Body::default();
    reports.into_iter().for_each(|report| body.add(report, &report.paths, &report.calls));
    body.finish()
}

/// Reports that are written.
#[derive(Debug)]
pub(super) struct Body {
    out: Writer,
    rows: Writer,
    scratch: Writer,
}

impl Default for Body {
    fn default() -> Self {
        let mut out = Writer::default();
        out.raw(MAGIC);
        Self { out, rows: Writer::default(), scratch: Writer::default() }
    }
}

impl Body {
    /// Adds a report: who reports and what is neither path nor call is that of `head`. The paths are sorted.
    pub(super) fn add<P: Handled, C: Called>(&mut self, head: &Report, paths: &[P], calls: &[C]) {
        let Self { out, rows, scratch } = self;
        let exemplified = paths.iter().any(|row| row.examples().is_some());
        self::head(out, head, if exemplified { flag::EXAMPLES } else { 0 });
        let mut names = Names::default();
        rows.clear();
        rows.number(paths.len() as u64);
        for row in paths {
            names.path(rows, row.path());
            sized(rows, scratch, |out| row.pack(out));
        }
        rows.number(calls.len() as u64);
        let mut before = 0;
        for row in calls {
            // Both are sorted by path.
            match paths.binary_search_by_key(&row.path(), |known| known.path().id) {
                Ok(at) if at >= before => {
                    rows.number((at - before) as u64 + 1);
                    before = at;
                }
                _ => {
                    rows.number(0);
                    rows.fixed64(row.path().get());
                }
            }
            rows.number(names.callee(row.callee()));
            sized(rows, scratch, |out| row.pack(out));
            sized(rows, scratch, |out| row.pack_first_byte(out));
        }
        out.number(names.texts.len() as u64);
        names.texts.iter().for_each(|text| out.text(text));
        out.number(names.pairs.len() as u64);
        names.pairs.iter().for_each(|(service, endpoint)| {
            out.number(*service);
            out.number(*endpoint);
        });
        out.raw(rows.bytes());
        if exemplified {
            examples::write(out, paths);
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out.bytes().to_vec()
    }
}

/// Who reports, and what is neither path nor call.
fn head(out: &mut Writer, report: &Report, flags: u8) {
    // Whoever adds a field to reports is told here that it is to be kept.
    let Report { origin, sequence, start, end, paths: _, calls: _, opaque, propagation, breakers, expected, losses } =
        report;
    let only_origin = opaque.is_empty()
        && *propagation == Propagation::default()
        && breakers.is_empty()
        && expected.is_empty()
        && losses.is_empty();
    if !only_origin {
        out.byte(flags | flag::REST);
        let rest = otlp::encode(&Report {
            origin: origin.clone(),
            paths: Vec::new(),
            calls: Vec::new(),
            opaque: opaque.clone(),
            propagation: propagation.clone(),
            breakers: breakers.clone(),
            expected: expected.clone(),
            losses: losses.clone(),
            ..*report
        });
        // A few headers are not worth the while.
        return if rest.len() < LONG { out.sized(&rest) } else { out.sized(&gzip::pack(&rest)) };
    }
    let Origin { service, instance, version, inbound } = origin;
    let version_flag = if version.is_some() { flag::VERSION } else { 0 };
    out.byte(flags | version_flag | if inbound.is_some() { flag::INBOUND } else { 0 });
    [Some(service), Some(instance), version.as_ref(), inbound.as_ref()]
        .into_iter()
        .flatten()
        .for_each(|text| out.text(text));
    [*sequence, *start, *end].into_iter().for_each(|number| out.number(number));
}

/// What is packed, behind its length.
fn sized(rows: &mut Writer, scratch: &mut Writer, pack: impl FnOnce(&mut Writer)) {
    scratch.clear();
    pack(scratch);
    rows.sized(scratch.bytes());
}

/// Names that rows repeat, each once.
#[derive(Default)]
struct Names<'a> {
    texts: Vec<&'a str>,
    by_text: HashMap<&'a str, u64, RandomState>,
    pairs: Vec<(u64, u64)>,
    by_pair: HashMap<u64, u64, RandomState>,
}

impl<'a> Names<'a> {
    fn text(&mut self, text: &'a str) -> u64 {
        let Self { texts, by_text, .. } = self;
        *by_text.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() as u64 - 1
        })
    }

    fn callee(&mut self, callee: &'a Callee) -> u64 {
        if let Some(known) = self.by_pair.get(&callee.key()) {
            return *known;
        }
        let pair = (self.text(callee.service()), self.text(callee.endpoint()));
        self.pairs.push(pair);
        let at = self.pairs.len() as u64 - 1;
        self.by_pair.insert(callee.key(), at);
        at
    }

    fn path(&mut self, rows: &mut Writer, path: &'a PathDefinition) {
        let PathDefinition { id, parent, root, caller, endpoint, depth, kind, evidence } = path;
        let kind = KINDS.iter().position(|other| other == kind).unwrap_or_default() as u8;
        let evidence = Evidence::ALL.iter().position(|other| other == evidence).unwrap_or_default() as u8;
        let parent_bit = if parent.is_some() { bit::PARENT } else { 0 };
        let caller_bit = if caller.is_some() { bit::CALLER } else { 0 };
        let root_bit = if root == id { 0 } else { bit::ROOT };
        rows.fixed64(id.get());
        rows.byte(kind | evidence << 2 | parent_bit | caller_bit | root_bit);
        if let Some(parent) = parent {
            rows.fixed64(parent.get());
        }
        if root != id {
            rows.fixed64(root.get());
        }
        if let Some(caller) = caller {
            rows.number(self.text(caller));
        }
        rows.number(self.text(endpoint));
        rows.number(u64::from(*depth));
    }
}

/// A piece of what was written: a report without its rows, then those.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    Report(Box<Report>),
    /// Measures as they are packed.
    Path(PathDefinition, &'a [u8]),
    Call {
        path: PathId,
        callee: &'a Arc<Callee>,
        calls: &'a [u8],
        first_byte: &'a [u8],
    },
    /// Of a path that came before.
    Examples(PathId, Examples),
}

/// The reports that [`write`] wrote; none where the bytes are something else, or more than the bounds allow.
pub(crate) fn read(bytes: &[u8], bounds: &Bounds) -> Option<Vec<Report>> {
    let mut reports: Vec<Report> = Vec::new();
    each(bytes, bounds, |piece| {
        let last = reports.last_mut();
        match (piece, last) {
            (Piece::Report(report), _) => reports.push(*report),
            (Piece::Path(path, handlings), Some(report)) => {
                let stats = HandlingStats::read(&mut Reader::new(handlings));
                report.paths.push(PathReport { path: Arc::new(path), stats });
            }
            (Piece::Call { path, callee, calls, first_byte }, Some(report)) => {
                let first_byte = Histogram::read(&mut Reader::new(first_byte));
                let stats = CallStats { first_byte, ..CallStats::read(&mut Reader::new(calls)) };
                report.calls.push(CallReport { path, callee: Arc::clone(callee), stats });
            }
            (Piece::Examples(path, examples), Some(report)) => {
                // They are sorted, as they were written.
                let known = report.paths.binary_search_by_key(&path, |known| known.path.id).ok();
                if let Some(known) = known.and_then(|at| report.paths.get_mut(at)) {
                    known.stats.examples.merge(&examples);
                }
            }
            // No row comes before its report.
            (Piece::Path(..) | Piece::Call { .. } | Piece::Examples(..), None) => {}
        }
    })?;
    Some(reports)
}

/// Hands on what [`write`] wrote, piece by piece, up to where the bytes are something else: then it is none.
pub(super) fn each(bytes: &[u8], bounds: &Bounds, mut on: impl FnMut(Piece<'_>)) -> Option<()> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC)?);
    while !reader.is_empty() {
        each_of_one(&mut reader, bounds, &mut on)?;
    }
    Some(())
}

fn each_of_one(reader: &mut Reader<'_>, bounds: &Bounds, on: &mut impl FnMut(Piece<'_>)) -> Option<()> {
    let (flags, report) = read_head(reader, bounds)?;
    on(Piece::Report(Box::new(report)));
    each_row_of_one(reader, flags, bounds, on)
}

/// Hands on the rows of the one report that [`write`] wrote; who reports is known.
pub(super) fn each_row(bytes: &[u8], bounds: &Bounds, mut on: impl FnMut(Piece<'_>)) -> Option<()> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC)?);
    let flags = reader.byte()?;
    if flags & flag::REST != 0 {
        reader.sized()?;
    } else {
        let texts = 2 + u32::from(flags & flag::VERSION != 0) + u32::from(flags & flag::INBOUND != 0);
        (0..texts).try_for_each(|_| reader.sized().map(drop))?;
        let _times: [u64; 3] = std::array::from_fn(|_| reader.number());
    }
    each_row_of_one(&mut reader, flags, bounds, &mut on)
}

fn each_row_of_one(reader: &mut Reader<'_>, flags: u8, bounds: &Bounds, on: &mut impl FnMut(Piece<'_>)) -> Option<()> {
    let texts: Vec<&str> = (0..length(reader)?).map(|_| text(reader)).collect::<Option<_>>()?;
    let text = |at: u64| texts.get(usize::try_from(at).ok()?).copied();
    let callees: Vec<Arc<Callee>> = (0..length(reader)?)
        .map(|_| {
            let (service, endpoint) = (text(reader.number())?, text(reader.number())?);
            (is_service_name(service) && is_endpoint(endpoint)).then(|| Arc::new(Callee::new(service, endpoint)))
        })
        .collect::<Option<_>>()?;
    let paths = length(reader)?;
    if paths > bounds.paths {
        return None;
    }
    let mut ids = Vec::new();
    for _ in 0..paths {
        let path = read_path(reader, text)?;
        ids.push(path.id);
        on(Piece::Path(path, reader.sized()?));
    }
    let calls = length(reader)?;
    if calls > bounds.calls {
        return None;
    }
    let mut before = 0_usize;
    for _ in 0..calls {
        let path = match reader.number().checked_sub(1) {
            None => PathId::new(reader.fixed64()?)?,
            Some(distance) => {
                before = before.checked_add(usize::try_from(distance).ok()?)?;
                *ids.get(before)?
            }
        };
        let callee = callees.get(usize::try_from(reader.number()).ok()?)?;
        on(Piece::Call { path, callee, calls: reader.sized()?, first_byte: reader.sized()? });
    }
    if flags & flag::EXAMPLES != 0 {
        examples::each(reader, &ids, |path, examples| on(Piece::Examples(path, examples)))?;
    }
    Some(())
}

/// How many follow; none at the end of the bytes.
fn length(reader: &mut Reader<'_>) -> Option<usize> {
    (!reader.is_empty()).then(|| reader.length())
}

fn text<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    str::from_utf8(reader.sized()?).ok()
}

fn read_head(reader: &mut Reader<'_>, bounds: &Bounds) -> Option<(u8, Report)> {
    let flags = reader.byte()?;
    if flags & flag::REST != 0 {
        let rest = reader.sized()?;
        let decoded = if gzip::is_packed(rest) {
            otlp::decode(&gzip::unpack(rest, REST).ok()?, bounds)
        } else {
            otlp::decode(rest, bounds)
        };
        return Some((flags, decoded.ok()?.reports.pop()?));
    }
    let mut text = || text(reader).map(str::to_owned);
    let (service, instance) = (text()?, text()?);
    let version = if flags & flag::VERSION != 0 { Some(text()?) } else { None };
    let inbound = if flags & flag::INBOUND != 0 { Some(text()?) } else { None };
    let [sequence, start, end] = std::array::from_fn(|_| reader.number());
    let longest = [Some(&instance), version.as_ref(), inbound.as_ref()].into_iter().flatten().map(String::len).max();
    let fine = is_service_name(&service) && !instance.is_empty() && longest <= Some(MAX_NAME_BYTES);
    let report = Report::empty(Origin { service, instance, version, inbound }, sequence, start, end);
    fine.then_some((flags, report))
}

fn read_path<'a>(reader: &mut Reader<'_>, text: impl Fn(u64) -> Option<&'a str>) -> Option<PathDefinition> {
    let id = PathId::new(reader.fixed64()?)?;
    let flags = reader.byte()?;
    let parent = if flags & bit::PARENT != 0 { Some(PathId::new(reader.fixed64()?)?) } else { None };
    let root = if flags & bit::ROOT != 0 { PathId::new(reader.fixed64()?)? } else { id };
    let caller = if flags & bit::CALLER != 0 { Some(text(reader.number())?) } else { None };
    let endpoint = text(reader.number())?;
    let fine = caller.is_none_or(is_service_name) && is_endpoint(endpoint);
    fine.then_some(PathDefinition {
        id,
        parent,
        root,
        caller: caller.map(str::to_owned),
        endpoint: endpoint.to_owned(),
        depth: u32::try_from(reader.number()).ok()?,
        kind: *KINDS.get(usize::from(flags & 0b11))?,
        evidence: *Evidence::ALL.get(usize::from(flags >> 2 & 0b111))?,
    })
}

fn is_endpoint(name: &str) -> bool {
    name.len() <= MAX_ENDPOINT_BYTES && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
