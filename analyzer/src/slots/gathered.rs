//! The reports of one service, while they are put together. Rows stay as they are packed: they come packed, add up packed,
//! and go packed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use couplet_telemetry::breaker::BreakerReport;
use couplet_telemetry::example::Examples;
use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::loss::Loss;
use couplet_telemetry::names::OTHER;
use couplet_telemetry::otlp::Bounds;
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{CallStats, Callee, HandlingStats, Origin, PathDefinition, Report};
use couplet_telemetry::window::{Window, WindowLimits};
use foldhash::fast::RandomState;

use super::rows::{self, Body, Called, Handled, Piece};
use super::{Rollup, Tier};
use crate::packed::{self, Measures, Packed, Scratch, Writer};

/// Paths and calls of one rollup at most; what is beyond goes into another one. So no reader ever holds much at once.
const ENTRIES: usize = 5_000;
/// Breakers of one rollup that are kept apart, over all replicas. Those beyond are one for each replica.
const BREAKERS: usize = 20_000;
/// Changes of one breaker that are kept, the last ones.
const TRANSITIONS: usize = 16;

/// Names come from outside: the hash is seeded at random.
type Map<K, V> = HashMap<K, V, RandomState>;

/// Under which path the calls of each path of one report are counted: under itself, or the overflow path.
type Admitted = Map<PathId, PathId>;

/// What is put together so far.
#[derive(Debug)]
pub(super) struct Gathered {
    limits: WindowLimits,
    paths: Map<PathId, PathRow>,
    calls: Map<(PathId, u64), CallRow>,
    /// What is neither path nor call, and what limits cost.
    rest: Window,
    /// Who reported.
    sources: BTreeMap<String, Source>,
    /// Breakers of all of them.
    breakers: usize,
    times: Option<(u64, u64)>,
    scratch: Scratch,
}

#[derive(Debug)]
struct PathRow {
    path: PathDefinition,
    handlings: Packed<HandlingStats>,
    examples: Examples,
}

#[derive(Debug)]
struct CallRow {
    path: PathId,
    callee: Arc<Callee>,
    calls: Packed<CallStats>,
    first_byte: Packed<Histogram>,
}

/// One replica.
#[derive(Debug)]
struct Source {
    origin: Origin,
    /// Of its last report.
    sequence: u64,
    /// Its breakers, by destination and class of calls: each replica has its own, so they are not added up.
    breakers: BTreeMap<(String, Option<String>), BreakerReport>,
}

impl Gathered {
    pub(super) fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            paths: Map::default(),
            calls: Map::default(),
            rest: Window::new(limits),
            sources: BTreeMap::new(),
            breakers: 0,
            times: None,
            scratch: Scratch::default(),
        }
    }

    /// Adds reports as they were packed; whoever calls sees to it that they are of this service. None where the bytes cannot
    /// be read to their end: what stands before that is added then.
    pub(super) fn add(&mut self, body: &[u8], bounds: &Bounds) -> Option<()> {
        let mut admitted = Admitted::default();
        rows::each(body, bounds, |piece| match piece {
            Piece::Report(report) => {
                admitted.clear();
                self.begin(*report);
            }
            Piece::Path(path, handlings) => self.path(path, handlings, &mut admitted),
            Piece::Call { path, callee, calls, first_byte } => self.call(path, callee, [calls, first_byte], &admitted),
            Piece::Examples(path, examples) => self.examples(path, &examples, &admitted),
        })
    }

    /// Adds a report; whoever calls sees to it that it is one of this service.
    pub(super) fn absorb(&mut self, mut report: Report) {
        let (paths, calls) = (std::mem::take(&mut report.paths), std::mem::take(&mut report.calls));
        self.begin(report);
        let (mut row, mut first_byte, mut admitted) = (Writer::default(), Writer::default(), Admitted::default());
        for report in &paths {
            row.clear();
            report.stats.write(&mut row);
            self.path((*report.path).clone(), row.bytes(), &mut admitted);
            self.examples(report.path.id, &report.stats.examples, &admitted);
        }
        for report in &calls {
            row.clear();
            first_byte.clear();
            report.stats.write(&mut row);
            report.stats.first_byte.write(&mut first_byte);
            self.call(report.path, &report.callee, [row.bytes(), first_byte.bytes()], &admitted);
        }
    }

    /// Adds who reports, and what is neither path nor call.
    fn begin(&mut self, report: Report) {
        let source = self.sources.entry(report.origin.instance.clone()).or_insert_with(|| Source {
            // Where it listens is of today; nobody asks for it later.
            origin: Origin { inbound: None, ..report.origin.clone() },
            sequence: report.sequence,
            breakers: BTreeMap::new(),
        });
        source.sequence = source.sequence.max(report.sequence);
        for breaker in &report.breakers {
            let key = (breaker.to.clone(), breaker.class.clone());
            let full = self.breakers >= BREAKERS && !source.breakers.contains_key(&key);
            let key = if full { (OTHER.to_owned(), None) } else { key };
            match source.breakers.get_mut(&key) {
                Some(known) => join(known, breaker),
                None => {
                    self.breakers += 1;
                    let (to, class) = key.clone();
                    source.breakers.insert(key, BreakerReport { to, class, ..breaker.clone() });
                }
            }
        }
        if report.start > 0 && report.end >= report.start {
            let (start, end) = self.times.unwrap_or((report.start, report.end));
            self.times = Some((start.min(report.start), end.max(report.end)));
        }
        self.rest.absorb(report);
    }

    /// Adds the handlings of a path. As in a window: a path that is defined otherwise than before, or for which there is no
    /// room, is counted on the overflow path.
    fn path(&mut self, told: PathDefinition, handlings: &[u8], admitted: &mut Admitted) {
        let id = told.id;
        let fits = match self.paths.get(&id) {
            Some(known) => !known.path.contradicts(&told),
            None => self.limits.has_room(told.kind, self.paths.len()),
        };
        let path = if fits {
            told
        } else {
            self.rest.lose(Loss::Paths, packed::total(handlings));
            PathDefinition::overflow()
        };
        admitted.insert(id, path.id);
        let row = match self.paths.entry(path.id) {
            Entry::Occupied(known) => {
                let row = known.into_mut();
                // A path is as sure as the weakest link on which it was reached.
                if row.path.evidence < path.evidence {
                    row.path = path;
                }
                row
            }
            Entry::Vacant(place) => place.insert(PathRow::new(path)),
        };
        row.handlings.merge_bytes(handlings, &mut self.scratch);
    }

    /// Adds examples of a path. What is put together from many paths is an example of none.
    fn examples(&mut self, path: PathId, examples: &Examples, admitted: &Admitted) {
        if admitted.get(&path) == Some(&path)
            && !examples.is_empty()
            && let Some(row) = self.paths.get_mut(&path)
        {
            row.examples.merge(examples);
        }
    }

    /// Adds calls: those as they are packed, and their times to the first byte.
    fn call(&mut self, told: PathId, callee: &Arc<Callee>, [calls, first_byte]: [&[u8]; 2], admitted: &Admitted) {
        let total = packed::total(calls);
        let path = admitted.get(&told).copied().unwrap_or_else(|| {
            self.rest.lose(Loss::Paths, total);
            PathId::OVERFLOW
        });
        let (path, callee, whole) = self.limits.place(&self.calls, path, callee);
        if !whole {
            self.rest.lose(Loss::Callees, total);
        }
        if path == PathId::OVERFLOW {
            self.paths.entry(path).or_insert_with(|| PathRow::new(PathDefinition::overflow()));
        }
        let row = self.calls.entry((path, callee.key())).or_insert_with(|| CallRow {
            path,
            callee,
            calls: Packed::default(),
            first_byte: Packed::default(),
        });
        row.calls.merge_bytes(calls, &mut self.scratch);
        row.first_byte.merge_bytes(first_byte, &mut self.scratch);
    }

    /// The rollups of a slot.
    pub(super) fn pack(self, service: &str, tier: Tier, (start, end): (u64, u64)) -> Vec<Rollup> {
        let Self { paths, calls, mut rest, sources, times, .. } = self;
        let mut sources = sources.into_values();
        let Some(Source { origin, sequence, breakers }) = sources.next() else { return Vec::new() };
        let (first, last) = times.unwrap_or_default();
        let only_breakers = |Source { origin, sequence, breakers }| Report {
            breakers: breakers.into_values().collect(),
            ..Report::empty(origin, sequence, first, last)
        };
        let rest =
            Report { breakers: breakers.into_values().collect(), ..rest.close(origin.clone(), sequence, first, last) };
        let empty = Report::empty(origin, sequence, first, last);
        let mut paths: Vec<PathRow> = paths.into_values().collect();
        paths.sort_unstable_by_key(|row| row.path.id);
        paths.iter_mut().for_each(|row| row.examples.date(last));
        let mut calls: Vec<CallRow> = calls.into_values().collect();
        calls.sort_unstable_by(|a, b| {
            (a.path, a.callee.service(), a.callee.endpoint()).cmp(&(b.path, b.callee.service(), b.callee.endpoint()))
        });
        let mut heads = rest.into_parts(ENTRIES).into_iter();
        let mut parts = parts(&paths, &calls).into_iter();
        let mut body = Body::default();
        let (paths, calls) = parts.next().unwrap_or_default();
        body.add(&heads.next().unwrap_or_else(|| empty.clone()), &paths, calls);
        sources.map(only_breakers).for_each(|report| body.add(&report, &report.paths, &report.calls));
        let mut bodies = vec![body.finish()];
        bodies.extend(heads.map(|head| rows::write([&head])));
        bodies.extend(parts.map(|(paths, calls)| {
            let mut body = Body::default();
            body.add(&empty, &paths, calls);
            body.finish()
        }));
        let service: Arc<str> = service.into();
        let rollup =
            |body: Vec<u8>| Rollup { tier, start, end, service: Arc::clone(&service), body: body.into(), row: None };
        bodies.into_iter().map(rollup).collect()
    }
}

/// Rows in parts of a bounded number; calls come with the definitions of their paths.
fn parts<'a>(paths: &'a [PathRow], calls: &'a [CallRow]) -> Vec<(Vec<Told<'a>>, &'a [CallRow])> {
    let with_handlings = |row: &'a PathRow| Told { row, handlings: true };
    if paths.len() + calls.len() <= ENTRIES {
        return vec![(paths.iter().map(with_handlings).collect(), calls)];
    }
    let of_calls = calls.chunks(ENTRIES).map(|calls| {
        let of_a_call = |row: &&PathRow| calls.binary_search_by_key(&row.path.id, |call| call.path).is_ok();
        let definition = |row: &'a PathRow| Told { row, handlings: false };
        (paths.iter().filter(of_a_call).map(definition).collect(), calls)
    });
    let of_paths = paths.chunks(ENTRIES).map(|paths| (paths.iter().map(with_handlings).collect(), &[][..]));
    of_calls.chain(of_paths).collect()
}

/// A path as it is written, with its handlings or without.
struct Told<'a> {
    row: &'a PathRow,
    handlings: bool,
}

impl Handled for Told<'_> {
    fn path(&self) -> &PathDefinition {
        &self.row.path
    }

    fn pack(&self, out: &mut Writer) {
        if self.handlings {
            out.raw(self.row.handlings.bytes());
        }
    }

    fn examples(&self) -> Option<&Examples> {
        self.handlings.then_some(&self.row.examples).filter(|examples| !examples.is_empty())
    }
}

impl Called for CallRow {
    fn path(&self) -> PathId {
        self.path
    }

    fn callee(&self) -> &Callee {
        &self.callee
    }

    fn pack(&self, out: &mut Writer) {
        out.raw(self.calls.bytes());
    }

    fn pack_first_byte(&self, out: &mut Writer) {
        out.raw(self.first_byte.bytes());
    }
}

impl PathRow {
    fn new(path: PathDefinition) -> Self {
        Self { path, handlings: Packed::default(), examples: Examples::default() }
    }
}

/// Adds what a breaker did later to what it did before.
fn join(known: &mut BreakerReport, later: &BreakerReport) {
    known.counts.merge(&later.counts);
    known.peak = known.peak.max(later.peak);
    (known.state, known.mode) = (later.state.clone(), later.mode.clone());
    known.transitions.extend(later.transitions.iter().cloned());
    let surplus = known.transitions.len().saturating_sub(TRANSITIONS);
    known.transitions.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use couplet_telemetry::breaker::{BreakerCounts, Count};
    use couplet_telemetry::example::{Example, Trace};
    use couplet_telemetry::outcome::Outcome;

    use super::*;
    use crate::traffic::{chain, on, traffic};

    const LIMITS: WindowLimits = WindowLimits { paths: 100, callees: 100 };
    const BOUNDS: Bounds = Bounds { paths: 10_000, calls: 10_000 };

    fn gathered(limits: WindowLimits, reports: &[Report]) -> Gathered {
        let mut gathered = Gathered::new(limits);
        reports.iter().for_each(|report| assert_eq!(gathered.add(&rows::write([report]), &BOUNDS), Some(())));
        gathered
    }

    /// What two replicas of one service report in three windows: with failures, examples, times to the first byte, and a
    /// path that the second replica defines otherwise.
    fn reports() -> Vec<Report> {
        let stock = on("stock", "GET /stock/{id}").takes(7).calls(2, on("db", "query").external());
        let root = on("shop", "GET /").calls(3, stock.clone()).calls(1, on("pay", "POST /").ends(Outcome::ServerError));
        let mut all = Vec::new();
        for sequence in 1..=3 {
            let reports = traffic().with_replicas(2).of(40, &root).of(5, &chain(&["shop", "stock", "db"])).reports();
            all.extend(reports.into_iter().filter(|report| report.origin.service == "shop"));
            all.iter_mut().rev().take(2).for_each(|report| report.sequence = sequence);
        }
        for (n, report) in (1..).zip(&mut all) {
            report.calls.iter_mut().for_each(|call| call.stats.first_byte.record(1_234 * n));
            let trace = Trace { id: n.into(), sampled: true, at: 1_700_000_000_000_000_000 + n };
            let example = Example { trace, duration: n, outcome: Outcome::Ok, calls: 3 };
            report.paths.iter_mut().for_each(|path| path.stats.examples.add(&example));
        }
        let path = all[3].paths.iter_mut().find(|path| path.path.parent.is_none()).unwrap();
        path.path = Arc::new(PathDefinition { endpoint: "GET /other".to_owned(), ..(*path.path).clone() });
        all
    }

    #[test]
    fn what_is_put_together_packed_is_what_a_window_puts_together() {
        let reports = reports();
        let narrow = WindowLimits { paths: 1, callees: 1 };
        for limits in [LIMITS, narrow] {
            let mut window = Window::new(limits);
            reports.iter().for_each(|report| window.absorb(report.clone()));
            let (origin, times) = (reports[0].origin.clone(), (reports[0].start, reports[0].end));
            let mut whole = window.close(origin, 3, times.0, times.1);
            // What is put together from many paths is an example of none.
            let overflow = whole.paths.iter_mut().find(|path| path.path.id == PathId::OVERFLOW);
            overflow.unwrap().stats.examples = Examples::default();
            assert!(whole.losses.iter().any(|(loss, _)| *loss == Loss::Paths), "one path contradicts another");
            let packed = gathered(limits, &reports).pack("shop", Tier::Seconds, (0, 10_000));
            let mut told = packed[0].reports(&BOUNDS).unwrap();
            assert_eq!((packed.len(), told.len()), (1, 2));
            whole.origin = told[0].origin.clone();
            assert_eq!(told.remove(0), whole);
            // An earlier release kept what was not packed.
            let mut absorbed = Gathered::new(limits);
            reports.iter().for_each(|report| absorbed.absorb(report.clone()));
            assert_eq!(absorbed.pack("shop", Tier::Seconds, (0, 10_000)), packed);
        }
    }

    #[test]
    fn a_service_of_many_paths_is_several_rollups_that_say_the_same() {
        let mut root = on("shop", "GET /");
        for n in 0..3_500 {
            root = root.calls(1, on("shop", &format!("GET /{n}/x")).calls(1, on("db", "query").external()));
        }
        let reports = traffic().of(1, &root).reports();
        let wide = WindowLimits { paths: 10_000, callees: 10_000 };
        let rollups = gathered(wide, &reports).pack("shop", Tier::Seconds, (0, 10_000));
        assert!(rollups.len() > 1);
        let (mut whole, mut parts) = (Gathered::new(wide), Gathered::new(wide));
        reports.iter().for_each(|report| whole.absorb(report.clone()));
        for rollup in &rollups {
            let reports = rollup.reports(&BOUNDS).unwrap();
            assert!(reports.iter().all(|report| report.paths.len() <= ENTRIES && report.calls.len() <= ENTRIES));
            assert_eq!(parts.add(&rollup.body, &BOUNDS), Some(()));
        }
        assert_eq!(parts.pack("shop", Tier::Minute, (0, 1)), whole.pack("shop", Tier::Minute, (0, 1)));
    }

    #[test]
    fn breakers_beyond_the_limit_are_one_and_lose_no_count() {
        let mut gathered = Gathered::new(LIMITS);
        gathered.breakers = BREAKERS;
        for sequence in 1..=5 {
            let origin = Origin { service: "shop".to_owned(), instance: "a".to_owned(), ..Origin::default() };
            let mut counts = BreakerCounts::default();
            counts.add(Count::Failure, 2);
            let (to, state, mode) = (format!("stock-{sequence}"), "open".to_owned(), "observe".to_owned());
            let breaker = BreakerReport { to, class: None, state, mode, peak: 2, counts, transitions: Vec::new() };
            gathered.absorb(Report { breakers: vec![breaker], ..Report::empty(origin, sequence, 1, 2) });
        }
        let packed = gathered.pack("shop", Tier::Seconds, (0, 10_000));
        let reports = packed[0].reports(&BOUNDS).unwrap();
        let [breaker] = reports[0].breakers.as_slice() else { panic!("{reports:?}") };
        assert_eq!((breaker.to.as_str(), breaker.counts.get(Count::Failure)), (OTHER, 10));
    }
}
