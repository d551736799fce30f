//! HTTP/2 connections that are being made. Requests of one client wait for one, and clients for each other only where
//! there may be no more connections.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::MutexGuard;

use crate::deadline::Downstream;

/// Of one endpoint.
#[derive(Default)]
pub(super) struct Making(Mutex<Vec<Arc<Place>>>);

/// A connection that is being made, or about to be.
pub(super) struct Place {
    /// Whom it was for at first.
    client: Downstream,
    /// Held while it is made: whoever waits for it may use the same.
    turn: tokio::sync::Mutex<()>,
}

impl Making {
    /// Where `client` makes its connection, or waits for it; `room` is for so many connections.
    pub(super) fn place(&self, client: &Downstream, room: usize) -> Arc<Place> {
        let mut places = self.0.lock();
        places.retain(|place| Arc::strong_count(place) > 1);
        let own = places.iter().find(|place| place.client == *client);
        let full = || places.len() >= room;
        let waits_least = || places.iter().min_by_key(|place| Arc::strong_count(place));
        if let Some(place) = own.or_else(|| full().then(waits_least).flatten()) {
            return Arc::clone(place);
        }
        let place = Arc::new(Place { client: client.clone(), turn: tokio::sync::Mutex::default() });
        places.push(Arc::clone(&place));
        place
    }
}

impl Place {
    /// Ready when nobody else makes a connection here.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Progress;

    #[test]
    fn clients_wait_for_one_another_only_where_there_may_be_no_more_connections() {
        let making = Making::default();
        let connections = [(); 3].map(|()| Progress::new(tokio::time::Instant::now()));
        let [one, two, three] = [0, 1, 2].map(|n: usize| connections[n].moving().connection());
        let (first, second) = (making.place(&one, 2), making.place(&two, 2));
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &making.place(&one, 2)), "one client needs one connection");
        let waiting = making.place(&one, 2);
        assert!(Arc::ptr_eq(&second, &making.place(&three, 2)), "where fewer wait");
        drop((first, waiting));
        let third = making.place(&three, 2);
        assert!(!Arc::ptr_eq(&second, &third), "what was made makes room");
    }
}
