//! Starts and stops a whole analyzer: one thread serves, one thread records.

mod accept;
mod guard;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use couplet_config::{AnalyzerConfig, Architecture, ConfigError};
use thiserror::Error;
use tokio::sync::watch;

use crate::board::{Board, Published};
use crate::graph::Snapshot;
use crate::history::{HistoryError, recording};
use crate::judge::Judge;
use crate::receive::collect::Collector;
use crate::receive::recorder::{self, Recorder};
use crate::score::Score;
use crate::{priority, receive, view};

/// Requests with reports that wait to be recorded; what is beyond is asked to come again.
const WAITING_REPORTS: usize = 1_024;
/// Requests with spans that wait to be taken up; what is beyond is asked to come again.
const WAITING_EXPORTS: usize = 64;
/// Threads for what would hold up the one that serves: answers being written, windows, questions, large reports.
const BLOCKING_THREADS: usize = 4;
/// Less than any limit of time that a request has.
const TICK: Duration = Duration::from_secs(1);
/// Connections beyond one for every proxy and page: tools, probes, scrapes.
const SPARE_CONNECTIONS: usize = 256;

/// Descriptors that are kept for everything that is no connection: the history, logs, a connection being refused.
const SPARE_DESCRIPTORS: usize = 64;

/// Why an analyzer does not start. Nothing of it runs then.
#[derive(Debug, Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error("port {} is already in use on {}: choose another with --listen ADDRESS:PORT (or `listen` in the configuration)", address.port(), address.ip())]
    InUse {
        /// Where it should have listened.
        address: SocketAddr,
    },
    /// The address is not ours, or not allowed.
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen (or `listen` in the configuration)"
    )]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The history cannot be used.
    #[error(
        "{0}; choose another directory with --data (or `data` in the configuration), or leave it out to keep everything in memory"
    )]
    History(#[from] HistoryError),
    /// The architecture file cannot be used.
    #[error("{0}")]
    Architecture(#[from] ConfigError),
    /// The recording cannot be read.
    #[error("recording: {0}")]
    Recording(HistoryError),
    /// A recording is only shown.
    #[error("a recording is shown as it is: `data` and `recording` exclude one another")]
    Both,
    /// The system gives no more threads or descriptors.
    #[error("cannot start: {0}")]
    System(io::Error),
}

/// A running analyzer. Dropping it stops it, too, but does not wait.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<()>,
    serving: JoinHandle<()>,
    recording: JoinHandle<()>,
}

impl Running {
    /// Where it listens; the port is the real one where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Finishes what is under way, writes the history, ends the threads. Blocks for some seconds at most.
    pub fn stop(self) {
        drop(self.stop);
        for thread in [self.serving, self.recording] {
            if thread.join().is_err() {
                tracing::error!("a thread of the analyzer ended by a defect");
            }
        }
    }
}

/// Starts an analyzer: takes its address first, then its history, and serves once all stored reports are in the graph.
///
/// # Errors
/// Where the address, the data directory or the architecture file cannot be used; nothing is left running.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a running analyzer owns its configuration; nobody else goes on using it"
)]
pub fn start(config: AnalyzerConfig) -> Result<Running, StartError> {
    let architecture = architecture(&config)?;
    let listener = listen(config.listen)?;
    let address = listener.local_addr().map_err(StartError::System)?;
    let now = Instant::now();
    let recording = match (&config.recording, &config.data) {
        (Some(_), Some(_)) => return Err(StartError::Both),
        (Some(path), None) => Some(recording::read(path).map_err(StartError::Recording)?),
        (None, _) => None,
    };
    let recorded = recording.as_ref().map(|recording| recording.name.clone());
    let name = config.name.clone().or(recorded).unwrap_or_default();
    let judge = Judge::new(&config, architecture);
    let empty = Published::new(0, Snapshot::default(), Vec::new(), Score::default());
    let board = Arc::new(Board::new(name, &config.limits, now, empty));
    let recorder = match recording {
        Some(recording) => Recorder::show(&config, judge.clone(), Arc::clone(&board), recording, now)?,
        None => Recorder::open(&config, judge.clone(), Arc::clone(&board), now)?,
    };

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .on_thread_start(priority::give_way)
        .build()
        .map_err(StartError::System)?;
    let listener = {
        let _context = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(StartError::System)?
    };
    let (jobs, waiting) = sync_channel(WAITING_REPORTS);
    let (stop, stopping) = watch::channel(());
    let limit = config.limits.proxies.saturating_add(config.limits.ui_clients).saturating_add(SPARE_CONNECTIONS);
    let limit = limit.min(connections_with_a_descriptor());
    let (views, keeping_up) = view::routes(&config, judge, Arc::clone(&board), jobs.clone(), stopping.clone());
    let (spans, arriving) = sync_channel(WAITING_EXPORTS);
    let collector = Collector::new(&config, Arc::clone(&board), jobs.clone(), stopping.clone());
    let receiving = receive::otlp::routes(&config, Arc::clone(&board), jobs, spans);
    let routes = Router::new().merge(receiving).merge(views);
    let routes = guard::around(routes, address.ip());

    let (answers, answering) = recorder::answers();
    runtime.spawn(keeping_up);
    runtime.spawn(answering);
    runtime.spawn(ticking());
    thread("couplet-traces", move || collector.run(&arriving))?;
    let recording = thread("couplet-record", move || recorder.run(&waiting, &answers))?;
    let serving = thread("couplet-serve", move || {
        runtime.block_on(accept::serve(listener, routes, limit, board, stopping));
        // Whoever still holds on to a connection is not waited for.
        runtime.shutdown_background();
    })?;
    tracing::info!(%address, "analyzer listens");
    Ok(Running { address, stop, serving, recording })
}

/// Does nothing every second. The runtime wakes itself where a limit of time is set that ends before all others, and nearly
/// every request would set such a one: none ends before this.
async fn ticking() {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
    }
}

/// The architecture that the configuration names; an empty one where it names none.
fn architecture(config: &AnalyzerConfig) -> Result<Architecture, ConfigError> {
    let variable = |name: &str| std::env::var(name).ok();
    config
        .architecture
        .as_deref()
        .map_or_else(|| Ok(Architecture::default()), |path| Architecture::read(path, &variable))
}

/// Connections beyond these could not be accepted, and would wait; refused, they are counted and can come again.
fn connections_with_a_descriptor() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    limit.saturating_sub(SPARE_DESCRIPTORS).max(1)
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse { address },
        _ => StartError::Listen { address, source },
    })?;
    listener.set_nonblocking(true).map_err(StartError::System)?;
    Ok(listener)
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(StartError::System)
}
