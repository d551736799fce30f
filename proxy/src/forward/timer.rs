//! What limits an answer that has begun: until when all of it must have passed, and for how long nothing may move.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora_timeout::fast_timeout::{DEFAULT_FAST_TIMEOUT_TO_TOKIO_THRESHOLD, fast_sleep};
use tokio::time::Instant;

use crate::error::Fault;
use crate::policy::Patience;

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The timers of one answer. Each is set up when it is first waited for: most answers are there at once.
pub(super) struct Timer {
    whole: Option<Whole>,
    idle: Option<Idle>,
}

struct Whole {
    until: Instant,
    fault: Fault,
    sleep: Option<Sleep>,
}

struct Idle {
    limit: Duration,
    sleep: Option<Sleep>,
    /// Grows with every frame of the answer.
    moved: u64,
    /// What of the request has passed.
    uploaded: Option<Arc<AtomicU64>>,
    /// Both, as they were when the sleep began.
    seen: (u64, u64),
}

impl Timer {
    /// Nothing where nothing is limited.
    pub(super) fn new(patience: &Patience, uploaded: Option<Arc<AtomicU64>>) -> Option<Box<Self>> {
        let whole = patience.until().map(|(until, fault)| Whole { until, fault, sleep: None });
        let idle = patience.idle.map(|limit| Idle { limit, sleep: None, moved: 0, uploaded, seen: (0, 0) });
        (whole.is_some() || idle.is_some()).then(|| Box::new(Self { whole, idle }))
    }

    /// Ready when the time for all of it is over.
    pub(super) fn over(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let Some(Whole { until, fault, sleep: timer }) = &mut self.whole else { return Poll::Pending };
        let left = || until.saturating_duration_since(Instant::now());
        ready!(timer.get_or_insert_with(|| sleep(left())).as_mut().poll(cx));
        Poll::Ready(*fault)
    }

    /// A frame has passed.
    pub(super) fn moved(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.moved += 1;
        }
    }

    /// Ready when nothing has moved for too long. No clock is read when something moves: that it has is seen when the
    /// sleep ends, and so it takes between once and twice the limit.
    pub(super) fn still(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let Some(idle) = &mut self.idle else { return Poll::Pending };
        loop {
            let now = (idle.moved, idle.uploaded.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed)));
            match &mut idle.sleep {
                None => idle.seen = now,
                Some(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    if idle.seen == now {
                        return Poll::Ready(Fault::Idle);
                    }
                    idle.seen = now;
                }
            }
            idle.sleep = Some(sleep(idle.limit));
        }
    }
}

/// Coarse, and cheap where there are many.
fn sleep(limit: Duration) -> Sleep {
    // The timers of the library count in whole milliseconds, and cannot bear the first of them to be none.
    let limit = limit.max(Duration::from_millis(1));
    match limit > DEFAULT_FAST_TIMEOUT_TO_TOKIO_THRESHOLD {
        true => Box::pin(tokio::time::sleep(limit)),
        false => Box::pin(fast_sleep(limit)),
    }
}
