//! What the heads of a connection's requests take in memory. A head of many bytes can come in a few (RFC 7541), and
//! hundreds of requests at once: each alone is within its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;

/// Bytes of all heads on one connection: as many requests at once as it may have, with 8 KiB each.
const LEAST: usize = 4 * 1024 * 1024;
/// Heads of the size that is allowed for one: fewer at once would be no limit of them all, but another one for each.
const WHOLE: usize = 64;

/// The heads of one connection.
pub(super) struct Heads {
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

/// One head, for as long as its request is there.
pub(super) struct Head {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Heads {
    /// Where one may have so many bytes.
    pub(super) fn new(header_bytes: usize) -> Self {
        Self { bytes: Arc::default(), limit: header_bytes.saturating_mul(WHOLE).max(LEAST) }
    }

    /// One more. None where they are too much together.
    pub(super) fn add(&self, headers: &HeaderMap) -> Option<Head> {
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let head = Head { all: Arc::clone(&self.bytes), bytes };
        (before + bytes <= self.limit).then_some(head)
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(bytes: usize) -> HeaderMap {
        let value = HeaderValue::from_bytes(&vec![b'v'; bytes - 1]).unwrap();
        [("x".parse().unwrap(), value)].into_iter().collect()
    }

    #[test]
    fn heads_are_too_much_together_and_room_again_once_their_requests_are_gone() {
        let heads = Heads::new(8 * 1024);
        let mut held: Vec<_> = (0..512).map_while(|_| heads.add(&head(8 * 1024))).collect();
        assert_eq!(held.len(), 512);
        assert!(heads.add(&head(2)).is_none() && heads.add(&head(2)).is_none());
        held.pop();
        assert!(heads.add(&head(8 * 1024)).is_some(), "those that were refused hold nothing");
        drop(held);
        assert_eq!(heads.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn so_many_of_the_largest_that_are_allowed_always_have_room() {
        let heads = Heads::new(1024 * 1024);
        let held: Vec<_> = (0..100).map_while(|_| heads.add(&head(1024 * 1024))).collect();
        assert_eq!(held.len(), WHOLE);
    }
}
