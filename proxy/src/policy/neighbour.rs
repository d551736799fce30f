//! What is known of one destination, of whatever class the calls to it are: which of its endpoints fail, how many
//! connections there are to it, and how many calls wait for one. Known to all workers.

use std::sync::Arc;

use couplet_config::BreakerSettings;

use super::ejection::Endpoints;
use super::limit::Limit;

/// One destination.
pub(crate) struct Neighbour {
    /// Those of its endpoints that are passed over.
    pub(crate) endpoints: Endpoints,
    /// Connections to it that stand or are being made.
    pub(crate) connections: Limit,
    /// Calls that wait for a connection.
    pub(crate) pending: Limit,
}

impl Neighbour {
    pub(crate) fn new(settings: &BreakerSettings) -> Self {
        Self {
            endpoints: Endpoints::new(settings),
            connections: Limit::new(settings.max_connections, settings.mode),
            pending: Limit::new(settings.max_pending, settings.mode),
        }
    }

    /// Other rules are in force.
    pub(crate) fn configure(&self, settings: &BreakerSettings) {
        self.endpoints.configure(settings);
        self.connections.configure(settings.max_connections, settings.mode);
        self.pending.configure(settings.max_pending, settings.mode);
    }

    /// One connection more; none where that is too much.
    pub(crate) fn connection(self: &Arc<Self>) -> Option<Counted> {
        Counted::new(self, |neighbour| &neighbour.connections)
    }

    /// One call more that waits for a connection; none where that is too much.
    pub(crate) fn waits(self: &Arc<Self>) -> Option<Counted> {
        Counted::new(self, |neighbour| &neighbour.pending)
    }
}

/// One of those that a limit counts, until it is dropped.
pub(crate) struct Counted {
    neighbour: Arc<Neighbour>,
    of: fn(&Neighbour) -> &Limit,
    number: u64,
}

impl Counted {
    fn new(neighbour: &Arc<Neighbour>, of: fn(&Neighbour) -> &Limit) -> Option<Self> {
        let number = of(neighbour).enter()?;
        Some(Self { neighbour: Arc::clone(neighbour), of, number })
    }

    /// It is there to stay for a while, and so may be the peak.
    pub(crate) fn stays(&self) {
        (self.of)(&self.neighbour).reached(self.number);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.neighbour).leave();
    }
}
