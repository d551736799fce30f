//! The analyzer from outside: real sockets, real files.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

mod harness;
mod damage;
mod delivery;
mod lifetime;
mod receiving;
mod questions;
mod sliding;
mod spans;
mod views;
