//! Whose words about calls a proxy believes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use garde::Validate;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{overlay::keys, units};

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
}

keys!(Trust { networks });

impl Trust {
    /// Whether `peer` lies in one of the networks. An IPv4 address written as IPv6 counts as IPv4.
    pub fn covers(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }
}

impl Default for Trust {
    fn default() -> Self {
        let v4 = |a, b, c, d, bits| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits));
        let v6 = |address, bits| IpNet::V6(Ipv6Net::new_assert(address, bits));
        Self {
            networks: vec![
                v4(10, 0, 0, 0, 8),                                 // private, RFC 1918
                v4(172, 16, 0, 0, 12),                              // private, RFC 1918
                v4(192, 168, 0, 0, 16),                             // private, RFC 1918
                v4(127, 0, 0, 0, 8),                                // loopback, RFC 1122
                v4(169, 254, 0, 0, 16),                             // link-local, RFC 3927
                v4(100, 64, 0, 0, 10),                              // carrier-grade NAT, RFC 6598
                v6(Ipv6Addr::LOCALHOST, 128),                       // loopback, RFC 4291
                v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), // link-local, RFC 4291
                v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),  // unique local, RFC 4193
            ],
        }
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
