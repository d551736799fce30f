//! The way down, of the proxy and of a configuration that another one replaced. One signal that every listener and
//! every connection watches.

use std::time::Duration;

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

/// Why a connection is to end, the more urgent the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// A newer configuration is in force.
    Retired,
    /// The proxy goes down.
    Draining,
    /// The proxy is about to be gone.
    Closing,
}

impl Ending {
    /// How long a connection may stay idle after it was told. A client that asks again within this time hears with its
    /// answer that the connection ends; a request and a close that cross each other would cost the request.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Ending::Retired => Duration::from_secs(10),
            Ending::Draining => Duration::from_millis(250),
            Ending::Closing => Duration::ZERO,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    phase: Phase,
    /// The configuration in force, counted from 1.
    generation: u64,
}

/// The side that announces.
pub(crate) struct Drain(watch::Sender<State>);

/// The side that watches, for one generation.
#[derive(Clone)]
pub(crate) struct Watch {
    state: watch::Receiver<State>,
    generation: u64,
}

impl Drain {
    /// The first generation is in force.
    pub(crate) fn new() -> (Self, Watch) {
        let (sender, state) = watch::channel(State { phase: Phase::Serving, generation: 1 });
        (Self(sender), Watch { state, generation: 1 })
    }

    /// Moves on to `phase`; never back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let on = phase > now.phase;
            if on {
                now.phase = phase;
            }
            on
        });
    }

    /// From here on `generation` is in force; connections of those before it end in peace.
    pub(crate) fn retire_before(&self, generation: u64) {
        self.0.send_modify(|now| now.generation = now.generation.max(generation));
    }

    /// The view of a generation.
    pub(crate) fn watch(&self, generation: u64) -> Watch {
        Watch { state: self.0.subscribe(), generation }
    }
}

impl Watch {
    pub(crate) fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    /// Waits until `phase` or a later one is reached; also when nobody is left to announce it.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        // An error means that the sender is gone: that is the end as well.
        let _ = self.state.wait_for(|now| now.phase >= phase).await;
    }

    /// Waits until a connection that the proxy keeps until `ends_at` is to end, for a reason more urgent than the one
    /// that it knows already.
    pub(crate) async fn ending(&mut self, ends_at: Phase, known: Option<Ending>) -> Ending {
        let generation = self.generation;
        let more = |now: &State| ending(*now, generation, ends_at) > known;
        match self.state.wait_for(more).await {
            Ok(now) => ending(*now, generation, ends_at).unwrap_or(Ending::Closing),
            Err(_) => Ending::Closing,
        }
    }
}

fn ending(now: State, generation: u64, ends_at: Phase) -> Option<Ending> {
    match now.phase {
        Phase::Closing => Some(Ending::Closing),
        phase if phase >= ends_at => Some(Ending::Draining),
        _ => (now.generation > generation).then_some(Ending::Retired),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(phase: Phase, generation: u64, ends_at: Phase) -> Option<Ending> {
        ending(State { phase, generation }, 2, ends_at)
    }

    #[test]
    fn a_connection_ends_with_its_configuration_or_with_its_direction() {
        assert_eq!(at(Phase::Serving, 2, Phase::Draining), None);
        assert_eq!(at(Phase::Serving, 3, Phase::Draining), Some(Ending::Retired));
        assert_eq!(at(Phase::Draining, 2, Phase::Draining), Some(Ending::Draining));
        assert_eq!(at(Phase::Draining, 2, Phase::Closing), None, "the application may still call out");
        assert_eq!(at(Phase::Draining, 3, Phase::Closing), Some(Ending::Retired));
        assert_eq!(at(Phase::Closing, 2, Phase::Closing), Some(Ending::Closing));
    }

    #[tokio::test]
    async fn what_is_known_already_is_not_told_again() {
        let (drain, mut watch) = Drain::new();
        drain.retire_before(2);
        assert_eq!(watch.ending(Phase::Draining, None).await, Ending::Retired);
        drain.advance(Phase::Draining);
        assert_eq!(watch.ending(Phase::Draining, Some(Ending::Retired)).await, Ending::Draining);
        drop(drain);
        assert_eq!(watch.ending(Phase::Draining, Some(Ending::Draining)).await, Ending::Closing);
    }
}
