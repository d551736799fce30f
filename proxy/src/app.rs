//! Brings a proxy up and down: bind everything, then start the threads; drain, then stop them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant, SystemTime};

use couplet_config::ProxyConfig;
use couplet_telemetry::endpoint::{Learner, LearnerLimits, Templates};
use couplet_telemetry::report::Origin;
use couplet_telemetry::window::WindowLimits;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::admin::{self, Admin};
use crate::aggregate::{LEARNED_SEGMENTS, Limits, Local};
use crate::client::Client;
use crate::connection::Role;
use crate::context::Services;
use crate::drain::{Drain, Phase, Watch};
use crate::link::Handlers;
use crate::listener;
use crate::metrics::Metrics;
use crate::record::Recorder;
use crate::registry::Names;
use crate::resolve::{Directory, Dns};
use crate::ship::{Collector, Shipper};
use crate::sidecar::{Sidecar, Worker};
use crate::tls::Tls;
use crate::upstream::{Connector, Room};
use crate::warnings::Warnings;

/// How long connections may take to notice that the proxy closes.
const CLOSING: Duration = Duration::from_secs(1);

/// Why a proxy cannot start. Nothing was started then.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} for {what}: {}", bind_problem(.source, .option))]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the listener is for.
        what: String,
        /// The option that changes the address.
        option: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A configured route template cannot be used.
    #[error("endpoints.templates: {0}")]
    Template(String),
    /// Files of certificates and keys cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// A thread or its runtime could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

fn bind_problem(source: &io::Error, option: &str) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => format!("the port is in use; choose another with {option}"),
        io::ErrorKind::AddrNotAvailable => format!("this machine does not have that address; change it with {option}"),
        _ => format!("{source}; change it with {option}"),
    }
}

/// A proxy that runs.
///
/// [`Running::stop`] takes it down in order. Dropped instead, it closes at once: requests in flight break, the last
/// report is not sent.
pub struct Running {
    addresses: Addresses,
    drain: Drain,
    metrics: Arc<Metrics>,
    grace: Duration,
    shutdown: Arc<Notify>,
    workers: Vec<JoinHandle<()>>,
    last_report: Option<oneshot::Sender<()>>,
    control: Option<JoinHandle<()>>,
}

#[derive(Clone, Default)]
struct Addresses {
    inbound: Option<SocketAddr>,
    outbound: Vec<(String, SocketAddr)>,
    explicit: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// Starts a proxy. It serves when this returns.
///
/// # Errors
/// Where a listener cannot be bound or a thread not be made; nothing is left running then.
pub fn start(config: ProxyConfig) -> Result<Running, StartError> {
    let templates = Templates::new(&config.endpoints.templates).map_err(StartError::Template)?;
    let metrics = Arc::new(Metrics::default());
    let tls = Arc::new(Tls::load(&config, &metrics, SystemTime::now()).map_err(StartError::Tls)?);
    let bound = Bound::new(&config)?;
    let addresses = bound.addresses.clone();
    let (drain, watch) = Drain::new();
    let grace = config.timeouts.drain;

    let limits = WindowLimits { paths: config.telemetry.max_paths, callees: config.telemetry.max_callees };
    let depth = u32::try_from(config.telemetry.max_depth).unwrap_or(u32::MAX);
    let local_limits = Limits { window: limits, endpoints: config.telemetry.max_endpoints, depth };
    let learning = LearnerLimits { values: config.endpoints.max_values, nodes: LEARNED_SEGMENTS };
    let learner = || Learner::new(templates.clone(), config.endpoints.learn.then_some(learning));
    let local = || Arc::new(Local::new(&config.service, learner(), local_limits));
    let locals: Vec<Arc<Local>> = (0..config.workers).map(|_| local()).collect();
    let names = config.resolve.then(Names::new);
    let directory = Directory::new(Dns::new(&config.dns.servers), Arc::clone(&metrics));
    let sidecar = Arc::new(Sidecar {
        service: Services::hash(&config.service),
        metrics: Arc::clone(&metrics),
        names: names.clone(),
        directory: Arc::clone(&directory),
        tls: Arc::clone(&tls),
        warnings: Warnings::new(),
        config,
    });

    // Whatever fails from here on, dropping this takes down what was started before.
    let mut running = Running {
        addresses,
        drain,
        metrics,
        grace,
        shutdown: Arc::default(),
        workers: Vec::new(),
        last_report: None,
        control: None,
    };
    let handlers = Arc::new(Handlers::new());
    for (local, listeners) in locals.iter().zip(bound.workers) {
        let recorder = Recorder {
            local: Arc::clone(local),
            handlers: Arc::clone(&handlers),
            metrics: Arc::clone(&sidecar.metrics),
        };
        let own = own_addresses(&running.addresses);
        let worker = Worker::new(Arc::clone(&sidecar), Arc::new(recorder), connector(&sidecar, own), Instant::now());
        let (worker, watch) = (Arc::new(worker), watch.clone());
        running.workers.push(spawn("couplet-worker", move |runtime| {
            runtime.block_on(work(worker, listeners, watch));
        })?);
    }
    let collector = Arc::new(Collector::new(locals, limits));
    let admin = Admin {
        sidecar: Arc::clone(&sidecar),
        collector: Arc::clone(&collector),
        drain: watch,
        shutdown: Arc::clone(&running.shutdown),
    };
    let analyzer = || Some(Client::new(sidecar.config.analyzer.clone()?, Arc::clone(&directory)));
    let shipper = Shipper {
        collector,
        client: analyzer(),
        origin: origin(&sidecar.config, &running.addresses),
        every: sidecar.config.telemetry.window,
        max_report_bytes: sidecar.config.telemetry.max_report_bytes.as_usize(),
        metrics: Arc::clone(&sidecar.metrics),
    };
    let names = names.zip(analyzer());
    let (last_report, stop) = oneshot::channel();
    let control = move |runtime: &Runtime| {
        runtime.block_on(async move {
            if let Some(listener) = bound.admin.and_then(|listener| tokio::net::TcpListener::from_std(listener).ok()) {
                tokio::spawn(admin::serve(admin, listener));
            }
            tokio::spawn(directory.run());
            tokio::spawn(look_at_files(tls));
            if let Some((names, client)) = names {
                tokio::spawn(names.follow(client));
            }
            shipper.run(stop).await;
        });
    };
    running.control = Some(spawn("couplet-control", control)?);
    running.last_report = Some(last_report);
    Ok(running)
}

/// Keeps certificates and keys as fresh as their files.
async fn look_at_files(tls: Arc<Tls>) {
    loop {
        tokio::time::sleep(tls.look_every()).await;
        tls.look(SystemTime::now());
    }
}

/// One worker: its listeners, and a look around once a second.
async fn work(worker: Arc<Worker>, listeners: Listeners, mut drain: Watch) {
    for (listener, role) in listeners.roles(&worker) {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(listener::accept(Arc::clone(&worker), listener, role, drain.clone()))),
            Err(error) => tracing::error!(%error, "a listener could not be registered with its worker"),
        }
    }
    let mut sweep = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = sweep.tick() => worker.sweep(Instant::now()),
            () = drain.reached(Phase::Closing) => break,
        }
    }
    // Connections close as soon as their request in flight is done; what is still open afterwards is cut.
    let deadline = Instant::now() + CLOSING;
    while worker.sidecar.metrics.connections.get() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn spawn(name: &str, run: impl FnOnce(&Runtime) + Send + 'static) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&runtime))
}

fn connector(sidecar: &Sidecar, own: Vec<SocketAddr>) -> Connector {
    let config = &sidecar.config;
    Connector {
        connect_timeout: config.timeouts.connect,
        idle_timeout: config.timeouts.pool_idle,
        room: Room { here: config.limits.connections_per_upstream, overall: config.limits.idle_upstream_connections },
        header_bytes: config.limits.header_bytes.as_usize(),
        header_fields: config.limits.header_fields,
        own,
        metrics: Arc::clone(&sidecar.metrics),
    }
}

/// Where a request must not be sent, since it would come back here. The inbound listener is not among them: a service
/// may call itself.
fn own_addresses(addresses: &Addresses) -> Vec<SocketAddr> {
    let outbound = addresses.outbound.iter().map(|(_, address)| *address);
    outbound.chain(addresses.explicit).chain(addresses.admin).collect()
}

fn origin(config: &ProxyConfig, addresses: &Addresses) -> Origin {
    let name = config.instance.as_deref().unwrap_or(&config.service);
    Origin {
        service: config.service.clone(),
        // Two pods copied from one another, or one proxy started twice, must never share a sequence.
        instance: format!("{name}-{:016x}", fastrand::Rng::new().u64(..)),
        version: config.version.clone(),
        inbound: addresses.inbound.filter(|_| config.register).map(|address| address.to_string()),
    }
}

/// Everything bound, before anything runs.
struct Bound {
    addresses: Addresses,
    workers: Vec<Listeners>,
    admin: Option<TcpListener>,
}

/// One worker's listeners.
#[derive(Default)]
struct Listeners {
    inbound: Option<TcpListener>,
    /// In the order of the configuration.
    outbound: Vec<TcpListener>,
    explicit: Option<TcpListener>,
}

impl Bound {
    fn new(config: &ProxyConfig) -> Result<Self, StartError> {
        let mut bound = Self { addresses: Addresses::default(), workers: Vec::new(), admin: None };
        bound.workers.resize_with(config.workers, Listeners::default);
        if config.app.is_some() {
            let (address, sockets) = bind(config.inbound, config.workers, "inbound requests", "--inbound")?;
            bound.addresses.inbound = Some(address);
            bound.workers.iter_mut().zip(sockets).for_each(|(worker, socket)| worker.inbound = Some(socket));
        }
        for to in &config.outbound {
            let what = format!("outbound requests to {}", to.name);
            let (address, sockets) = bind(to.listen, config.workers, &what, "--to NAME@LISTEN=TARGET")?;
            bound.addresses.outbound.push((to.name.clone(), address));
            bound.workers.iter_mut().zip(sockets).for_each(|(worker, socket)| worker.outbound.push(socket));
        }
        if let Some(explicit) = config.explicit {
            let (address, sockets) = bind(explicit, config.workers, "explicit proxy requests", "--explicit")?;
            bound.addresses.explicit = Some(address);
            bound.workers.iter_mut().zip(sockets).for_each(|(worker, socket)| worker.explicit = Some(socket));
        }
        if let Some(admin) = config.admin {
            let (address, mut sockets) = bind(admin, 1, "the admin endpoints", "--admin")?;
            bound.addresses.admin = Some(address);
            bound.admin = sockets.pop();
        }
        Ok(bound)
    }
}

fn bind(
    address: SocketAddr,
    workers: usize,
    what: &str,
    option: &'static str,
) -> Result<(SocketAddr, Vec<TcpListener>), StartError> {
    let failed = |source| StartError::Bind { address, what: what.to_owned(), option, source };
    let sockets = listener::bind(address, workers).map_err(failed)?;
    let bound = sockets.first().map_or(Ok(address), TcpListener::local_addr).map_err(failed)?;
    Ok((bound, sockets))
}

impl Listeners {
    fn roles(self, worker: &Worker) -> Vec<(TcpListener, Role)> {
        let outbound = self.outbound.into_iter().zip(&worker.outbound);
        let outbound = outbound.map(|(listener, upstream)| (listener, Role::Outbound(Arc::clone(upstream))));
        let inbound = self.inbound.map(|listener| (listener, Role::Inbound));
        let explicit = self.explicit.map(|listener| (listener, Role::Explicit));
        inbound.into_iter().chain(outbound).chain(explicit).collect()
    }
}

impl Running {
    /// Where inbound requests are accepted, if there is an application.
    #[must_use]
    pub fn inbound(&self) -> Option<SocketAddr> {
        self.addresses.inbound
    }

    /// The name and address of every outbound listener, in the order of the configuration.
    #[must_use]
    pub fn outbound(&self) -> &[(String, SocketAddr)] {
        &self.addresses.outbound
    }

    /// Where explicit proxy requests are accepted, if they are.
    #[must_use]
    pub fn explicit(&self) -> Option<SocketAddr> {
        self.addresses.explicit
    }

    /// Where the admin endpoints are, if they are served.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.addresses.admin
    }

    /// Waits until somebody asks over the admin endpoint that the proxy goes down.
    pub fn shutdown_asked(&self) -> impl Future<Output = ()> + Send + 'static {
        let shutdown = Arc::clone(&self.shutdown);
        async move { shutdown.notified().await }
    }

    /// Takes the proxy down and waits for it: not ready any more, no new inbound connections, requests in flight end
    /// (for `timeouts.drain` at most) while the application may still call out, the last report is delivered.
    pub fn stop(mut self) {
        self.drain.advance(Phase::Draining);
        let deadline = StdInstant::now() + self.grace;
        while self.metrics.requests_in_flight.get() > 0 && StdInstant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let cut = self.metrics.requests_in_flight.get();
        if cut > 0 {
            tracing::warn!(requests = cut, grace = ?self.grace, "requests were still in flight when the grace period ended; they are cut");
        }
        self.close();
    }

    fn close(&mut self) {
        self.drain.advance(Phase::Closing);
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so; the others still end in order.
            let _ = worker.join();
        }
        // All records are in the windows now.
        if let Some(last_report) = self.last_report.take() {
            let _ = last_report.send(());
        }
        if let Some(control) = self.control.take() {
            let _ = control.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.advance(Phase::Closing);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("inbound", &self.addresses.inbound).finish_non_exhaustive()
    }
}
