//! The thread that learns: it takes what the workers tell, lets the estimator make something of it, and hands back what
//! is looked up on the request path. Calls that waited are counted on the path they turn out to be on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

use couplet_telemetry::expected::ExpectedStats;
use couplet_telemetry::names::UNLINKED;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::report::{Callee, PathDefinition};
use couplet_telemetry::window;
use tokio::time::Instant;

use super::{Event, Record, STATED, Timing};
use crate::aggregate::Local;
use crate::attribution::{Costs, Estimator, Link, Settings, Sight, thousandths};
use crate::link::nanos;

/// See the module.
pub(crate) struct Follower {
    timing: Arc<Timing>,
    locals: Vec<Arc<Local>>,
    rings: Vec<Receiver<Event>>,
    estimator: Estimator,
    /// Events so young that an older one may still come from another worker.
    young: Vec<(usize, Event)>,
    /// Handlers by id, the ended ones as long as calls may turn out to be theirs.
    handlers: HashMap<u64, Served>,
    ended: VecDeque<u64>,
    /// How many different paths the remembered handlers of each endpoint are on.
    paths: HashMap<u32, HashMap<u64, usize>>,
    /// Calls that wait to be linked.
    waiting: HashMap<u64, Waiting>,
    /// What the numbers stand for, as far as they were met.
    endpoints: HashMap<u32, Arc<PathDefinition>>,
    callees: HashMap<u32, Arc<Callee>>,
    /// What was told of each pair, so that only what is new is told.
    told: HashMap<(u32, u32), ExpectedStats>,
    told_background: HashMap<u32, ExpectedStats>,
    /// Since when it follows, and since when headers have linked all calls.
    began: Option<Instant>,
    linked_since: Option<Instant>,
    /// What was handed out before, until nobody can be looking at it.
    before: Option<Arc<Sight>>,
    learned: Option<Instant>,
    checked: Option<Instant>,
    /// Whether two independent ways to find expectations disagree.
    disputed: bool,
    /// Calls, and those made with more handlers open than single links make sense for; of late.
    calls: f64,
    crowded: f64,
}

struct Served {
    path: Arc<PathDefinition>,
    endpoint: u32,
    end: Option<u64>,
}

struct Waiting {
    worker: usize,
    record: Box<Record>,
    end: u64,
}

/// How often the rings are looked into while there is something to do.
const ROUND: Duration = Duration::from_millis(50);
/// How old an event is when no older one can still come.
const SETTLED: Duration = Duration::from_millis(10);
/// How often what was learned is handed to the request path, and the two ways are compared.
const HAND_OUT: Duration = Duration::from_secs(2);
const CHECK: Duration = Duration::from_secs(20);
/// The first look comes after so many calls, or after the patience if there are at least so few.
const WARM_UP: usize = 500;
const FEWEST: usize = 50;
const PATIENCE: Duration = Duration::from_secs(5);
/// What the estimator keeps at a time, and weighs a call against.
const HANDLERS: usize = 4_096;
const CALLS: usize = 8_192;
const CANDIDATES: usize = 128;
/// Handlers that ended and are remembered, and calls that wait, at most.
const ENDED: usize = 8_192;
const WAITING: usize = 8_192;
/// Handlers open from which single links make no sense; what that is an average over, in calls.
const CROWD: usize = 15;
const LATE: f64 = 2_000.0;
/// How long headers must have linked all calls until what was learned is forgotten; and how long at least it is kept
/// where there is no room for more names.
const REST: Duration = Duration::from_secs(600);
/// Pairs that are told to a window in one go.
const TOLD_AT_ONCE: usize = 32;
/// Niceness of the thread: requests come first.
const NICE: i32 = 10;

impl Follower {
    /// Starts the thread. It sleeps until it is needed.
    pub(crate) fn start(timing: &Arc<Timing>, locals: Vec<Arc<Local>>) -> std::io::Result<JoinHandle<()>> {
        let follower = Self::new(Arc::clone(timing), locals);
        let thread = std::thread::Builder::new().name("couplet-timing".to_owned()).spawn(move || follower.run())?;
        // Only started once.
        let _ = timing.thread.set(thread.thread().clone());
        if timing.needed.load(Ordering::Relaxed) {
            thread.thread().unpark();
        }
        Ok(thread)
    }

    pub(super) fn new(timing: Arc<Timing>, locals: Vec<Arc<Local>>) -> Self {
        let patience = u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
        let settings = Settings {
            max_handlers: HANDLERS,
            max_calls: CALLS,
            max_candidates: CANDIDATES,
            warm_up: WARM_UP,
            fewest: FEWEST,
            patience,
            ..Settings::default()
        };
        Self {
            timing,
            locals,
            rings: Vec::new(),
            estimator: Estimator::new(settings),
            young: Vec::new(),
            handlers: HashMap::new(),
            ended: VecDeque::new(),
            paths: HashMap::new(),
            waiting: HashMap::new(),
            endpoints: HashMap::new(),
            callees: HashMap::new(),
            told: HashMap::new(),
            told_background: HashMap::new(),
            began: None,
            linked_since: None,
            before: None,
            learned: None,
            checked: None,
            disputed: false,
            calls: 0.0,
            crowded: 0.0,
        }
    }

    fn run(mut self) {
        // On Linux this is the priority of the thread alone. Where it cannot be lowered, it stays as it is.
        let _ = rustix::process::nice(NICE);
        while !self.timing.stopping.load(Ordering::Relaxed) {
            if !self.timing.needed.load(Ordering::Relaxed) {
                match self.before.take() {
                    // Nobody looks at it for so long.
                    Some(before) => {
                        std::thread::park_timeout(ROUND);
                        drop(before);
                    }
                    None => std::thread::park(),
                }
                continue;
            }
            self.begin();
            while !self.timing.stopping.load(Ordering::Relaxed) && self.is_needed(Instant::now()) {
                std::thread::park_timeout(ROUND);
                self.round(Instant::now(), SETTLED);
            }
            self.end();
        }
        // What was told while it rested; all workers are gone, nothing more comes.
        self.end();
    }

    /// Begins with nothing known.
    pub(super) fn begin(&mut self) {
        self.count_late();
        if let Some(rings) = self.timing.begin(self.locals.len()) {
            self.rings = rings;
        }
    }

    /// Calls that ended while nobody looked belong nowhere; what else was told is about numbers that are given out anew.
    fn count_late(&mut self) {
        for (worker, ring) in self.rings.iter().enumerate() {
            for event in ring.try_iter() {
                if let Event::Answered { at, record: Some(record), .. } = event {
                    self.count(&Waiting { worker, record, end: at }, None);
                }
            }
        }
    }

    /// Whether to go on: a call came lately that no header links. Where there is no room for names any more, most of which
    /// strangers may have made up, it is better to begin anew now and then.
    pub(super) fn is_needed(&mut self, now: Instant) -> bool {
        let linked_since = *self.linked_since.get_or_insert(now);
        let began = *self.began.get_or_insert(now);
        let full = self.timing.endpoints.is_full() || self.timing.callees.is_full();
        now.saturating_duration_since(linked_since) < REST && !(full && now.saturating_duration_since(began) >= REST)
    }

    /// Counts what is left to count and forgets everything.
    pub(super) fn end(&mut self) {
        self.timing.rest();
        self.round(Instant::now(), Duration::ZERO);
        self.estimator.finish();
        self.count_links();
        self.give_up_waiting();
        self.tell();
        let rings = std::mem::take(&mut self.rings);
        let locals = std::mem::take(&mut self.locals);
        self.timing.forget();
        let before = self.timing.sight.swap(None);
        *self = Self { rings, before, ..Self::new(Arc::clone(&self.timing), locals) };
    }

    pub(super) fn round(&mut self, now: Instant, settled: Duration) {
        let upto = nanos(self.timing.epoch, now).saturating_sub(u64::try_from(settled.as_nanos()).unwrap_or(0));
        let mut events = std::mem::take(&mut self.young);
        for (worker, ring) in self.rings.iter().enumerate() {
            events.extend(ring.try_iter().map(|event| (worker, event)));
        }
        events.sort_by_key(|(_, event)| event.at());
        let old = events.partition_point(|(_, event)| event.at() <= upto);
        self.young = events.split_off(old);
        if self.timing.lossy.swap(false, Ordering::Relaxed) {
            // What is missing may be the end of a handler or a call: nothing at hand can be trusted.
            self.estimator.interrupted();
            self.give_up_waiting();
            self.handlers.clear();
            self.ended.clear();
            self.paths.clear();
        }
        events.into_iter().for_each(|(worker, event)| self.take(worker, event));
        self.estimator.passed(upto);
        self.count_links();
        self.hand_out(now);
    }

    fn take(&mut self, worker: usize, event: Event) {
        match event {
            Event::Opened { handler, endpoint, path, at } => {
                self.estimator.handler_started(handler, endpoint, at);
                self.endpoints.entry(endpoint).or_insert_with(|| Arc::clone(&path));
                *self.paths.entry(endpoint).or_default().entry(path.id.get()).or_default() += 1;
                self.handlers.insert(handler, Served { path, endpoint, end: None });
            }
            Event::Closed { handler, at } => {
                self.estimator.handler_ended(handler, at);
                let open = self.handlers.get_mut(&handler).filter(|served| served.end.is_none());
                if let Some(served) = open {
                    served.end = Some(at);
                    self.ended.push_back(handler);
                }
                if self.ended.len() > ENDED
                    && let Some(oldest) = self.ended.pop_front()
                {
                    self.forget(oldest);
                }
            }
            Event::Called { call, callee, named, at, exact } => {
                if exact.is_none() {
                    self.linked_since = None;
                }
                self.callees.entry(callee).or_insert(named);
                self.estimator.call_started(call, callee, at, exact);
                let crowded = self.handlers.len().saturating_sub(self.ended.len()) > CROWD;
                self.calls += 1.0;
                self.crowded += f64::from(u8::from(crowded));
                if self.calls > LATE {
                    (self.calls, self.crowded) = (self.calls / 2.0, self.crowded / 2.0);
                }
            }
            Event::Answered { call, at, record } => {
                self.estimator.call_ended(call, at);
                let Some(record) = record else { return };
                let waiting = Waiting { worker, record, end: at };
                match self.waiting.len() < WAITING {
                    true => drop(self.waiting.insert(call, waiting)),
                    false => self.count(&waiting, None),
                }
            }
        }
    }

    fn forget(&mut self, handler: u64) {
        let Some(served) = self.handlers.remove(&handler) else { return };
        if let Some(paths) = self.paths.get_mut(&served.endpoint)
            && let Some(count) = paths.get_mut(&served.path.id.get())
        {
            *count -= 1;
            if *count == 0 {
                paths.remove(&served.path.id.get());
            }
        }
    }

    /// Counts the calls that waited and are linked now, as far as they are.
    fn count_links(&mut self) {
        for link in self.estimator.take_links() {
            if let Some(waiting) = self.waiting.remove(&link.call) {
                let handler = link.handler.filter(|_| self.is_clear(&link));
                self.count(&waiting, handler);
            }
        }
    }

    /// Whether the path of a link is clear: the handler is, or its endpoint, which no other path leads to.
    fn is_clear(&self, link: &Link) -> bool {
        let served = link.handler.and_then(|handler| self.handlers.get(&handler));
        let only = served.and_then(|served| self.paths.get(&served.endpoint)).is_some_and(|paths| paths.len() == 1);
        link.probability >= STATED || only && link.endpoint_probability >= STATED
    }

    fn count(&self, waiting: &Waiting, handler: Option<u64>) {
        let Some(local) = self.locals.get(waiting.worker) else { return };
        let Record { callee, call } = &*waiting.record;
        let Some(served) = handler.and_then(|handler| self.handlers.get(&handler)) else {
            return local.call(local.unlinked(), callee, call);
        };
        self.timing.metrics.timing_inferred_later.add(1);
        let blocking = served.end.is_none_or(|end| waiting.end <= end);
        local.call(&served.path, callee, &window::Call { evidence: Evidence::Inferred, blocking, ..*call });
    }

    /// Nobody will know any more where these calls belong.
    fn give_up_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.values().for_each(|waiting| self.count(waiting, None));
    }

    /// Tells the window what endpoints were found to call since it was last told.
    fn tell(&mut self) {
        let Some(local) = self.locals.first() else { return };
        let callee = |callee: u32| self.callees.get(&callee);
        let mut news: Vec<(String, Arc<Callee>, ExpectedStats)> = Vec::new();
        for counted in self.estimator.counted() {
            let key = (counted.endpoint, counted.callee);
            let told = self.told.entry(key).or_default();
            let (stated, doubtful) = (thousandths(counted.stated), thousandths(counted.doubtful));
            let mut fresh = ExpectedStats {
                handlings: counted.handlings.saturating_sub(told.handlings),
                stated: stated.saturating_sub(told.stated),
                doubtful: doubtful.saturating_sub(told.doubtful),
                firm: thousandths(counted.firm).saturating_sub(told.firm),
                together: counted.together.saturating_sub(told.together),
                alone: counted.alone.saturating_sub(told.alone),
                earlier: counted.earlier.saturating_sub(told.earlier),
                ..ExpectedStats::default()
            };
            if fresh == ExpectedStats::default() {
                continue;
            }
            told.merge(&fresh);
            fresh.disputed = if self.disputed { fresh.stated + fresh.doubtful } else { 0 };
            fresh.misfit = if counted.fits { 0 } else { fresh.doubtful };
            fresh.crowded = if self.crowded * 2.0 > self.calls { fresh.stated + fresh.doubtful } else { 0 };
            if let (Some(path), Some(callee)) = (self.endpoints.get(&counted.endpoint), callee(counted.callee)) {
                news.push((path.endpoint.clone(), Arc::clone(callee), fresh));
            }
        }
        for (number, certain, doubtful) in self.estimator.background_calls() {
            let told = self.told_background.entry(number).or_default();
            let stated = thousandths(certain).saturating_sub(told.stated);
            let doubtful = thousandths(doubtful).saturating_sub(told.doubtful);
            let fresh = ExpectedStats { stated, doubtful, firm: stated, ..ExpectedStats::default() };
            told.merge(&fresh);
            if let Some(callee) = callee(number).filter(|_| stated + doubtful > 0) {
                news.push((UNLINKED.to_owned(), Arc::clone(callee), fresh));
            }
        }
        // The worker that writes there waits for no more than a few at a time.
        news.chunks(TOLD_AT_ONCE).for_each(|some| local.expected(some));
    }

    /// Hands what was learned to the request path, and looks whether another way finds the same.
    fn hand_out(&mut self, now: Instant) {
        let due = |last: Option<Instant>, every: Duration| {
            last.is_none_or(|last| now.saturating_duration_since(last) >= every)
        };
        if due(self.learned, HAND_OUT)
            && let Some(sight) = self.estimator.sight()
        {
            self.learned = Some(now);
            self.tell();
            self.before = self.timing.sight.swap(Some(Arc::new(sight)));
            self.timing.metrics.timing_limits.set(by_reason(self.estimator.costs()));
        }
        if due(self.checked, CHECK) {
            self.checked = Some(now);
            self.disputed = self.estimator.is_uncertain();
        }
    }
}

impl Event {
    fn at(&self) -> u64 {
        match self {
            Event::Opened { at, .. } | Event::Closed { at, .. } => *at,
            Event::Called { at, .. } | Event::Answered { at, .. } => *at,
        }
    }
}

fn by_reason(costs: Costs) -> Vec<(&'static str, u64)> {
    let Costs {
        handlers_given_up,
        calls_hurried,
        calls_at_sight,
        candidates_left_out,
        observations_refused,
        pairs_refused,
        events_ignored,
    } = costs;
    vec![
        ("handlers_given_up", handlers_given_up),
        ("calls_hurried", calls_hurried),
        ("calls_at_sight", calls_at_sight),
        ("candidates_left_out", candidates_left_out),
        ("observations_refused", observations_refused),
        ("pairs_refused", pairs_refused),
        ("events_ignored", events_ignored),
    ]
}
