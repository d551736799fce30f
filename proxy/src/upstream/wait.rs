//! One call that wants a connection: from when on it has to wait for one, it is among those that do.

use std::sync::Arc;

use crate::error::Fault;
use crate::policy::{Counted, Neighbour};

/// Until the call has its connection. Nothing where destinations are not watched.
pub(super) struct Wait<'a> {
    neighbour: Option<&'a Arc<Neighbour>>,
    place: Option<Counted>,
}

impl<'a> Wait<'a> {
    /// It need not wait yet.
    pub(super) fn new(neighbour: Option<&'a Arc<Neighbour>>) -> Self {
        Self { neighbour, place: None }
    }

    /// It waits from here on.
    ///
    /// # Errors
    /// Where too many do.
    pub(super) fn begins(&mut self) -> Result<(), Fault> {
        if let (Some(neighbour), None) = (self.neighbour, &self.place) {
            let place = neighbour.waits().ok_or(Fault::DestinationPending)?;
            place.stays();
            self.place = Some(place);
        }
        Ok(())
    }

    /// A connection is made for it, and waited for: what counts the connection for as long as that stands.
    ///
    /// # Errors
    /// Where there are too many, or too many calls wait for one.
    pub(super) fn connection(&mut self) -> Result<Option<Counted>, Fault> {
        let Some(neighbour) = self.neighbour else { return Ok(None) };
        let connection = neighbour.connection().ok_or(Fault::DestinationConnections)?;
        self.begins()?;
        connection.stays();
        Ok(Some(connection))
    }

    /// Whether one more connection may be made.
    pub(super) fn has_room(&self) -> bool {
        self.neighbour.is_none_or(|neighbour| neighbour.connections.has_room())
    }

    /// The call is given up: counts which limit that cost.
    pub(super) fn given_up(&self, fault: Fault) -> Fault {
        match (self.neighbour, fault) {
            (Some(neighbour), Fault::DestinationConnections) => neighbour.connections.rejected.add(1),
            (Some(neighbour), Fault::DestinationPending) => neighbour.pending.rejected.add(1),
            _ => {}
        }
        fault
    }
}
