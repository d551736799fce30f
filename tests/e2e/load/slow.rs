//! Clients that send slowly, thousands at once: each is let go by its deadline, drip as it may; what they cost in
//! memory is bounded, and nobody else notices.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use super::bystander::Bystander;
use super::http2::{CONTINUATION, HEADERS, PREFACE, SETTINGS, frame, origin};
use super::{figures, heavy, say};
use crate::harness::{Program, couplet};

/// What one connection may cost in memory, bytes.
const MOST_PER_CONNECTION: u64 = 32 << 10;

/// A way to be slow.
struct Slow {
    name: &'static str,
    at_once: fn() -> Vec<u8>,
    /// Whether that is answered. The next client comes after the answer: what is slow is measured, not a rush.
    answered: bool,
    /// Of this a byte comes with each drip.
    drip: fn() -> Vec<u8>,
}

/// More bytes of a head than time for them.
fn head() -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\nX: ".as_slice(), &[b'x'; 200]].concat()
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

const KINDS: [Slow; 8] = [
    Slow { name: "silent", at_once: nothing, answered: false, drip: nothing },
    Slow { name: "half a head", at_once: || b"GET / HTTP/1.1\r\nHos".to_vec(), answered: false, drip: nothing },
    Slow { name: "head, dripped", at_once: nothing, answered: false, drip: head },
    Slow {
        name: "second head, dripped",
        at_once: || b"GET /warm HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        answered: true,
        drip: head,
    },
    Slow { name: "preface, dripped", at_once: nothing, answered: false, drip: || PREFACE.to_vec() },
    Slow {
        name: "frame, dripped",
        at_once: || [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat(),
        answered: true,
        drip: || frame(HEADERS, 0, 1, &[0x82; 200]),
    },
    Slow {
        name: "header block, dripped",
        at_once: || [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 0, 1, b"\x82")].concat(),
        answered: true,
        drip: || frame(CONTINUATION, 0, 1, b"\x86").repeat(20),
    },
    Slow { name: "refused, and stays", at_once: || b"GET / HTTP/1.1\r\n\r\n".to_vec(), answered: true, drip: nothing },
];

/// Clients at once, how long a head may take, between two drips, and what a busy machine may add.
struct Scale {
    clients: usize,
    limit: Duration,
    drip: Duration,
    room: Duration,
}

impl Scale {
    fn chosen() -> Self {
        let seconds = Duration::from_secs;
        if heavy() {
            Self { clients: 2_000, limit: seconds(14), drip: seconds(1), room: seconds(1) }
        } else {
            Self { clients: 400, limit: seconds(1), drip: Duration::from_millis(50), room: seconds(10) }
        }
    }
}

#[test]
fn slow_clients_are_let_go_by_their_deadline_at_a_bounded_cost() {
    let (origin, scale) = (origin(), Scale::chosen());
    say(&format!("R9: {} clients of each kind; heads may take {:?}", scale.clients, scale.limit));
    say(
        "| kind | let go after: first, last s | memory KiB each | bystander failures of requests, p99 before, p99 meanwhile ms | the same beside the proxy |",
    );
    let mut wrong = Vec::new();
    for kind in KINDS {
        let limit = if heavy() {
            String::new()
        } else {
            format!("--set timeouts.header={}ms --set timeouts.pool_idle=100ms", scale.limit.as_millis())
        };
        let line = format!(
            "proxy --service shop --app {origin} --inbound 127.0.0.1:0 --admin 127.0.0.1:0 --log-format json {limit}"
        );
        let mut proxy = Program::start(&mut couplet(&line));
        let to = proxy.listener("inbound");
        // The one beside asks the service itself: what it notices, the machine is, and not the proxy.
        let both = [Bystander::asking(to), Bystander::asking(origin)];
        both.iter().for_each(|asking| drop(asking.noticed(100)));
        let calm = both.each_ref().map(|asking| asking.noticed(if heavy() { 1_000 } else { 100 }));
        let before = figures::resident(&proxy);
        let weighed = &mut proxy;
        let (held, resident) = clients(to, &kind, &scale, move || figures::resident(weighed));
        let each = resident.saturating_sub(before) / scale.clients as u64;
        let meanwhile = both.each_ref().map(|asking| asking.noticed(1));
        let (first, last) = (held.iter().min().unwrap(), held.iter().max().unwrap());
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        say(&format!(
            "| {} | {:.2}, {:.2} | {:.1} | {} of {}, {:.2}, {:.2} | {:.2}, {:.2} |",
            kind.name,
            first.as_secs_f64(),
            last.as_secs_f64(),
            each as f64 / 1024.0,
            meanwhile[0].failures,
            meanwhile[0].requests(),
            ms(calm[0].p99()),
            ms(meanwhile[0].p99()),
            ms(calm[1].p99()),
            ms(meanwhile[1].p99())
        ));
        if *last > scale.limit + scale.room {
            wrong.push(format!("{}: one was let be for {last:?}", kind.name));
        }
        if each > MOST_PER_CONNECTION {
            wrong.push(format!("{}: {each} bytes for each", kind.name));
        }
        if meanwhile[0].failures > 0 {
            wrong.push(format!("{}: {} requests of the bystander failed", kind.name, meanwhile[0].failures));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How long the proxy let each of so many clients be, and what `measure` says while all of them are there. They have
/// what others leave of the processors, as if they had machines of their own.
fn clients(to: SocketAddr, kind: &Slow, scale: &Scale, measure: impl FnOnce() -> u64 + Send) -> (Vec<Duration>, u64) {
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            figures::give_way();
            asking(to, kind, scale, measure)
        });
        clients.join().unwrap()
    })
}

fn asking(to: SocketAddr, kind: &Slow, scale: &Scale, measure: impl FnOnce() -> u64) -> (Vec<Duration>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..scale.clients {
            let mut stream = TcpStream::connect(to).await.unwrap();
            let begun = Instant::now();
            let _ = stream.write_all(&(kind.at_once)()).await;
            if kind.answered {
                stream.readable().await.unwrap();
            }
            let patience = 3 * scale.limit + scale.room;
            clients.push(tokio::spawn(held(stream, begun, (kind.drip)(), scale.drip, patience)));
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(scale.limit * 2 / 3).await;
        let measured = measure();
        let mut held = Vec::new();
        for client in clients {
            held.push(client.await.unwrap());
        }
        (held, measured)
    })
}

async fn held(
    mut stream: TcpStream,
    mut begun: Instant,
    drip: Vec<u8>,
    every: Duration,
    patience: Duration,
) -> Duration {
    let (mut read, mut write) = stream.split();
    let mut ticks = interval(every);
    let (mut rest, mut piece) = (drip.as_slice(), [0; 1024]);
    let ended = async {
        // The answer itself is no end: a client that does not go away holds its side open.
        loop {
            tokio::select! {
                got = read.read(&mut piece) => match got {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                },
                _ = ticks.tick(), if !rest.is_empty() => {
                    if rest.len() == drip.len() {
                        begun = Instant::now(); // what is slow begins here
                    }
                    if write.write_all(&rest[..1]).await.is_err() {
                        return;
                    }
                    rest = &rest[1..];
                }
            }
        }
    };
    let _ = timeout(patience, ended).await;
    begun.elapsed()
}
