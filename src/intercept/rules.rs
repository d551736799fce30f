//! What shall be captured, whatever writes it down.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

/// Everything that the rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) inbound: Option<Inbound>,
    pub(super) outbound: Option<Outbound>,
    /// What the proxy itself sends is left alone: it has this user, or this group, or this mark.
    pub(super) uid: u32,
    pub(super) gid: Option<u32>,
    pub(super) mark: u32,
}

/// Connections that come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inbound {
    /// Where the proxy takes them.
    pub(super) port: u16,
    /// Ports that are left alone.
    pub(super) skip: Vec<Ports>,
}

/// Connections that go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outbound {
    /// Where the proxy takes them.
    pub(super) port: u16,
    /// Ports that are left alone.
    pub(super) skip: Vec<Ports>,
    /// Destinations that are left alone, none inside another.
    pub(super) skip_networks: Vec<IpNet>,
}

/// One port, or a range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Ports {
    pub(super) fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The same ports, each once, in order.
    pub(super) fn merged(ports: impl Iterator<Item = Self>) -> Vec<Self> {
        let mut sorted: Vec<Self> = ports.collect();
        sorted.sort_unstable();
        let mut merged: Vec<Self> = Vec::with_capacity(sorted.len());
        for next in sorted {
            match merged.last_mut() {
                Some(last) if next.first <= last.last.saturating_add(1) => last.last = last.last.max(next.last),
                _ => merged.push(next),
            }
        }
        merged
    }
}

impl FromStr for Ports {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a port or a range of ports such as 8000-8010";
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(EXPECTED),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}
