//! How long a downstream connection may stay as it is: a head that has begun must end in time, an idle connection may
//! last much longer. Whatever drips in between moves no deadline.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a downstream connection is doing.
#[derive(Debug)]
struct State {
    /// Requests that are being served; their own limits hold.
    turns: u32,
    /// Since when none is.
    idle: Instant,
    /// Since when a head (of HTTP/2: a frame that is not data, or a header block) has been incomplete.
    head: Option<Instant>,
    /// Whether a part of the next head has come while a request was being served.
    partial: bool,
    /// Since the connection was told to end: until when it may be idle.
    until: Option<Instant>,
    /// Requests that are done with, and who waits for one more.
    finished: u64,
    waiting: Option<Waker>,
    /// Grows with every frame of a body that passed, and with every request.
    moved: u64,
    /// The last that was seen of it, and since when it has not grown.
    still: (u64, Instant),
}

/// The limits of a downstream connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// Within a request of HTTP/1: while it moves in neither direction.
    pub(crate) stream: Option<Duration>,
}

/// What is due for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Look again then.
    Later(Instant),
    /// It was idle for too long: close it in peace.
    Idle,
    /// Its head took too long: cut it.
    Head,
    /// Nothing moved for too long in what it serves: cut it.
    Stream,
}

/// The state of one connection, shared by its reader, its requests and its timer.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<State>>);

impl Progress {
    pub(crate) fn new(now: Instant) -> Self {
        // A connection that never sends its first byte is as suspect as a head that never ends.
        Self(Arc::new(Mutex::new(State {
            turns: 0,
            idle: now,
            head: Some(now),
            partial: false,
            until: None,
            finished: 0,
            waiting: None,
            moved: 0,
            still: (0, now),
        })))
    }

    /// Bytes of HTTP/1 came in: between requests a head begins with them.
    pub(crate) fn bytes(&self, now: Instant) {
        let mut state = self.0.lock();
        if state.turns == 0 && state.head.is_none() {
            state.head = Some(now);
        }
    }

    /// A part of a head waits for the rest. Its time begins once the request before it is done with.
    pub(crate) fn partial(&self, now: Instant) {
        let mut state = self.0.lock();
        state.partial = true;
        if state.turns == 0 && state.head.is_none() {
            state.head = Some(now);
        }
    }

    /// Ready once so many requests are done with.
    pub(crate) fn finished(&self, count: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.finished >= count {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Frames of HTTP/2 came in: since when one that must end in time has been incomplete.
    pub(crate) fn frames(&self, incomplete: Option<Instant>) {
        self.0.lock().head = incomplete;
    }

    /// A head of HTTP/1 is complete; its request is served until the turn is dropped.
    pub(crate) fn turn(&self) -> Turn {
        let mut state = self.0.lock();
        state.head = None;
        state.partial = false;
        state.turns += 1;
        state.moved += 1;
        drop(state);
        Turn(self.moving())
    }

    /// A request of HTTP/2 is served until the turn is dropped, like others at the same time. What moves of it is told
    /// to `moved` and not here.
    pub(crate) fn stream(&self, moved: &Arc<AtomicU64>) -> Turn {
        self.0.lock().turns += 1;
        Turn(self.moving_in(moved))
    }

    /// For whoever passes the bodies of requests on.
    pub(crate) fn moving(&self) -> Moving {
        Moving { progress: self.clone(), stream: None }
    }

    /// The same of a stream that looks at its own stillness.
    pub(crate) fn moving_in(&self, moved: &Arc<AtomicU64>) -> Moving {
        Moving { progress: self.clone(), stream: Some(Arc::clone(moved)) }
    }

    /// A request is done with.
    fn done(&self, now: Instant) {
        let mut state = self.0.lock();
        state.turns = state.turns.saturating_sub(1);
        state.idle = now;
        state.finished += 1;
        if state.partial && state.turns == 0 && state.head.is_none() {
            state.head = Some(now);
        }
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
    }

    /// The connection is to end: it may be idle until then at the most, and its next answer says that it is the last.
    pub(crate) fn end(&self, until: Instant) {
        let mut state = self.0.lock();
        state.until = Some(state.until.map_or(until, |earlier| earlier.min(until)));
    }

    /// Whether the connection is to end.
    fn ends(&self) -> bool {
        self.0.lock().until.is_some()
    }

    /// What is due at `now`.
    pub(crate) fn due(&self, now: Instant, limits: Limits) -> Due {
        let mut state = self.0.lock();
        let idle = state.until.map_or(state.idle + limits.idle, |until| until.min(state.idle + limits.idle));
        match state.head {
            Some(since) if now >= since + limits.head => Due::Head,
            Some(since) => Due::Later(since + limits.head),
            None if state.turns > 0 => state.due_within(now, limits),
            None if now >= idle => Due::Idle,
            // A head may begin any moment: looking this often keeps its deadline within twice the limit, without a
            // timer for each request.
            None => Due::Later(idle.min(now + limits.head)),
        }
    }
}

impl State {
    /// What is due while requests are served. No clock is read when something moves: that it has not is seen here.
    fn due_within(&mut self, now: Instant, limits: Limits) -> Due {
        if self.moved != self.still.0 {
            self.still = (self.moved, now);
        }
        match limits.stream {
            None => Due::Later(now + limits.head),
            Some(limit) if now >= self.still.1 + limit => Due::Stream,
            Some(limit) => Due::Later((now + limits.head).min(self.still.1 + limit)),
        }
    }
}

/// Told when a part of a request's body has passed.
#[derive(Clone)]
pub(crate) struct Moving {
    progress: Progress,
    /// Of HTTP/2, where each stream counts for itself.
    stream: Option<Arc<AtomicU64>>,
}

impl Moving {
    /// The connection that it comes on.
    pub(crate) fn connection(&self) -> Downstream {
        Downstream(Arc::downgrade(&self.progress.0))
    }

    pub(crate) fn on(&self) {
        match &self.stream {
            Some(moved) => drop(moved.fetch_add(1, Ordering::Relaxed)),
            None => self.progress.0.lock().moved += 1,
        }
    }
}

/// A downstream connection, told from others also beyond its end.
#[derive(Clone)]
pub(crate) struct Downstream(Weak<Mutex<State>>);

impl Downstream {
    /// None at all.
    pub(crate) fn nobody() -> Self {
        Self(Weak::new())
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl PartialEq for Downstream {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

/// One request's turn on its connection.
pub(crate) struct Turn(Moving);

impl Turn {
    /// A part of its answer has passed.
    pub(crate) fn moved(&self) {
        self.0.on();
    }

    /// Whether its connection ends after it.
    pub(crate) fn is_the_last(&self) -> bool {
        self.0.progress.ends()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.progress.done(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head: Duration::from_secs(15),
        idle: Duration::from_secs(900),
        stream: Some(Duration::from_secs(3_600)),
    };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// A connection whose only request was done with at `start`.
    fn idle(start: Instant) -> Progress {
        let progress = Progress::new(start);
        std::mem::forget(progress.turn());
        progress.done(start);
        progress
    }

    #[test]
    fn bytes_that_drip_in_do_not_move_the_deadline_of_a_head() {
        let start = Instant::now();
        let progress = Progress::new(start);
        for second in 0..15 {
            progress.bytes(after(start, second));
            assert_eq!(progress.due(after(start, second), LIMITS), Due::Later(after(start, 15)));
        }
        assert_eq!(progress.due(after(start, 15), LIMITS), Due::Head);
    }

    #[test]
    fn an_idle_connection_lasts_longer_than_a_head() {
        let start = Instant::now();
        let progress = idle(start);
        assert_eq!(progress.due(after(start, 20), LIMITS), Due::Later(after(start, 35)));
        assert_eq!(progress.due(after(start, 900), LIMITS), Due::Idle);
    }

    #[test]
    fn a_request_that_is_served_has_its_own_limits() {
        let start = Instant::now();
        let progress = Progress::new(start);
        std::mem::forget(progress.turn());
        progress.bytes(after(start, 1));
        assert_eq!(progress.due(after(start, 3_000), LIMITS), Due::Later(after(start, 3_015)));
        progress.done(start);
        progress.bytes(after(start, 2));
        assert_eq!(progress.due(after(start, 17), LIMITS), Due::Head);
    }

    #[test]
    fn a_connection_is_idle_only_when_its_last_stream_has_ended() {
        let start = Instant::now();
        let progress = Progress::new(start);
        progress.frames(None);
        std::mem::forget((progress.stream(&Arc::default()), progress.stream(&Arc::default())));
        progress.done(start);
        assert!(matches!(progress.due(after(start, 900), LIMITS), Due::Later(_)), "one stream is still open");
        progress.done(after(start, 1));
        assert!(matches!(progress.due(after(start, 900), LIMITS), Due::Later(_)));
        assert_eq!(progress.due(after(start, 901), LIMITS), Due::Idle);
    }

    #[test]
    fn a_head_that_came_in_part_while_a_request_was_served_is_due_after_that_request() {
        let start = Instant::now();
        let progress = Progress::new(start);
        std::mem::forget(progress.turn());
        progress.partial(after(start, 1));
        assert!(matches!(progress.due(after(start, 100), LIMITS), Due::Later(_)));
        progress.done(after(start, 100));
        assert_eq!(progress.due(after(start, 115), LIMITS), Due::Head);
    }

    #[test]
    fn a_request_in_which_nothing_moves_is_due_in_the_end() {
        let start = Instant::now();
        let progress = Progress::new(start);
        let turn = progress.turn();
        assert_eq!(progress.due(after(start, 15), LIMITS), Due::Later(after(start, 30)));
        turn.moved();
        assert_eq!(progress.due(after(start, 30), LIMITS), Due::Later(after(start, 45)), "seen to have moved by then");
        progress.moving().on();
        assert_eq!(progress.due(after(start, 45), LIMITS), Due::Later(after(start, 60)));
        assert_eq!(progress.due(after(start, 3_640), LIMITS), Due::Later(after(start, 3_645)));
        assert_eq!(progress.due(after(start, 3_645), LIMITS), Due::Stream);
        let never = Limits { stream: None, ..LIMITS };
        assert!(matches!(progress.due(after(start, 100_000), never), Due::Later(_)));
        std::mem::forget(turn);
    }

    #[test]
    fn a_connection_that_is_to_end_is_idle_for_less_long_but_its_request_is_served() {
        let start = Instant::now();
        let progress = idle(start);
        progress.end(after(start, 10));
        progress.end(after(start, 20));
        assert_eq!(progress.due(after(start, 1), LIMITS), Due::Later(after(start, 10)));
        assert_eq!(progress.due(after(start, 10), LIMITS), Due::Idle);
        std::mem::forget(progress.turn());
        assert!(matches!(progress.due(after(start, 10), LIMITS), Due::Later(_)));
        progress.done(after(start, 11));
        assert_eq!(progress.due(after(start, 11), LIMITS), Due::Idle);
    }

    #[test]
    fn a_frame_that_never_ends_is_due_even_while_streams_are_open() {
        let start = Instant::now();
        let progress = Progress::new(start);
        std::mem::forget(progress.stream(&Arc::default()));
        progress.frames(Some(start));
        assert_eq!(progress.due(after(start, 15), LIMITS), Due::Head);
    }
}
