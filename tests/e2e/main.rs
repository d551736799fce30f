//! End-to-end tests: the real `couplet` binary as its users run it, on real sockets and with real services.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails is meant to panic"
)]

mod analyze;
mod breakers;
mod cardinality;
mod crash;
mod demo;
mod fleet;
mod full_disk;
mod identity;
mod life;
mod live;
mod questions;
mod load;
mod history;
mod outage;
mod run;
mod serve;
mod silent;
mod tidy;
mod wrong_use;
mod sender;
mod harness;
