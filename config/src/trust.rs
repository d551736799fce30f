//! Whose words about calls a proxy believes.

use std::net::IpAddr;

use garde::Validate;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    networks,
    overlay::{Scalar, keys},
    problem::quoted,
    spiffe::{SpiffeId, SpiffePattern},
    units,
};

/// Whose context and summary headers are believed; those of anyone else are removed and counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Trust {
    /// Networks of trusted peers, such as `10.0.0.0/8` or `fd00::/8`. The default is every private, loopback,
    /// link-local, unique local and carrier-grade NAT address.
    #[garde(length(max = 1000))]
    #[schemars(schema_with = "units::networks_schema")]
    pub networks: Vec<IpNet>,

    /// SPIFFE IDs of trusted peers, such as `spiffe://shop.example/ns/prod/*`, wherever their addresses lie. The default
    /// is every one that mutual TLS has verified.
    #[garde(length(max = 1000))]
    pub identities: Vec<SpiffePattern>,

    /// What a caller is called that has an identity: as its `identity` says, or as its `context` does.
    pub names: CallerNames,
}

keys!(Trust { networks, identities, names });

/// What a caller is called that has an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum CallerNames {
    /// The last segment of its SPIFFE ID.
    #[default]
    Identity,
    /// The name that it sends.
    Context,
}

impl Scalar for CallerNames {
    const EXPECTED: &'static str = "identity or context";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "identity" => Ok(Self::Identity),
            "context" => Ok(Self::Context),
            _ => Err(format!("{} is neither identity nor context", quoted(text))),
        }
    }
}

impl Trust {
    /// Whether `peer` lies in one of the networks. An IPv4 address written as IPv6 counts as IPv4.
    pub fn covers(&self, peer: IpAddr) -> bool {
        networks::cover(&self.networks, peer)
    }

    /// Whether `id`, which was verified, is a trusted one.
    pub fn knows(&self, id: &SpiffeId) -> bool {
        self.identities.iter().any(|pattern| pattern.covers(id))
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self { networks: networks::private(), identities: vec![SpiffePattern::every()], names: CallerNames::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_neighbours_are_trusted_and_strangers_are_not() {
        let trust = Trust::default();
        for peer in
            ["10.1.2.3", "172.31.0.1", "127.0.0.9", "100.127.0.1", "::1", "fe80::1", "fd12::1", "::ffff:10.0.0.1"]
        {
            assert!(trust.covers(peer.parse().unwrap()), "{peer}");
        }
        for peer in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!trust.covers(peer.parse().unwrap()), "{peer}");
        }
    }
}
