//! Links calls that no header links by when they are made: the side of it that is on the request path.
//!
//! Nothing is done before the first call that no header links. From then on handlers and calls are told, as small
//! events, to a thread of their own ([`follow`]), which learns what each endpoint calls and when. What it learned is
//! looked up here when a call is made: where it is clear on which *path* the call is, the calling context carries that
//! path on and the call is counted in the likeliest handler of the path. Which of several handlings of one path it was
//! is not certain then, but the sums over the path are right whichever it was. Where the path is not clear, the call
//! waits, once it has ended, for what the thread finds out. Once headers have linked all calls for a while, everything
//! that was learned is forgotten, names included, until the next call that no header links.

mod follow;
mod book;
mod names;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use arc_swap::ArcSwapOption;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::report::{Callee, PathDefinition};
use couplet_telemetry::window;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::attribution::Sight;
use crate::link::{Found, Handler, Link, nanos};
use crate::metrics::Metrics;

use book::{Book, Likely, Slip};
pub(crate) use follow::Follower;
use names::Names;

/// What happened, for the thread. Times in nanoseconds since [`Timing::epoch`].
enum Event {
    Opened {
        handler: u64,
        endpoint: u32,
        path: Arc<PathDefinition>,
        at: u64,
    },
    Closed {
        handler: u64,
        at: u64,
    },
    Called {
        call: u64,
        callee: u32,
        named: Arc<Callee>,
        at: u64,
        exact: Option<u64>,
    },
    /// With the record of a call that nobody could link yet.
    Answered {
        call: u64,
        at: u64,
        record: Option<Box<Record>>,
    },
}

/// A call that waits to be counted where it belongs.
struct Record {
    callee: Arc<Callee>,
    call: window::Call,
}

/// What all workers and the thread share.
pub(crate) struct Timing {
    wanted: bool,
    epoch: Instant,
    /// Whether calls have come that no header links.
    needed: AtomicBool,
    /// Whether events are told and calls looked up.
    on: AtomicBool,
    stopping: AtomicBool,
    /// Whether an event was lost since the thread last looked.
    lossy: AtomicBool,
    /// One for each worker; made when they are needed.
    rings: OnceLock<Vec<SyncSender<Event>>>,
    endpoints: Names,
    callees: Names,
    book: Book,
    /// What the thread has learned; it keeps what it takes away from here until nobody can be looking at it.
    sight: ArcSwapOption<Sight>,
    thread: OnceLock<Thread>,
    metrics: Arc<Metrics>,
}

/// A call that timing knows of.
pub(crate) struct Timed {
    call: u64,
    callee: u32,
    /// The handler that it is taken to be of, proved or likeliest: what that one does next depends on it.
    handler: Option<u64>,
    /// Whether it is to be counted by the thread.
    waits: bool,
}

/// Events that wait for the thread, by worker: a few tenths of a second of a busy one.
const RING: usize = 8_192;
/// Probability from which a path is stated.
const STATED: f64 = 0.9;

impl Timing {
    pub(crate) fn new(wanted: bool, metrics: Arc<Metrics>) -> Self {
        Self {
            wanted,
            epoch: Instant::now(),
            needed: AtomicBool::new(false),
            on: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            lossy: AtomicBool::new(false),
            rings: OnceLock::new(),
            endpoints: Names::default(),
            callees: Names::default(),
            book: Book::default(),
            sight: ArcSwapOption::empty(),
            thread: OnceLock::new(),
            metrics,
        }
    }

    /// A handler is open from now on.
    pub(crate) fn handler_started(&self, worker: usize, handler: &Arc<Handler>, now: Instant) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let at = nanos(self.epoch, now);
        let Some(endpoint) = self.endpoints.number(xxh3_64(handler.path.endpoint.as_bytes())) else {
            self.enter(Slip::StartedUnnamed, at);
            return self.metrics.timing_names_refused.add(1);
        };
        self.enter(Slip::Started { handler: Arc::clone(handler), endpoint, at }, at);
        let path = Arc::clone(&handler.path);
        // What is lost leaves a gap that the thread sees.
        let _ = self.tell(worker, Event::Opened { handler: handler.id, endpoint, path, at });
    }

    /// It is not any more.
    pub(crate) fn handler_ended(&self, worker: usize, handler: &Handler, now: Instant) {
        if self.on.load(Ordering::Relaxed) {
            let at = nanos(self.epoch, now);
            self.enter(Slip::Ended { handler: handler.id }, at);
            let _ = self.tell(worker, Event::Closed { handler: handler.id, at });
        }
    }

    /// Who makes a call, by what its headers prove, or else by what is likely.
    pub(crate) fn link(
        &self,
        worker: usize,
        found: Found,
        callee: &Arc<Callee>,
        now: Instant,
    ) -> (Link, Option<Timed>) {
        let exact = match &found {
            Found::One(handler, _) => Some(handler.id),
            Found::Several(_) | Found::None => None,
        };
        if !self.on.load(Ordering::Relaxed) {
            if exact.is_none() {
                self.need();
            }
            return (proved(found), None);
        }
        let at = nanos(self.epoch, now);
        let Some(number) = self.callees.number(callee.key()) else {
            self.metrics.timing_names_refused.add(1);
            return (proved(found), None);
        };
        let likely = match (&found, &*self.sight.load()) {
            (Found::One(..), _) | (_, None) => Likely::Nobody,
            (Found::Several(few), Some(sight)) => {
                self.book.guess(sight, number, at, |id| few.iter().any(|handler| handler.id == id))
            }
            (Found::None, Some(sight)) => self.book.guess(sight, number, at, |_| true),
        };
        if let Some(handler) = exact {
            self.enter(Slip::Called { handler, callee: number, at }, at);
        }
        let handler = match &likely {
            Likely::Somebody(handler, _) => Some(handler.id),
            Likely::Nobody | Likely::Busy => exact,
        };
        let can_turn_out = !matches!(likely, Likely::Nobody);
        if matches!(likely, Likely::Busy) {
            self.metrics.timing_busy.add(1);
        }
        let link = match likely {
            Likely::Somebody(handler, probability) if probability >= STATED => Link::inferred(handler),
            _ => proved(found),
        };
        match link.evidence() {
            Evidence::Exact => {}
            Evidence::Inferred => self.metrics.timing_inferred.add(1),
            Evidence::Unknown => self.metrics.timing_abstained.add(1),
        }
        let call = fastrand::u64(1..);
        let told =
            self.tell(worker, Event::Called { call, callee: number, named: Arc::clone(callee), at, exact }).is_ok();
        let waits = told && can_turn_out && link.handler().is_none();
        (link, Some(Timed { call, callee: number, handler, waits }))
    }

    /// A call has ended. Gives the record back where it is to be counted now, as it is linked.
    pub(crate) fn call_ended(
        &self,
        worker: usize,
        timed: &Timed,
        callee: &Arc<Callee>,
        call: window::Call,
        now: Instant,
    ) -> Option<window::Call> {
        let at = nanos(self.epoch, now);
        if let Some(handler) = timed.handler {
            self.enter(Slip::Answered { handler, callee: timed.callee, at }, at);
        }
        let record = timed.waits.then(|| Box::new(Record { callee: Arc::clone(callee), call }));
        let told = self.tell(worker, Event::Answered { call: timed.call, at, record });
        (!timed.waits || told.is_err()).then_some(call)
    }

    fn enter(&self, slip: Slip, now: u64) {
        if !self.book.enter(slip, now) {
            self.metrics.timing_events_lost.add(1);
        }
    }

    fn tell(&self, worker: usize, event: Event) -> Result<(), ()> {
        let ring = self.rings.get().and_then(|rings| rings.get(worker));
        match ring.map(|ring| ring.try_send(event)) {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {
                self.lossy.store(true, Ordering::Relaxed);
                self.metrics.timing_events_lost.add(1);
                Err(())
            }
        }
    }

    /// Says once that there is something to do.
    fn need(&self) {
        if self.wanted && !self.needed.load(Ordering::Relaxed) && !self.needed.swap(true, Ordering::Relaxed) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Lets events be told from now on; where they come out, the first time.
    fn begin(&self, workers: usize) -> Option<Vec<Receiver<Event>>> {
        let mut made = None;
        self.rings.get_or_init(|| {
            let (senders, receivers) = (0..workers).map(|_| sync_channel(RING)).unzip();
            made = Some(receivers);
            senders
        });
        self.forget();
        self.on.store(true, Ordering::Relaxed);
        made
    }

    /// Nothing is told any more, until the next call that no header links.
    fn rest(&self) {
        self.on.store(false, Ordering::Relaxed);
        self.needed.store(false, Ordering::Relaxed);
    }

    /// Forgets names and handlers. Nobody tells anything meanwhile, but for who began to before the rest.
    fn forget(&self) {
        self.endpoints.clear();
        self.callees.clear();
        self.book.clear();
    }

    /// Tells the thread to come to an end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.wake();
    }
}

/// What is made of proofs alone.
fn proved(found: Found) -> Link {
    match found {
        Found::One(handler, _) => Link::exact(handler),
        Found::Several(_) | Found::None => Link::unknown(),
    }
}
