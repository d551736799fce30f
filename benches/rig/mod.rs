//! What the benches of whole proxies share: a backend, clients, and proxies as programs of their own.

#![allow(dead_code, reason = "each of these benches uses a part of it")]

pub(crate) mod backend;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod peers;
pub(crate) mod program;
pub(crate) mod requests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a client is told while it runs, and what it tells.
#[derive(Default)]
pub(crate) struct Control {
    stop: AtomicBool,
    measuring: AtomicBool,
    done: AtomicU64,
    /// After so many answers the client stops by itself; 0: never.
    most: u64,
}

impl Control {
    /// Of a client that asks so often and then stops.
    pub(crate) fn exactly(most: u64) -> Self {
        Self { most, ..Self::default() }
    }

    /// From here on the client remembers how long answers take.
    pub(crate) fn measure(&self) {
        self.measuring.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Answers so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// One more answer; whether how long it took is to be remembered.
    fn answered(&self) -> bool {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if done == self.most {
            self.stop();
        }
        self.measuring.load(Ordering::Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// How a client asks.
#[derive(Clone)]
pub(crate) struct Load {
    /// Asked in turn.
    pub(crate) requests: Vec<requests::Request>,
    pub(crate) connections: usize,
    pub(crate) way: Way,
}

/// How requests follow one another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The next one when the one before is answered.
    KeepAlive,
    /// The same, each on a connection of its own.
    Close,
    /// So many in a second, whatever the answers do; how long one takes counts from when it was due.
    Rate(u32),
    /// HTTP/2, so many streams at once on each connection.
    Http2 { streams: usize },
}

/// How long answers took, in nanoseconds.
pub(crate) type Times = Vec<u32>;
