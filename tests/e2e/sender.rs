//! The proxies' half of delivery: one report is under way at a time and is sent again, unchanged, until it is acknowledged.
//! What was acknowledged is counted, to be compared with what the analyzer has.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use couplet_telemetry::otlp;
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Callee, Origin, PathDefinition};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Window, WindowLimits};
use serde_json::Value;

/// Requests that a service handled, under its name, and calls from one service to another, under both.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Senders that report until they are told to stop.
pub(crate) struct Senders {
    acknowledged: Arc<Mutex<Counts>>,
    reports: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Senders {
    /// Two replicas of each of two services, whose traffic comes from `seed`.
    pub(crate) fn start(address: SocketAddr, seed: u64) -> Self {
        let (acknowledged, reports, stop): (Arc<Mutex<Counts>>, Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let sender = |n: u64| {
            let (acknowledged, reports, stop) = (Arc::clone(&acknowledged), Arc::clone(&reports), Arc::clone(&stop));
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(n));
            std::thread::spawn(move || {
                for sequence in 1.. {
                    let (service, instance) = (["shop", "stock"][n as usize % 2], format!("s{n}"));
                    let (body, counts) = report(service, &instance, sequence, &mut random);
                    while post(address, &body) != Some(200) {
                        std::thread::park_timeout(Duration::from_millis(1));
                    }
                    let mut acknowledged = acknowledged.lock().unwrap();
                    counts.into_iter().for_each(|(what, n)| *acknowledged.entry(what).or_default() += n);
                    drop(acknowledged);
                    reports.fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                }
            })
        };
        let threads = (0..4).map(sender).collect();
        Self { acknowledged, reports, stop, threads }
    }

    /// Reports that were acknowledged.
    pub(crate) fn reports(&self) -> u64 {
        self.reports.load(Ordering::SeqCst)
    }

    /// What those reports said.
    pub(crate) fn acknowledged(&self) -> Counts {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Ends once the reports under way are acknowledged, too; what all of them said.
    pub(crate) fn stop(self) -> Counts {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.acknowledged.lock().unwrap().clone()
    }
}

/// What the analyzer has counted.
pub(crate) fn counted(document: &Value) -> Counts {
    let of = |value: &Value| value.as_u64().unwrap();
    let services = document["services"].as_array().unwrap().iter();
    let handled = services.map(|service| (service["name"].as_str().unwrap().to_owned(), of(&service["requests"])));
    let edges = document["edges"].as_array().unwrap().iter();
    let called = edges.map(|edge| {
        (pair(edge["source"].as_str().unwrap(), edge["destination"].as_str().unwrap()), of(&edge["calls"]))
    });
    handled.chain(called).filter(|(_, n)| *n > 0).collect()
}

fn pair(source: &str, destination: &str) -> String {
    format!("{source} → {destination}")
}

/// A report of a few requests, and what it counts.
fn report(service: &str, instance: &str, sequence: u64, random: &mut fastrand::Rng) -> (Vec<u8>, Counts) {
    let mut window = Window::new(WindowLimits { paths: 100, callees: 100 });
    let mut counts = Counts::new();
    for _ in 0..random.u32(1..5) {
        let path = Arc::new(PathDefinition::root(service, ["GET /", "POST /order"][random.usize(0..2)]));
        let callee = Arc::new(Callee::new(["bank", "mail", "ledger"][random.usize(0..3)], "POST /"));
        let outcome = if random.u8(0..10) == 0 { Outcome::ServerError } else { Outcome::Ok };
        let calls = random.u32(0..3);
        let duration = random.u64(1_000..90_000_000);
        (0..calls).for_each(|_| window.call(&path, &callee, &call(outcome, duration / 4)));
        let used =
            CalleeUse { callee: Arc::clone(&callee), calls, failed: outcome.is_failure(), blocked: duration / 2 };
        let uses: Vec<_> = (calls > 0).then_some(used).into_iter().collect();
        window.handling(&path, &handling(outcome, duration, &uses));
        *counts.entry(service.to_owned()).or_default() += 1;
        if calls > 0 {
            *counts.entry(pair(service, callee.service())).or_default() += u64::from(calls);
        }
    }
    let origin = Origin { service: service.to_owned(), instance: instance.to_owned(), ..Origin::default() };
    let report = window.close(origin, sequence, 1_700_000_000_000_000_000, 1_700_000_005_000_000_000);
    (otlp::encode(&report), counts)
}

/// A report of `shop` with one request and no call.
pub(crate) fn single(instance: &str, sequence: u64) -> Vec<u8> {
    let mut window = Window::new(WindowLimits { paths: 10, callees: 10 });
    window.handling(&Arc::new(PathDefinition::root("shop", "GET /")), &handling(Outcome::Ok, 1_000_000, &[]));
    let origin = Origin { service: "shop".to_owned(), instance: instance.to_owned(), ..Origin::default() };
    otlp::encode(&window.close(origin, sequence, 1_700_000_000_000_000_000, 1_700_000_005_000_000_000))
}

fn call(outcome: Outcome, duration: u64) -> Call {
    Call {
        outcome,
        duration,
        first_byte: Some(duration / 2),
        blocking: true,
        evidence: Evidence::Exact,
        attempts: 1,
        request_bytes: 10,
        response_bytes: 100,
    }
}

fn handling(outcome: Outcome, duration: u64, uses: &[CalleeUse]) -> Handling<'_> {
    let calls = uses.iter().map(|used| used.calls).sum();
    let blocked = uses.iter().map(|used| used.blocked).sum();
    let below = u32::from(calls > 0);
    Handling {
        outcome,
        duration,
        blocked,
        busy: blocked,
        asynchronous: 0,
        calls,
        callees: below,
        depth_below: below,
        calls_below: calls,
        services_below: below,
        below: Evidence::Exact,
        retries: 0,
        origin: outcome.is_failure().then_some("shop"),
        trace: None,
        uses,
    }
}

/// Posts a report; the status, where an answer came.
pub(crate) fn post(address: SocketAddr, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
