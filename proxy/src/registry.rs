//! Names of running sidecars, as the analyzer knows them: how services that `couplet run` started find one another.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use couplet_config::{Destination, Destinations, Target};
use http::{Method, StatusCode};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Client, ClientError};

/// How often the names are asked for.
const EVERY: Duration = Duration::from_secs(2);
/// How long a request waits for a name that is not known yet.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long a name that nobody knows at all is waited for: services that are started together call one another
/// before each of them is announced.
const STARTING: Duration = Duration::from_secs(3);
/// How often it is asked for meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A name that was waited for in vain is waited for again after this.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Names that are waited for, or were in vain; requests to further ones do not wait.
const MAX_MISSED: usize = 256;
/// Instances of one service that requests are shared among.
const MAX_INSTANCES: usize = 128;

/// The names, as of the last answer.
pub(crate) struct Names {
    known: RwLock<HashMap<String, Entry>>,
    wanted: Notify,
    answers: watch::Sender<u64>,
    /// Names that nobody knew, since when.
    missed: Mutex<HashMap<String, Instant>>,
}

struct Entry {
    service: String,
    inbound: Destinations,
}

/// `GET /api/v1/registry`.
#[derive(Deserialize)]
struct Registry {
    services: Vec<Registered>,
}

#[derive(Deserialize)]
struct Registered {
    service: String,
    inbound: Vec<SocketAddr>,
}

impl Names {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            known: RwLock::default(),
            wanted: Notify::new(),
            answers: watch::Sender::new(0),
            missed: Mutex::default(),
        })
    }

    /// The service of this name (in any case) and where its sidecars listen. A name that is not known is asked for
    /// once, for a second at most; one with a dot is an outside host and is not asked for.
    pub(crate) async fn resolve(&self, host: &str) -> Option<(String, Destinations)> {
        if let Some(found) = self.lookup(host) {
            return Some(found);
        }
        if is_outside(host) {
            return None;
        }
        let mut answers = self.answers.subscribe();
        self.wanted.notify_one();
        // Without an answer the name stays unknown; DNS has the last word.
        let _ = tokio::time::timeout(PATIENCE, answers.changed()).await;
        self.lookup(host)
    }

    /// The same for a name that DNS does not know either: its service may be starting. Waited for once; after that, and
    /// for a minute, requests to it fail at once.
    pub(crate) async fn appears(&self, host: &str) -> Option<(String, Destinations)> {
        if is_outside(host) {
            return None;
        }
        let deadline = self.missed(host, Instant::now())?;
        let mut answers = self.answers.subscribe();
        loop {
            if let Some(found) = self.lookup(host) {
                self.missed.lock().remove(host);
                return Some(found);
            }
            let asked = Instant::now();
            if asked >= deadline {
                return None;
            }
            self.wanted.notify_one();
            let _ = timeout_at(deadline, answers.changed()).await;
            if self.lookup(host).is_none() {
                sleep_until(deadline.min(asked + ASK_AGAIN)).await;
            }
        }
    }

    /// Until when `host` is waited for.
    fn missed(&self, host: &str, now: Instant) -> Option<Instant> {
        let mut missed = self.missed.lock();
        missed.retain(|_, since| now.saturating_duration_since(*since) < FORGET_AFTER);
        if let Some(since) = missed.get(host) {
            return Some(*since + STARTING);
        }
        if missed.len() >= MAX_MISSED {
            return None;
        }
        missed.insert(host.to_owned(), now);
        Some(now + STARTING)
    }

    /// The service of this name (in lower case) as it spells itself, if one is running.
    pub(crate) fn spelled(&self, name: &str) -> Option<String> {
        self.known.read().get(name).map(|entry| entry.service.clone())
    }

    /// The service that has a sidecar at this address, if there is one and no more.
    pub(crate) fn at(&self, ip: IpAddr) -> Option<String> {
        let known = self.known.read();
        let host = ip.to_string();
        let is_there = |destination: &Destination| match destination {
            Destination::Target(target) => target.host == host,
            Destination::Service(_) => false,
        };
        let mut there = known.values().filter(|entry| entry.inbound.iter().any(is_there));
        let one = there.next()?.service.clone();
        // Several on one machine: the address says nothing.
        there.next().is_none().then_some(one)
    }

    fn lookup(&self, host: &str) -> Option<(String, Destinations)> {
        self.known.read().get(host).map(|entry| (entry.service.clone(), entry.inbound.clone()))
    }

    /// Keeps the names fresh. Runs on the control side for as long as the proxy does.
    pub(crate) async fn follow(self: Arc<Self>, mut client: Client) {
        loop {
            match ask(&mut client).await {
                Ok(registry) => *self.known.write() = registry,
                Err(error) => {
                    tracing::debug!(%error, "the names of running sidecars could not be read; the last ones stay");
                }
            }
            self.answers.send_modify(|answers| *answers += 1);
            let _ = tokio::time::timeout(EVERY, self.wanted.notified()).await;
        }
    }
}

/// Whether a host is none of the services: those have neither dots nor colons.
fn is_outside(host: &str) -> bool {
    host.contains(['.', ':'])
}

async fn ask(client: &mut Client) -> Result<HashMap<String, Entry>, ClientError> {
    let (status, body) = client.request(Method::GET, "/api/v1/registry", None, Bytes::new()).await?;
    let registry: Option<Registry> = serde_json::from_slice(&body).ok().filter(|_| status == StatusCode::OK);
    let services = registry.ok_or(ClientError::Answer)?.services;
    let entry = |mut registered: Registered| {
        // In one order, so that the same sidecars are the same upstream.
        registered.inbound.sort_unstable();
        registered.inbound.truncate(MAX_INSTANCES);
        let target = |address: SocketAddr| Target { host: address.ip().to_string(), port: address.port() };
        let inbound = registered.inbound.into_iter().map(|address| Destination::Target(target(address))).collect();
        (registered.service.to_ascii_lowercase(), Entry { service: registered.service, inbound })
    };
    Ok(services.into_iter().filter(|registered| !registered.inbound.is_empty()).map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock() -> HashMap<String, Entry> {
        let inbound = Destinations::parse("127.0.0.1:7").unwrap();
        HashMap::from([("stock".to_owned(), Entry { service: "stock".to_owned(), inbound })])
    }

    /// Answers every question, with `stock` from then on.
    fn answering(names: &Arc<Names>, from: Instant) {
        let names = Arc::clone(names);
        tokio::spawn(async move {
            loop {
                names.wanted.notified().await;
                if Instant::now() >= from {
                    *names.known.write() = stock();
                }
                names.answers.send_modify(|answers| *answers += 1);
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_only_just_starting_is_found() {
        let names = Names::new();
        let begun = Instant::now();
        answering(&names, begun + Duration::from_secs(2));
        assert_eq!(names.appears("stock").await.unwrap().0, "stock");
        assert_eq!(begun.elapsed().as_secs(), 2);
        assert!(names.missed.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_has_is_waited_for_once() {
        let names = Names::new();
        let begun = Instant::now();
        answering(&names, begun + Duration::from_secs(3_600));
        assert!(names.appears("typo").await.is_none());
        assert_eq!(begun.elapsed(), STARTING);
        assert!(names.appears("typo").await.is_none() && names.appears("example.org").await.is_none());
        assert_eq!(begun.elapsed(), STARTING, "and no request waits again");
        tokio::time::advance(FORGET_AFTER).await;
        assert!(names.appears("typo").await.is_none());
        assert!(begun.elapsed() >= FORGET_AFTER + 2 * STARTING);
    }

    #[tokio::test(start_paused = true)]
    async fn names_beyond_the_limit_are_not_waited_for() {
        let names = Names::new();
        for n in 0..MAX_MISSED {
            assert!(names.missed(&format!("n{n}"), Instant::now()).is_some());
        }
        assert!(names.appears("one-more").await.is_none());
        assert_eq!(names.missed.lock().len(), MAX_MISSED);
    }
}
