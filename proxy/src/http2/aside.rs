//! What a stream does beside its answer: it passes interim answers on, and the rest of an upload whose answer has begun.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use parking_lot::Mutex;

/// The rest of an upload.
type Upload = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Of one stream: filled by whoever serves its request, emptied by the stream, both in the same task.
#[derive(Clone, Default)]
pub(crate) struct Aside(Arc<Mutex<Left>>);

#[derive(Default)]
struct Left {
    /// At most one: the stream takes it before the next one is looked for.
    interim: Option<Response<()>>,
    upload: Option<Upload>,
}

impl Aside {
    /// An interim answer for the client.
    pub(crate) fn tell(&self, interim: Response<()>) {
        self.0.lock().interim = Some(interim);
    }

    /// From here on the stream carries the upload on.
    pub(super) fn carry(&self, upload: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().upload = Some(Box::pin(upload));
    }

    pub(super) fn told(&self) -> Option<Response<()>> {
        self.0.lock().interim.take()
    }

    /// Whether the upload is over.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        // The upload may lock its own body, never this.
        let Some(mut upload) = self.0.lock().upload.take() else { return Poll::Ready(()) };
        if upload.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.0.lock().upload = Some(upload);
        Poll::Pending
    }
}
