//! Names of running sidecars, as the analyzer knows them: how services that `couplet run` started find one another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use couplet_config::{Destination, Destinations, Target};
use http::{Method, StatusCode};
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::{Notify, watch};

use crate::client::{Client, ClientError};

/// How often the names are asked for.
const EVERY: Duration = Duration::from_secs(2);
/// How long a request waits for a name that is not known yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// Instances of one service that requests are shared among.
const MAX_INSTANCES: usize = 128;

/// The names, as of the last answer.
pub(crate) struct Names {
    known: RwLock<HashMap<String, Entry>>,
    wanted: Notify,
    answers: watch::Sender<u64>,
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
        Arc::new(Self { known: RwLock::default(), wanted: Notify::new(), answers: watch::Sender::new(0) })
    }

    /// The service of this name (in any case) and where its sidecars listen. A name that is not known is asked for
    /// once, for a second at most; one with a dot is an outside host and is not asked for.
    pub(crate) async fn resolve(&self, host: &str) -> Option<(String, Destinations)> {
        if let Some(found) = self.lookup(host) {
            return Some(found);
        }
        if host.contains(['.', ':']) {
            return None;
        }
        let mut answers = self.answers.subscribe();
        self.wanted.notify_one();
        // Without an answer the name stays unknown; DNS has the last word.
        let _ = tokio::time::timeout(PATIENCE, answers.changed()).await;
        self.lookup(host)
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
