//! The demo system on real sockets: an analyzer, and for each service a server with a sidecar beside it.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use couplet_analyzer::StartError;
use couplet_config::{
    AnalyzerConfig, AnalyzerLink, BreakerMode, BreakerSettings, EdgeBreaker, HttpUrl, Outbound, ProxyConfig, Target,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
};

use super::{
    load::Load,
    random::Random,
    scenario::{Event, Scenario},
    service::{Mood, Service},
};

/// All of it, running.
#[derive(Debug)]
pub(crate) struct System {
    services: JoinSet<()>,
    moods: BTreeMap<String, watch::Sender<Mood>>,
    doors: BTreeMap<String, Door>,
    sidecars: Vec<couplet_proxy::Running>,
}

impl System {
    /// Starts every service and its sidecar; the sidecars report to the analyzer at `analyzer`. Breakers of calls to
    /// services in `enforce` stop them, all others observe.
    ///
    /// # Errors
    /// What could not be started; what was started before has been stopped then.
    pub(crate) async fn start(
        scenario: &Scenario,
        analyzer: SocketAddr,
        seed: u64,
        enforce: &[String],
    ) -> anyhow::Result<Self> {
        let mut system =
            Self { services: JoinSet::new(), moods: BTreeMap::new(), doors: BTreeMap::new(), sidecars: Vec::new() };
        match system.start_all(scenario, analyzer, seed, enforce).await {
            Ok(()) => Ok(system),
            Err(error) => {
                system.stop().await;
                Err(error)
            }
        }
    }

    /// Services call one another in circles, so every inbound address is known before the first sidecar starts.
    async fn start_all(
        &mut self,
        scenario: &Scenario,
        analyzer: SocketAddr,
        seed: u64,
        enforce: &[String],
    ) -> anyhow::Result<()> {
        for name in scenario.services.keys() {
            let door = Door::reserve().with_context(|| format!("no free port for the sidecar of {name}"))?;
            self.doors.insert(name.clone(), door);
        }
        for (n, (name, spec)) in (0_u64..).zip(&scenario.services) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener = listener.with_context(|| format!("no free port for {name}"))?;
            let mut config = self.sidecar_config(name, listener.local_addr()?, &spec.callees(), analyzer);
            config.breakers.edges = enforce.iter().map(enforced).collect();
            let sidecar =
                couplet_proxy::start(config).with_context(|| format!("cannot start the sidecar of {name}"))?;
            let upstreams: Vec<_> = sidecar.outbound().to_vec();
            self.sidecars.push(sidecar);
            let (mood, current) = watch::channel(Mood::usual());
            let random = Random::new(seed.wrapping_add(n << 32));
            self.services.spawn(Service::new(name, spec.clone(), upstreams, current, random).serve(listener));
            self.moods.insert(name.clone(), mood);
        }
        Ok(())
    }

    /// The sidecar beside `service`: inbound in front of it, and an outbound listener for each callee.
    fn sidecar_config(&self, service: &str, app: SocketAddr, callees: &[&str], analyzer: SocketAddr) -> ProxyConfig {
        let mut config = ProxyConfig::new(service);
        config.version = Some("1.0.0".to_owned());
        config.app = Some(app);
        config.admin = None;
        if let Some(door) = self.doors.get(service) {
            config.inbound = door.address;
        }
        let doors = callees.iter().filter_map(|callee| Some((*callee, self.doors.get(*callee)?)));
        config.outbound = doors
            .map(|(callee, door)| {
                let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Outbound::new(callee, listen, target(door.address).into())
            })
            .collect();
        config.analyzer = Some(AnalyzerLink::new(HttpUrl::http(target(analyzer))));
        config.telemetry.window = WINDOW;
        config.timeouts.drain = DRAIN;
        config
    }

    /// Starts the scenario's load, `multiplier` times as much as it says.
    pub(crate) fn load(&self, scenario: &Scenario, multiplier: f64, seed: u64) -> Load {
        let at = |service: &str| self.doors.get(service).map(|door| door.address);
        let entries = scenario.load.iter().filter_map(|entry| Some((entry.clone(), at(&entry.entry.service)?)));
        Load::start(entries, multiplier, seed)
    }

    /// Lets an event happen.
    pub(crate) fn happen(&self, event: &Event) {
        if let Some(mood) = self.moods.get(&event.service) {
            mood.send_modify(|mood| mood.apply(&event.change));
        }
    }

    /// Stops the sidecars, each after its last report was shipped, then the services. No request should be left by now.
    pub(crate) async fn stop(mut self) {
        let mut stopping = JoinSet::new();
        for sidecar in self.sidecars {
            stopping.spawn_blocking(move || sidecar.stop());
        }
        while let Some(stopped) = stopping.join_next().await {
            if let Err(error) = stopped {
                tracing::error!(%error, "a sidecar did not stop in order");
            }
        }
        self.services.shutdown().await;
    }
}

/// Starts the analyzer on `port`; without one on its usual port, or on any that is free when that is taken.
///
/// # Errors
/// The port that was asked for cannot be used, or nothing can be started at all.
pub(crate) fn start_analyzer(scenario: &str, port: Option<u16>) -> anyhow::Result<couplet_analyzer::Running> {
    let on = |port: u16| AnalyzerConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        name: Some(format!("shop ({scenario})")),
        snapshot_every: SNAPSHOT_EVERY,
        ..AnalyzerConfig::default()
    };
    let usual = AnalyzerConfig::default().listen.port();
    let started = match (couplet_analyzer::start(on(port.unwrap_or(usual))), port) {
        (Err(StartError::InUse { .. }), None) => couplet_analyzer::start(on(0)),
        (Err(StartError::InUse { .. }), Some(port)) => {
            bail!("port {port} is already in use: choose another with --port, or leave it out to take any free one")
        }
        (started, _) => started,
    };
    started.context("cannot start the analyzer")
}

/// How often the analyzer publishes a new snapshot of its graph.
pub(crate) const SNAPSHOT_EVERY: Duration = Duration::from_millis(250);

/// How much time a report covers: short, so that the first findings come within seconds.
const WINDOW: Duration = Duration::from_secs(1);

/// How long a sidecar waits for requests in flight when it stops; there are none then.
const DRAIN: Duration = Duration::from_secs(2);

/// A port of this computer that is kept for a sidecar's inbound listener.
///
/// A bound socket that does not listen keeps the port from everybody who wants any free one, yet lets a listener that
/// sets `SO_REUSEADDR` have it: nobody can take the port between its choice and the start of the sidecar.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Door {
    fn reserve() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }
}

/// The usual rules, and what they say is done.
fn enforced(to: &String) -> EdgeBreaker {
    EdgeBreaker::new(to, BreakerSettings { mode: BreakerMode::Enforce, ..BreakerSettings::default() })
}

fn target(address: SocketAddr) -> Target {
    Target { host: address.ip().to_string(), port: address.port() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reserved_port_is_kept_from_others_and_given_to_its_listener() {
        let door = Door::reserve().unwrap();
        let others: Vec<_> = (0..50).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        assert!(others.iter().all(|other| other.local_addr().unwrap() != door.address));
        let listener = TcpListener::bind(door.address).await.unwrap();
        let (accepted, connected) = tokio::join!(listener.accept(), tokio::net::TcpStream::connect(door.address));
        assert!(accepted.is_ok() && connected.is_ok());
    }
}
