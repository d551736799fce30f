//! By which headers requests are linked: known, configured and learned ones; what is counted of each; and reading them.
//!
//! Of every value only a hash is kept, with a key that is drawn when the proxy starts.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use couplet_config::Linking;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::propagation::{Client, Propagation};
use parking_lot::Mutex;

use super::carried::{Carried, Key, Said};
use super::known::{self, BAGGAGE, Header, MAX_HEADERS, NAMES, Reading, TRACEPARENT};
use super::learn::{Learner, Learning, Promotion, Watched, display};
use super::{Found, How};
use crate::context::foreign::{self, Trace};
use crate::context::{Traceparent, tracestate_handler};
use crate::http::Fields;

/// Calls with a learned header after which is judged whether it is still right.
const REVIEW_CALLS: u64 = 200;
/// A learned header that is right for fewer of these is given up: less than what it was learned by, so that it does not
/// come and go.
const STILL_RIGHT: f64 = 0.8;

/// All of it, shared by all workers and all generations.
pub(crate) struct Headers {
    secret: RandomState,
    /// The same for numbers, one pair for each space of them.
    keys: [[u64; 2]; 2],
    rules: ArcSwap<Rules>,
    /// Serialises changes of the rules; never taken on the request path but where a header was just learned.
    changing: Mutex<Changing>,
    census: Box<[Census; MAX_HEADERS]>,
    /// Calls by client and evidence.
    clients: Box<[[AtomicU64; Evidence::ALL.len()]; Client::COUNT]>,
    ambiguous: AtomicU64,
    learner: Learner,
}

#[derive(Default)]
struct Changing {
    linking: Linking,
    learned: Vec<Promotion>,
    /// Names that have had a number, in its order; behind the known ones.
    named: Vec<String>,
    reviewed: Vec<(u64, u64)>,
    /// What was told of headers and clients so far.
    told: Vec<Tally>,
    told_clients: Vec<[u64; Evidence::ALL.len()]>,
}

/// The configured and learned headers, and what is switched off.
#[derive(Default)]
struct Rules {
    more: Vec<Rule>,
    /// Known headers that do not count, a bit for each.
    off: u64,
    ignore: Vec<String>,
    /// Lengths of names in `more`, a bit for each: most headers are told apart by that.
    lengths: u128,
}

struct Rule {
    inbound: String,
    outbound: String,
    header: Header,
    learned: bool,
}

/// What is counted of one header.
#[derive(Default)]
struct Census {
    /// Inbound requests that have it, or were given it.
    inbound: AtomicU64,
    /// Calls that have it.
    outbound: AtomicU64,
    /// Calls that it linked.
    linked: AtomicU64,
    /// Calls that were linked to a handler that had the same value: these, and those linked otherwise.
    right: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) inbound: u64,
    pub(crate) outbound: u64,
    pub(crate) linked: u64,
    pub(crate) right: u64,
}

/// Where a header comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    Known,
    Configured,
    Learned,
    /// Switched off, or not learned any more.
    Off,
}

/// In which direction a request passes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Inbound,
    Outbound,
}

impl Headers {
    pub(crate) fn new(linking: &Linking) -> Self {
        let secret = RandomState::new();
        let headers = Self {
            keys: [[0, 1], [2, 3]].map(|pair| pair.map(|n: u64| secret.hash_one(n))),
            secret,
            rules: ArcSwap::default(),
            changing: Mutex::default(),
            census: Box::new(std::array::from_fn(|_| Census::default())),
            clients: Box::new(std::array::from_fn(|_| Default::default())),
            ambiguous: AtomicU64::new(0),
            learner: Learner::default(),
        };
        headers.configure(linking);
        headers
    }

    /// Another configuration is in force. What was learned stays, but for what it switches off.
    pub(crate) fn configure(&self, linking: &Linking) {
        let mut changing = self.changing.lock();
        changing.linking = linking.clone();
        changing.learned.retain(|learned| !linking.ignore.contains(&learned.inbound) && linking.learn);
        self.learner.allow(linking.learn);
        self.publish(&mut changing);
    }

    /// What an inbound request carries, and what the learner watches of it.
    pub(crate) fn inbound<F: Fields>(&self, fields: &F) -> (Carried, Option<Watched>) {
        let rules = self.rules.load();
        let carried = self.read(&rules, Side::Inbound, fields);
        self.count(carried.present, |census| &census.inbound);
        let hash = |value: &[u8]| self.hash(u64::MAX, value);
        let watched = self.learner.is_active().then(|| self.learner.opened(fields, &hash, &|name| rules.leaves(name)));
        if carried.present & rules.learned() != 0 {
            self.learner.check(&carried.keys);
        }
        (carried, watched.flatten())
    }

    /// What a call carries.
    pub(crate) fn outbound<F: Fields>(&self, fields: &F) -> Carried {
        let carried = self.read(&self.rules.load(), Side::Outbound, fields);
        self.count(carried.present, |census| &census.outbound);
        carried
    }

    /// The application was given this trace and span: its calls may carry them on.
    pub(crate) fn give(&self, carried: &mut Carried, trace: u128, span: u64) {
        if self.rules.load().off & bit(TRACEPARENT) != 0 {
            return;
        }
        self.count(bit(TRACEPARENT), |census| &census.inbound);
        carried.keys.push(Key { value: self.number(trace), header: TRACEPARENT });
        carried.spans.push(self.span(span));
    }

    /// What was found for a call: it is counted, and learned from where it was not enough.
    pub(crate) fn found<F: Fields>(&self, carried: &Carried, found: &Found, fields: &F) {
        if let Found::One(handler, how) = found {
            let (How::Handler(header) | How::Value(header) | How::Parent(header)) = how;
            self.census_of(*header).linked.fetch_add(1, Ordering::Relaxed);
            for key in carried.keys.iter().filter(|key| handler.keys.holds(key.value)) {
                self.census_of(key.header).right.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        if matches!(found, Found::Several(_)) {
            self.ambiguous.fetch_add(1, Ordering::Relaxed);
        }
        if !self.learner.missed() {
            return;
        }
        let rules = self.rules.load();
        let hash = |value: &[u8]| self.hash(u64::MAX, value);
        if let Some(promotion) = self.learner.called(fields, &hash, &|name| rules.leaves(name)) {
            drop(rules);
            tracing::info!(
                inbound = promotion.inbound,
                outbound = promotion.outbound,
                "learned a header that links calls"
            );
            let mut changing = self.changing.lock();
            changing.learned.push(promotion);
            self.publish(&mut changing);
        }
    }

    /// A call was made by the client that calls itself so.
    pub(crate) fn called_by(&self, user_agent: Option<&[u8]>, evidence: Evidence) {
        let counters = self.clients.get(Client::of(user_agent) as usize);
        if let Some(counter) = counters.and_then(|counters| counters.get(evidence as usize)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request whose values are watched has ended.
    pub(crate) fn closed(&self, watched: &Watched) {
        self.learner.closed(watched);
    }

    /// Gives up learned headers that are no longer right. Called about once a window.
    pub(crate) fn review(&self) {
        let mut changing = self.changing.lock();
        let rules = self.rules.load_full();
        let learned = rules.more.iter().filter(|rule| rule.learned);
        let wrong: Vec<_> =
            learned.filter_map(|rule| Some((rule.header, self.fails(rule.header, &mut changing)?))).collect();
        if wrong.is_empty() {
            return;
        }
        for (header, name) in wrong {
            tracing::info!(header = name, "a learned header does not link calls any more");
            self.learner.demoted(&name, header);
            changing.learned.retain(|learned| learned.name() != name);
        }
        self.publish(&mut changing);
    }

    /// The name of a learned header, where it fails.
    fn fails(&self, header: Header, changing: &mut Changing) -> Option<String> {
        let at = usize::from(header.0) - NAMES.len();
        let name = changing.named.get(at)?.clone();
        if self.learner.recurs(header) {
            return Some(name);
        }
        let now = self.tally(header);
        if changing.reviewed.len() <= at {
            changing.reviewed.resize(at + 1, (0, 0));
        }
        let before = changing.reviewed.get_mut(at)?;
        let (calls, right) = (now.outbound.saturating_sub(before.0), now.right.saturating_sub(before.1));
        if calls < REVIEW_CALLS {
            return None;
        }
        *before = (now.outbound, now.right);
        ((right as f64) < STILL_RIGHT * calls as f64).then_some(name)
    }

    /// All headers that were seen or are used, with their counts.
    pub(crate) fn tallies(&self) -> Vec<(String, Source, Tally)> {
        let changing = self.changing.lock();
        self.named(&changing).collect()
    }

    /// What came to the counts since this was last asked, for a report.
    pub(crate) fn since(&self) -> Propagation {
        let mut changing = self.changing.lock();
        let mut propagation = Propagation::default();
        let now: Vec<_> = self.named(&changing).collect();
        for (at, (name, _, now)) in now.iter().enumerate() {
            let change = now.less(changing.told.get(at).copied().unwrap_or_default());
            if change != Tally::default()
                && let Some(used) = propagation.header(name)
            {
                (used.inbound, used.outbound, used.linked) = (change.inbound, change.outbound, change.linked);
            }
        }
        changing.told = now.into_iter().map(|(_, _, tally)| tally).collect();
        let clients = || self.clients.iter().map(|counts| counts.each_ref().map(|count| count.load(Ordering::Relaxed)));
        let now: Vec<_> = clients().collect();
        for (at, (client, now)) in Client::all().zip(&now).enumerate() {
            let before = changing.told_clients.get(at).copied().unwrap_or_default();
            for (evidence, (now, before)) in
                Evidence::ALL.into_iter().zip(now.iter().zip(before)).filter(|(_, (n, b))| *n > b)
            {
                propagation.clients.entry(client).or_default().add(evidence, now - before);
            }
        }
        changing.told_clients = now;
        propagation
    }

    /// Calls whose headers several requests share.
    pub(crate) fn ambiguous(&self) -> u64 {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// Whether values are being watched.
    pub(crate) fn is_learning(&self) -> bool {
        self.learner.is_active()
    }

    /// What is being learned.
    pub(crate) fn learning(&self) -> Learning {
        self.learner.learning()
    }

    /// In an order in which only the end grows.
    fn named(&self, changing: &Changing) -> impl Iterator<Item = (String, Source, Tally)> {
        let rules = self.rules.load_full();
        let off = |header: Header| rules.off & bit(header) != 0;
        let known = (0u8..).zip(NAMES).map(|(number, name)| (Header(number), name)).chain([(BAGGAGE, "baggage")]);
        let known = known.map(|(header, name)| {
            let source = if off(header) { Source::Off } else { Source::Known };
            (name.to_owned(), source, self.tally(header))
        });
        let more = changing.named.iter().enumerate().map(|(at, name)| {
            let header = numbered(at);
            let rule = rules.more.iter().find(|rule| rule.header == header);
            let source =
                rule.map_or(Source::Off, |rule| if rule.learned { Source::Learned } else { Source::Configured });
            (name.clone(), source, self.tally(header))
        });
        known.chain(more).collect::<Vec<_>>().into_iter()
    }

    fn publish(&self, changing: &mut Changing) {
        let mut rules = Rules { ignore: changing.linking.ignore.clone(), ..Rules::default() };
        rules.off = rules.ignore.iter().filter_map(|name| known::header(name)).fold(0, |off, header| off | bit(header));
        let configured = changing.linking.headers.iter().map(|name| (name.clone(), name.clone(), false));
        let learned = changing.learned.iter().map(|learned| (learned.inbound.clone(), learned.outbound.clone(), true));
        let all: Vec<_> = configured.chain(learned).collect();
        for (inbound, outbound, learned) in all {
            if !learned && known::header(&inbound).is_some() || rules.ignore.contains(&inbound) {
                continue;
            }
            if rules.more.iter().any(|rule| rule.inbound == inbound && rule.outbound == outbound) {
                continue;
            }
            let Some(header) = changing.number(&inbound, &outbound) else { continue };
            if learned {
                self.learner.watches(header);
            }
            rules.lengths |= length_bit(&inbound) | length_bit(&outbound);
            rules.more.push(Rule { inbound, outbound, header, learned });
        }
        self.rules.store(Arc::new(rules));
    }

    fn read<F: Fields>(&self, rules: &Rules, side: Side, fields: &F) -> Carried {
        let mut carried = Carried::default();
        fields.all(|name, value| match known::reading(name) {
            Some(Reading::Trace(header, read)) if rules.off & bit(header) == 0 => {
                let Some(read) = read(value) else { return };
                carried.present |= bit(header);
                carried.keys.push(Key { value: self.name(header, read.trace), header });
                for span in [read.span, read.parent].into_iter().flatten() {
                    carried.spans.push(self.span(span));
                }
            }
            Some(Reading::Span(header, read)) if rules.off & bit(header) == 0 => {
                if let Some(span) = read(value) {
                    carried.spans.push(self.span(span));
                }
            }
            Some(Reading::Traceparent) => {
                let read = Said::read(value);
                if carried.traceparent == Said::Nothing {
                    carried.traceparent = read;
                }
                let counts = rules.off & bit(TRACEPARENT) == 0;
                if let Some(Traceparent { trace, span, .. }) = read.get().filter(|_| counts) {
                    carried.present |= bit(TRACEPARENT);
                    carried.keys.push(Key { value: self.number(trace), header: TRACEPARENT });
                    carried.spans.push(self.span(span));
                }
            }
            Some(Reading::State) => {
                carried.state = true;
                if side == Side::Outbound {
                    carried.handler = carried.handler.or_else(|| tracestate_handler(value));
                }
            }
            Some(_) => {}
            None if rules.lengths & length_bit(name) == 0 => {}
            None => rules.of(name, side).for_each(|header| {
                if let Some(read) = foreign::whole(value) {
                    carried.present |= bit(header);
                    carried.keys.push(Key { value: self.name(header, read.trace), header });
                }
            }),
        });
        carried
    }

    fn name(&self, header: Header, trace: Trace<'_>) -> u64 {
        match trace {
            Trace::Number(number) => self.number(number),
            Trace::Text(text) => self.hash(u64::from(header.0) + 2, text),
        }
    }

    fn number(&self, trace: u128) -> u64 {
        self.mixed(TRACES, Trace::short(trace))
    }

    fn span(&self, span: u64) -> u64 {
        self.mixed(SPANS, span)
    }

    /// A number in the place of another one, and no two in the same: a permutation that only who has the key can follow.
    fn mixed(&self, space: usize, number: u64) -> u64 {
        let [first, second] = self.keys.get(space).copied().unwrap_or_default();
        finish(finish(number ^ first) ^ second)
    }

    /// SipHash, which does not tell its key. The space keeps values apart that mean different things.
    fn hash(&self, space: u64, value: &[u8]) -> u64 {
        let mut hasher = self.secret.build_hasher();
        hasher.write_u64(space);
        hasher.write(value);
        hasher.finish()
    }

    fn count(&self, present: u64, of: impl Fn(&Census) -> &AtomicU64) {
        let mut left = present;
        while left != 0 {
            if let Some(census) = self.census.get(left.trailing_zeros() as usize) {
                of(census).fetch_add(1, Ordering::Relaxed);
            }
            left &= left - 1;
        }
    }

    fn census_of(&self, header: Header) -> &Census {
        let [first, ..] = &*self.census;
        self.census.get(usize::from(header.0)).unwrap_or(first)
    }

    fn tally(&self, header: Header) -> Tally {
        let census = self.census_of(header);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            inbound: get(&census.inbound),
            outbound: get(&census.outbound),
            linked: get(&census.linked),
            right: get(&census.right),
        }
    }
}

/// Spaces of numbers that formats share.
const TRACES: usize = 0;
const SPANS: usize = 1;

/// The last step of MurmurHash3: every bit of a number depends on every other one, and none is lost.
fn finish(mut number: u64) -> u64 {
    number = (number ^ number >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    number = (number ^ number >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ number >> 33
}

impl Changing {
    /// The number of a header, the same for as long as the proxy runs; none when there are too many.
    fn number(&mut self, inbound: &str, outbound: &str) -> Option<Header> {
        let name = display(inbound, outbound);
        let at = self.named.iter().position(|known| *known == name).unwrap_or(self.named.len());
        if at == self.named.len() {
            if NAMES.len() + at >= usize::from(BAGGAGE.0) {
                return None;
            }
            self.named.push(name);
        }
        Some(numbered(at))
    }
}

impl Rules {
    /// The configured and learned headers of this name.
    fn of(&self, name: &str, side: Side) -> impl Iterator<Item = Header> {
        self.more.iter().filter(move |rule| rule.name(side) == name).map(|rule| rule.header)
    }

    /// Whether the learner must leave a header alone: it counts already, or never shall.
    fn leaves(&self, name: &str) -> bool {
        let counts = |rule: &Rule| rule.inbound == name || rule.outbound == name;
        self.ignore.iter().any(|ignored| ignored == name) || self.more.iter().any(counts)
    }

    /// The learned ones, a bit for each.
    fn learned(&self) -> u64 {
        self.more.iter().filter(|rule| rule.learned).fold(0, |bits, rule| bits | bit(rule.header))
    }
}

impl Rule {
    fn name(&self, side: Side) -> &str {
        if side == Side::Inbound { &self.inbound } else { &self.outbound }
    }
}

impl Tally {
    fn less(self, before: Self) -> Self {
        Self {
            inbound: self.inbound.saturating_sub(before.inbound),
            outbound: self.outbound.saturating_sub(before.outbound),
            linked: self.linked.saturating_sub(before.linked),
            right: self.right.saturating_sub(before.right),
        }
    }
}

fn numbered(at: usize) -> Header {
    Header((NAMES.len() + at).min(MAX_HEADERS - 1) as u8)
}

fn bit(header: Header) -> u64 {
    1 << (header.0 & 63)
}

fn length_bit(name: &str) -> u128 {
    1 << name.len().min(127)
}
