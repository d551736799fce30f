//! The way down: serving → draining inbound → closing. One signal that every listener and connection watches.

use tokio::sync::watch;

/// How far the proxy is on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is served.
    Serving,
    /// No new inbound connections; requests in flight end; the application may still call out.
    Draining,
    /// Outbound connections close as well.
    Closing,
}

/// The side that announces the phase.
pub(crate) struct Drain(watch::Sender<Phase>);

/// The side that watches it.
#[derive(Clone)]
pub(crate) struct Watch(watch::Receiver<Phase>);

impl Drain {
    pub(crate) fn new() -> (Self, Watch) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), Watch(receiver))
    }

    /// Moves on to `phase`; never back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let on = phase > *now;
            if on {
                *now = phase;
            }
            on
        });
    }
}

impl Watch {
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` or a later one is reached; also when nobody is left to announce it.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        // An error means that the sender is gone: that is the end as well.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
