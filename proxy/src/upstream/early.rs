//! A connection that was asked for before anybody knew what for: it becomes the first of its upstream's pool.

use std::pin::Pin;

use parking_lot::Mutex;

use super::{Connector, Opened, Upstream};
use crate::error::Fault;
use crate::http::Protocol;

/// A connection that is made, or about to be.
pub(crate) type Dial = Pin<Box<dyn Future<Output = Result<Opened, Fault>> + Send>>;

/// The connection that the first request on a captured connection gets.
pub(crate) struct Early(Option<Mutex<Option<Dial>>>);

impl Early {
    pub(crate) fn new(dial: Option<Dial>) -> Self {
        Self(dial.map(|dial| Mutex::new(Some(dial))))
    }

    /// Waits for the connection, the first time, and gives it to `upstream`.
    ///
    /// # Errors
    /// Why there is none: another attempt would meet the same.
    pub(crate) async fn settle(
        &self,
        connector: &Connector,
        upstream: &Upstream,
        protocol: Protocol,
    ) -> Result<(), Fault> {
        let dial = self.0.as_ref().and_then(|dial| dial.lock().take());
        if let Some(dial) = dial {
            upstream.adopt(connector, protocol, dial.await?).await;
        }
        Ok(())
    }
}
