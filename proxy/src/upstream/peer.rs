//! Whether a sidecar answers at an upstream: the calling context goes only where it is understood.

use std::sync::atomic::{AtomicU32, Ordering};

/// Answers without a summary after which a destination counts as one without a sidecar.
const PATIENCE: u32 = 4;
/// Of the requests to a destination without a sidecar, one in so many still carries the context, as a probe.
const PROBE_EVERY: u32 = 256;

/// What is known of the other side. A destination is believed to have a sidecar until a few answers say otherwise:
/// the first request of a chain should not be the one that breaks it.
#[derive(Default)]
pub(crate) struct Peer {
    /// Answers without a summary in a row, up to [`PATIENCE`].
    silent: AtomicU32,
    requests: AtomicU32,
}

impl Peer {
    /// Whether the next request should carry the calling context.
    pub(crate) fn wants_context(&self) -> bool {
        let n = self.requests.fetch_add(1, Ordering::Relaxed);
        self.silent.load(Ordering::Relaxed) < PATIENCE || n.is_multiple_of(PROBE_EVERY)
    }

    /// An answer to a request with context came, with a summary or without.
    pub(crate) fn answered(&self, with_summary: bool) {
        if with_summary {
            self.silent.store(0, Ordering::Relaxed);
        } else {
            let _ = self.silent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < PATIENCE).then_some(n + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_that_never_answers_with_a_summary_is_only_probed() {
        let peer = Peer::default();
        for _ in 0..PATIENCE {
            assert!(peer.wants_context());
            peer.answered(false);
        }
        let probes = (0..PROBE_EVERY * 10).filter(|_| peer.wants_context()).count();
        assert_eq!(probes, 10);
    }

    #[test]
    fn one_summary_is_enough_to_be_believed_again() {
        let peer = Peer::default();
        (0..PATIENCE).for_each(|_| peer.answered(false));
        peer.answered(true);
        assert!((0..10).all(|_| peer.wants_context()));
    }
}
