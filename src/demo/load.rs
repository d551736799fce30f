//! The people outside: requests at a given rate, whether earlier ones have been answered or not.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    http::{CallError, Upstream},
    random::Random,
    scenario::Entry,
};

/// What became of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests made, also those that failed.
    pub(crate) sent: u64,
    /// Those of them that were not answered well.
    pub(crate) failed: u64,
    /// Those of the failed for which nobody took the connection: no sidecar can have seen them.
    pub(crate) unconnected: u64,
    /// Requests that were not made, because too many were waiting for their answers.
    pub(crate) skipped: u64,
}

impl Tally {
    /// The requests that arrived at a sidecar.
    pub(crate) fn arrived(&self) -> u64 {
        self.sent.saturating_sub(self.unconnected)
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.unconnected += other.unconnected;
        self.skipped += other.skipped;
    }
}

/// The load generator, running.
#[derive(Debug)]
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    entries: JoinSet<Tally>,
}

impl Load {
    /// Starts to request each entry at its address, `multiplier` times as often as it says.
    pub(crate) fn start(entries: impl IntoIterator<Item = (Entry, SocketAddr)>, multiplier: f64, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut tasks = JoinSet::new();
        for (n, (entry, address)) in (0_u64..).zip(entries) {
            let crowd = Crowd {
                upstream: Upstream::new(address),
                mean: Duration::from_secs_f64(1.0 / (entry.rate * multiplier)),
                entry,
                random: Random::new(seed.wrapping_add(n)),
                names: Random::new(!seed.wrapping_add(n)),
            };
            tasks.spawn(Arc::new(crowd).keep_calling(Arc::clone(&in_flight), stopped.clone()));
        }
        Self { stop, entries: tasks }
    }

    /// Makes no more requests and waits for the answers to those that were made.
    pub(crate) async fn stop(mut self) -> Tally {
        self.stop.send_replace(true);
        let mut total = Tally::default();
        while let Some(tally) = self.entries.join_next().await {
            total.add(tally.unwrap_or_default());
        }
        total
    }
}

/// Those who request one entry.
#[derive(Debug)]
struct Crowd {
    entry: Entry,
    upstream: Upstream,
    mean: Duration,
    /// When they come. Nothing else draws from it, so that the same seed makes the same load whatever the answers are.
    random: Random,
    /// What they ask for.
    names: Random,
}

impl Crowd {
    async fn keep_calling(self: Arc<Self>, in_flight: Arc<Semaphore>, mut stopped: watch::Receiver<bool>) -> Tally {
        let mut tally = Tally::default();
        let mut requests = JoinSet::new();
        let mut next = Instant::now();
        loop {
            // Independent people arrive at exponential intervals; each interval counts from the arrival before, so
            // that a late wake-up does not lower the rate.
            next += self.mean.mul_f64(self.random.exponential().min(4.0) / MEAN_BELOW_4);
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = tokio::time::sleep_until(next) => {}
            }
            match Arc::clone(&in_flight).try_acquire_owned() {
                Ok(permit) => {
                    let crowd = Arc::clone(&self);
                    requests.spawn(async move {
                        let tally = crowd.call().await;
                        drop(permit);
                        tally
                    });
                }
                Err(_) => tally.skipped += 1,
            }
            while let Some(done) = requests.try_join_next() {
                tally.add(done.unwrap_or_default());
            }
        }
        while let Some(done) = requests.join_next().await {
            tally.add(done.unwrap_or_default());
        }
        tally
    }

    async fn call(&self) -> Tally {
        let endpoint = &self.entry.entry.endpoint;
        let path = endpoint.path(&self.names);
        let reply = self.upstream.send(endpoint.method(), &path, HeaderMap::new(), PATIENCE).await;
        let unconnected = u64::from(matches!(reply, Err(CallError::Connect(..))));
        let failed = u64::from(!reply.is_ok_and(|reply| reply.status < 500));
        Tally { sent: 1, failed, unconnected, skipped: 0 }
    }
}

/// Requests that wait for their answers at the same time, over all entries: twenty times the usual number. Each holds
/// some dozen file descriptors, since both ends of all its connections are in this program.
const MAX_IN_FLIGHT: usize = 64;

/// How long anybody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The mean of min(X, 4) for X exponential with mean 1: 1 − e⁻⁴.
const MEAN_BELOW_4: f64 = 0.981_684_361_111_265_8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn entry(rate: f64) -> Entry {
        Entry { entry: "web GET /items/{id}".to_owned().try_into().unwrap(), rate }
    }

    /// A server on its own thread that answers every connection's first request with `status` and closes.
    fn server(status: &'static str, requests: usize) -> (SocketAddr, std::thread::JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move || {
            for _ in 0..requests {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 1024];
                let length = stream.read(&mut head).unwrap();
                assert!(head[..length].starts_with(b"GET /items/"));
                write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            }
        };
        (address, std::thread::spawn(answer))
    }

    #[tokio::test]
    async fn every_request_is_counted_with_what_became_of_it() {
        let (address, server) = server("500 Oh", 5);
        let load = Load::start([(entry(500.0), address)], 1.0, 1);
        // The server ends after five answers; whatever is requested then finds nobody.
        tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
        let tally = load.stop().await;
        assert!(tally.sent >= 5, "{tally:?}");
        assert_eq!(tally.failed, tally.sent, "{tally:?}");
        assert!(tally.arrived() >= 5 && tally.skipped == 0, "{tally:?}");
    }

    #[tokio::test]
    async fn requests_that_nobody_takes_have_not_arrived() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let crowd = Crowd {
            entry: entry(1.0),
            upstream: Upstream::new(closed),
            mean: Duration::from_secs(1),
            random: Random::new(1),
            names: Random::new(2),
        };
        let tally = crowd.call().await;
        assert_eq!(tally, Tally { sent: 1, failed: 1, unconnected: 1, skipped: 0 });
        assert_eq!(tally.arrived(), 0);
    }

    #[test]
    fn arrivals_have_the_rate_that_was_asked_for() {
        let random = Random::new(3);
        let total: f64 = (0..50_000).map(|_| random.exponential().min(4.0) / MEAN_BELOW_4).sum();
        assert!((total / 50_000.0 - 1.0).abs() < 0.02, "{total}");
    }
}
