//! What every request of this proxy shares, and what every request of one worker shares.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use couplet_config::{Destinations, ProxyConfig, Target};
use couplet_telemetry::names::{OTHER, is_service_name};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::record::Recorder;
use crate::registry::Names;
use crate::resolve::Directory;
use crate::tls::{Secure, Tls};
use crate::upstream::{Connector, Upstream};
use crate::warnings::Warnings;

/// Destinations of explicit requests that a worker keeps connections for.
const MAX_EXPLICIT: usize = 1_024;
/// After this long without a request such a destination is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// What every request of this proxy shares. Nothing in here changes while it runs, but counters.
pub(crate) struct Sidecar {
    pub(crate) config: ProxyConfig,
    /// The own service, as sets of services know it: hashed once, not for every request.
    pub(crate) service: u32,
    pub(crate) metrics: Arc<Metrics>,
    /// Names that the analyzer resolves, where that is asked for.
    pub(crate) names: Option<Arc<Names>>,
    /// Addresses of the names that requests are sent to.
    pub(crate) directory: Arc<Directory>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) warnings: Warnings,
}

impl Sidecar {
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
    explicit: Mutex<HashMap<(String, Destinations), Arc<Upstream>>>,
}

impl Worker {
    pub(crate) fn new(sidecar: Arc<Sidecar>, recorder: Arc<Recorder>, connector: Connector, now: Instant) -> Self {
        let config = &sidecar.config;
        let app = config.app.map(|app| {
            let target = Target { host: app.ip().to_string(), port: app.port() };
            Arc::new(sidecar.upstream(&config.service, &target.into(), None, now))
        });
        let outbound = config.outbound.iter().enumerate().map(|(index, to)| {
            let secure = Secure::new(&sidecar.tls, index, to);
            Arc::new(sidecar.upstream(&to.name, &to.target, secure, now))
        });
        let outbound = outbound.collect();
        Self { sidecar, recorder, connector, app, outbound, explicit: Mutex::default() }
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
            return Arc::new(self.sidecar.upstream(OTHER, &key.1, None, now));
        }
        let upstream = Arc::new(self.sidecar.upstream(name, &key.1, None, now));
        known.insert(key, Arc::clone(&upstream));
        upstream
    }

    /// Closes what has been idle for too long. Called about once a second.
    pub(crate) fn sweep(&self, now: Instant) {
        let timeout = self.connector.idle_timeout;
        self.app.iter().chain(&self.outbound).for_each(|upstream| upstream.sweep(now, timeout));
        let mut explicit = self.explicit.lock();
        explicit.retain(|_, upstream| upstream.unused_for(now) < FORGET_AFTER);
        explicit.values().for_each(|upstream| upstream.sweep(now, timeout));
    }
}
