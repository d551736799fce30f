//! Requests that were changed at random: what reaches the origin is still what everybody reads alike, nothing panics,
//! and the memory comes back. `COUPLET_HEAVY=1` makes it 200,000 of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use http_desync_guardian::RequestSafetyTier;
use http_desync_guardian::request_analyzer::HttpRequestData;

use crate::corpus::load;
use crate::harness::{proxy, recorder, send};
use crate::judge::{self, Read, find};

/// Mutants that share a proxy and an origin, and clients that send them.
const BATCH: usize = 1_000;
const CLIENTS: usize = 100;
/// What the process may have grown by in the end, KiB.
const MAX_GROWTH: u64 = 20 << 10;

/// What is put in somewhere, as it is what framing is made of.
const WORDS: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"0\r\n\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b", chunked",
    b"Connection: close, upgrade\r\n",
    b"GET / HTTP/1.1\r\n",
    b"\xff",
];

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Numbers that look random, and are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit.max(1) as u64).unwrap()
    }

    fn mutant(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(20)).min(bytes.len());
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len())..]);
                }
                _ => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
            }
        }
        bytes
    }
}

/// What a connection of an origin came to.
#[derive(Default)]
struct Judged {
    whole: usize,
    /// What not everybody would read alike.
    violation: Option<&'static str>,
    /// Heads that a judge who goes by resemblance calls severe: names such as `Transfer_Encoding` are legal, and taken
    /// for framing by servers that make variables of names.
    resembling: usize,
}

fn judged(mut bytes: &[u8]) -> Judged {
    let mut judged = Judged::default();
    while !bytes.is_empty() {
        if let Some(end) = find(bytes, b"\r\n\r\n") {
            let verdict = HttpRequestData::analyze_raw_request(&bytes[..end + 4]);
            judged.resembling += usize::from(verdict.tier == RequestSafetyTier::Severe);
        }
        match judge::request(bytes) {
            Read::Whole { end, .. } => bytes = &bytes[end..],
            Read::Partial => break,
            Read::Wrong(why) => {
                judged.violation = Some(why);
                break;
            }
        }
        judged.whole += 1;
    }
    judged
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn nothing_that_is_wrong_reaches_the_origin_however_a_request_was_changed() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |why| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        usual(why);
    }));
    let batches = if std::env::var_os("COUPLET_HEAVY").is_some() { 200 } else { 2 };
    let made = crate::cases::requests().into_iter().chain(load(false));
    // Long ones are about limits, which mutants do not find.
    let seeds: Vec<_> = made.map(|message| message.bytes).filter(|bytes| bytes.len() < 4_096).collect();
    let mut dice = Dice(1);
    let (mut reached, mut resembling, mut violations, mut before) = (0, 0, Vec::new(), None);
    for _ in 0..batches {
        let (origin, record) = recorder().await;
        let proxy = proxy(origin);
        let to = proxy.outbound()[0].1;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mutants: Vec<_> = (0..BATCH / CLIENTS).map(|_| dice.mutant(&seeds)).collect();
            clients.push(tokio::spawn(async move {
                for mutant in mutants {
                    send(to, &mutant, |got| !got.is_empty()).await;
                }
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
        for bytes in record.take() {
            let judged = judged(&bytes);
            reached += judged.whole;
            resembling += judged.resembling;
            violations.extend(judged.violation.map(|why| format!("{why}: {}", String::from_utf8_lossy(&bytes))));
        }
        drop(proxy);
        before.get_or_insert_with(resident);
    }
    let grown = resident().saturating_sub(before.unwrap_or_default());
    let panics = PANICS.load(Ordering::SeqCst);
    eprintln!(
        "R3: {} mutants of {} requests: {reached} requests reached the origin, violations {}, names that \
         resemble framing {resembling}, panics {panics}, grown by \
         {grown} KiB since the first {BATCH}",
        batches * BATCH,
        seeds.len(),
        violations.len()
    );
    assert_eq!(violations, Vec::<String>::new());
    assert_eq!(panics, 0);
    assert!(grown <= MAX_GROWTH, "grown by {grown} KiB");
}
