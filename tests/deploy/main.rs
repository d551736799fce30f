//! What stands in `deploy/` holds: manifests and units pass the tools of their own world and fit what the program says of
//! itself, and the image runs as confined as they promise.
//!
//! `tests/deploy/run` installs the tools, builds the image and runs all. A test whose tool is missing says so and is left
//! out; with `COUPLET_TEST_ALL` set it fails.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails is meant to panic")]

mod image;
mod pod;
mod systemd;
mod kubernetes;
mod container;
mod place;
#[path = "../e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests; each uses a part of it")]
mod harness;
