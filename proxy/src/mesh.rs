//! At which addresses a sidecar was found that speaks mutual TLS. Nobody tells that: it is learned, remembered for a
//! while, and forgotten again, since addresses change hands.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// For how long it counts as lost when a sidecar is not found any more where it last was.
const SIDECAR: Duration = Duration::from_secs(60 * 60);
/// Where none was found, it is looked for again after as long as there was none, within these bounds: one may have been
/// added only just now, and a server without one should not be asked for ever.
const SOONEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(600);
/// One connection looks; others do not for so long.
const LOOKING: Duration = Duration::from_secs(5);
/// Addresses that are remembered.
const MOST: usize = 4_096;

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing, or nothing any more.
    Nothing,
    /// A sidecar answered there of late.
    Sidecar,
    /// Something else did.
    Other,
}

/// The addresses.
#[derive(Default)]
pub(crate) struct Mesh(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    addresses: HashMap<SocketAddr, Entry>,
    overflow: u64,
}

struct Entry {
    sidecar: bool,
    /// Since when that was found each time.
    since: Instant,
    /// Until when it is believed.
    until: Instant,
}

/// What there is to say about it.
pub(crate) struct Said {
    /// Addresses with a sidecar, and those without.
    pub(crate) sidecars: u64,
    pub(crate) others: u64,
    /// What was found and not remembered.
    pub(crate) overflow: u64,
}

impl Mesh {
    /// What is known of an address. Where it is time to look again, only who asks first is told so.
    pub(crate) fn known(&self, address: SocketAddr, now: Instant) -> Known {
        let mut memory = self.0.lock();
        match memory.addresses.get_mut(&address) {
            Some(entry) if now < entry.until => match entry.sidecar {
                true => Known::Sidecar,
                false => Known::Other,
            },
            Some(entry) if !entry.sidecar => {
                entry.until = now + LOOKING;
                Known::Nothing
            }
            _ => Known::Nothing,
        }
    }

    /// A sidecar was found there, or was not. Whether one was lost by that.
    pub(crate) fn found(&self, address: SocketAddr, sidecar: bool, now: Instant) -> bool {
        let mut memory = self.0.lock();
        let before = memory.addresses.get(&address);
        let lost = !sidecar && before.is_some_and(|before| before.sidecar && now < before.until);
        let since = before.filter(|before| before.sidecar == sidecar).map_or(now, |before| before.since);
        if before.is_none() && memory.addresses.len() >= MOST {
            memory.addresses.retain(|_, entry| now < entry.until);
            if memory.addresses.len() >= MOST {
                memory.overflow += 1;
                return lost;
            }
        }
        let believed = match sidecar {
            true => SIDECAR,
            false => now.saturating_duration_since(since).clamp(SOONEST, LATEST),
        };
        memory.addresses.insert(address, Entry { sidecar, since, until: now + believed });
        lost
    }

    /// What is remembered now, and what could not be.
    pub(crate) fn said(&self, now: Instant) -> Said {
        let memory = self.0.lock();
        let count = |sidecar| memory.addresses.values().filter(|of| of.sidecar == sidecar && now < of.until).count();
        Said { sidecars: count(true) as u64, others: count(false) as u64, overflow: memory.overflow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> SocketAddr {
        SocketAddr::from((u32::try_from(n).unwrap().to_be_bytes(), 80))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_sidecar_that_is_not_there_any_more_is_lost_once() {
        let (mesh, now) = (Mesh::default(), Instant::now());
        assert_eq!(mesh.known(address(1), now), Known::Nothing);
        assert!(!mesh.found(address(1), true, now));
        assert_eq!(mesh.known(address(1), now + SIDECAR - SECOND), Known::Sidecar);
        assert!(mesh.found(address(1), false, now + SECOND));
        assert!(!mesh.found(address(1), false, now + SECOND));
        assert_eq!(mesh.known(address(1), now + SECOND), Known::Other);
        assert!(!mesh.found(address(1), true, now + SECOND), "and may come back");
    }

    #[test]
    fn what_was_a_sidecar_long_ago_is_nothing_to_lose() {
        let (mesh, now) = (Mesh::default(), Instant::now());
        mesh.found(address(1), true, now);
        assert_eq!(mesh.known(address(1), now + SIDECAR), Known::Nothing);
        assert!(!mesh.found(address(1), false, now + SIDECAR));
    }

    #[test]
    fn where_there_is_none_one_connection_looks_again_and_ever_more_seldom() {
        let (mesh, mut now) = (Mesh::default(), Instant::now());
        let mut looks = Vec::new();
        mesh.found(address(1), false, now);
        for _ in 0..6 {
            let began = now;
            while mesh.known(address(1), now) == Known::Other {
                now += SECOND;
            }
            assert_eq!(mesh.known(address(1), now), Known::Other, "the others go on as before");
            looks.push((now - began).as_secs());
            mesh.found(address(1), false, now);
        }
        assert_eq!(looks, [60, 60, 120, 240, 480, 600]);
    }

    #[test]
    fn no_more_than_the_limit_are_remembered_and_old_ones_make_room() {
        let (mesh, now) = (Mesh::default(), Instant::now());
        (0..MOST + 7).for_each(|n| assert!(!mesh.found(address(n), n == 0, now)));
        let said = mesh.said(now);
        assert_eq!((said.sidecars, said.others, said.overflow), (1, MOST as u64 - 1, 7));
        assert_eq!(mesh.known(address(MOST), now), Known::Nothing);
        mesh.found(address(MOST), true, now + SOONEST);
        assert_eq!(mesh.known(address(MOST), now + SOONEST), Known::Sidecar);
        assert_eq!(mesh.known(address(0), now + SOONEST), Known::Sidecar, "it is not what makes room");
    }
}
