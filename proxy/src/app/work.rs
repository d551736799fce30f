//! One worker's thread: it keeps the listeners of its places, and looks around once a second.

use std::collections::HashMap;
use std::sync::{Arc, Weak, mpsc as blocking};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::places::{Duty, Fresh, Place};
use crate::drain::{Phase, Watch};
use crate::listener::{self, Post};
use crate::sidecar::Worker;

/// How long connections may take to notice that the proxy closes.
const CLOSING: Duration = Duration::from_secs(1);

/// A generation for one worker to serve from now on.
pub(super) struct Order {
    pub(super) worker: Arc<Worker>,
    pub(super) drain: Watch,
    /// All places it has; those without a listener are served already.
    pub(super) places: Vec<(Place, Duty, Option<Fresh>)>,
    /// Told once new connections are served so.
    pub(super) done: blocking::Sender<()>,
}

/// Does as it is told until the proxy closes.
pub(super) async fn work(mut orders: mpsc::Receiver<Order>, mut drain: Watch) {
    let mut posts = HashMap::new();
    let mut generations: Vec<Weak<Worker>> = Vec::new();
    let mut sweep = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            Some(order) = orders.recv() => {
                generations.push(Arc::downgrade(&order.worker));
                follow(order, &mut posts);
            }
            // An older generation keeps connections to upstreams for as long as it has connections of its own.
            _ = sweep.tick() => generations.retain(|worker| {
                worker.upgrade().inspect(|worker| worker.sweep(Instant::now())).is_some()
            }),
            () = drain.reached(Phase::Closing) => break,
        }
    }
    // Connections close as soon as their request in flight is done; what is still open afterwards is cut.
    let Some(worker) = generations.iter().rev().find_map(Weak::upgrade) else { return };
    let deadline = Instant::now() + CLOSING;
    while worker.sidecar.metrics.connections.get() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// New connections are served as ordered. A listener whose place is not named any more ends with its post.
fn follow(order: Order, posts: &mut HashMap<Place, watch::Sender<Post>>) {
    let Order { worker, drain, places, done } = order;
    let mut before = std::mem::take(posts);
    for (place, duty, listener) in places {
        let Some(role) = duty.role(&worker) else { continue };
        let post = Post { worker: Arc::clone(&worker), role, drain: drain.clone() };
        match (before.remove(&place), listener) {
            (Some(known), _) => {
                known.send_replace(post);
                posts.insert(place, known);
            }
            (None, Some((listener, siblings))) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let (sender, receiver) = watch::channel(post);
                    tokio::spawn(listener::accept(listener, siblings, receiver));
                    posts.insert(place, sender);
                }
                Err(error) => tracing::error!(%error, "a listener could not be registered with its worker"),
            },
            (None, None) => tracing::error!(?place, "a listener that should have been there is not"),
        }
    }
    // Nobody waits any more when this took too long.
    let _ = done.send(());
}
