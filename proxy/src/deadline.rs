//! How long a downstream connection may stay as it is: a head that has begun must end in time, an idle connection may
//! last much longer. Whatever drips in between moves no deadline.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a downstream connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between requests, since then.
    Idle(Instant),
    /// The first byte of a head came then.
    Head(Instant),
    /// A request is being served; its own limits hold.
    Serving,
}

/// The limits of a downstream connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
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
}

/// The phase of one connection, shared by its reader, its requests and its timer.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Phase>>);

impl Progress {
    pub(crate) fn new(now: Instant) -> Self {
        // A connection that never sends its first byte is as suspect as a head that never ends.
        Self(Arc::new(Mutex::new(Phase::Head(now))))
    }

    /// Bytes came in.
    pub(crate) fn bytes(&self, now: Instant) {
        let mut phase = self.0.lock();
        if matches!(*phase, Phase::Idle(_)) {
            *phase = Phase::Head(now);
        }
    }

    /// A head is complete; its request is served until the turn is dropped.
    pub(crate) fn turn(&self) -> Turn {
        *self.0.lock() = Phase::Serving;
        Turn(self.clone())
    }

    /// A request is done with.
    fn idle(&self, now: Instant) {
        *self.0.lock() = Phase::Idle(now);
    }

    /// What is due at `now`.
    pub(crate) fn due(&self, now: Instant, limits: Limits) -> Due {
        match *self.0.lock() {
            Phase::Idle(since) if now >= since + limits.idle => Due::Idle,
            Phase::Head(since) if now >= since + limits.head => Due::Head,
            Phase::Head(since) => Due::Later(since + limits.head),
            // A head may begin any moment: looking this often keeps its deadline within twice the limit, without a
            // timer for each request.
            Phase::Idle(since) => Due::Later((since + limits.idle).min(now + limits.head)),
            Phase::Serving => Due::Later(now + limits.head),
        }
    }
}

/// One request's turn on its connection.
pub(crate) struct Turn(Progress);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.idle(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head: Duration::from_secs(15), idle: Duration::from_secs(900) };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
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
        let progress = Progress::new(start);
        progress.idle(start);
        assert_eq!(progress.due(after(start, 20), LIMITS), Due::Later(after(start, 35)));
        assert_eq!(progress.due(after(start, 900), LIMITS), Due::Idle);
    }

    #[test]
    fn a_request_that_is_served_has_its_own_limits() {
        let start = Instant::now();
        let progress = Progress::new(start);
        let turn = progress.turn();
        progress.bytes(after(start, 1));
        assert_eq!(progress.due(after(start, 100_000), LIMITS), Due::Later(after(start, 100_015)));
        drop(turn);
        progress.idle(start);
        progress.bytes(after(start, 2));
        assert_eq!(progress.due(after(start, 17), LIMITS), Due::Head);
    }
}
