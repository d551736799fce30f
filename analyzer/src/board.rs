//! Where the one who writes and the many who read meet: the latest snapshot, the registry, the counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use couplet_config::{AnalyzerLimits, ServiceRole};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::breakers::Breakers;
use crate::casebook::{Casebook, Marks, Timeline};
use crate::counters::Counters;
use crate::findings::Finding;
use crate::graph::Snapshot;
use crate::registry::Registry;
use crate::score::Score;
use crate::slots::Shelf;

/// One state of the system, as all views show it. Never changes once it is published.
#[derive(Debug)]
pub struct Published {
    /// 0 for the empty state before the first report, then one more each.
    pub number: u64,
    /// The graph.
    pub snapshot: Snapshot,
    /// What was found in it, the gravest first.
    pub findings: Vec<Finding>,
    /// How much of a distributed monolith it is.
    pub score: Score,
    /// What part every service plays, in their order; empty where nobody asked.
    pub roles: Vec<ServiceRole>,
}

impl Published {
    /// The state with this number.
    #[must_use]
    pub fn new(number: u64, snapshot: Snapshot, findings: Vec<Finding>, score: Score) -> Self {
        Self { number, snapshot, findings, score, roles: Vec::new() }
    }

    /// The same with the roles of its services.
    #[must_use]
    pub fn with_roles(self, roles: Vec<ServiceRole>) -> Self {
        Self { roles, ..self }
    }
}

/// The board of one running analyzer.
#[derive(Debug)]
pub struct Board {
    /// Name of the system; empty where it has none.
    pub name: String,
    /// When the analyzer started.
    pub started: Instant,
    /// Tells one start of an analyzer from another: nanoseconds since the Unix epoch.
    pub run: u128,
    /// What it counts about itself.
    pub counters: Counters,
    /// Who can be found by name.
    pub registry: Mutex<Registry>,
    /// The slots that sliding windows are made of.
    pub shelf: Mutex<Shelf>,
    /// Which findings were seen when.
    pub casebook: Mutex<Casebook>,
    /// What can be told of it without waiting for who writes in it.
    pub casebook_marks: Arc<Marks>,
    /// What happened.
    pub timeline: Mutex<Timeline>,
    slot_bytes: usize,
    /// What circuit breakers did, or would have done.
    pub breakers: Mutex<Breakers>,
    published: watch::Sender<Arc<Published>>,
    /// Since when a report is acknowledged but not shown: milliseconds after `started`, plus one; 0 for none.
    unshown: AtomicU64,
    recording: AtomicBool,
}

impl Board {
    /// A board that shows `first`.
    #[must_use]
    pub fn new(name: String, limits: &AnalyzerLimits, started: Instant, first: Published) -> Self {
        let slot_bytes = limits.slot_bytes.as_usize();
        let casebook = Casebook::new(limits.findings.saturating_mul(4));
        Self {
            name,
            started,
            run: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos(),
            counters: Counters::default(),
            registry: Mutex::default(),
            shelf: Mutex::new(Shelf::new(slot_bytes)),
            casebook_marks: casebook.marks(),
            casebook: Mutex::new(casebook),
            timeline: Mutex::default(),
            slot_bytes,
            breakers: Mutex::default(),
            published: watch::Sender::new(Arc::new(first)),
            unshown: AtomicU64::new(0),
            recording: AtomicBool::new(true),
        }
    }

    /// The latest state.
    #[must_use]
    pub fn latest(&self) -> Arc<Published> {
        Arc::clone(&self.published.borrow())
    }

    /// Tells of every new state; slow readers see the latest only.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    /// Shows a new state, which holds every report acknowledged so far.
    pub fn publish(&self, published: Published) {
        self.published.send_replace(Arc::new(published));
        // Not before: whoever hears that there is no lag finds everything shown.
        self.unshown.store(0, Ordering::Release);
    }

    /// Notes that a report was applied that the latest state does not show.
    pub fn applied(&self, now: Instant) {
        let millis = u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX - 1) + 1;
        // Only the first since the last snapshot counts; the one writer makes this exact.
        let _ = self.unshown.compare_exchange(0, millis, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How long the oldest report that the latest state does not show has been waiting; zero where it shows all.
    #[must_use]
    pub fn lag(&self, now: Instant) -> Duration {
        match self.unshown.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            millis => now.saturating_duration_since(self.started + Duration::from_millis(millis - 1)),
        }
    }

    /// The same of a state that views show: one that is published is shown a little later.
    #[must_use]
    pub fn lag_of(&self, shown: &Published, now: Instant) -> Duration {
        let lag = self.lag(now);
        if self.latest().number > shown.number { lag.max(Duration::from_millis(1)) } else { lag }
    }

    /// Forgets all slots.
    pub(crate) fn clear_shelf(&self) {
        *self.shelf.lock() = Shelf::new(self.slot_bytes);
    }

    /// Whether reports are still being recorded; without that, the analyzer is of no use and should be started again.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    /// Notes that no report will be recorded any more.
    pub(crate) fn recording_ended(&self) {
        self.recording.store(false, Ordering::Relaxed);
    }
}
