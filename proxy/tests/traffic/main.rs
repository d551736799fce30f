//! Real requests through real proxies on loopback.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod chain;
mod explicit;
mod forwarding;
mod harness;
mod life;
mod reports;
