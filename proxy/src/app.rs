//! Brings a proxy up and down: bind everything, then start the threads; put another configuration into force; drain,
//! then stop.

mod change;
mod places;
mod work;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc as blocking};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant, SystemTime};

use couplet_config::{Mark, ProxyConfig};
use couplet_telemetry::endpoint::{Learner, LearnerLimits, Templates};
use couplet_telemetry::report::Origin;
use couplet_telemetry::window::WindowLimits;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::admin::{self, Admin};
use crate::aggregate::{LEARNED_SEGMENTS, Limits, Local};
use crate::client::Client;
use crate::context::Services;
use crate::drain::{Drain, Ending, Phase};
use crate::link::{Handlers, Headers};
use crate::metrics::Metrics;
use crate::policy::{Breakers, Concurrency, Injections, Routes};
use crate::record::Recorder;
use crate::registry::Names;
use crate::resolve::{Directory, Dns};
use crate::ship::{Collector, Shipper};
use crate::sidecar::{InForce, Sidecar, Worker};
use crate::timing::{Follower, Timing};
use crate::tls::Tls;
use crate::upstream::{Connector, Room};
use crate::warnings::Warnings;

use places::{Duty, Place, Sockets, Wanted, wanted};
use work::{Order, work};

pub use crate::admin::Ask;
pub use change::Change;

/// How long a worker may take to serve a new configuration. It takes microseconds.
const OBEY: Duration = Duration::from_secs(5);
/// How long clients of a proxy that goes down may take to close their connections after they were told.
const FAREWELL: Duration = Duration::from_secs(1);

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

impl StartError {
    /// Whether this machine has no such protocol, or no address of it.
    fn lacks_protocol(&self) -> bool {
        let StartError::Bind { source, .. } = self else { return false };
        // Linux: EAFNOSUPPORT.
        source.kind() == io::ErrorKind::AddrNotAvailable || source.raw_os_error() == Some(97)
    }
}

fn bind_problem(source: &io::Error, option: &str) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => format!("the port is in use; choose another with {option}"),
        io::ErrorKind::AddrNotAvailable => format!("this machine does not have that address; change it with {option}"),
        _ => format!("{source}; change it with {option}"),
    }
}

/// What came of a new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// It says what is in force already.
    Unchanged,
    /// It is in force.
    Applied {
        /// Its number, counted from 1.
        generation: u64,
        /// The keys that differ.
        keys: Vec<String>,
    },
}

/// Why a new configuration is not in force. The one before it is, wholly.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// There is none that could be used.
    #[error("{0}")]
    Unusable(String),
    /// It changes what is read only at the start.
    #[error("a restart is needed for: {}", .0.join(", "))]
    Restart(Vec<String>),
    /// What it needs cannot be had.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A proxy that runs.
///
/// [`Running::stop`] takes it down in order. Dropped instead, it closes at once: requests in flight break, the last
/// report is not sent.
pub struct Running {
    /// Where each place of the configuration in force really is.
    places: HashMap<Place, SocketAddr>,
    admin: Option<SocketAddr>,
    drain: Drain,
    metrics: Arc<Metrics>,
    in_force: Arc<InForce>,
    asks: mpsc::Receiver<Ask>,
    workers: Vec<Hand>,
    /// What links calls by timing, and its thread.
    timing: Option<(Arc<Timing>, JoinHandle<()>)>,
    last_report: Option<oneshot::Sender<()>>,
    control: Option<JoinHandle<()>>,
}

/// A worker's thread.
struct Hand {
    /// What it does now.
    worker: Arc<Worker>,
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

/// Starts a proxy. It serves when this returns.
///
/// # Errors
/// Where a listener cannot be bound or a thread not be made; nothing is left running then.
pub fn start(config: ProxyConfig) -> Result<Running, StartError> {
    let templates = Templates::new(&config.endpoints.templates).map_err(StartError::Template)?;
    let metrics = Arc::new(Metrics::default());
    let tls = Arc::new(Tls::load(&config, &metrics, SystemTime::now()).map_err(StartError::Tls)?);
    let wanted = wanted(&config);
    let mut sockets = Sockets::open(&config, &wanted, &HashMap::new(), config.admin, &metrics)?;
    let places = std::mem::take(&mut sockets.addresses);
    let (admin, admin_listener) = sockets.admin.take().unzip();
    let (drain, watch) = Drain::new();

    let limits = WindowLimits { paths: config.telemetry.max_paths, callees: config.telemetry.max_callees };
    let depth = u32::try_from(config.telemetry.max_depth).unwrap_or(u32::MAX);
    let local_limits = Limits { window: limits, endpoints: config.telemetry.max_endpoints, depth };
    let learning = LearnerLimits { values: config.endpoints.max_values, nodes: LEARNED_SEGMENTS };
    let learner = || Learner::new(templates.clone(), config.endpoints.learn.then_some(learning));
    let local = || Arc::new(Local::new(&config.service, learner(), local_limits));
    let locals: Vec<Arc<Local>> = (0..config.workers).map(|_| local()).collect();
    let names = config.resolve.then(Names::new);
    let directory = Directory::new(Dns::new(&config.dns.servers), Arc::clone(&metrics));
    let breakers = Arc::new(Breakers::new(&config.service));
    let sidecar = Arc::new(Sidecar {
        generation: 1,
        service: Services::hash(&config.service),
        metrics: Arc::clone(&metrics),
        names: names.clone(),
        directory: Arc::clone(&directory),
        tls,
        warnings: Arc::new(Warnings::new()),
        listening: places.values().copied().chain(admin).collect(),
        verdicts: Arc::default(),
        dialed: Arc::default(),
        mesh: Arc::default(),
        injections: Arc::new(Injections::new(&config.service)),
        routes: Routes::new(&config, &breakers, None, Instant::now()),
        breakers,
        config,
    });

    // Whatever fails from here on, dropping this takes down what was started before.
    let (ask, asks) = mpsc::channel(1);
    let mut running = Running {
        places,
        admin,
        drain,
        metrics,
        in_force: Arc::new(InForce::new(Arc::clone(&sidecar))),
        asks,
        workers: Vec::new(),
        timing: None,
        last_report: None,
        control: None,
    };
    let handlers = Arc::new(Handlers::new());
    let headers = Arc::new(Headers::new(&sidecar.config.link));
    let timing = Arc::new(Timing::new(sidecar.config.telemetry.timing, Arc::clone(&sidecar.metrics)));
    running.timing = Some((Arc::clone(&timing), Follower::start(&timing, locals.clone())?));
    let concurrency = Arc::new(Concurrency::new(&sidecar.config.concurrency, Instant::now()));
    let own = own_addresses(&wanted, &running.places, admin);
    for (worker, local) in locals.iter().enumerate() {
        let recorder = Recorder {
            local: Arc::clone(local),
            handlers: Arc::clone(&handlers),
            headers: Arc::clone(&headers),
            metrics: Arc::clone(&sidecar.metrics),
            enabled: sidecar.config.telemetry.enabled,
            timing: Arc::clone(&timing),
            concurrency: Arc::clone(&concurrency),
            worker,
        };
        let connector = connector(&sidecar, own.clone());
        let worker = Worker::new(Arc::clone(&sidecar), Arc::new(recorder), connector, Instant::now());
        let (orders, receiver) = mpsc::channel(1);
        let watch = watch.clone();
        let thread = spawn("couplet-worker", move |runtime| runtime.block_on(work(receiver, watch)))?;
        running.workers.push(Hand { worker: Arc::new(worker), orders, thread });
    }
    running.serve(&wanted, sockets, 1);

    let collector = Arc::new(Collector::new(locals, Arc::clone(&headers), limits));
    let admin = Admin {
        in_force: Arc::clone(&running.in_force),
        collector: Arc::clone(&collector),
        headers: Arc::clone(&headers),
        concurrency,
        drain: watch,
        ask,
    };
    let config = &sidecar.config;
    let mark = config.capture.mark.map(Mark::get);
    let analyzer = || Some(Client::new(config.analyzer.clone()?, Arc::clone(&directory), mark));
    let shipper = Shipper {
        collector,
        client: analyzer(),
        origin: origin(config, running.inbound()),
        every: config.telemetry.window,
        max_report_bytes: config.telemetry.max_report_bytes.as_usize(),
        metrics: Arc::clone(&sidecar.metrics),
        breakers: Arc::clone(&sidecar.breakers),
    };
    let names = names.zip(analyzer());
    let in_force = Arc::clone(&running.in_force);
    let (last_report, stop) = oneshot::channel();
    let control = move |runtime: &Runtime| {
        runtime.block_on(async move {
            if let Some(listener) = admin_listener.and_then(|listener| tokio::net::TcpListener::from_std(listener).ok())
            {
                tokio::spawn(admin::serve(admin, listener));
            }
            tokio::spawn(directory.run());
            tokio::spawn(look_at_files(in_force));
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
async fn look_at_files(in_force: Arc<InForce>) {
    loop {
        let every = in_force.sidecar().tls.look_every();
        tokio::time::sleep(every).await;
        in_force.sidecar().tls.look(SystemTime::now());
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
        mark: config.capture.mark.map(Mark::get),
        dialed: config.capture.outbound.map(|_| Arc::clone(&sidecar.dialed)),
        tls: Arc::clone(&sidecar.tls),
        mesh: Arc::clone(&sidecar.mesh),
        metrics: Arc::clone(&sidecar.metrics),
    }
}

/// Where a request must not be sent, since it would come back here. The inbound listener is not among them: a service
/// may call itself.
fn own_addresses(wanted: &[Wanted], places: &HashMap<Place, SocketAddr>, admin: Option<SocketAddr>) -> Vec<SocketAddr> {
    let outbound = wanted.iter().filter(|wanted| wanted.duty != Duty::Inbound);
    outbound.filter_map(|wanted| places.get(&wanted.place).copied()).chain(admin).collect()
}

fn origin(config: &ProxyConfig, inbound: Option<SocketAddr>) -> Origin {
    let name = config.instance.as_deref().unwrap_or(&config.service);
    Origin {
        service: config.service.clone(),
        // Two pods copied from one another, or one proxy started twice, must never share a sequence.
        instance: format!("{name}-{:016x}", fastrand::Rng::new().u64(..)),
        version: config.version.clone(),
        inbound: inbound.filter(|_| config.register).map(|address| address.to_string()),
    }
}

impl Running {
    /// Where inbound requests are accepted, if there is an application.
    #[must_use]
    pub fn inbound(&self) -> Option<SocketAddr> {
        self.addresses(|duty| duty == Duty::Inbound).next()
    }

    /// The name and address of every outbound listener, in the order of the configuration.
    #[must_use]
    pub fn outbound(&self) -> Vec<(String, SocketAddr)> {
        let config = &self.in_force.sidecar().config;
        let addresses = self.addresses(|duty| matches!(duty, Duty::Outbound(_)));
        config.outbound.iter().map(|to| to.name.clone()).zip(addresses).collect()
    }

    /// Where explicit proxy requests are accepted, if they are.
    #[must_use]
    pub fn explicit(&self) -> Option<SocketAddr> {
        self.addresses(|duty| duty == Duty::Explicit).next()
    }

    /// Where captured outbound connections are accepted, one address of each family.
    #[must_use]
    pub fn captured(&self) -> Vec<SocketAddr> {
        self.addresses(|duty| duty == Duty::Captured).collect()
    }

    /// Where the admin endpoints are, if they are served.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    fn addresses(&self, of: impl Fn(Duty) -> bool) -> impl Iterator<Item = SocketAddr> {
        let wanted = wanted(&self.in_force.sidecar().config).into_iter().filter(move |wanted| of(wanted.duty));
        wanted.filter_map(|wanted| self.places.get(&wanted.place).copied())
    }

    /// What somebody asks for over the admin listener, as it comes in; never returns where there is none.
    pub async fn asked(&mut self) -> Ask {
        match self.asks.recv().await {
            Some(ask) => ask,
            None => std::future::pending().await,
        }
    }

    /// Puts another configuration into force, or counts and shows why there is none to put. New connections are served
    /// by it when this returns; those that are open end in peace, none is cut.
    ///
    /// # Errors
    /// Why it is not in force; nothing has changed then.
    pub fn reload(&mut self, wanted: Result<ProxyConfig, String>) -> Result<Reloaded, ReloadError> {
        let result = wanted.map_err(ReloadError::Unusable).and_then(|config| self.replace(config));
        let counter = match &result {
            Ok(Reloaded::Applied { .. }) => &self.metrics.reloads_applied,
            Ok(Reloaded::Unchanged) => &self.metrics.reloads_unchanged,
            Err(_) => &self.metrics.reloads_refused,
        };
        counter.add(1);
        if !matches!(result, Ok(Reloaded::Applied { .. })) {
            self.in_force.stays(result.as_ref().err().map(ToString::to_string).as_deref());
        }
        result
    }

    fn replace(&mut self, config: ProxyConfig) -> Result<Reloaded, ReloadError> {
        let before = self.in_force.sidecar();
        let keys = match Change::between(&before.config, &config) {
            Change::None => return Ok(Reloaded::Unchanged),
            Change::Restart(keys) => return Err(ReloadError::Restart(keys)),
            Change::Live(keys) => keys,
        };
        let wanted = wanted(&config);
        let tls = if before.config.tls == config.tls && before.config.outbound == config.outbound {
            Arc::clone(&before.tls)
        } else {
            Arc::new(Tls::load(&config, &self.metrics, SystemTime::now()).map_err(StartError::Tls)?)
        };
        let mut sockets = Sockets::open(&config, &wanted, &self.places, None, &self.metrics)?;

        // Nothing fails from here on.
        let listening = sockets.addresses.values().copied().chain(self.admin).collect();
        if let Some(hand) = self.workers.first() {
            hand.worker.recorder.headers.configure(&config.link);
            hand.worker.recorder.concurrency.configure(&config.concurrency);
        }
        let sidecar = Arc::new(before.with(config, tls, listening));
        let generation = sidecar.generation;
        self.places = std::mem::take(&mut sockets.addresses);
        let own = own_addresses(&wanted, &self.places, self.admin);
        for hand in &mut self.workers {
            let connector = connector(&sidecar, own.clone());
            hand.worker = Arc::new(hand.worker.next(Arc::clone(&sidecar), connector, Instant::now()));
        }
        sidecar.breakers.configure(&sidecar.config.breakers, Instant::now());
        sidecar.injections.clear();
        self.in_force.replace(sidecar);
        self.serve(&wanted, sockets, generation);
        self.drain.retire_before(generation);
        Ok(Reloaded::Applied { generation, keys })
    }

    /// Tells the workers what to serve from now on, and waits until they do.
    fn serve(&self, wanted: &[Wanted], sockets: Sockets, generation: u64) {
        let (done, obeyed) = blocking::channel();
        // Without IPv6 some places are nowhere.
        let wanted: Vec<_> = wanted.iter().filter(|wanted| self.places.contains_key(&wanted.place)).collect();
        for (hand, mut listeners) in self.workers.iter().zip(sockets.workers) {
            let place = |wanted: &Wanted| (wanted.place.clone(), wanted.duty, listeners.remove(&wanted.place));
            let order = Order {
                worker: Arc::clone(&hand.worker),
                drain: self.drain.watch(generation),
                places: wanted.iter().copied().map(place).collect(),
                done: done.clone(),
            };
            if hand.orders.try_send(order).is_err() {
                tracing::error!("a worker is gone; its listeners are not served");
            }
        }
        drop(done);
        let deadline = StdInstant::now() + OBEY;
        while obeyed.recv_timeout(deadline.saturating_duration_since(StdInstant::now())).is_ok() {}
    }

    /// Takes the proxy down and waits for it: not ready any more, no new inbound connections, requests in flight end
    /// (for `timeouts.drain` at most) while the application may still call out, the last report is delivered.
    pub fn stop(mut self) {
        self.drain.advance(Phase::Draining);
        let began = StdInstant::now();
        let grace = self.in_force.sidecar().config.timeouts.drain;
        // Clients that keep a connection without using it are given time to notice, but not waited for.
        let polite = (Ending::Draining.patience() + FAREWELL).min(grace);
        loop {
            // Connections that nobody can read end when the application ends them.
            let busy = self.metrics.requests_in_flight.get() + self.metrics.opaque_connections.get() > 0;
            let lasted = began.elapsed();
            let met = self.metrics.inbound_listeners.get() + self.metrics.inbound_connections.get() > 0;
            if lasted >= grace || !busy && (!met || lasted >= polite) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let cut = self.metrics.requests_in_flight.get();
        if cut > 0 {
            tracing::warn!(
                requests = cut,
                ?grace,
                "requests were still in flight when the grace period ended; they are cut"
            );
        }
        self.close();
    }

    fn close(&mut self) {
        self.drain.advance(Phase::Closing);
        for hand in self.workers.drain(..) {
            // A worker that panicked has said so; the others still end in order.
            let _ = hand.thread.join();
        }
        // What timing still had to count it counts now.
        if let Some((timing, thread)) = self.timing.take() {
            timing.stop();
            let _ = thread.join();
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
        if let Some((timing, _)) = &self.timing {
            timing.stop();
        }
        self.drain.advance(Phase::Closing);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("inbound", &self.inbound()).finish_non_exhaustive()
    }
}
