//! A waker for tests that counts how often it wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

/// How often.
#[derive(Default)]
pub(crate) struct Woke(pub(crate) AtomicUsize);

impl Wake for Woke {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
