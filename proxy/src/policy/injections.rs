//! All faults that are injected on purpose. They are never part of a configuration, and gone with the next one and with
//! the process: a drill that nobody remembers must not outlive the night.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Method};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::injection::{Abort, Aim, Injection, Target};
use crate::metrics::{ByName, Counter, Gauge};

/// The faults of one proxy.
pub(crate) struct Injections {
    /// The service whose calls they are for.
    service: Arc<str>,
    /// Whether there are any: all that a call looks at where there are none.
    any: AtomicBool,
    active: ArcSwap<Vec<Arc<Injection>>>,
    past: Mutex<Past>,
    /// Calls that are held up just now.
    pub(crate) held: Gauge,
    /// Calls that were to be held up, and were not, since too many are.
    pub(crate) spared: Counter,
    /// By destination.
    pub(crate) delayed: ByName,
    pub(crate) aborted: ByName,
}

#[derive(Default)]
struct Past {
    /// How many there ever were.
    count: u64,
    /// The last ones that are over, and why.
    ended: VecDeque<Ended>,
}

/// A fault that is over.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) injection: Arc<Injection>,
    pub(crate) how: Ending,
}

/// Why a fault is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Expired,
    Removed,
    /// Another configuration came into force.
    Reload,
}

impl Ending {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Ending::Expired => "expired",
            Ending::Removed => "removed",
            Ending::Reload => "reload",
        }
    }
}

/// What a call meets.
#[derive(Default)]
pub(crate) struct Met {
    delay: Option<(Duration, Arc<Injection>)>,
    abort: Option<(Abort, Arc<Injection>)>,
}

/// Faults in force at the same time.
const MOST: usize = 64;
/// Faults that are over and still shown.
const KEPT: usize = 64;
/// Calls that are held up at the same time. Each holds a connection of the application and the head of its request.
const MOST_HELD: u64 = 1_024;

impl Injections {
    pub(crate) fn new(service: &str) -> Self {
        Self {
            service: Arc::from(service),
            any: AtomicBool::new(false),
            active: ArcSwap::default(),
            past: Mutex::default(),
            held: Gauge::default(),
            spared: Counter::default(),
            delayed: ByName::default(),
            aborted: ByName::default(),
        }
    }

    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What a call meets. Every fault that is for it draws for itself, `draw` from 0 up to 1; the longest delay holds, and
    /// the first abort.
    pub(crate) fn meet(
        &self,
        to: &str,
        method: &Method,
        path: &str,
        grpc: bool,
        now: Instant,
        mut draw: impl FnMut() -> f64,
    ) -> Met {
        let target = Target { to, method, path, grpc };
        let mut met = Met::default();
        for injection in self.active.load().iter().filter(|injection| injection.is_for(target, now)) {
            if draw() * 100.0 >= injection.aim.percent {
                continue;
            }
            if let Some(delay) = injection.aim.delay
                && met.delay.as_ref().is_none_or(|(longest, _)| delay > *longest)
            {
                met.delay = Some((delay, Arc::clone(injection)));
            }
            if let (None, Some(abort)) = (&met.abort, injection.abort(grpc)) {
                met.abort = Some((abort, Arc::clone(injection)));
            }
        }
        met
    }

    /// Holds a call up, as it met a fault that does so. Whether it was held up: not where too many are already, or there
    /// is no `room`.
    pub(crate) async fn hold(&self, met: &mut Met, room: bool) -> bool {
        let Some((delay, injection)) = &met.delay else { return false };
        let held = Held::new(&self.held);
        if held.count > MOST_HELD || !room {
            self.spared.add(1);
            met.delay = None;
            return false;
        }
        injection.delayed.add(1);
        self.delayed.add(&injection.aim.to);
        tokio::time::sleep(*delay).await;
        true
    }

    /// Answers a call itself, as it met a fault that does so.
    pub(crate) fn abort(&self, met: &Met) -> Option<Abort> {
        let (abort, injection) = met.abort.as_ref()?;
        injection.aborted.add(1);
        self.aborted.add(&injection.aim.to);
        Some(*abort)
    }

    /// What the application is told of what its call met:
    /// `delay; for=200ms; edge="shop>stock"; id=7, abort; edge="shop>stock"; id=9`.
    pub(crate) fn told(&self, met: &Met) -> Option<HeaderValue> {
        let mut told = String::new();
        let edge =
            |injection: &Injection| format!("edge=\"{}>{}\"; id={}", self.service, injection.aim.to, injection.id);
        // Writing to a text does not fail.
        if let Some((delay, injection)) = &met.delay {
            let _ = write!(told, "delay; for={}ms; {}", delay.as_millis(), edge(injection));
        }
        if let Some((_, injection)) = &met.abort {
            let comma = if told.is_empty() { "" } else { ", " };
            let _ = write!(told, "{comma}abort; {}", edge(injection));
        }
        HeaderValue::from_str(&told).ok().filter(|_| !told.is_empty())
    }

    /// Puts another one into force.
    ///
    /// # Errors
    /// Where there are too many.
    pub(crate) fn add(&self, aim: Aim, lasts: Duration, now: Instant) -> Result<Arc<Injection>, String> {
        let mut past = self.past.lock();
        self.end(&mut past, |injection| (now >= injection.until).then_some(Ending::Expired));
        let mut active = Vec::clone(&self.active.load());
        if active.len() >= MOST {
            return Err(format!("there are {MOST} faults in force, and no more are allowed; remove one first"));
        }
        past.count += 1;
        let injection = Injection::new(past.count, aim, now + lasts);
        active.push(Arc::clone(&injection));
        self.put(active);
        let Aim { to, percent, delay, status, grpc, by, why, .. } = &injection.aim;
        let (id, delay_ms, status) = (injection.id, delay.map(|delay| delay.as_millis()), status.map(|s| s.as_u16()));
        tracing::warn!(
            id,
            to,
            percent,
            ?delay_ms,
            ?status,
            ?grpc,
            ?lasts,
            by,
            why,
            "faults are injected into calls, on purpose"
        );
        Ok(injection)
    }

    /// Ends one. Whether it was in force.
    pub(crate) fn remove(&self, id: u64) -> bool {
        let ended = self.end(&mut self.past.lock(), |injection| (injection.id == id).then_some(Ending::Removed));
        ended > 0
    }

    /// Ends all: how many.
    pub(crate) fn remove_all(&self) -> usize {
        self.end(&mut self.past.lock(), |_| Some(Ending::Removed))
    }

    /// Ends all, since another configuration is in force.
    pub(crate) fn clear(&self) {
        self.end(&mut self.past.lock(), |_| Some(Ending::Reload));
    }

    /// Ends those whose time is over. They meet no call any more, whether this was called or not.
    pub(crate) fn sweep(&self, now: Instant) {
        if self.any() {
            self.end(&mut self.past.lock(), |injection| (now >= injection.until).then_some(Ending::Expired));
        }
    }

    /// Those in force, and the last ones that are over, the newest first.
    pub(crate) fn all(&self) -> (Vec<Arc<Injection>>, Vec<Ended>) {
        let past = self.past.lock();
        (Vec::clone(&self.active.load()), past.ended.iter().rev().cloned().collect())
    }

    /// Ends those that `over` says it of. Changes are made one after another: `past` is locked.
    fn end(&self, past: &mut Past, over: impl Fn(&Injection) -> Option<Ending>) -> usize {
        let before = self.active.load_full();
        let mut active = Vec::with_capacity(before.len());
        for injection in before.iter() {
            let Some(ending) = over(injection) else {
                active.push(Arc::clone(injection));
                continue;
            };
            let (id, to, how) = (injection.id, &injection.aim.to, ending.as_str());
            let (delayed, aborted) = (injection.delayed.get(), injection.aborted.get());
            tracing::warn!(id, to, how, delayed, aborted, by = injection.aim.by, "faults are not injected any more");
            if past.ended.len() >= KEPT {
                past.ended.pop_front();
            }
            past.ended.push_back(Ended { injection: Arc::clone(injection), how: ending });
        }
        let ended = before.len() - active.len();
        if ended > 0 {
            self.put(active);
        }
        ended
    }

    fn put(&self, active: Vec<Arc<Injection>>) {
        let any = !active.is_empty();
        self.active.store(Arc::new(active));
        self.any.store(any, Ordering::Release);
    }
}

/// A call that is held up, until it goes on or its client goes away.
struct Held<'a> {
    gauge: &'a Gauge,
    count: u64,
}

impl<'a> Held<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        Self { gauge, count: gauge.up() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.gauge.down();
    }
}

#[cfg(test)]
mod tests;
