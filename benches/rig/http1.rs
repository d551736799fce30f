//! A client of HTTP/1: one thread that waits with `ppoll`, whose timeouts are finer than those of a runtime's timers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::backend::field;
use super::{Control, Load, Times, Way};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `address` until it is told to stop; how long answers took since it was told to measure.
///
/// # Errors
/// Where an answer is missing or not what was asked for.
pub(crate) fn ask(address: SocketAddr, load: &Load, control: &Control) -> Result<Times> {
    let close = load.way == Way::Close;
    let requests: Vec<_> = load.requests.iter().map(|request| request.http1(close)).collect();
    let mut requests = requests.iter().cycle();
    let every = match load.way {
        Way::Rate(rate) => Some(Duration::from_secs(1) * u32::try_from(load.connections)? / rate),
        _ => None,
    };
    let start = Instant::now();
    let mut clients = Vec::with_capacity(load.connections);
    for n in 0..load.connections {
        let offset = every.unwrap_or_default() * u32::try_from(n)? / u32::try_from(load.connections)?;
        clients.push(Client { stream: connect(address)?, due: start + offset, asked: None, answer: Answer::default() });
    }
    let (mut times, mut buffer) = (Times::new(), vec![0; 64 * 1024]);
    loop {
        let mut now = Instant::now();
        for client in clients.iter_mut().filter(|client| client.asked.is_none() && client.due <= now) {
            let request = requests.next().context("nothing to ask")?;
            client.stream.write_all(request).context("a request was not taken")?;
            client.asked = Some(if every.is_some() { client.due } else { now });
            client.due += every.unwrap_or_default();
        }
        if control.is_stopped() {
            return Ok(times);
        }
        let ready = wait(&clients, now)?;
        now = Instant::now();
        for (client, _) in clients.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            if !client.read(&mut buffer)? {
                ensure!(client.asked.is_none_or(|asked| now - asked < PATIENCE), "no answer after {PATIENCE:?}");
                continue;
            }
            let Some(asked) = client.asked.take() else { bail!("an answer that nobody asked for") };
            if control.answered() {
                times.push(u32::try_from((Instant::now() - asked).as_nanos()).unwrap_or(u32::MAX));
            }
            if control.is_stopped() {
                return Ok(times);
            }
            if close {
                client.stream = connect(address)?;
            }
        }
    }
}

/// So many connections that have carried one request each and carry none now.
///
/// # Errors
/// Where one cannot be made or its request is not answered.
pub(crate) fn idle(address: SocketAddr, load: &Load, count: usize) -> Result<Vec<TcpStream>> {
    let request = load.requests.first().context("nothing to ask")?.http1(false);
    let (mut open, mut buffer) = (Vec::with_capacity(count), vec![0; 64 * 1024]);
    for _ in 0..count {
        let stream = connect(address)?;
        let mut client = Client { stream, due: Instant::now(), asked: None, answer: Answer::default() };
        client.stream.set_nonblocking(false)?;
        client.stream.set_read_timeout(Some(PATIENCE))?;
        client.stream.write_all(&request)?;
        while !client.read(&mut buffer)? {}
        open.push(client.stream);
    }
    Ok(open)
}

struct Client {
    stream: TcpStream,
    /// When it is to ask again.
    due: Instant,
    asked: Option<Instant>,
    answer: Answer,
}

/// An answer as far as it has come.
#[derive(Default)]
struct Answer {
    head: Vec<u8>,
    /// Bytes of the body that are still to come, once the head is there.
    left: Option<usize>,
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Waits until something can be read, or a request is due: from which clients.
fn wait(clients: &[Client], now: Instant) -> Result<Vec<bool>> {
    let due = clients.iter().filter(|client| client.asked.is_none()).map(|client| client.due).min();
    let patience = due.map_or(PATIENCE, |due| due.saturating_duration_since(now)).min(Duration::from_millis(100));
    let timeout = Timespec::try_from(patience)?;
    let mut polled: Vec<_> =
        clients.iter().map(|client| PollFd::from_borrowed_fd(client.stream.as_fd(), PollFlags::IN)).collect();
    poll(&mut polled, Some(&timeout))?;
    Ok(polled.iter().map(|polled| !polled.revents().is_empty()).collect())
}

impl Client {
    /// Reads what is there; whether the answer is whole.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => bail!("the connection was closed before the answer was whole"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("the connection broke"),
        };
        self.answer.add(buffer.get(..count).unwrap_or_default())
    }
}

impl Answer {
    fn add(&mut self, new: &[u8]) -> Result<bool> {
        let left = match self.left {
            Some(left) => left.checked_sub(new.len()).context("more than was announced")?,
            None => {
                self.head.extend_from_slice(new);
                let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
                let head = std::str::from_utf8(self.head.get(..end).unwrap_or_default())?;
                ensure!(head.starts_with("HTTP/1.1 200 "), "the answer was {head:?}");
                let length = field(head, "content-length").context("no content-length")?.parse::<usize>()?;
                length.checked_sub(self.head.len() - end - 4).context("more than was announced")?
            }
        };
        self.left = Some(left);
        if left == 0 {
            self.head.clear();
            self.left = None;
        }
        Ok(left == 0)
    }
}
