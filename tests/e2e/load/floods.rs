//! Clients that attack over HTTP/2.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use super::bystander::{Bystander, Seen};
use super::http2::*;
use super::{figures, heavy, say};
use crate::harness::{Program, couplet, eventually, get};

/// Units after which those that must be cut are.
const MOST_UNITS: u32 = 1_000;
/// Units that are sent in one go. Time fills budgets up, so there must not be too many goes.
const BATCH: u32 = 100;
/// What one connection may cost in memory, bytes.
const MOST_PER_CONNECTION: u64 = 8 << 20;
/// What one byte of an attack may cost in memory, bytes; below a floor that any traffic costs.
const MOST_PER_BYTE: u64 = 100;
const FLOOR: u64 = 1 << 20;

/// How long each attack goes on.
fn duration() -> Duration {
    if heavy() { Duration::from_secs(3) } else { Duration::from_millis(300) }
}

/// A way to attack.
struct Attack {
    name: &'static str,
    settings: &'static [u8],
    reads: bool,
    fate: Fate,
    unit: fn(u32) -> Vec<u8>,
}

/// What becomes of the attacker.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// Cut within [`MOST_UNITS`], and counted.
    Cut,
    /// Served as far as it goes: so many units of it cost bounded memory.
    Borne(u32),
}

/// A value of 4,000 bytes that goes into the table of header fields.
fn fill() -> Vec<u8> {
    [GET, b"\x40\x01x\x7f\xa1\x1e".as_slice(), &[b'v'; 4_000]].concat()
}

const ATTACKS: [Attack; 19] = [
    Attack {
        name: "rapid reset",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| {
            let asks = frame(HEADERS, END_STREAM | END_HEADERS, nth(n), GET);
            [asks, frame(RST_STREAM, 0, nth(n), &[0, 0, 0, 8])].concat()
        },
    },
    Attack {
        name: "made you reset: window too wide",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| {
            let asks = frame(HEADERS, END_HEADERS, nth(n), POST);
            [asks, frame(WINDOW_UPDATE, 0, nth(n), &[127, 255, 255, 255])].concat()
        },
    },
    Attack {
        name: "made you reset: window of nothing",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| [frame(HEADERS, END_HEADERS, nth(n), POST), frame(WINDOW_UPDATE, 0, nth(n), &[0; 4])].concat(),
    },
    Attack {
        name: "made you reset: malformed heads",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        // A field name in capitals.
        unit: |n| frame(HEADERS, END_STREAM | END_HEADERS, nth(n), &[GET, b"\x00\x01X\x01y"].concat()),
    },
    Attack {
        name: "header block without end, empty",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| if n == 0 { frame(HEADERS, 0, 1, GET) } else { frame(CONTINUATION, 0, 1, &[]) },
    },
    Attack {
        name: "header block without end, large",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| match n {
            0 => frame(HEADERS, 0, 1, GET),
            _ => frame(CONTINUATION, 0, 1, &[b"\x00\x01x\x7f\xfb\x7e".as_slice(), &[b'v'; 16_378]].concat()),
        },
    },
    Attack {
        name: "header bomb: one field, 16,000 times",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| match n {
            0 => frame(HEADERS, END_STREAM | END_HEADERS, 1, &fill()),
            _ => frame(HEADERS, END_STREAM | END_HEADERS, nth(n), &[GET, &[0xbe; 16_000]].concat()),
        },
    },
    Attack {
        name: "header bomb: below the limit of a head",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        // Fifteen times 4 KB are expanded and forwarded for twenty bytes.
        unit: |n| match n {
            0 => frame(HEADERS, END_STREAM | END_HEADERS, 1, &fill()),
            _ => frame(HEADERS, END_STREAM | END_HEADERS, nth(n), &[GET, &[0xbe; 14]].concat()),
        },
    },
    Attack {
        name: "ping",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes()),
    },
    Attack {
        name: "settings",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| frame(SETTINGS, 0, 0, &[&[0, 4], n.to_be_bytes().as_slice()].concat()),
    },
    Attack {
        name: "settings, empty",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |_| frame(SETTINGS, 0, 0, &[]),
    },
    Attack {
        name: "priority",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| frame(PRIORITY, 0, nth(n), &[0, 0, 0, 0, 16]),
    },
    Attack {
        name: "window update",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
    },
    Attack {
        name: "unknown frames",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |_| frame(0xfa, 0, 0, b"grease"),
    },
    Attack {
        name: "data without bytes",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| if n == 0 { frame(HEADERS, END_HEADERS, 1, POST) } else { frame(DATA, 0, 1, &[]) },
    },
    Attack {
        name: "data that is padding",
        settings: &[],
        reads: true,
        fate: Fate::Cut,
        unit: |n| if n == 0 { frame(HEADERS, END_HEADERS, 1, POST) } else { frame(DATA, PADDED, 1, &[3, 0, 0, 0]) },
    },
    Attack {
        name: "data byte by byte",
        settings: &[],
        reads: true,
        fate: Fate::Borne(65_000),
        unit: |n| if n == 0 { frame(HEADERS, END_HEADERS, 1, POST) } else { frame(DATA, 0, 1, b"x") },
    },
    Attack {
        name: "streams that stay open",
        settings: &[],
        reads: true,
        fate: Fate::Borne(5_000),
        unit: |n| frame(HEADERS, END_HEADERS, nth(n), POST),
    },
    Attack {
        name: "reads nothing, window closed",
        // SETTINGS_INITIAL_WINDOW_SIZE 0: every answer waits.
        settings: &[0, 4, 0, 0, 0, 0],
        reads: false,
        fate: Fate::Borne(1_000),
        unit: |n| frame(HEADERS, END_STREAM | END_HEADERS, nth(n), GET),
    },
];

#[test]
fn http2_floods_are_cut_and_counted_or_borne_and_nobody_else_notices() {
    let origin = origin();
    say(&format!("R8: clients over HTTP/2; each attack goes on for {:?}", duration()));
    say(Row::TITLE);
    let mut wrong = Vec::new();
    let only = std::env::var("COUPLET_ATTACK").unwrap_or_default();
    let attacks: Vec<_> = ATTACKS.iter().filter(|attack| attack.name.contains(&only)).collect();
    assert!(!attacks.is_empty(), "no attack is called {only}");
    for attack in attacks {
        Scene::start(origin).suffer(attack, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A proxy in front of a service, and a bystander who asks it.
pub(super) struct Scene {
    pub(super) proxy: Program,
    admin: SocketAddr,
    inbound: SocketAddr,
    bystander: Bystander,
    /// Asks the service itself meanwhile: how late that is, the machine is, and not the proxy.
    beside: Bystander,
    /// What the bystander sees when nobody attacks, and what one request of it costs then, in seconds.
    calm: Seen,
    request: f64,
}

/// What an attack cost.
pub(super) struct Measured {
    connections: u32,
    /// Bytes.
    sent: u64,
    /// Bytes of memory that the proxy had more than before, at most.
    grown: u64,
    /// Processor time of the proxy, as a multiple of the attacker's.
    ratio: f64,
    /// By the bystander.
    noticed: Seen,
    /// By the one who asked the service itself.
    beside: Seen,
}

/// What an attack came to.
pub(super) struct Row {
    name: &'static str,
    fate: String,
    measured: Measured,
    calm: Seen,
    pub(super) counted: String,
}

impl Scene {
    fn start(origin: SocketAddr) -> Self {
        Self::of(&format!("--app {origin} --inbound 127.0.0.1:0"), "inbound", origin)
    }

    /// A proxy with these arguments before a service; the bystander asks this listener.
    pub(super) fn of(arguments: &str, asked: &str, origin: SocketAddr) -> Self {
        let line = format!(
            "proxy --service shop {arguments} --admin 127.0.0.1:0 --log-format json --log-level error,couplet=info"
        );
        let mut proxy = Program::start(&mut couplet(&line));
        let (inbound, admin) = (proxy.listener(asked), proxy.listener("admin"));
        let (bystander, beside) = (Bystander::asking(inbound), Bystander::asking(origin));
        let few = if heavy() { 400 } else { 50 };
        bystander.noticed(few / 2);
        let cpu = figures::cpu(&proxy);
        let calm = bystander.noticed(few);
        let request = (figures::cpu(&proxy) - cpu).as_secs_f64() / calm.requests() as f64;
        Self { proxy, admin, inbound, bystander, beside, calm, request }
    }

    /// Runs an attack to its end: it says how many connections it made, what it sent on them, and what that cost it.
    /// The attacker has what the others leave of the processors, as if it had a machine of its own: what the bystander
    /// notices is what the proxy does.
    pub(super) fn measure(&self, attack: impl FnOnce() -> (u32, u64, Duration) + Send) -> Measured {
        self.bystander.noticed(1);
        self.beside.noticed(1);
        let before = figures::resident(&self.proxy);
        figures::forget_peak(&self.proxy);
        let cpu = figures::cpu(&self.proxy);
        let (connections, sent, attackers) = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                figures::give_way();
                attack()
            });
            attacker.join().unwrap()
        });
        let grown = figures::peak(&self.proxy).saturating_sub(before);
        let (noticed, beside) = (self.bystander.noticed(20), self.beside.noticed(20));
        let used = (figures::cpu(&self.proxy) - cpu).as_secs_f64() - self.request * noticed.requests() as f64;
        Measured { connections, sent, grown, ratio: used.max(0.0) / attackers.as_secs_f64(), noticed, beside }
    }

    pub(super) fn row(&self, name: &'static str, fate: String, measured: Measured) -> Row {
        Row { name, fate, measured, calm: self.calm.clone(), counted: self.counted().0 }
    }

    /// The floods that were counted, by kind and in all.
    pub(super) fn counted(&self) -> (String, u64) {
        let (_, page) = get(self.admin, "/metrics");
        let mut floods = figures::counters(&page, "couplet_http2_floods_total");
        // What breaks the protocol beyond repair ends at the first frame.
        let malformed = figures::counters(&page, "couplet_connections_malformed_total");
        floods.extend(malformed.into_iter().map(|(_, count)| ("malformed".to_owned(), count)));
        let kinds = floods.iter().filter(|(_, count)| *count > 0);
        let kinds: Vec<_> =
            kinds.map(|(kind, count)| format!("{} {count}", kind.replace(['{', '}', '"'], ""))).collect();
        (kinds.join(" "), floods.iter().map(|(_, count)| count).sum())
    }

    fn suffer(self, attack: &Attack, wrong: &mut Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // First one that waits for the proxy to read, so that its units can be counted; then as fast as it can.
        let (units, cut) = runtime.block_on(Attacker::on(self.inbound, attack)).counted(&runtime, attack);
        let mut cuts = u64::from(cut);
        let measured = self.measure(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (mut connections, mut sent, begun) = (0, 0, Instant::now());
            let cpu = figures::own_cpu();
            while connections == 0 || begun.elapsed() < duration() {
                let (bytes, cut) = runtime.block_on(async {
                    let attacker = Attacker::on(self.inbound, attack).await;
                    attacker.flood(attack, begun + duration()).await
                });
                connections += 1;
                sent += bytes;
                cuts += u64::from(cut);
            }
            (connections, sent, figures::own_cpu() - cpu)
        });
        let fate = if cut { format!("cut after {units}") } else { format!("{units} borne") };
        let row = self.row(attack.name, fate, measured);
        say(&row.to_string());
        if attack.fate == Fate::Cut {
            if !cut || units > MOST_UNITS {
                wrong.push(format!("{}: cut: {cut}, after {units} units", attack.name));
            }
            let counted = eventually("every cut is counted", || {
                let (_, counted) = self.counted();
                (counted >= cuts).then_some(counted)
            });
            // An attacker that ran out of time is cut all the same.
            if counted > cuts + 1 {
                wrong.push(format!("{}: {counted} counted, {cuts} cut", attack.name));
            }
        }
        row.judge(wrong);
    }
}

impl Row {
    pub(super) const TITLE: &'static str = "| attack | fate | connections | sent KiB | memory KiB | processor, \
         proxy : attacker | bystander failures of requests, p99 before, max ms | max ms beside the proxy | counted |";

    /// What must hold whatever the machine.
    pub(super) fn judge(&self, wrong: &mut Vec<String>) {
        let Measured { sent, grown, noticed, .. } = &self.measured;
        if noticed.failures > 0 {
            wrong.push(format!("{}: {} requests of the bystander failed", self.name, noticed.failures));
        }
        if *grown > MOST_PER_CONNECTION || *grown > FLOOR.max(MOST_PER_BYTE * sent) {
            wrong.push(format!("{}: {} KiB for {sent} bytes", self.name, grown >> 10));
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let Measured { connections, sent, grown, ratio, noticed, beside } = &self.measured;
        write!(
            f,
            "| {} | {} | {connections} | {} | {} | {ratio:.2} | {} of {}, {:.1}, {:.1} | {:.1} | {} |",
            self.name,
            self.fate,
            sent >> 10,
            grown >> 10,
            noticed.failures,
            noticed.requests(),
            ms(self.calm.p99()),
            ms(noticed.max()),
            ms(beside.max()),
            self.counted
        )
    }
}

/// A client that only writes frames; what comes back is read, as far as it reads at all.
struct Attacker {
    writing: OwnedWriteHalf,
    port: u16,
    to: SocketAddr,
    ended: JoinHandle<()>,
}

impl Attacker {
    async fn on(to: SocketAddr, attack: &Attack) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let port = stream.local_addr().unwrap().port();
        let (reading, mut writing) = stream.into_split();
        let _ = writing.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, attack.settings)].concat()).await;
        Self { writing, port, to, ended: tokio::spawn(end(reading, attack.reads)) }
    }

    /// Sends a few units, lets the proxy read them, and looks whether it has had enough; so many it was, and whether it
    /// had.
    fn counted(mut self, runtime: &tokio::runtime::Runtime, attack: &Attack) -> (u32, bool) {
        let most = match attack.fate {
            Fate::Cut => 2 * MOST_UNITS,
            Fate::Borne(units) => units,
        };
        let mut n = 0;
        while n < most {
            let units: Vec<u8> = (n..n + BATCH).flat_map(attack.unit).collect();
            n += BATCH;
            let ended = runtime.block_on(async {
                let written = tokio::time::timeout(duration(), self.writing.write_all(&units)).await;
                while written.is_ok() && figures::unread(self.to, self.port) && !self.ended.is_finished() {
                    tokio::task::yield_now().await;
                }
                // What it answers to that comes at once.
                let answered = tokio::time::timeout(Duration::from_millis(2), &mut self.ended).await;
                match written {
                    Ok(Ok(())) => answered.is_ok().then_some(true),
                    Ok(Err(_)) => Some(true),
                    // The proxy reads no more, and that is all.
                    Err(_) => Some(false),
                }
            });
            if let Some(cut) = ended {
                return (n, cut);
            }
        }
        (n, false)
    }

    /// Sends units as fast as it can until the proxy has had enough; bytes that went out, and whether it had.
    async fn flood(mut self, attack: &Attack, until: Instant) -> (u64, bool) {
        let most = match attack.fate {
            Fate::Cut => u32::MAX / 4,
            Fate::Borne(units) => units,
        };
        let (mut n, mut sent) = (0, 0);
        while n < most && Instant::now() < until {
            let units: Vec<u8> = (n..n + BATCH).flat_map(attack.unit).collect();
            n += BATCH;
            let left = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.writing.write_all(&units)).await {
                Ok(Ok(())) => sent += units.len() as u64,
                Ok(Err(_)) => return (sent, true),
                Err(_) => break,
            }
            if self.ended.is_finished() {
                return (sent, true);
            }
            tokio::task::yield_now().await;
        }
        // One connection at a time: what lies unread in the kernel is still its attack.
        while Instant::now() < until && figures::unread(self.to, self.port) && !self.ended.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (sent, false)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

/// Reads to the end, or to a GOAWAY that names an error.
async fn end(mut reading: OwnedReadHalf, reads: bool) {
    if !reads {
        std::future::pending::<()>().await;
    }
    let (mut head, mut payload) = ([0; 9], vec![0; 1 << 14]);
    loop {
        if reading.read_exact(&mut head).await.is_err() {
            return;
        }
        payload.resize(u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize, 0);
        if reading.read_exact(&mut payload).await.is_err() {
            return;
        }
        if head[3] == GOAWAY && payload.get(4..8) != Some(&[0; 4]) {
            return;
        }
    }
}
