//! Links calls that no header links by when they are made: the side of it that is on the request path.
//!
//! Nothing is done before the first call that no header links. From then on handlers and calls are told, as small
//! events, to a thread of their own ([`follow`]), which learns what each endpoint calls and when. What it learned is
//! looked up here when a call is made: where it is clear on which *path* the call is, the calling context carries that
//! path on and the call is counted in the likeliest handler of the path. Which of several handlings of one path it was
//! is not certain then, but the sums over the path are right whichever it was. Where the path is not clear, the call
//! waits, once it has ended, for what the thread finds out.

mod book;
mod follow;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::report::{Callee, PathDefinition};
use couplet_telemetry::window;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::link::{Found, Handler, Link, nanos};
use crate::metrics::Metrics;

use book::Book;
pub(crate) use follow::Follower;

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
    /// Taken for a microsecond or two by whoever opens or closes a handler or makes a call, and now and then by the thread.
    book: Mutex<Book>,
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
            book: Mutex::default(),
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
        let Some(endpoint) = self.book.lock().handler_started(handler, at) else {
            return self.metrics.timing_names_refused.add(1);
        };
        let path = Arc::clone(&handler.path);
        // What is lost leaves a gap that the thread sees.
        let _ = self.tell(worker, Event::Opened { handler: handler.id, endpoint, path, at });
    }

    /// It is not any more.
    pub(crate) fn handler_ended(&self, worker: usize, handler: &Handler, now: Instant) {
        if self.on.load(Ordering::Relaxed) {
            self.book.lock().handler_ended(handler);
            let _ = self.tell(worker, Event::Closed { handler: handler.id, at: nanos(self.epoch, now) });
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
        let mut book = self.book.lock();
        let Some(number) = book.callee(callee) else {
            self.metrics.timing_names_refused.add(1);
            return (proved(found), None);
        };
        let guess = match &found {
            Found::One(..) => None,
            Found::Several(few) => book.guess(number, at, |id| few.iter().any(|handler| handler.id == id)),
            Found::None => book.guess(number, at, |_| true),
        };
        let handler = exact.or_else(|| guess.as_ref().map(|(handler, _)| handler.id));
        if let Some(handler) = handler {
            book.call_started(handler, number, at);
        }
        drop(book);
        let is_guessed = guess.is_some();
        let link = match guess {
            Some((handler, probability)) if probability >= STATED => Link::inferred(handler),
            _ => proved(found),
        };
        match link.evidence() {
            Evidence::Exact => {}
            Evidence::Inferred => self.metrics.timing_inferred.add(1),
            Evidence::Unknown => self.metrics.timing_abstained.add(1),
        }
        let call = fastrand::u64(1..);
        let told = self.tell(worker, Event::Called { call, callee: number, at, exact }).is_ok();
        let waits = told && is_guessed && link.handler().is_none();
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
            self.book.lock().call_ended(handler, timed.callee, at);
        }
        let record = timed.waits.then(|| Box::new(Record { callee: Arc::clone(callee), call }));
        let told = self.tell(worker, Event::Answered { call: timed.call, at, record });
        (!timed.waits || told.is_err()).then_some(call)
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

    /// Makes the rings, and lets events be told from now on.
    fn begin(&self, workers: usize) -> Vec<Receiver<Event>> {
        let (senders, receivers) = (0..workers).map(|_| sync_channel(RING)).unzip();
        // Nobody else makes them.
        let _ = self.rings.set(senders);
        self.on.store(true, Ordering::Relaxed);
        receivers
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
