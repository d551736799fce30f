//! Whether the other end of a quiet connection is still there: it is asked (PING), and has some time to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::{PING_EVERY, PING_TIMEOUT};
use crate::alarm::Alarm;

/// When something was read last, told by who reads.
#[derive(Clone)]
pub(super) struct Heard(Arc<Last>);

struct Last {
    began: Instant,
    /// Since then, in milliseconds.
    after: AtomicU64,
}

impl Heard {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Last { began: now, after: AtomicU64::new(0) }))
    }

    /// Something was read.
    pub(super) fn at(&self, now: Instant) {
        let after = now.saturating_duration_since(self.0.began).as_millis();
        self.0.after.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.0.began + Duration::from_millis(self.0.after.load(Ordering::Relaxed))
    }
}

/// Of one connection.
pub(super) struct Keepalive {
    heard: Heard,
    pings: PingPong,
    alarm: Alarm,
    /// Whether an answer is awaited.
    asked: bool,
}

impl Keepalive {
    pub(super) fn new(heard: Heard, pings: PingPong) -> Self {
        Self { heard, pings, alarm: Alarm::new(Instant::now() + PING_EVERY), asked: false }
    }

    /// Ready once the other end counts as dead. `asks` tells whether it may be asked at all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, asks: impl Fn() -> bool) -> Poll<()> {
        loop {
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.alarm.reset(self.heard.last() + PING_EVERY);
            }
            std::task::ready!(self.alarm.poll(cx));
            let (now, due) = (Instant::now(), self.heard.last() + PING_EVERY);
            if self.asked {
                return Poll::Ready(());
            }
            if now < due {
                self.alarm.reset(due);
            } else if asks() && self.pings.send_ping(Ping::opaque()).is_ok() {
                self.asked = true;
                self.alarm.reset(now + PING_TIMEOUT);
            } else {
                self.alarm.reset(now + PING_EVERY);
            }
        }
    }
}
