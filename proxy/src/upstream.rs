//! Where requests go: a named destination, its endpoints and their connections, and whether a sidecar answers there.

mod balance;
mod connect;
mod early;
mod endpoint;
mod learned;
mod lease;
mod making;
mod peer;
mod shared;
mod wait;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use couplet_config::{Destination, Destinations};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub(crate) use connect::{Connector, Opened};
pub(crate) use early::{Dial, Early};
pub(crate) use endpoint::Room;
pub(crate) use lease::{Lease, Unanswered};
pub(crate) use peer::Peer;

use crate::deadline::Downstream;
use crate::error::Fault;
use crate::http::Protocol;
use crate::metrics::Metrics;
use crate::policy::{Breaker, Counted, Neighbour};
use crate::resolve::{Answer, Directory, Found, Question};
use crate::stream::Stream;
use crate::tls::Secure;
use balance::{Candidate, choose};
use endpoint::Endpoint;
use wait::Wait;

/// One worker's view of a destination.
pub(crate) struct Upstream {
    /// The name under which calls to it are recorded.
    pub(crate) name: String,
    /// Whether a sidecar answers there.
    pub(crate) peer: Peer,
    /// Stops calls to it while it fails.
    pub(crate) breaker: Option<Arc<Breaker>>,
    secure: Option<Arc<Secure>>,
    metrics: Arc<Metrics>,
    members: Mutex<Members>,
    used: Mutex<Instant>,
}

/// The endpoints, and where they come from.
struct Members {
    sources: Vec<Source>,
    list: Arc<[Member]>,
    built: bool,
}

enum Source {
    Address(SocketAddr),
    Name(watch::Receiver<Answer>),
}

struct Member {
    endpoint: Arc<Endpoint>,
    priority: u16,
    weight: u16,
}

impl Upstream {
    /// Nothing is connected yet; names are asked for at once.
    pub(crate) fn new(
        name: impl Into<String>,
        destinations: &Destinations,
        secure: Option<Secure>,
        directory: &Directory,
        metrics: &Arc<Metrics>,
        now: Instant,
    ) -> Self {
        let sources = destinations.iter().filter_map(|destination| source(destination, directory)).collect();
        Self {
            name: name.into(),
            peer: Peer::default(),
            breaker: None,
            secure: secure.map(Arc::new),
            metrics: Arc::clone(metrics),
            members: Mutex::new(Members { sources, list: Arc::default(), built: false }),
            used: Mutex::new(now),
        }
    }

    /// The same, whose calls `breaker` looks at.
    pub(crate) fn stopped_by(self, breaker: Option<Arc<Breaker>>) -> Self {
        Self { breaker, ..self }
    }

    /// Whether the configuration says that an ordinary server is there, and no sidecar.
    pub(crate) fn is_ordinary(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.is_https())
    }

    /// A connection for one exchange: of the endpoint that balancing names, or of the next one where none can be made
    /// to that; nothing was sent then. `client` is the connection that the request came on.
    ///
    /// # Errors
    /// Where there is none to be had within `patience`, or none more allowed.
    pub(crate) async fn lease(
        &self,
        connector: &Connector,
        protocol: Protocol,
        client: &Downstream,
        patience: Duration,
    ) -> Result<Lease, Fault> {
        let now = Instant::now();
        let mut wait = Wait::new(self.neighbour());
        let mut search = self.search(&mut wait, patience, now).await?;
        loop {
            while let Some((endpoint, deadline)) = search.next() {
                let outstanding = endpoint.begin();
                let connected = match protocol {
                    Protocol::Http1 => endpoint.http1(connector, &mut wait, now, deadline).await,
                    Protocol::Http2 => endpoint.http2(connector, &mut wait, client, deadline).await,
                };
                match connected {
                    Ok(connection) => return Ok(Lease::new(connection, endpoint, outstanding, connector)),
                    Err(fault) => search.failed(fault, self)?,
                }
            }
            if !search.again_after(|| self.close_idle()) {
                return Err(wait.given_up(search.fault));
            }
            // Its own task closes the connection.
            tokio::task::yield_now().await;
        }
    }

    /// What all workers know of it.
    fn neighbour(&self) -> Option<&Arc<Neighbour>> {
        self.breaker.as_ref().map(|breaker| &breaker.neighbour)
    }

    /// Closes one connection that nobody uses, where there is one.
    fn close_idle(&self) -> bool {
        let members = Arc::clone(&self.members.lock().list);
        members.iter().any(|member| member.endpoint.close_idle())
    }

    /// Takes over a connection to its one endpoint. One that cannot be used is closed; the next lease makes another.
    pub(crate) async fn adopt(&self, connector: &Connector, protocol: Protocol, opened: Opened) {
        let only = {
            let mut members = self.members.lock();
            members.refresh(self.secure.as_ref(), &self.metrics);
            members.list.first().map(|member| Arc::clone(&member.endpoint))
        };
        let Some(endpoint) = only else { return };
        let counted = match self.neighbour().map(Neighbour::connection) {
            // One too many.
            Some(None) => return,
            Some(counted) => counted.inspect(Counted::stays),
            None => None,
        };
        endpoint.adopt(connector, protocol, opened.counted(counted)).await;
    }

    /// A connection for bytes that nobody here understands.
    ///
    /// # Errors
    /// Where there is none to be had within `patience`, or none more allowed.
    pub(crate) async fn dial(&self, connector: &Connector, patience: Duration) -> Result<Stream, Fault> {
        let mut wait = Wait::new(self.neighbour());
        let mut search = self.search(&mut wait, patience, Instant::now()).await?;
        let counted = loop {
            match wait.connection() {
                Ok(counted) => break counted,
                Err(fault) => search.fault = fault,
            }
            if !search.again_after(|| self.close_idle()) {
                return Err(wait.given_up(search.fault));
            }
            tokio::task::yield_now().await;
        };
        search.fault = Fault::Unresolved;
        while let Some((endpoint, deadline)) = search.next() {
            let connected = match self.secure.as_deref() {
                Some(Secure::Learned) => connector.learned(endpoint.address, deadline).await,
                _ => connector.dial(endpoint.address, deadline).await.map(Opened::from),
            };
            match endpoint.judge(connected) {
                Ok(opened) => return Ok(opened.counted(counted).stream),
                Err(fault) => search.failed(fault, self)?,
            }
        }
        Err(search.fault)
    }

    async fn search(&self, wait: &mut Wait<'_>, patience: Duration, now: Instant) -> Result<Search, Fault> {
        *self.used.lock() = now;
        let deadline = now + patience;
        let members = self.members(wait, deadline).await.map_err(|fault| wait.given_up(fault))?;
        let mut ejected = Vec::new();
        if let Some(neighbour) = self.neighbour() {
            neighbour.endpoints.are(members.len());
            ejected = neighbour.endpoints.ejected(now);
        }
        let (tried, fault) = (Tried::default(), Fault::Unresolved);
        Ok(Search { members, ejected, tried, deadline, fault, made_room: false })
    }

    /// The endpoints. Waited for only where a name was never answered.
    async fn members(&self, wait: &mut Wait<'_>, deadline: Instant) -> Result<Arc<[Member]>, Fault> {
        loop {
            let mut pending = {
                let mut members = self.members.lock();
                members.refresh(self.secure.as_ref(), &self.metrics);
                if !members.list.is_empty() {
                    return Ok(Arc::clone(&members.list));
                }
                members.pending().ok_or(Fault::Unresolved)?
            };
            wait.begins()?;
            match timeout_at(deadline, pending.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(Fault::Unresolved),
            }
        }
    }

    /// Whether it has an endpoint; waits where its name was never answered.
    pub(crate) async fn is_known(&self, connector: &Connector) -> bool {
        self.members(&mut Wait::new(None), Instant::now() + connector.connect_timeout).await.is_ok()
    }

    /// Closes connections that were idle for too long, and those to endpoints that are none any more.
    pub(crate) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        let mut members = self.members.lock();
        members.refresh(self.secure.as_ref(), &self.metrics);
        members.list.iter().for_each(|member| member.endpoint.sweep(now, idle_timeout));
    }

    /// How long nobody asked for it.
    pub(crate) fn unused_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.used.lock())
    }
}

fn source(destination: &Destination, directory: &Directory) -> Option<Source> {
    let question = match destination {
        Destination::Service(name) => Question::Service(name.clone()),
        Destination::Target(target) => match target.host.parse() {
            Ok(ip) => return Some(Source::Address(SocketAddr::new(ip, target.port))),
            Err(_) => Question::Host { name: target.host.clone(), port: target.port },
        },
    };
    directory.subscribe(&question).map(Source::Name)
}

/// One request's way over the endpoints, until there is a connection to one.
struct Search {
    members: Arc<[Member]>,
    /// Those that are passed over, since they fail.
    ejected: Vec<SocketAddr>,
    tried: Tried,
    deadline: Instant,
    /// What was wrong with the last one.
    fault: Fault,
    /// Whether a connection was closed already to make room for another.
    made_room: bool,
}

/// Endpoints that were tried, in that order. Nearly always there is one: no allocation for that.
#[derive(Default)]
struct Tried {
    first: Option<usize>,
    others: Vec<usize>,
}

impl Tried {
    fn push(&mut self, index: usize) {
        match self.first {
            None => self.first = Some(index),
            Some(_) => self.others.push(index),
        }
    }

    fn last(&self) -> Option<usize> {
        self.others.last().copied().or(self.first)
    }

    fn contains(&self, index: usize) -> bool {
        self.first == Some(index) || self.others.contains(&index)
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }
}

impl Search {
    /// The endpoint to try next, and until when; none where all were tried or the time is over.
    fn next(&mut self) -> Option<(Arc<Endpoint>, Instant)> {
        // The one endpoint that most upstreams have is not chosen, and needs no look at the clock.
        if let ([only], None) = (&*self.members, self.tried.first) {
            self.tried.push(0);
            return Some((Arc::clone(&only.endpoint), self.deadline));
        }
        let now = Instant::now();
        if now >= self.deadline {
            return None;
        }
        let candidate = |index| {
            let member = self.members.get(index).filter(|_| !self.tried.contains(index))?;
            Some(Candidate {
                resting: member.endpoint.rests() || self.ejected.contains(&member.endpoint.address),
                priority: member.priority,
                weight: member.weight,
                outstanding: member.endpoint.outstanding(),
            })
        };
        let index = choose(self.members.len(), candidate, |below| fastrand::u64(..below))?;
        self.tried.push(index);
        let last = self.tried.len() == self.members.len();
        // One that stays silent must leave time for the others.
        let until = if last { self.deadline } else { now + self.deadline.saturating_duration_since(now) / 2 };
        Some((Arc::clone(&self.members.get(index)?.endpoint), until))
    }

    /// Whether all of them are worth another look: there may be no more connections, and `make_room` closed one.
    fn again_after(&mut self, make_room: impl FnOnce() -> bool) -> bool {
        let again = self.fault == Fault::DestinationConnections && !self.made_room && make_room();
        if again {
            self.made_room = true;
            self.tried = Tried::default();
        }
        again
    }

    /// No connection to that one. Nothing was sent, so another may serve.
    fn failed(&mut self, fault: Fault, upstream: &Upstream) -> Result<(), Fault> {
        if matches!(fault, Fault::DestinationConnections | Fault::DestinationPending) {
            // It says nothing of this one; another may have a connection that nobody uses.
            self.fault = fault;
            return Ok(());
        }
        let next = matches!(fault, Fault::Connect | Fault::ConnectTimeout | Fault::ClearText)
            || matches!(fault, Fault::Tls | Fault::Identity | Fault::TlsRefused);
        if !next {
            return Err(fault);
        }
        upstream.metrics.connect_failures.add(&upstream.name);
        let last = self.tried.last().and_then(|index| self.members.get(index));
        if let (Some(neighbour), Some(member)) = (upstream.neighbour(), last) {
            neighbour.endpoints.unreachable(member.endpoint.address, Instant::now());
        }
        self.fault = fault;
        Ok(())
    }
}

impl Members {
    /// Takes over what the names say now. Endpoints that stay keep their connections.
    fn refresh(&mut self, secure: Option<&Arc<Secure>>, metrics: &Arc<Metrics>) {
        let changed = |source: &Source| match source {
            Source::Address(_) => false,
            Source::Name(answer) => answer.has_changed().unwrap_or(false),
        };
        if self.built && !self.sources.iter().any(changed) {
            return;
        }
        self.built = true;
        let mut found: Vec<Found> = Vec::new();
        for source in &mut self.sources {
            match source {
                Source::Address(address) => found.push(Found { priority: 0, address: *address, weight: 1 }),
                Source::Name(answer) => {
                    if let Answer::Known(known) = &*answer.borrow_and_update() {
                        found.extend(known.iter().copied());
                    }
                }
            }
        }
        let mut list: Vec<Member> = Vec::with_capacity(found.len());
        for Found { priority, address, weight } in found {
            if list.iter().any(|member| member.endpoint.address == address) {
                continue;
            }
            let known = self.list.iter().find(|member| member.endpoint.address == address);
            let new = || Endpoint::new(address, secure.cloned(), metrics);
            let endpoint = known.map_or_else(new, |known| Arc::clone(&known.endpoint));
            list.push(Member { endpoint, priority, weight });
        }
        self.list = list.into();
    }

    /// A name that was never answered.
    fn pending(&self) -> Option<watch::Receiver<Answer>> {
        self.sources.iter().find_map(|source| match source {
            // An answer that has come since the last look counts as well: it is there at once.
            Source::Name(answer) if answer.has_changed().unwrap_or(false) || *answer.borrow() == Answer::Pending => {
                Some(answer.clone())
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::{Addresses, Scripted};

    fn addresses(found: &[&str]) -> Addresses {
        let found = found.iter().map(|address| Found { priority: 0, address: address.parse().unwrap(), weight: 1 });
        Addresses { found: found.collect(), ttl: Duration::from_secs(5) }
    }

    fn endpoints(members: &[Member]) -> Vec<String> {
        members.iter().map(|member| member.endpoint.address.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_follow_their_name_and_those_that_stay_keep_what_they_have() {
        let metrics: Arc<Metrics> = Arc::default();
        let script =
            vec![Ok(addresses(&["10.0.0.1:80", "10.0.0.2:80"])), Ok(addresses(&["10.0.0.2:80", "10.0.0.3:80"]))];
        let directory = Directory::new(Scripted::new(script), Arc::clone(&metrics));
        tokio::spawn(Arc::clone(&directory).run());
        let destinations = Destinations::parse("stock:80,10.0.0.9:80").unwrap();
        let upstream = Upstream::new("stock", &destinations, None, &directory, &metrics, Instant::now());
        let deadline = || Instant::now() + Duration::from_secs(1);

        // The address that needs no name serves at once.
        assert_eq!(endpoints(&upstream.members(&mut Wait::new(None), deadline()).await.unwrap()), ["10.0.0.9:80"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = upstream.members(&mut Wait::new(None), deadline()).await.unwrap();
        assert_eq!(endpoints(&before), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]);
        tokio::time::sleep(Duration::from_secs(6)).await;
        upstream.sweep(Instant::now(), Duration::from_secs(4));
        let after = upstream.members(&mut Wait::new(None), deadline()).await.unwrap();
        assert_eq!(endpoints(&after), ["10.0.0.2:80", "10.0.0.3:80", "10.0.0.9:80"]);
        assert!(Arc::ptr_eq(&before[1].endpoint, &after[0].endpoint));
        drop(before);
        assert_eq!(metrics.endpoints.get(), 3, "the one that is gone is gone with its connections");
    }

    #[test]
    fn endpoints_that_were_tried_are_known_in_their_order() {
        let mut tried = Tried::default();
        for (count, index) in [2, 0, 5].into_iter().enumerate() {
            assert_eq!((tried.len(), tried.contains(index)), (count, false));
            tried.push(index);
            assert_eq!((tried.last(), tried.contains(2) && tried.contains(index)), (Some(index), true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_answers_for_holds_up_no_request_for_longer_than_the_connect_timeout() {
        let metrics: Arc<Metrics> = Arc::default();
        // Nobody runs the directory: the first answer never comes.
        let directory = Directory::new(Scripted::new(Vec::new()), Arc::clone(&metrics));
        let destinations = Destinations::parse("stock:80").unwrap();
        let upstream = Upstream::new("stock", &destinations, None, &directory, &metrics, Instant::now());
        let before = Instant::now();
        let members = upstream.members(&mut Wait::new(None), before + Duration::from_secs(5)).await;
        assert!(matches!(members, Err(Fault::Unresolved)));
        assert_eq!(before.elapsed().as_secs(), 5);
    }
}
