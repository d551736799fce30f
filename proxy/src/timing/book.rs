//! The handlers that are open, as far as timing knows them. Nobody waits for anybody to write into it: who finds another
//! worker at it leaves a slip, which the next one enters first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;

use crate::attribution::{Open, Sight};
use crate::link::Handler;

/// See the module.
pub(super) struct Book {
    pub(super) pages: Mutex<Pages>,
    slips: SyncSender<Slip>,
    /// Whether there was no room for a slip since somebody last looked.
    torn: AtomicBool,
}

pub(super) struct Pages {
    open: Open,
    handlers: HashMap<u64, Arc<Handler>>,
    slips: Receiver<Slip>,
    /// Until when nobody can be sure who is open, since slips were lost.
    blind: u64,
}

/// What happens to a handler. Times in nanoseconds.
pub(super) enum Slip {
    Started {
        handler: Arc<Handler>,
        endpoint: u32,
        at: u64,
    },
    /// One of which nothing can be kept.
    StartedUnnamed,
    Ended {
        handler: u64,
    },
    Called {
        handler: u64,
        callee: u32,
        at: u64,
    },
    Answered {
        handler: u64,
        callee: u32,
        at: u64,
    },
}

/// Who is likely to make a call that begins now.
pub(super) enum Likely {
    /// The likeliest handler of the likeliest path, and how likely the path is.
    Somebody(Arc<Handler>, f64),
    /// No handler is open, or too many.
    Nobody,
    /// Another worker was at the book.
    Busy,
}

/// Slips that may lie there: more than come in the time slice of a worker that was stopped at the book.
const SLIPS: usize = 1_024;
/// How long a handler that was not entered may be open: as long as the estimator believes in one.
const LONGEST: u64 = 60_000_000_000;

impl Default for Book {
    fn default() -> Self {
        let (sender, slips) = sync_channel(SLIPS);
        let pages = Pages { open: Open::default(), handlers: HashMap::new(), slips, blind: 0 };
        Self { pages: Mutex::new(pages), slips: sender, torn: AtomicBool::new(false) }
    }
}

impl Book {
    /// Enters what happened, or leaves a slip about it. Whether it will be known: if not, nobody is sure of anything for a
    /// while.
    pub(super) fn enter(&self, slip: Slip, now: u64) -> bool {
        if let Some(mut pages) = self.pages.try_lock() {
            pages.catch_up(&self.torn, now);
            pages.enter(slip);
            return true;
        }
        let left = self.slips.try_send(slip).is_ok();
        if !left {
            self.torn.store(true, Ordering::Relaxed);
        }
        left
    }

    /// Who makes a call to `callee`, among those that may; and writes down that this one does, if anybody.
    pub(super) fn guess(&self, sight: &Sight, callee: u32, at: u64, may: impl Fn(u64) -> bool) -> Likely {
        let Some(mut pages) = self.pages.try_lock() else { return Likely::Busy };
        pages.catch_up(&self.torn, at);
        if at < pages.blind {
            return Likely::Nobody;
        }
        let Some(guess) = pages.open.guess(sight, callee, at, may) else { return Likely::Nobody };
        let Some(handler) = pages.handlers.get(&guess.handler).map(Arc::clone) else { return Likely::Nobody };
        pages.enter(Slip::Called { handler: handler.id, callee, at });
        Likely::Somebody(handler, guess.probability)
    }

    /// Forgets everything. For when nobody writes into it.
    pub(super) fn clear(&self) {
        let mut pages = self.pages.lock();
        while pages.slips.try_recv().is_ok() {}
        (pages.open, pages.handlers, pages.blind) = (Open::default(), HashMap::new(), 0);
        self.torn.store(false, Ordering::Relaxed);
    }
}

impl Pages {
    /// Enters what others left.
    fn catch_up(&mut self, torn: &AtomicBool, now: u64) {
        if torn.load(Ordering::Relaxed) && torn.swap(false, Ordering::Relaxed) {
            // What is on the others makes no sense without it.
            (0..SLIPS).map_while(|_| self.slips.try_recv().ok()).for_each(drop);
            (self.open, self.handlers) = (Open::default(), HashMap::new());
            self.blind = now.saturating_add(LONGEST);
        }
        // No more than were there: others go on leaving some.
        for _ in 0..SLIPS {
            let Ok(slip) = self.slips.try_recv() else { return };
            self.enter(slip);
        }
    }

    fn enter(&mut self, slip: Slip) {
        match slip {
            Slip::Started { handler, endpoint, at } => {
                if self.open.handler_started(handler.id, handler.path.id.get(), endpoint, at) {
                    self.handlers.insert(handler.id, handler);
                }
            }
            Slip::StartedUnnamed => self.open.handler_left_out(),
            Slip::Ended { handler } => {
                self.open.handler_ended(handler);
                self.handlers.remove(&handler);
            }
            Slip::Called { handler, callee, at } => self.open.call_started(handler, callee, at),
            Slip::Answered { handler, callee, at } => self.open.call_ended(handler, callee, at),
        }
    }
}
