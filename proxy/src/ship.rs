//! Takes the workers' windows and delivers them: one report is under way, re-sent unchanged until it is acknowledged,
//! while what happens meanwhile merges in bounded memory. Nothing on the request path waits for this.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use couplet_telemetry::otlp;
use couplet_telemetry::report::{Origin, Report};
use couplet_telemetry::window::{Window, WindowLimits};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::aggregate::{Learning, Local};
use crate::client::Client;
use crate::link::Headers;
use crate::metrics::Metrics;
use crate::policy::Breakers;
use crate::totals::Totals;

/// How long the last reports may take on the way down.
const LAST_DELIVERY: Duration = Duration::from_secs(5);

/// Paths or calls of one part of a report: a full window is encoded piece by piece, each when its turn comes, so that it
/// takes little memory at once.
const PART_ENTRIES: usize = 256;

/// Collects windows and delivers reports.
pub(crate) struct Shipper {
    pub(crate) collector: Arc<Collector>,
    pub(crate) client: Option<Client>,
    pub(crate) origin: Origin,
    pub(crate) every: Duration,
    pub(crate) max_report_bytes: usize,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) breakers: Arc<Breakers>,
}

/// What was collected from the workers: for the next report, and in total.
pub(crate) struct Collector {
    locals: Vec<Arc<Local>>,
    headers: Arc<Headers>,
    collected: Mutex<Collected>,
}

struct Collected {
    pending: Window,
    /// Start of the pending window, nanoseconds since the epoch.
    since: u64,
    totals: Totals,
    /// Positions of endpoints that all workers together had learned when they last told one another.
    learned: u64,
}

impl Collector {
    pub(crate) fn new(locals: Vec<Arc<Local>>, headers: Arc<Headers>, limits: WindowLimits) -> Self {
        let collected =
            Collected { pending: Window::new(limits), since: unix_nanos(), totals: Totals::default(), learned: 0 };
        Self { locals, headers, collected: Mutex::new(collected) }
    }

    /// Takes what the workers have.
    pub(crate) fn collect(&self) {
        let mut collected = self.collected.lock();
        for local in &self.locals {
            let window = local.take();
            collected.totals.add(&window);
            collected.pending.merge(window);
        }
        self.headers.review();
        collected.pending.propagated(&self.headers.since());
        self.share(&mut collected.learned);
    }

    /// Tells every worker what the others learned about endpoints, so that all of them use the same names.
    fn share(&self, known: &mut u64) {
        let positions = || self.locals.iter().map(|local| local.positions()).sum();
        if self.locals.len() < 2 || positions() == *known {
            return;
        }
        let learned: Vec<_> = self.locals.iter().map(|local| local.learning().learned).collect();
        for (n, local) in self.locals.iter().enumerate() {
            learned.iter().enumerate().filter(|(m, _)| *m != n).for_each(|(_, theirs)| local.adopt(theirs));
        }
        *known = positions();
    }

    /// What each worker learned about endpoints.
    pub(crate) fn learning(&self) -> Vec<Learning> {
        self.locals.iter().map(|local| local.learning()).collect()
    }

    /// Reads the totals since the proxy began, up to this moment.
    pub(crate) fn totals<T>(&self, read: impl FnOnce(&Totals) -> T) -> T {
        self.collect();
        read(&self.collected.lock().totals)
    }

    fn close(&self, origin: &Origin, sequence: u64) -> Report {
        let now = unix_nanos();
        let mut collected = self.collected.lock();
        // A clock that was set back must not make a window that ends before it begins.
        let since = std::mem::replace(&mut collected.since, now).min(now);
        collected.pending.close(origin.clone(), sequence, since, now)
    }
}

/// What is closed and not acknowledged yet.
struct Outbox {
    /// The report under way: sent again, byte for byte, until it is acknowledged.
    under_way: Option<Bytes>,
    /// What comes after it, in order.
    waiting: VecDeque<Report>,
    /// Whether any of it counts anything. What does not only says that the proxy is there.
    counts: bool,
    next_sequence: u64,
    /// Whether the last attempt failed, and since when: said once, not at every attempt.
    failing_since: Option<Instant>,
}

impl Outbox {
    fn new() -> Self {
        Self { under_way: None, waiting: VecDeque::new(), counts: false, next_sequence: 1, failing_since: None }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.under_way.is_some())
    }

    fn push(&mut self, report: Report) {
        let empty = report.paths.is_empty() && report.calls.is_empty() && report.breakers.is_empty();
        self.counts |= !(empty && report.opaque.is_empty() && report.losses.is_empty());
        self.waiting.extend(report.into_parts(PART_ENTRIES));
    }

    /// The report under way. Where there is none, the next one gets its number and its turn; one that does not fit
    /// `max` bytes in two, or as it is where it cannot be cut: the analyzer decides.
    fn front(&mut self, max: usize) -> Option<Bytes> {
        while self.under_way.is_none() {
            let mut report = self.waiting.pop_front()?;
            report.sequence = self.next_sequence;
            let bytes = otlp::encode(&report);
            if bytes.len() > max
                && let Some((first, second)) = report.split()
            {
                self.waiting.push_front(second);
                self.waiting.push_front(first);
                continue;
            }
            self.next_sequence += 1;
            self.under_way = Some(Bytes::from(bytes));
        }
        self.under_way.clone()
    }

    /// The report under way is done with.
    fn pop(&mut self) {
        self.under_way = None;
        self.counts &= !self.waiting.is_empty();
    }
}

impl Shipper {
    /// Runs until `stop` is heard (or its sender is gone), then delivers what is left.
    pub(crate) async fn run(mut self, stop: oneshot::Receiver<()>) {
        let mut outbox = Outbox::new();
        let mut tick = interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                _ = tick.tick() => self.round(&mut outbox).await,
                _ = stop.as_mut() => break,
            }
        }
        // Running out of time leaves in the outbox what could not be delivered.
        let _ = tokio::time::timeout(LAST_DELIVERY, self.last(&mut outbox)).await;
        if outbox.counts {
            tracing::error!(
                reports = outbox.len(),
                "the last reports could not be delivered; what they counted is missing in the analyzer"
            );
        }
    }

    /// One window: collect, and deliver what can be delivered.
    async fn round(&mut self, outbox: &mut Outbox) {
        self.collector.collect();
        if self.client.is_none() {
            // Nobody wants reports; the totals are kept, the window is not.
            self.collector.close(&self.origin, 0);
            self.breakers.reports(Instant::now());
            return;
        }
        if outbox.is_empty() {
            self.fill(outbox);
        }
        self.deliver(outbox).await;
    }

    /// What is under way first, then what merged behind it. Where nothing was counted, one attempt is enough.
    async fn last(&mut self, outbox: &mut Outbox) {
        if self.client.is_none() {
            return;
        }
        self.collector.collect();
        self.fill(outbox);
        while !self.deliver(outbox).await && outbox.counts {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn fill(&self, outbox: &mut Outbox) {
        let mut report = self.collector.close(&self.origin, outbox.next_sequence);
        report.breakers = self.breakers.reports(Instant::now());
        outbox.push(report);
    }

    /// Delivers from the front until nothing is left; whether nothing is.
    async fn deliver(&mut self, outbox: &mut Outbox) -> bool {
        while let (Some(report), Some(client)) = (outbox.front(self.max_report_bytes), &mut self.client) {
            let sent = client.request(Method::POST, "/v1/metrics", Some("application/x-protobuf"), report).await;
            match sent {
                Ok((status, _)) if status.is_success() => {
                    self.metrics.reports_sent.add(1);
                    outbox.pop();
                    if let Some(since) = outbox.failing_since.take() {
                        tracing::info!(analyzer = client.url(), after = ?since.elapsed(), "reports are delivered again");
                    }
                }
                // Sending the same bytes again will not help.
                Ok((
                    status @ (StatusCode::BAD_REQUEST
                    | StatusCode::PAYLOAD_TOO_LARGE
                    | StatusCode::UNSUPPORTED_MEDIA_TYPE),
                    body,
                )) => {
                    self.metrics.reports_refused.add(1);
                    tracing::error!(
                        analyzer = client.url(), %status, answer = %String::from_utf8_lossy(&body).trim(),
                        "the analyzer refused a report for good; what it counted is lost"
                    );
                    outbox.pop();
                }
                failed => {
                    self.metrics.report_failures.add(1);
                    if outbox.failing_since.is_none() {
                        outbox.failing_since = Some(Instant::now());
                        let why = match failed {
                            Ok((status, body)) => format!("{status}: {}", String::from_utf8_lossy(&body).trim()),
                            Err(error) => error.to_string(),
                        };
                        tracing::warn!(
                            analyzer = client.url(),
                            why,
                            "reports cannot be delivered; they are kept and sent again, requests are not affected"
                        );
                    }
                    return false;
                }
            }
        }
        true
    }
}

/// Nanoseconds since the epoch; 0 for a clock before it.
fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| u64::try_from(now.as_nanos()).ok()).unwrap_or(0)
}
