//! Where a captured connection was to go before the kernel brought it here, and whether it is one of the proxy's own.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Connections of the proxy whose ends are remembered.
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

/// The latest connections that the proxy made and that are open. One that is accepted as a captured connection of the
/// application shows that the rules do not leave the proxy alone: each would make another.
///
/// Both ends are looked at, and no connection that is closed: an application may get the port of one, and the port of an
/// open one towards somebody else.
#[derive(Default)]
pub(crate) struct Dialed(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    next: usize,
    connections: Vec<Option<Ends>>,
}

/// The own end of a connection, and the other one.
type Ends = (SocketAddr, SocketAddr);

/// A connection that is open.
pub(crate) struct Open {
    dialed: Arc<Dialed>,
    at: usize,
    ends: Ends,
}

impl Dialed {
    /// Remembers a connection from `own` to `other` until what it returns is dropped, or many others were made.
    pub(crate) fn remember(self: &Arc<Self>, own: SocketAddr, other: SocketAddr) -> Open {
        let ends = (canonical(own), canonical(other));
        let mut ring = self.0.lock();
        let at = ring.next;
        ring.next = (at + 1) % REMEMBERED;
        match ring.connections.get_mut(at) {
            Some(oldest) => *oldest = Some(ends),
            None => ring.connections.push(Some(ends)),
        }
        Open { dialed: Arc::clone(self), at, ends }
    }

    /// Whether a connection from `own` to `other` is one of the proxy's.
    pub(crate) fn contains(&self, own: SocketAddr, other: SocketAddr) -> bool {
        self.0.lock().connections.contains(&Some((canonical(own), canonical(other))))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(place) =
            self.dialed.0.lock().connections.get_mut(self.at).filter(|place| **place == Some(self.ends))
        {
            *place = None;
        }
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
    fn of_the_own_connections_the_latest_that_are_open_are_remembered() {
        let dialed = Arc::<Dialed>::default();
        let address = |n: usize| SocketAddr::from(([10, 0, 0, 1], 10_000 + u16::try_from(n).unwrap()));
        let stock: SocketAddr = "10.0.0.7:8080".parse().unwrap();
        let mut open: Vec<_> = (0..REMEMBERED + 10).map(|n| dialed.remember(address(n), stock)).collect();
        assert!(dialed.contains("[::ffff:10.0.0.1]:10100".parse().unwrap(), stock));
        assert!(dialed.contains(address(REMEMBERED + 9), stock) && !dialed.contains(address(9), stock));
        assert!(!dialed.contains(address(100), "10.0.0.7:8081".parse().unwrap()), "another destination");
        open.remove(100);
        assert!(!dialed.contains(address(100), stock), "its port may be anybody's now");
        // The first one's place is another one's by now.
        open.remove(0);
        assert!(dialed.contains(address(REMEMBERED), stock));
    }
}
