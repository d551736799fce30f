//! Two processes on the same ports, the new one taking over from the old one, without losing a connection in between.
//!
//! Linux gives a new connection to one of the sockets bound with `SO_REUSEPORT`, and resets what waits in the queue of
//! a socket that is closed. (The sysctl `net.ipv4.tcp_migrate_req` would move it to another socket; it is off by
//! default, and not ours to set.) So the new process steers all new connections to its own sockets when it begins to
//! listen. The old one, when it is told to end, turns away connections that come to it all the same, waits for those
//! whose handshake was under way, empties its queue and only then closes it. A client that was turned away hears
//! nothing, asks again after a second as TCP does, and reaches the new process.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{SockFilter, SockRef, Socket};
use tokio::net::TcpListener;

/// How long a handshake that has begun may take to end: several round trips.
pub(super) const SETTLE: Duration = Duration::from_millis(200);

/// Lines of the kernel's table that are read at most; listening sockets stand first.
const MOST_LINES: usize = 65_536;

/// How many sockets listen at just this address.
///
/// # Errors
/// Where the system does not tell.
pub(super) fn listening_at(address: SocketAddr) -> io::Result<usize> {
    let table = if address.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let table = File::open(table)?;
    let wanted = as_in_the_table(address);
    let lines = BufReader::new(table).lines().skip(1).take(MOST_LINES).map_while(Result::ok);
    Ok(lines.map_while(|line| listens(&line, &wanted)).filter(|here| *here).count())
}

/// Whether a line of the table says that a socket listens at `wanted`; none for one that does not listen at all.
fn listens(line: &str, wanted: &str) -> Option<bool> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, _, state) = (words.next()?, words.next()?, words.next()?);
    (state == "0A").then_some(local == wanted)
}

/// An address as the kernel writes it: words of 32 bits in the machine's own order.
fn as_in_the_table(address: SocketAddr) -> String {
    let words = |octets: &[u8]| {
        let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap_or_default());
        octets.chunks(4).map(|bytes| format!("{:08X}", word(bytes))).collect::<String>()
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{ip}:{:04X}", address.port())
}

/// Lets the kernel give new connections to the `own` sockets that listen since a moment ago, after `others` older ones.
///
/// Where the count is wrong (one of the others was closed meanwhile) the kernel finds no socket at the place that the
/// program names, and takes any: the older process turns the connection away then.
///
/// # Errors
/// Those of the operating system.
pub(super) fn steer(socket: &Socket, others: usize, own: usize) -> io::Result<()> {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let program = [
        SockFilter::new(LOAD_ABSOLUTE, 0, 0, RANDOM),
        SockFilter::new(MODULO, 0, 0, number(own.max(1))),
        SockFilter::new(ADD, 0, 0, number(others)),
        SockFilter::new(RETURN_ACCUMULATOR, 0, 0, 0),
    ];
    attach_to_group(socket, &program)
}

#[expect(unsafe_code, reason = "no safe interface has this option of sockets")]
fn attach_to_group(socket: &Socket, program: &[SockFilter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    let size = libc::socklen_t::try_from(size_of_val(&program)).unwrap_or(0);
    // SAFETY: the socket is open as long as it is borrowed; `SockFilter` is a transparent `sock_filter`; the kernel
    // copies the program, whose length is told, and writes nothing.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From here on the kernel drops the first packet of every new connection to this listener; what has begun goes on.
///
/// # Errors
/// Those of the operating system.
pub(super) fn turn_away(listener: &TcpListener) -> io::Result<()> {
    let program = [
        SockFilter::new(LOAD_BYTE_ABSOLUTE, 0, 0, TCP_FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&program)
}

// Instructions of the classic BPF: a class, a size and a mode each.
const LOAD_ABSOLUTE: u16 = 0x20;
const LOAD_BYTE_ABSOLUTE: u16 = 0x30;
const ADD: u16 = 0x04;
const AND: u16 = 0x54;
const MODULO: u16 = 0x94;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;
/// Instead of a place in the packet: a random number (`SKF_AD_OFF + SKF_AD_RANDOM`).
const RANDOM: u32 = 0xffff_f038;
/// Where a TCP header has its flags, and two of them.
const TCP_FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_the_kernel_writes_it() {
        let written = |address: &str| as_in_the_table(address.parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!(written("127.0.0.1:8080"), "0100007F:1F90");
            assert_eq!(written("[::1]:80"), "00000000000000000000000001000000:0050");
        }
        assert_eq!(written("0.0.0.0:15406"), "00000000:3C2E");
    }

    #[test]
    fn listeners_are_counted_at_their_own_address_only() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _connection = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(listening_at(address).unwrap(), 1);
        assert_eq!(listening_at(SocketAddr::new("127.0.0.2".parse().unwrap(), address.port())).unwrap(), 0);
        let six = std::net::TcpListener::bind("[::1]:0");
        assert!(six.is_err() || listening_at(six.unwrap().local_addr().unwrap()).unwrap() == 1);
    }
}
