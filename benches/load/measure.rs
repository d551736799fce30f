//! One measurement: a proxy that is started for it, a load, and what the proxy took.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use crate::cases::{Case, Kind};
use crate::rig::backend::Backend;
use crate::rig::peers::{Peer, Running, Stage};
use crate::rig::{Control, Load, Times, Way, http1, http2};

/// How long a burst of connections asks.
const BURST: Duration = Duration::from_secs(2);
/// How long memory may take to come back.
const AFTERWARDS: Duration = Duration::from_secs(3);

#[derive(Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
}

/// What one measurement came to. Absent is what its case does not ask for.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Measured {
    /// Microseconds of processor time for one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_second: Option<f64>,
    /// Microseconds from request to answer, at these quantiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
    /// Bytes after the load.
    pub(crate) resident: f64,
    /// Bytes before it.
    pub(crate) resident_before: f64,
    /// Bytes for one idle connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_connection: Option<f64>,
    /// Memory after a burst as a multiple of that before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after_burst: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// # Errors
/// Where the proxy fails, or a request.
pub(crate) fn measure(
    stage: &Stage<'_>,
    backend: &Backend,
    peer: Peer,
    case: &Case,
    timing: Timing,
) -> Result<Measured> {
    let to = if case.layout.http2 { backend.http2 } else { backend.http1 };
    let running = peer.start(stage, case.layout, to)?;
    let resident_before = running.resident()? as f64;
    let mut measured = match &case.kind {
        Kind::Load(load) => under_load(&running, load, timing)?,
        Kind::Idle { load, connections } => {
            let open = http1::idle(running.address, load, *connections)?;
            let resident = running.resident()? as f64;
            drop(open);
            let per_connection = Some((resident - resident_before) / *connections as f64);
            Measured { resident, per_connection, ..Measured::default() }
        }
        Kind::Burst { before, burst } => {
            asked(running.address, before, BURST)?;
            let usual = running.resident()? as f64;
            asked(running.address, burst, BURST)?;
            std::thread::sleep(AFTERWARDS);
            let resident = running.resident()? as f64;
            Measured { resident, after_burst: Some(resident / usual), ..Measured::default() }
        }
    };
    measured.resident_before = resident_before;
    Ok(measured)
}

fn under_load(running: &Running, load: &Load, timing: Timing) -> Result<Measured> {
    let control = Control::default();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let asked = ask(running.address, load, &control);
            control.stop();
            asked
        });
        std::thread::sleep(timing.warmup);
        control.measure();
        let (began, cpu, done) = (Instant::now(), running.cpu()?, control.done());
        std::thread::sleep(timing.measured);
        let (took, cpu, done) = (began.elapsed(), running.cpu()? - cpu, control.done() - done);
        control.stop();
        let times = client.join().map_err(|_| anyhow!("the client panicked"))??;
        ensure!(done > 0, "no request was answered");
        Ok(Measured {
            cpu: Some(cpu as f64 / 1_000.0 / done as f64),
            requests_per_second: Some(done as f64 / took.as_secs_f64()),
            latency: Some(latency(times)),
            resident: running.resident()? as f64,
            ..Measured::default()
        })
    })
}

/// Asks for so long.
fn asked(address: SocketAddr, load: &Load, time: Duration) -> Result<()> {
    let control = Control::default();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| ask(address, load, &control));
        std::thread::sleep(time);
        control.stop();
        client.join().map_err(|_| anyhow!("the client panicked"))?.map(drop)
    })
}

fn ask(address: SocketAddr, load: &Load, control: &Control) -> Result<Times> {
    match load.way {
        Way::Http2 { streams } => http2::ask(address, load, streams, control),
        Way::KeepAlive | Way::Close | Way::Rate(_) => http1::ask(address, load, control),
    }
}

fn latency(mut times: Times) -> Latency {
    times.sort_unstable();
    let at = |quantile: f64| {
        let index = (quantile * times.len() as f64) as usize;
        f64::from(times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or(0)) / 1_000.0
    };
    Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}
