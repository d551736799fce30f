//! The adaptive limit: how many requests an application serves at the same time before they only wait for one another.
//! Pure: it is told what each window saw.
//!
//! As long as nobody waits, how long an answer takes does not depend on how many are asked for; from then on it grows
//! with their number. So the limit is multiplied by the time that answers take without load (the *baseline*) over the one
//! that they take now, with some tolerance, plus half the square root of itself to find out whether more would do: the
//! gradient of Envoy's adaptive concurrency and of Netflix' concurrency-limits. The baseline is not measured with next to
//! no load, which would cost requests: now and then the limit is halved for one window. At rest it is nearly twice what
//! the application can do at once, so half of it costs next to nothing. Answers that then take as long as before waited
//! for nobody; those that take less than the baseline are the better one.

use std::time::Duration;

use couplet_config::Adaptive;

/// The limit, and what is known of the application.
#[derive(Debug)]
pub(super) struct Gradient {
    limit: f64,
    /// What an answer takes without load, seconds; none before the first window.
    baseline: Option<f64>,
    /// What it took in the window before.
    before: Option<f64>,
    /// Windows until the limit is halved for one, how many there are to the next time, and whether it is halved now.
    probe_in: u32,
    interval: u32,
    probing: bool,
}

/// What one window saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The median time to an answer.
    pub(super) time: Duration,
    /// The most requests that were under way at the same time.
    pub(super) peak: u64,
    /// Whether the limit keeps anybody out: what would be seen beyond it is seen else.
    pub(super) enforced: bool,
}

impl Gradient {
    pub(super) fn new(settings: &Adaptive) -> Self {
        let limit = f64::from(settings.initial);
        Self { limit, baseline: None, before: None, probe_in: SOON, interval: SOON, probing: false }
    }

    /// The limit in force.
    pub(super) fn limit(&self, settings: &Adaptive) -> u32 {
        let limit = if self.probing { self.limit / 2.0 } else { self.limit };
        (limit.round() as u32).clamp(settings.min, settings.max)
    }

    /// Whether the limit is half of itself for this window.
    pub(super) fn is_halved(&self) -> bool {
        self.probing
    }

    /// What an answer takes without load, seconds; none before the first window.
    pub(super) fn baseline(&self) -> Option<f64> {
        self.baseline
    }

    /// A window has ended.
    pub(super) fn window(&mut self, settings: &Adaptive, seen: Seen) {
        let time = seen.time.as_secs_f64();
        // Of a window in which only few of those were there that may, the limit is not the cause.
        let limited = seen.peak as f64 * 2.0 > self.limit;
        let before = self.before.replace(time);
        // With as few as there may be, or with half of them: it is as fast as it gets.
        let few = self.probing || self.limit <= f64::from(settings.min);
        let baseline = match self.baseline {
            None => time,
            Some(baseline) if self.probing && time < baseline => time,
            Some(baseline) if time < baseline => baseline + (time - baseline) * FALL,
            Some(_) if few && before.is_some_and(|before| before < time * SAME) => time,
            Some(baseline) if !limited => baseline + (time - baseline) * RISE,
            Some(baseline) => baseline,
        };
        self.baseline = Some(baseline);
        if std::mem::take(&mut self.probing) {
            // What it said is known; the limit was half of itself for that alone.
            self.interval = (self.interval * 2).min(PROBE_EVERY);
            self.probe_in = self.interval;
            return;
        }
        let gradient = settings.tolerance * baseline / time.max(1e-9);
        let more = if gradient >= AMPLE { self.limit * GROWTH } else { self.limit.sqrt() / 2.0 };
        let target = self.limit * gradient.clamp(0.5, 1.0) + more;
        if target < self.limit {
            self.limit += (target - self.limit) * STEP;
        } else if limited {
            self.limit = target;
        }
        self.limit = self.limit.clamp(f64::from(settings.min), f64::from(settings.max));
        self.probe_in = self.probe_in.saturating_sub(1);
        self.probing = self.probe_in == 0 && limited && seen.enforced;
    }

    /// Other bounds are in force.
    pub(super) fn configure(&mut self, settings: &Adaptive) {
        self.limit = self.limit.clamp(f64::from(settings.min), f64::from(settings.max));
    }
}

/// Windows from one with half the limit to the next; fewer while little is known.
const PROBE_EVERY: u32 = 20;
const SOON: u32 = 2;
/// The share of the way down that the limit goes in one window: one window may be odd.
const STEP: f64 = 0.5;
/// A gradient from which nobody is seen to wait, and by how much the limit then grows.
const AMPLE: f64 = 1.2;
const GROWTH: f64 = 0.25;
/// The same of the baseline, on its way down, and up while nothing is limited: that is how slow it has become.
const FALL: f64 = 0.5;
const RISE: f64 = 0.1;
/// By how much the times of two windows differ where neither waited for anybody.
const SAME: f64 = 1.25;

#[cfg(test)]
mod tests {
    use super::*;

    /// An application that serves so many requests at the same time, each in so long, and callers who always want more.
    struct Application {
        at_once: f64,
        seconds: f64,
        wanted: f64,
    }

    impl Application {
        fn windows(&self, gradient: &mut Gradient, settings: &Adaptive, count: usize) -> Vec<u32> {
            let one = |_| {
                let limit = f64::from(gradient.limit(settings));
                let there = limit.min(self.wanted);
                let time = Duration::from_secs_f64(self.seconds * (there / self.at_once).max(1.0));
                gradient.window(settings, Seen { time, peak: there as u64, enforced: true });
                gradient.limit(settings)
            };
            (0..count).map(one).collect()
        }
    }

    const ENDLESS: f64 = 1e6;

    /// The last limit that is not halved.
    fn settled(limits: &[u32]) -> u32 {
        limits.iter().rev().take(3).copied().max().unwrap()
    }

    #[test]
    fn it_finds_about_twice_what_is_served_at_once_from_above_and_from_below() {
        for at_once in [1.0, 8.0, 40.0, 250.0] {
            for initial in [4, 20, 1_000] {
                let settings = Adaptive { initial, ..Adaptive::default() };
                let mut gradient = Gradient::new(&settings);
                let application = Application { at_once, seconds: 0.01, wanted: ENDLESS };
                let limits = application.windows(&mut gradient, &settings, 600);
                let limit = f64::from(settled(&limits));
                assert!(
                    limit >= at_once && limit <= (at_once * 2.5).max(10.0),
                    "{at_once} at once, from {initial}: {limit} of {limits:?}"
                );
            }
        }
    }

    #[test]
    fn an_application_that_has_become_slower_by_itself_is_not_taken_for_one_that_has_too_much() {
        let settings = Adaptive::default();
        let mut gradient = Gradient::new(&settings);
        let application = |seconds| Application { at_once: 16.0, seconds, wanted: ENDLESS };
        application(0.01).windows(&mut gradient, &settings, 200);
        let limits = application(0.1).windows(&mut gradient, &settings, 400);
        assert!((16..=40).contains(&settled(&limits)), "{limits:?}");
        let limits = application(0.005).windows(&mut gradient, &settings, 400);
        assert!((16..=40).contains(&settled(&limits)), "and back: {limits:?}");
    }

    #[test]
    fn who_asks_for_little_neither_raises_nor_lowers_it() {
        let settings = Adaptive::default();
        let mut gradient = Gradient::new(&settings);
        let quiet = Application { at_once: 100.0, seconds: 0.01, wanted: 5.0 };
        assert!(quiet.windows(&mut gradient, &settings, 500).iter().all(|limit| *limit == settings.initial));
        let busy = Application { wanted: 60.0, ..quiet };
        assert!(settled(&busy.windows(&mut gradient, &settings, 100)) >= 60, "it grows with what is wanted");
    }

    #[test]
    fn it_keeps_its_bounds_and_halves_itself_seldom_and_only_where_it_is_enforced() {
        let settings = Adaptive { min: 10, max: 30, ..Adaptive::default() };
        let seen = |seconds, enforced| Seen { time: Duration::from_secs_f64(seconds), peak: 30, enforced };
        let mut gradient = Gradient::new(&settings);
        for n in 0..500_u32 {
            gradient.window(&settings, seen(f64::from(n % 7 + 1) / 100.0, n % 2 == 0));
            assert!((10..=30).contains(&gradient.limit(&settings)));
        }
        let mut gradient = Gradient::new(&settings);
        let limits: Vec<u32> = (0..100)
            .map(|_| {
                gradient.window(&settings, seen(0.01, true));
                gradient.limit(&settings)
            })
            .collect();
        assert_eq!(limits.iter().filter(|limit| **limit <= 15).count(), 7, "{limits:?}");
        let mut gradient = Gradient::new(&settings);
        assert!((0..100).all(|_| {
            gradient.window(&settings, seen(0.01, false));
            gradient.limit(&settings) >= settings.initial
        }));
    }
}
