//! Connections of others that go past a proxy which is meant to capture them: rules that are missing leave no other
//! trace. Told from what every process may read, the kernel's tables of the sockets in this network namespace.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::original::canonical;

/// Lines that are read of each table at most.
const MOST_LINES: usize = 65_536;

/// How many there are, by who asked for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Past {
    pub(super) inbound: u64,
    pub(super) outbound: u64,
}

/// Counts them now.
pub(super) fn past() -> Past {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().filter_map(|table| File::open(table).ok());
    let lines = tables.flat_map(|table| BufReader::new(table).lines().skip(1).take(MOST_LINES).map_while(Result::ok));
    let sockets: Vec<_> = lines.filter_map(|line| Socket::read(&line)).collect();
    count(&sockets, &own())
}

/// The inodes of the own sockets.
fn own() -> HashSet<u64> {
    let files = std::fs::read_dir("/proc/self/fd").into_iter().flatten().filter_map(Result::ok);
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// A line of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
}

const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

impl Socket {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (address(words.next()?)?, address(words.next()?)?, words.next()?);
        let inode = words.nth(5)?.parse().ok()?;
        Some(Self { local, remote, state: u8::from_str_radix(state, 16).ok()?, inode })
    }
}

/// An address as the kernel writes it: words of 32 bits in the machine's own order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut octets = [0; 16];
    for (four, word) in octets.chunks_mut(4).zip(0..ip.len() / 8) {
        let word = u32::from_str_radix(ip.get(8 * word..8 * word + 8)?, 16).ok()?;
        four.copy_from_slice(&word.to_ne_bytes());
    }
    let [a, b, c, d, ..] = octets;
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        32 => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?)))
}

/// Connections of others with another host that the proxy has no other end of.
fn count(sockets: &[Socket], own: &HashSet<u64>) -> Past {
    let established = || sockets.iter().filter(|socket| socket.state == ESTABLISHED && socket.inode != 0);
    let here: HashSet<_> = established().map(|socket| socket.local.ip()).collect();
    // A captured connection keeps the addresses that its client knows, and ends at a socket of the proxy.
    let captured: HashSet<_> =
        established().filter(|socket| own.contains(&socket.inode)).map(|socket| socket.remote).collect();
    let listening = sockets.iter().filter(|socket| socket.state == LISTEN).map(|socket| socket.local.port());
    let listening: HashSet<_> = listening.collect();
    let mut past = Past::default();
    for socket in established().filter(|socket| !own.contains(&socket.inode)) {
        let remote = socket.remote.ip();
        if remote.is_loopback() || here.contains(&remote) || captured.contains(&socket.local) {
            continue;
        }
        match listening.contains(&socket.local.port()) {
            true => past.inbound += 1,
            false => past.outbound += 1,
        }
    }
    past
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        if cfg!(target_endian = "big") {
            return; // The tables of such a machine look different.
        }
        let line =
            "   3: 0100007F:1F90 0200000A:0050 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let socket = Socket::read(line).unwrap();
        assert_eq!(
            (socket.local.to_string(), socket.remote.to_string()),
            ("127.0.0.1:8080".into(), "10.0.0.2:80".into())
        );
        assert_eq!((socket.state, socket.inode), (ESTABLISHED, 4711));
        let six = "0000000000000000FFFF00000200000A:0050";
        assert_eq!(address(six).unwrap().to_string(), "10.0.0.2:80", "IPv4 on a socket of both families");
        for text in ["", "x:1", "0100007F", "0100007F:99999", "01:0050", "0\u{e9}00007F:0050"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    /// A pod at 10.0.0.1 whose proxy has the sockets 1 to 9.
    fn pod(sockets: &[(&str, &str, u8, u64)]) -> Past {
        let socket = |&(local, remote, state, inode): &(&str, &str, u8, u64)| Socket {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            state,
            inode,
        };
        count(&sockets.iter().map(socket).collect::<Vec<_>>(), &(1..10).collect())
    }

    #[test]
    fn what_the_proxy_carries_does_not_go_past_it() {
        let captured = [
            // Out: the application's end, the proxy's end of it, and the proxy's own connection.
            ("10.0.0.1:4000", "10.0.0.2:80", ESTABLISHED, 100),
            ("127.0.0.1:15401", "10.0.0.1:4000", ESTABLISHED, 1),
            ("10.0.0.1:4001", "10.0.0.2:80", ESTABLISHED, 2),
            // In: the proxy's end, its connection to the application, and the application's end.
            ("10.0.0.1:15406", "10.0.0.3:5000", ESTABLISHED, 3),
            ("10.0.0.1:4002", "10.0.0.1:8080", ESTABLISHED, 4),
            ("10.0.0.1:8080", "10.0.0.1:4002", ESTABLISHED, 101),
            ("0.0.0.0:8080", "0.0.0.0:0", LISTEN, 102),
            // Among themselves, and long gone.
            ("127.0.0.1:4003", "127.0.0.1:9000", ESTABLISHED, 103),
            ("10.0.0.1:4004", "10.0.0.2:80", 6, 0),
        ];
        assert_eq!(pod(&captured), Past::default());
    }

    #[test]
    fn what_goes_past_it_is_counted_by_who_asked() {
        let past = [
            ("10.0.0.1:4000", "10.0.0.2:80", ESTABLISHED, 100),
            ("10.0.0.1:4001", "10.0.0.2:80", ESTABLISHED, 101),
            ("10.0.0.1:8080", "10.0.0.3:5000", ESTABLISHED, 102),
            ("0.0.0.0:8080", "0.0.0.0:0", LISTEN, 103),
        ];
        assert_eq!(pod(&past), Past { inbound: 1, outbound: 2 });
    }
}
