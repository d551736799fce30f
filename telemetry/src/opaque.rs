//! Connections that are passed on untouched: databases, queues, anything inside TLS. They are edges of their own kind:
//! connections and bytes, no requests, no chain.

use crate::histogram::Histogram;

/// As much as is known of what such a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Nothing is known.
    Tcp,
    /// It began with a TLS ClientHello.
    Tls,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 2] = [Protocol::Tcp, Protocol::Tls];

    /// The word for labels and the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
        }
    }

    /// The protocol that [`Protocol::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == word)
    }
}

/// The opaque connections to one peer in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct OpaqueReport {
    /// The peer: the name in the ClientHello, a name that is known for the address, or `address:port`.
    pub peer: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// What was measured.
    pub stats: OpaqueStats,
}

/// Measures over opaque connections. All merge exactly. Those that stay open are told in pieces: what was opened in one
/// window may be closed in another, and bytes count when they pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpaqueStats {
    /// Connections that were made.
    pub opened: u64,
    /// Connections that ended, broken ones included.
    pub closed: u64,
    /// Connections that the application asked for and that could not be made.
    pub failed: u64,
    /// Connections that one side reset, or that were silent for too long.
    pub broken: u64,
    /// Bytes from the application to the peer.
    pub sent: u64,
    /// Bytes from the peer to the application.
    pub received: u64,
    /// How long connections lasted that ended.
    pub duration: Histogram,
}

impl OpaqueStats {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        let numbers = [
            (&mut self.opened, other.opened),
            (&mut self.closed, other.closed),
            (&mut self.failed, other.failed),
            (&mut self.broken, other.broken),
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
        ];
        for (mine, theirs) in numbers {
            *mine = mine.saturating_add(theirs);
        }
        self.duration.merge(&other.duration);
    }

    /// Connections that are open, as far as it was told of their beginning.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }

    /// Connections that the application asked for, made or not: what a limit counts.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.opened.saturating_add(self.failed)
    }
}
