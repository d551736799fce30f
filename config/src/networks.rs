//! Networks that are nobody else's: the defaults of keys that name neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Every private, loopback, link-local, unique local and carrier-grade NAT address.
pub(crate) fn private() -> Vec<IpNet> {
    vec![
        v4(10, 0, 8),     // private, RFC 1918
        v4(172, 16, 12),  // private, RFC 1918
        v4(192, 168, 16), // private, RFC 1918
        v4(127, 0, 8),    // loopback, RFC 1122
        LINK_LOCAL_V4,
        v4(100, 64, 10),              // carrier-grade NAT, RFC 6598
        v6(Ipv6Addr::LOCALHOST, 128), // loopback, RFC 4291
        LINK_LOCAL_V6,
        v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7), // unique local, RFC 4193
    ]
}

/// The same without link-local addresses: no service is found there, but the metadata of clouds.
pub(crate) fn routable() -> Vec<IpNet> {
    private().into_iter().filter(|network| ![LINK_LOCAL_V4, LINK_LOCAL_V6].contains(network)).collect()
}

/// RFC 3927.
const LINK_LOCAL_V4: IpNet = v4(169, 254, 16);
/// RFC 4291.
const LINK_LOCAL_V6: IpNet = v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// Whether `address` lies in one of them. An IPv4 address written as IPv6 counts as IPv4.
pub(crate) fn cover(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

const fn v4(first: u8, second: u8, bits: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(first, second, 0, 0), bits))
}

const fn v6(address: Ipv6Addr, bits: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, bits))
}
