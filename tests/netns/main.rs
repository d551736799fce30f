//! Transparent capture in real network namespaces: two pods and a node between them, real rules, real sidecars as a user
//! of their own, applications as another user. Needs root; where that is missing each test says so and is left out,
//! except where `COUPLET_TEST_ALL` is set.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails is meant to panic")]

mod pod;
mod capture;
mod opaque;
mod isolation;
mod mesh;
mod rules;
mod peers;
mod world;
#[path = "../e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests; each uses a part of it")]
mod harness;
