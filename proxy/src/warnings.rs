//! Warnings about peers, of which there may be more than anybody can read.

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::rate::Rate;

/// Lets one warning a second pass per peer, in constant memory however many peers there are.
pub(crate) struct Warnings(Rate);

impl Warnings {
    pub(crate) fn new() -> Self {
        Self(Rate::new(Duration::from_secs(1)))
    }

    /// Whether a warning about `peer` may be logged now.
    pub(crate) fn allow(&self, peer: IpAddr) -> bool {
        self.0.observe(&peer, 1) <= 1
    }
}
