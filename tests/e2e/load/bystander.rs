//! A client who asks at a steady pace and does no harm: what it notices is what others notice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::http2::{BYSTANDER, apart};

/// Between two of its requests.
const EVERY: Duration = Duration::from_millis(2);
/// Longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The client. It asks until it is dropped.
pub(crate) struct Bystander(Arc<Mutex<Seen>>);

/// What it has noticed since it was asked last.
#[derive(Default, Clone)]
pub(crate) struct Seen {
    took: Vec<Duration>,
    pub(crate) failures: usize,
}

impl Bystander {
    /// Asks `address` over HTTP/2.
    pub(crate) fn asking(address: SocketAddr) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let noticing = Arc::downgrade(&seen);
        apart(move || async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut client = connect(address).await;
            loop {
                ticks.tick().await;
                let begun = Instant::now();
                let answered = tokio::time::timeout(PATIENCE, ask(&mut client)).await.unwrap_or(false);
                let Some(seen) = noticing.upgrade() else { return };
                if answered {
                    seen.lock().unwrap().took.push(begun.elapsed());
                } else {
                    seen.lock().unwrap().failures += 1;
                    client = connect(address).await;
                }
            }
        });
        Self(seen)
    }

    /// What it noticed since the last time, once it is so many answers or failures.
    pub(crate) fn noticed(&self, least: usize) -> Seen {
        loop {
            {
                let mut seen = self.0.lock().unwrap();
                if seen.requests() >= least {
                    return std::mem::take(&mut seen);
                }
            }
            std::thread::park_timeout(EVERY);
        }
    }
}

impl Seen {
    pub(crate) fn requests(&self) -> usize {
        self.took.len() + self.failures
    }

    /// The 99th percentile.
    pub(crate) fn p99(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get(took.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }

    pub(crate) fn max(&self) -> Duration {
        self.took.iter().max().copied().unwrap_or_default()
    }
}

async fn connect(address: SocketAddr) -> Option<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

async fn ask(client: &mut Option<SendRequest<Empty<Bytes>>>) -> bool {
    let Some(client) = client else { return false };
    let request = http::Request::get(format!("http://{BYSTANDER}/")).body(Empty::new()).unwrap();
    let Ok(answer) = client.send_request(request).await else { return false };
    answer.status() == 200 && answer.into_body().collect().await.is_ok_and(|body| body.to_bytes() == "ok")
}
