//! Where a captured connection was to go before the kernel brought it here, and whether it is one of the proxy's own.

use std::net::SocketAddr;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Connections of the proxy whose own addresses are remembered.
const REMEMBERED: usize = 256;

/// What a connection on a listener for captured ones is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was to go there.
    Captured(SocketAddr),
    /// Nobody captured it: the client asked for this very listener.
    Direct,
    /// Delivering it would reach the proxy itself.
    Loop,
}

/// The destination that the client asked for. IPv4's option first: a socket of both families knows nothing else of a
/// connection that came over IPv4.
pub(crate) fn destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let found = socket.original_dst_v4().or_else(|_| socket.original_dst_v6()).ok()?;
    found.as_socket().map(canonical)
}

/// The same address without IPv4 dressed up as IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Judges a connection by the destination that the kernel remembers, the local end that it has now, and the addresses
/// that the proxy listens at. `here`: whether the destination is an address of this host, as that of inbound
/// connections is.
pub(crate) fn judge(destination: Option<SocketAddr>, local: SocketAddr, own: &[SocketAddr], here: bool) -> Arrival {
    // Without a translation the kernel gives the listener's own address, or none.
    let Some(destination) = destination.filter(|destination| *destination != canonical(local)) else {
        return Arrival::Direct;
    };
    let here = here || destination.ip().is_loopback();
    let reaches = |own: &&SocketAddr| {
        let own = canonical(**own);
        own.port() == destination.port() && (own.ip() == destination.ip() || here && own.ip().is_unspecified())
    };
    if own.iter().any(|address| reaches(&address)) { Arrival::Loop } else { Arrival::Captured(destination) }
}

/// The own ends of the latest connections that the proxy made. One that is accepted as a captured connection of the
/// application shows that the rules do not leave the proxy alone: each would make another.
pub(crate) struct Dialed(Mutex<Ring>);

struct Ring {
    next: usize,
    addresses: Vec<SocketAddr>,
}

impl Dialed {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Ring { next: 0, addresses: Vec::with_capacity(REMEMBERED) }))
    }

    /// Remembers a connection.
    pub(crate) fn remember(&self, own: SocketAddr) {
        let mut ring = self.0.lock();
        let at = ring.next;
        ring.next = (at + 1) % REMEMBERED;
        match ring.addresses.get_mut(at) {
            Some(oldest) => *oldest = canonical(own),
            None => ring.addresses.push(canonical(own)),
        }
    }

    /// Whether a connection with that end was made by the proxy of late.
    pub(crate) fn contains(&self, peer: SocketAddr) -> bool {
        self.0.lock().addresses.contains(&canonical(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(destination: Option<&str>, local: &str, here: bool) -> Arrival {
        let own = ["[::]:15406", "127.0.0.1:15401", "10.0.0.9:9001"].map(|own| own.parse().unwrap());
        judge(destination.map(|address| address.parse().unwrap()), local.parse().unwrap(), &own, here)
    }

    #[test]
    fn a_captured_connection_goes_where_it_was_to_go() {
        let captured = |address: &str| Arrival::Captured(address.parse().unwrap());
        assert_eq!(judged(Some("10.0.0.7:8080"), "127.0.0.1:15401", false), captured("10.0.0.7:8080"));
        assert_eq!(judged(Some("10.0.0.1:8080"), "[::ffff:10.0.0.1]:15406", true), captured("10.0.0.1:8080"));
        assert_eq!(judged(Some("10.0.0.7:15406"), "127.0.0.1:15401", false), captured("10.0.0.7:15406"), "another's");
    }

    #[test]
    fn a_connection_to_the_listener_itself_is_none() {
        assert_eq!(judged(Some("127.0.0.1:15401"), "127.0.0.1:15401", false), Arrival::Direct);
        assert_eq!(judged(Some("10.0.0.1:15406"), "[::ffff:10.0.0.1]:15406", true), Arrival::Direct);
        assert_eq!(judged(None, "127.0.0.1:15401", false), Arrival::Direct);
    }

    #[test]
    fn what_would_come_back_is_a_loop() {
        assert_eq!(judged(Some("10.0.0.2:15406"), "10.0.0.1:15406", true), Arrival::Loop, "another own address");
        assert_eq!(judged(Some("10.0.0.9:9001"), "127.0.0.1:15401", false), Arrival::Loop);
        assert_eq!(judged(Some("127.0.0.1:15406"), "127.0.0.1:15401", false), Arrival::Loop);
    }

    #[test]
    fn of_the_own_connections_the_latest_are_remembered() {
        let dialed = Dialed::new();
        let address = |n: usize| SocketAddr::from(([10, 0, 0, 1], 10_000 + u16::try_from(n).unwrap()));
        (0..REMEMBERED + 10).for_each(|n| dialed.remember(address(n)));
        assert!(dialed.contains("[::ffff:10.0.0.1]:10100".parse().unwrap()));
        assert!(dialed.contains(address(REMEMBERED + 9)) && !dialed.contains(address(9)));
    }
}
