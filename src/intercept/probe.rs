//! Whether capture works: connections that must be captured are made, and whoever gets them says where they were to go.
//!
//! Where the proxy does not run yet, the probe takes its port for a moment and looks itself; where it runs, it answers
//! connections to the addresses of nobody with the destination that it saw.

use std::fmt;
use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::nobody;
use super::tool::has_ipv6;

/// A captured connection never leaves this host: what takes longer is not captured.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was found, in words.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    lines: Vec<(&'static str, String)>,
}

impl Verdict {
    fn good(&mut self, text: impl Into<String>) {
        self.lines.push(("ok", text.into()));
    }

    fn wrong(&mut self, text: impl Into<String>) {
        self.lines.push(("wrong", text.into()));
    }

    /// Something to know that is neither good nor wrong.
    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.lines.push(("note", text.into()));
    }

    pub(super) fn is_good(&self) -> bool {
        self.lines.iter().all(|(word, _)| *word != "wrong")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(word, text)| writeln!(f, "{word:<6}{text}"))
    }
}

/// Connects to nobody, in each family, and says whether the connection came to `port` with its destination known.
pub(super) fn outbound(port: u16, proxy_uid: u32, verdict: &mut Verdict) {
    if rustix::process::geteuid().as_raw() == proxy_uid {
        return verdict.wrong(format!(
            "outbound: this runs as user {proxy_uid}, whose connections are left alone; run it as another user"
        ));
    }
    for target in nobody() {
        let family = family(target.ip());
        if target.is_ipv6() && !has_ipv6() {
            verdict.remark("outbound, IPv6: this namespace has none");
            continue;
        }
        if !has_route(target) {
            verdict.remark(format!(
                "outbound, {family}: not tried, there is no route beyond this network (no default route for {family})"
            ));
            continue;
        }
        match round_trip(target, port) {
            Ok(Some(seen)) if seen == target => {
                verdict.good(format!("outbound, {family}: captured, and the destination is known"));
            }
            Ok(Some(seen)) => verdict.wrong(format!(
                "outbound, {family}: captured, but the destination came out as {seen} instead of {target}"
            )),
            Ok(None) => verdict.wrong(format!(
                "outbound, {family}: something answers at port {port}, but it is no proxy that captures (capture.outbound)"
            )),
            Err(error) => failed(&error, target, port, verdict),
        }
    }
}

fn failed(error: &io::Error, target: SocketAddr, port: u16, verdict: &mut Verdict) {
    let family = family(target.ip());
    match error.kind() {
        ErrorKind::ConnectionRefused => verdict.wrong(format!(
            "outbound, {family}: captured, but nothing listens at port {port} on loopback: applications get 'connection refused'"
        )),
        ErrorKind::TimedOut
        | ErrorKind::WouldBlock
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable => verdict.wrong(format!(
            "outbound, {family}: not captured, connections go out past the proxy; run couplet intercept apply"
        )),
        _ => verdict.wrong(format!("outbound, {family}: {error}")),
    }
}

/// Whether packets to `target` would leave this host at all. Connecting a UDP socket sends none.
fn has_route(target: SocketAddr) -> bool {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(target)).is_ok()
}

/// The destination that was seen at `port` of a connection to `target`; nothing where it did not come out.
fn round_trip(target: SocketAddr, port: u16) -> io::Result<Option<SocketAddr>> {
    let loopback: IpAddr = match target {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    match listen(SocketAddr::new(loopback, port)) {
        Ok(listener) => {
            let _client = TcpStream::connect_timeout(&target, PATIENCE)?;
            // The handshake was with this very listener: it is there already.
            let (stream, _) = listener.accept()?;
            original(&stream).map(Some)
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => ask(target),
        Err(error) => Err(error),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What the running proxy says of a connection to `target`.
fn ask(target: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    match stream.take(256).read_to_string(&mut answer) {
        Ok(_) => {
            Ok(answer.trim().strip_prefix(couplet_telemetry::names::CAPTURE_ANSWER).and_then(|seen| seen.parse().ok()))
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a captured connection was to go. A socket of both families knows IPv4 destinations by IPv4's option alone.
fn original(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let found = socket.original_dst_v4().or_else(|_| socket.original_dst_v6())?;
    found.as_socket().ok_or_else(|| io::Error::from(ErrorKind::InvalidData))
}

/// Inbound connections come from other hosts, so none can be made from here: the rules and the listener are looked at.
pub(super) fn inbound(port: u16, rules: &str, verdict: &mut Verdict) {
    let redirects = [format!("redirect to :{port}"), format!("redir ports {port}")];
    if redirects.iter().any(|redirect| rules.contains(redirect.as_str())) {
        verdict.good(format!("inbound: the rules bring connections to port {port}"));
    } else {
        verdict.wrong(format!("inbound: no rule brings connections to port {port}; run couplet intercept apply"));
    }
    // A captured connection arrives at the address of its interface, not at loopback.
    let everywhere = [SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0; 16], port))];
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    if tables.iter().any(|table| everywhere.iter().any(|address| listens(table, *address))) {
        verdict.good(format!("inbound: the proxy listens at port {port} of every address"));
    } else {
        verdict.remark(format!(
            "inbound: nothing listens at port {port} of every address yet; without a proxy (capture.inbound) connections are refused"
        ));
    }
}

/// Whether a table such as /proc/net/tcp has a listener (state 0A) at this unspecified address.
fn listens(table: &str, address: SocketAddr) -> bool {
    let digits = if address.is_ipv6() { 32 } else { 8 };
    let wanted = format!("{}:{:04X}", "0".repeat(digits), address.port());
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(wanted.as_str()) && fields.nth(1) == Some("0A")
    })
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_found_and_one_on_loopback_is_not_one() {
        let table = "  sl  local_address rem_address   st tx_queue\n   0: 00000000:3C2E 00000000:0000 0A 00000000:0\n   \
                     1: 0100007F:3C3C 00000000:0000 0A 00000000:0\n   2: 00000000:0050 00000000:0000 01 00000000:0\n";
        assert!(listens(table, "0.0.0.0:15406".parse().unwrap()));
        assert!(!listens(table, "0.0.0.0:15420".parse().unwrap()), "that one is on loopback");
        assert!(!listens(table, "0.0.0.0:80".parse().unwrap()), "that one is a connection");
        let table = "   0: 00000000000000000000000000000000:3C2E 00000000000000000000000000000000:0000 0A 0\n";
        assert!(listens(table, "[::]:15406".parse().unwrap()));
    }

    #[test]
    fn one_thing_wrong_makes_the_verdict_wrong_and_remarks_do_not() {
        let mut verdict = Verdict::default();
        verdict.good("a");
        verdict.remark("b");
        assert!(verdict.is_good());
        verdict.wrong("c");
        assert!(!verdict.is_good());
        assert_eq!(verdict.to_string(), "ok    a\nnote  b\nwrong c\n");
    }
}
