//! What the points of each metric add to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::attributes::{Attributes, Scratch};
use super::define::{callee, endpoint};
use super::metrics::{EXPONENTIAL, GAUGE, HISTOGRAM, Metric, SUM};
use super::points::{Numbers, number};
use super::rows::{Rows, order};
use super::{Bounds, Fault, breakers, words};
use crate::breaker::{Count, Transition};
use crate::counts::Counts;
use crate::expected::ExpectedStats;
use crate::loss::Loss;
use crate::names::is_service_name;
use crate::opaque::{OpaqueStats, Protocol};
use crate::propagation::{Client, MAX_HEADERS, Propagation};
use crate::report::{CallReport, CallStats, Callee, HandlingStats, PathReport};

/// Most changes of one breaker that are read of one report.
const MAX_TRANSITIONS: usize = 256;

/// Sums that are neither of handlings nor of calls.
const OTHERS: [&str; 8] = [
    words::LOSSES,
    words::HEADERS,
    words::CLIENTS,
    words::OPAQUE_CONNECTIONS,
    words::OPAQUE_IO,
    words::BREAKER_COUNTS,
    words::BREAKER_TRANSITIONS,
    words::EXPECTED,
];

/// A report while it is read.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) bounds: Bounds,
    pub(super) paths: Rows<'a, PathReport, 1>,
    pub(super) calls: Rows<'a, CallReport, 3>,
    /// Callees by the bytes of their two attributes: many paths call the same ones.
    pub(super) callees: HashMap<[&'a [u8]; 2], Arc<Callee>, RandomState>,
    pub(super) attributes: Scratch<'a>,
    pub(super) numbers: Numbers,
    pub(super) opaque: BTreeMap<(String, Protocol), OpaqueStats>,
    pub(super) propagation: Propagation,
    pub(super) breakers: breakers::Known,
    pub(super) expected: BTreeMap<(String, String, String), ExpectedStats>,
    pub(super) losses: BTreeMap<Loss, u64>,
}

type Slot<S, T> = fn(&mut S) -> &mut T;
type Adds<S> = fn(&mut S, &Attributes<'_, '_>, u64) -> Result<(), String>;

/// What the points of a sum add to.
enum Sums<S> {
    /// A number, whatever else they say.
    Number(Slot<S, u64>),
    /// That depends on what else they say.
    Told(Adds<S>),
}

fn sums_of_handlings(name: &str) -> Option<Sums<HandlingStats>> {
    Some(match name {
        words::HANDLING_RETRIES => Sums::Number(|stats| &mut stats.retries),
        words::HANDLING_BLOCKED => Sums::Number(|stats| &mut stats.blocked),
        words::HANDLING_BUSY => Sums::Number(|stats| &mut stats.busy),
        words::HANDLING_ASYNCHRONOUS => Sums::Number(|stats| &mut stats.asynchronous),
        words::HANDLINGS => Sums::Told(|stats, attributes, n| {
            stats.outcomes.add(attributes.outcome()?, n);
            Ok(())
        }),
        words::HANDLING_LINKS => Sums::Told(|stats, attributes, n| {
            stats.links.add(attributes.evidence()?, n);
            Ok(())
        }),
        words::HANDLING_BELOW => Sums::Told(|stats, attributes, n| {
            stats.below.add(attributes.evidence()?, n);
            Ok(())
        }),
        words::HANDLING_ORIGINS => Sums::Told(|stats, attributes, n| {
            stats.origins.add(attributes.required(words::ORIGIN)?, n);
            Ok(())
        }),
        _ => return None,
    })
}

fn sums_of_calls(name: &str) -> Option<Sums<CallStats>> {
    Some(match name {
        words::CALL_BLOCKING => Sums::Number(|stats| &mut stats.blocking),
        words::CALL_BLOCKED => Sums::Number(|stats| &mut stats.blocked),
        words::CALL_ATTEMPTS => Sums::Number(|stats| &mut stats.attempts),
        words::CALL_DELAYED => Sums::Number(|stats| &mut stats.delayed),
        words::CALL_ABORTED => Sums::Number(|stats| &mut stats.aborted),
        words::CALL_REQUEST_BYTES => Sums::Number(|stats| &mut stats.request_bytes),
        words::CALL_RESPONSE_BYTES => Sums::Number(|stats| &mut stats.response_bytes),
        words::CALLS => Sums::Told(|stats, attributes, n| {
            stats.outcomes.add(attributes.outcome()?, n);
            Ok(())
        }),
        words::CALL_LINKS => Sums::Told(|stats, attributes, n| {
            stats.links.add(attributes.evidence()?, n);
            Ok(())
        }),
        words::CALL_JOINT => Sums::Told(|stats, attributes, n| {
            let (call, handling) = (attributes.flag(words::CALL_FAILED)?, attributes.flag(words::HANDLING_FAILED)?);
            stats.joint.add(call, handling, n);
            Ok(())
        }),
        _ => return None,
    })
}

fn counts_of_handlings(name: &str) -> Option<Slot<HandlingStats, Counts>> {
    Some(match name {
        words::HANDLING_CALLS => |stats| &mut stats.calls,
        words::HANDLING_CALLEES => |stats| &mut stats.callees,
        words::DEPTH_BELOW => |stats| &mut stats.depth_below,
        words::CALLS_BELOW => |stats| &mut stats.calls_below,
        words::SERVICES_BELOW => |stats| &mut stats.services_below,
        _ => return None,
    })
}

impl<S> Sums<S> {
    fn add(&self, stats: &mut S, attributes: &Attributes<'_, '_>, n: u64) -> Result<(), String> {
        match self {
            Sums::Number(slot) => add(slot(stats), n),
            Sums::Told(adds) => adds(stats, attributes, n)?,
        }
        Ok(())
    }
}

impl<'a> Parts<'a> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            paths: Rows::new(bounds.paths),
            calls: Rows::new(bounds.calls),
            callees: HashMap::default(),
            attributes: Scratch::default(),
            numbers: Numbers::default(),
            opaque: BTreeMap::new(),
            propagation: Propagation::default(),
            breakers: BTreeMap::new(),
            expected: BTreeMap::new(),
            losses: BTreeMap::new(),
        }
    }

    /// Adds the points of one metric. A metric that this release does not know is left alone: a newer proxy sent it.
    pub(super) fn fill(&mut self, metric: &Metric<'a>) -> Result<(), Fault> {
        let name = metric.name;
        self.paths.rewind();
        self.calls.rewind();
        match metric.kind {
            SUM => self.fill_sum(metric),
            HISTOGRAM => {
                if let Some(slot) = counts_of_handlings(name) {
                    return metric.points(|point| {
                        self.numbers.histogram(point, &mut self.attributes)?;
                        let counts = self.numbers.as_counts(name)?;
                        let (stats, _) = path_stats(&mut self.paths, &mut self.attributes)?;
                        slot(stats).absorb(counts);
                        Ok(())
                    });
                }
                if name != words::CALL_PER_HANDLING {
                    return Ok(metric.check()?);
                }
                metric.points(|point| {
                    self.numbers.histogram(point, &mut self.attributes)?;
                    let counts = self.numbers.as_counts(name)?;
                    let (stats, _) = call_stats(&mut self.calls, &mut self.attributes)?;
                    stats.per_handling.absorb(counts);
                    Ok(())
                })
            }
            EXPONENTIAL if matches!(name, words::FIRST_BYTE | words::OPAQUE_DURATION) => metric.points(|point| {
                self.numbers.exponential(point, &mut self.attributes)?;
                let durations = self.numbers.as_durations(name)?;
                let slot = if name == words::FIRST_BYTE {
                    &mut call_stats(&mut self.calls, &mut self.attributes)?.0.first_byte
                } else {
                    let attributes = self.attributes.all()?;
                    &mut opaque(&mut self.opaque, &attributes, self.bounds.calls)?.duration
                };
                slot.absorb(durations);
                Ok(())
            }),
            GAUGE if name == words::BREAKER_PEAK => metric.points(|point| {
                let peak = number(point, &mut self.attributes)?;
                let attributes = self.attributes.all()?;
                Ok(breakers::fill(&mut self.breakers, &attributes, peak, self.bounds.calls)?)
            }),
            _ => Ok(metric.check()?),
        }
    }

    fn fill_sum(&mut self, metric: &Metric<'a>) -> Result<(), Fault> {
        let name = metric.name;
        if let Some(sums) = sums_of_handlings(name) {
            return metric.points(|point| {
                let n = whole_number(name, number(point, &mut self.attributes)?)?;
                let (stats, attributes) = path_stats(&mut self.paths, &mut self.attributes)?;
                Ok(sums.add(stats, &attributes, n)?)
            });
        }
        if let Some(sums) = sums_of_calls(name) {
            return metric.points(|point| {
                let n = whole_number(name, number(point, &mut self.attributes)?)?;
                let (stats, attributes) = call_stats(&mut self.calls, &mut self.attributes)?;
                Ok(sums.add(stats, &attributes, n)?)
            });
        }
        if !OTHERS.contains(&name) {
            return Ok(metric.check()?);
        }
        metric.points(|point| {
            let n = whole_number(name, number(point, &mut self.attributes)?)?;
            let mut attributes = std::mem::take(&mut self.attributes);
            let filled = self.fill_other(name, &attributes.all()?, n);
            self.attributes = attributes;
            Ok(filled?)
        })
    }

    /// Adds what is neither of handlings nor of calls: there is little of it.
    fn fill_other(&mut self, name: &str, attributes: &Attributes<'_, 'a>, n: u64) -> Result<(), String> {
        match name {
            words::LOSSES => {
                // A loss that this release does not know is a newer proxy's.
                if let Some(loss) = attributes.text(words::LOSS).and_then(Loss::parse).filter(|_| n > 0) {
                    add(self.losses.entry(loss).or_default(), n);
                }
            }
            words::HEADERS => return self.fill_header(attributes, n),
            words::CLIENTS => {
                let client = Client::parse(attributes.required(words::CLIENT)?);
                self.propagation.clients.entry(client).or_default().add(attributes.evidence()?, n);
            }
            words::OPAQUE_CONNECTIONS => {
                let stats = opaque(&mut self.opaque, attributes, self.bounds.calls)?;
                match attributes.required(words::EVENT)? {
                    words::OPENED => add(&mut stats.opened, n),
                    words::CLOSED => add(&mut stats.closed, n),
                    words::FAILED => add(&mut stats.failed, n),
                    words::BROKEN => add(&mut stats.broken, n),
                    // What a newer proxy tells.
                    _ => {}
                }
            }
            words::OPAQUE_IO => {
                let stats = opaque(&mut self.opaque, attributes, self.bounds.calls)?;
                match attributes.required(words::DIRECTION)? {
                    words::TRANSMIT => add(&mut stats.sent, n),
                    words::RECEIVE => add(&mut stats.received, n),
                    other => return Err(format!("{name}: {other:?} is no direction")),
                }
            }
            words::BREAKER_COUNTS => {
                // What a newer proxy counts is left alone.
                if let Some(count) = attributes.text(words::BREAKER_COUNT).and_then(Count::parse) {
                    breakers::named(&mut self.breakers, attributes, self.bounds.calls)?.counts.add(count, n);
                }
            }
            words::BREAKER_TRANSITIONS => {
                let record = attributes.text(words::BREAKER_RECORD).and_then(Transition::read);
                let breaker = breakers::named(&mut self.breakers, attributes, self.bounds.calls)?;
                let transitions = &mut breaker.transitions;
                transitions.extend(record.filter(|_| transitions.len() < MAX_TRANSITIONS));
            }
            words::EXPECTED => {
                let part = attributes.required(words::PART)?;
                if let Some(slot) = self.expected(attributes)?.part(part) {
                    add(slot, n);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fill_header(&mut self, attributes: &Attributes<'_, '_>, n: u64) -> Result<(), String> {
        let used = self.propagation.header(attributes.required(words::HEADER)?);
        let used = used.ok_or_else(|| format!("{} is no header, or the {MAX_HEADERS} are exceeded", words::HEADER))?;
        match attributes.required(words::HEADER_EVENT)? {
            words::INBOUND_REQUEST => add(&mut used.inbound, n),
            words::OUTBOUND_CALL => add(&mut used.outbound, n),
            words::LINKED_CALL => add(&mut used.linked, n),
            // What a newer proxy tells.
            _ => {}
        }
        Ok(())
    }

    /// What is expected of the pair that the attributes name; the first time it is met it is made known.
    fn expected(&mut self, attributes: &Attributes<'_, '_>) -> Result<&mut ExpectedStats, String> {
        let callee = callee(attributes)?;
        let own = endpoint(words::ENDPOINT, attributes.required(words::ENDPOINT)?)?;
        let key = (own.to_owned(), callee.service().to_owned(), callee.endpoint().to_owned());
        if self.expected.len() >= self.bounds.calls && !self.expected.contains_key(&key) {
            return Err(format!("more than {} expected pairs in one report", self.bounds.calls));
        }
        Ok(self.expected.entry(key).or_default())
    }
}

/// The handlings that a point belongs to, and what else it says.
fn path_stats<'s, 'a>(
    paths: &'s mut Rows<'a, PathReport, 1>,
    attributes: &'s mut Scratch<'a>,
) -> Result<(&'s mut HandlingStats, Attributes<'s, 'a>), Fault> {
    let (at, attributes) = match paths.compare(attributes.bytes()) {
        Some(at) => (Some(at), attributes.after(1)?),
        None => {
            let attributes = attributes.all()?;
            let path = attributes.path(words::PATH)?;
            (paths.search(|row| row.path.id.cmp(&path)), attributes)
        }
    };
    match at.and_then(|at| paths.get_mut(at)) {
        Some(row) => Ok((&mut row.stats, attributes)),
        None => Err(Fault::Report(format!("path {} is not defined", attributes.path(words::PATH)?))),
    }
}

/// The calls that a point belongs to, and what else it says.
fn call_stats<'s, 'a>(
    calls: &'s mut Rows<'a, CallReport, 3>,
    attributes: &'s mut Scratch<'a>,
) -> Result<(&'s mut CallStats, Attributes<'s, 'a>), Fault> {
    let (at, attributes) = match calls.compare(attributes.bytes()) {
        Some(at) => (Some(at), attributes.after(3)?),
        None => {
            let attributes = attributes.all()?;
            let path = attributes.path(words::PATH)?;
            let (peer, endpoint) = (attributes.required(words::PEER)?, attributes.required(words::PEER_ENDPOINT)?);
            (calls.search(|row| order(row, path, peer, endpoint)), attributes)
        }
    };
    match at.and_then(|at| calls.get_mut(at)) {
        Some(row) => Ok((&mut row.stats, attributes)),
        None => {
            let (path, peer) = (attributes.path(words::PATH)?, attributes.required(words::PEER)?);
            Err(Fault::Report(format!("calls of path {path} to {peer:?} are not defined")))
        }
    }
}

/// The opaque connections that the attributes name; the first time it is met a peer is made known.
fn opaque<'s>(
    known: &'s mut BTreeMap<(String, Protocol), OpaqueStats>,
    attributes: &Attributes<'_, '_>,
    limit: usize,
) -> Result<&'s mut OpaqueStats, String> {
    let (peer, word) = (attributes.required(words::PEER)?, attributes.required(words::PROTOCOL)?);
    if !is_service_name(peer) {
        return Err(format!("{} is not a service name", words::PEER));
    }
    // A protocol that this release does not know is one that it knows nothing of.
    let key = (peer.to_owned(), Protocol::parse(word).unwrap_or(Protocol::Tcp));
    if known.len() >= limit && !known.contains_key(&key) {
        return Err(format!("more than {limit} peers of opaque connections in one report"));
    }
    Ok(known.entry(key).or_default())
}

fn whole_number(name: &str, value: Option<i64>) -> Result<u64, String> {
    let n = value.ok_or_else(|| format!("{name}: not a whole number"))?;
    u64::try_from(n).map_err(|_| format!("{name}: {n} is negative"))
}

fn add(slot: &mut u64, n: u64) {
    *slot = slot.saturating_add(n);
}
