//! What every request of this proxy shares, and what every request of one worker shares.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use couplet_config::{Destinations, Outbound, ProxyConfig, Target};
use couplet_telemetry::names::{OTHER, is_service_name};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::error::Fault;
use crate::mesh::Mesh;
use crate::metrics::Metrics;
use crate::original::Dialed;
use crate::policy::{Breakers, Injections, Routes};
use crate::record::Recorder;
use crate::registry::Names;
use crate::resolve::Directory;
use crate::tls::{Secure, Tls};
use crate::upstream::{Connector, Dial, Upstream};
use crate::verdicts::Verdicts;
use crate::warnings::Warnings;

/// Destinations of explicit requests that a worker keeps connections for.
const MAX_EXPLICIT: usize = 1_024;
/// Own ports that inbound connections are delivered to, and connections kept for.
const MAX_DELIVERED: usize = 64;
/// After this long without a request such a destination is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// What every request of one generation shares: of the proxy, until another configuration is in force. Nothing in here
/// changes, but counters; those and all that was learned go on with the next generation.
pub(crate) struct Sidecar {
    pub(crate) config: ProxyConfig,
    /// Which configuration this is, counted from 1.
    pub(crate) generation: u64,
    /// The own service, as sets of services know it: hashed once, not for every request.
    pub(crate) service: u32,
    pub(crate) metrics: Arc<Metrics>,
    /// Names that the analyzer resolves, where that is asked for.
    pub(crate) names: Option<Arc<Names>>,
    /// Addresses of the names that requests are sent to.
    pub(crate) directory: Arc<Directory>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) warnings: Arc<Warnings>,
    /// All addresses that this proxy listens at.
    pub(crate) listening: Vec<SocketAddr>,
    /// What the destinations of captured connections speak.
    pub(crate) verdicts: Arc<Verdicts>,
    /// The own ends of the latest connections to upstreams.
    pub(crate) dialed: Arc<Dialed>,
    /// Where sidecars were found that speak mutual TLS.
    pub(crate) mesh: Arc<Mesh>,
    /// They stop calls to destinations that fail.
    pub(crate) breakers: Arc<Breakers>,
    /// Faults that somebody wants in calls, to see who copes.
    pub(crate) injections: Arc<Injections>,
    /// How calls are made that differ from others.
    pub(crate) routes: Routes,
}

impl Sidecar {
    /// The next generation.
    pub(crate) fn with(&self, config: ProxyConfig, tls: Arc<Tls>, listening: Vec<SocketAddr>) -> Self {
        Self {
            routes: Routes::new(&config, &self.breakers, Some(&self.routes), Instant::now()),
            config,
            generation: self.generation + 1,
            service: self.service,
            metrics: Arc::clone(&self.metrics),
            names: self.names.clone(),
            directory: Arc::clone(&self.directory),
            tls,
            warnings: Arc::clone(&self.warnings),
            listening,
            verdicts: Arc::clone(&self.verdicts),
            dialed: Arc::clone(&self.dialed),
            mesh: Arc::clone(&self.mesh),
            breakers: Arc::clone(&self.breakers),
            injections: Arc::clone(&self.injections),
        }
    }

    /// A destination of calls.
    fn callee(&self, name: &str, destinations: &Destinations, secure: Option<Secure>, now: Instant) -> Upstream {
        let breaker = self.breakers.of(name, &self.config.breakers, now);
        self.upstream(name, destinations, secure, now).stopped_by(breaker)
    }

    fn upstream(&self, name: &str, destinations: &Destinations, secure: Option<Secure>, now: Instant) -> Upstream {
        Upstream::new(name, destinations, secure, &self.directory, &self.metrics, now)
    }
}

/// What every request of one worker shares.
pub(crate) struct Worker {
    pub(crate) sidecar: Arc<Sidecar>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) connector: Connector,
    /// The application.
    pub(crate) app: Option<Arc<Upstream>>,
    /// The configured destinations, in the order of the configuration.
    pub(crate) outbound: Vec<Arc<Upstream>>,
    explicit: Arc<Mutex<Explicit>>,
    /// Own addresses that captured inbound requests are delivered to.
    delivered: Arc<Mutex<HashMap<SocketAddr, Arc<Upstream>>>>,
}

/// Destinations of explicit requests, by the name they are recorded under and where they are.
type Explicit = HashMap<(String, Destinations), Arc<Upstream>>;

impl Worker {
    pub(crate) fn new(sidecar: Arc<Sidecar>, recorder: Arc<Recorder>, connector: Connector, now: Instant) -> Self {
        Self::build(sidecar, recorder, connector, now, None)
    }

    /// The same worker in the next generation. Destinations that stay as they are keep their connections, and what is
    /// known of them.
    pub(crate) fn next(&self, sidecar: Arc<Sidecar>, connector: Connector, now: Instant) -> Self {
        Self::build(sidecar, Arc::clone(&self.recorder), connector, now, Some(self))
    }

    fn build(
        sidecar: Arc<Sidecar>,
        recorder: Arc<Recorder>,
        connector: Connector,
        now: Instant,
        before: Option<&Self>,
    ) -> Self {
        let config = &sidecar.config;
        let app = config.app.map(|app| {
            let known = before.filter(|before| before.sidecar.config.app == Some(app));
            known
                .and_then(|before| before.app.clone())
                .unwrap_or_else(|| Arc::new(sidecar.upstream(&config.service, &target(app), None, now)))
        });
        let outbound = config.outbound.iter().enumerate().map(|(index, to)| {
            let known = before.and_then(|before| before.upstream_of(to, &sidecar.tls));
            known.unwrap_or_else(|| {
                let secure = Secure::new(&sidecar.tls, index, to);
                Arc::new(sidecar.callee(&to.name, &to.target, secure, now))
            })
        });
        let outbound = outbound.collect();
        // How they are spoken to is a matter of TLS.
        let explicit = before.filter(|before| Arc::ptr_eq(&before.sidecar.tls, &sidecar.tls));
        let explicit = explicit.map(|before| Arc::clone(&before.explicit)).unwrap_or_default();
        let delivered = before.map(|before| Arc::clone(&before.delivered)).unwrap_or_default();
        Self { sidecar, recorder, connector, app, outbound, explicit, delivered }
    }

    /// The destination that is configured just so, but for where it listens. One with TLS goes by its place among the
    /// others, so it stays only where they all do.
    fn upstream_of(&self, wanted: &Outbound, tls: &Arc<Tls>) -> Option<Arc<Upstream>> {
        if wanted.tls.is_some() && !Arc::ptr_eq(tls, &self.sidecar.tls) {
            return None;
        }
        let same = |known: &Outbound| *known == Outbound { listen: known.listen, ..wanted.clone() };
        let known = self.sidecar.config.outbound.iter().zip(&self.outbound).find(|(known, _)| same(known));
        known.map(|(_, upstream)| Arc::clone(upstream))
    }

    /// The destination of an explicit request that no configured one serves. Beyond the limit it is made for the one
    /// request, recorded under a name that they all share.
    pub(crate) fn explicit(&self, name: &str, destinations: Destinations, now: Instant) -> Arc<Upstream> {
        let name = if is_service_name(name) { name } else { OTHER };
        let mut known = self.explicit.lock();
        let key = (name.to_owned(), destinations);
        if let Some(upstream) = known.get(&key) {
            return Arc::clone(upstream);
        }
        if known.len() >= MAX_EXPLICIT {
            self.sidecar.metrics.explicit_upstreams_overflow.add(1);
            return Arc::new(self.sidecar.callee(OTHER, &key.1, Some(Secure::Learned), now));
        }
        let upstream = Arc::new(self.sidecar.callee(name, &key.1, Some(Secure::Learned), now));
        known.insert(key, Arc::clone(&upstream));
        upstream
    }

    /// The destination of a captured request that is known by this name.
    pub(crate) fn captured(&self, name: &str, destination: SocketAddr, now: Instant) -> Arc<Upstream> {
        self.explicit(name, target(destination), now)
    }

    /// The own address that a captured inbound request was sent to. Strangers choose the port: beyond the limit
    /// connections are made for the one request.
    pub(crate) fn delivered(&self, destination: SocketAddr, now: Instant) -> Arc<Upstream> {
        let mut known = self.delivered.lock();
        if let Some(upstream) = known.get(&destination) {
            return Arc::clone(upstream);
        }
        let upstream = Arc::new(self.sidecar.upstream(&self.sidecar.config.service, &target(destination), None, now));
        if known.len() < MAX_DELIVERED {
            known.insert(destination, Arc::clone(&upstream));
        } else {
            self.sidecar.metrics.explicit_upstreams_overflow.add(1);
        }
        upstream
    }

    /// A connection to a captured destination, of which nobody knows yet what it is for; in the clear.
    pub(crate) fn dial(self: &Arc<Self>, destination: SocketAddr) -> Dial {
        let worker = Arc::clone(self);
        Box::pin(async move {
            let deadline = Instant::now() + worker.connector.connect_timeout;
            Ok(worker.connector.dial(destination, deadline).await?.into())
        })
    }

    /// The same to one that the application asked for: in mutual TLS where a sidecar answers.
    pub(crate) fn dial_out(self: &Arc<Self>, destination: SocketAddr) -> Dial {
        let worker = Arc::clone(self);
        Box::pin(async move {
            let deadline = Instant::now() + worker.connector.connect_timeout;
            worker.connector.learned(destination, deadline).await
        })
    }

    /// The same for what the application has encrypted itself: nothing forbids to pass that on.
    pub(crate) fn encrypted(self: &Arc<Self>, dial: Dial, destination: SocketAddr) -> Dial {
        let worker = Arc::clone(self);
        Box::pin(async move {
            match dial.await {
                Err(Fault::ClearText) => worker.dial(destination).await,
                opened => opened,
            }
        })
    }

    /// Closes what has been idle for too long. Called about once a second.
    pub(crate) fn sweep(&self, now: Instant) {
        let timeout = self.connector.idle_timeout;
        self.sidecar.injections.sweep(now);
        self.app.iter().chain(&self.outbound).for_each(|upstream| upstream.sweep(now, timeout));
        let mut explicit = self.explicit.lock();
        explicit.retain(|_, upstream| upstream.unused_for(now) < FORGET_AFTER);
        explicit.values().for_each(|upstream| upstream.sweep(now, timeout));
        let mut delivered = self.delivered.lock();
        delivered.retain(|_, upstream| upstream.unused_for(now) < FORGET_AFTER);
        delivered.values().for_each(|upstream| upstream.sweep(now, timeout));
    }
}

/// The generation in force, and how the last attempt to replace it ended.
pub(crate) struct InForce(RwLock<(Arc<Sidecar>, Option<Arc<str>>)>);

impl InForce {
    pub(crate) fn new(sidecar: Arc<Sidecar>) -> Self {
        Self(RwLock::new((sidecar, None)))
    }

    pub(crate) fn sidecar(&self) -> Arc<Sidecar> {
        Arc::clone(&self.0.read().0)
    }

    /// Why the last attempt to replace it failed, if it did.
    pub(crate) fn problem(&self) -> Option<Arc<str>> {
        self.0.read().1.clone()
    }

    pub(crate) fn replace(&self, sidecar: Arc<Sidecar>) {
        *self.0.write() = (sidecar, None);
    }

    /// The attempt failed, or (without a problem) there was nothing to replace.
    pub(crate) fn stays(&self, problem: Option<&str>) {
        self.0.write().1 = problem.map(Arc::from);
    }
}

fn target(address: SocketAddr) -> Destinations {
    Target { host: address.ip().to_string(), port: address.port() }.into()
}
