//! What a stream does beside its answer: it passes interim answers on, and the rest of an upload whose answer has begun.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Response;
use parking_lot::{Mutex, MutexGuard};

/// The rest of an upload.
type Upload = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Of one stream: filled by whoever serves its request, emptied by the stream, both in the same task.
#[derive(Clone, Default)]
pub(crate) struct Aside(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether there was ever anything: most streams have nothing to do beside, and need not look.
    used: AtomicBool,
    left: Mutex<Left>,
}

#[derive(Default)]
struct Left {
    /// At most one: the stream takes it before the next one is looked for.
    interim: Option<Response<()>>,
    upload: Option<Upload>,
}

impl Aside {
    /// An interim answer for the client.
    pub(crate) fn tell(&self, interim: Response<()>) {
        self.left().interim = Some(interim);
    }

    /// From here on the stream carries the upload on.
    pub(super) fn carry(&self, upload: impl Future<Output = ()> + Send + 'static) {
        self.left().upload = Some(Box::pin(upload));
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.used.store(true, Ordering::Relaxed);
        self.0.left.lock()
    }

    fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    pub(crate) fn told(&self) -> Option<Response<()>> {
        if self.is_used() { self.0.left.lock().interim.take() } else { None }
    }

    /// Whether the upload is over.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_used() {
            return Poll::Ready(());
        }
        // The upload may lock its own body, never this.
        let Some(mut upload) = self.0.left.lock().upload.take() else { return Poll::Ready(()) };
        if upload.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.0.left.lock().upload = Some(upload);
        Poll::Pending
    }
}
