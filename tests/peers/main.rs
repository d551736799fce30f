//! Peers that nobody here wrote talk through two real sidecars: `client → outbound → inbound → origin`. Every client runs
//! twice, against the origin itself and through the sidecars, and must see the same.
//!
//! `tests/peers/install` installs the peers; `just peers` installs, runs, and prints what passed. A test whose peer is
//! missing says so and is left out, except where `COUPLET_PEERS` is set.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails is meant to panic")]

mod http1;
mod http2;
mod grpc;
mod websocket;
mod tls;
mod tunnel;
mod otel;
mod metrics;
mod load;
mod compare;
mod topology;
mod place;
#[path = "../e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests; each uses a part of it")]
mod harness;
