//! The handlers that are open, and the numbers that endpoints and callees go by.

use std::collections::HashMap;
use std::sync::Arc;

use couplet_telemetry::report::Callee;
use xxhash_rust::xxh3::xxh3_64;

use crate::attribution::{Open, Sight};
use crate::link::Handler;

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    open: Open,
    handlers: HashMap<u64, Arc<Handler>>,
    sight: Option<Arc<Sight>>,
    endpoints: HashMap<u64, u32>,
    pub(super) endpoint_names: Vec<String>,
    callees: HashMap<u64, u32>,
    pub(super) callee_names: Vec<Arc<Callee>>,
}

/// Endpoints and callees that are told apart, each.
pub(super) const MOST_NAMES: usize = 1_024;

impl Book {
    /// Opens a handler, and gives the number of its endpoint; none if it has none and no more are given out.
    pub(super) fn handler_started(&mut self, handler: &Arc<Handler>, at: u64) -> Option<u32> {
        let name = &handler.path.endpoint;
        let next = self.endpoint_names.len();
        let number = match self.endpoints.get(&xxh3_64(name.as_bytes())) {
            Some(number) => *number,
            None if next < MOST_NAMES => {
                self.endpoint_names.push(name.clone());
                *self.endpoints.entry(xxh3_64(name.as_bytes())).or_insert(next as u32)
            }
            None => {
                self.open.handler_left_out();
                return None;
            }
        };
        if self.open.handler_started(handler.id, handler.path.id.get(), number, at) {
            self.handlers.insert(handler.id, Arc::clone(handler));
        }
        Some(number)
    }

    pub(super) fn handler_ended(&mut self, handler: &Handler) {
        self.open.handler_ended(handler.id);
        self.handlers.remove(&handler.id);
    }

    /// The number of a callee; none if it has none and no more are given out.
    pub(super) fn callee(&mut self, callee: &Arc<Callee>) -> Option<u32> {
        let next = self.callee_names.len();
        match self.callees.get(&callee.key()) {
            Some(number) => Some(*number),
            None if next < MOST_NAMES => {
                self.callee_names.push(Arc::clone(callee));
                Some(*self.callees.entry(callee.key()).or_insert(next as u32))
            }
            None => None,
        }
    }

    /// The likeliest handler of the likeliest path, among those that may have made a call, and how likely the path is.
    /// None before anything was learned, or where no handler is open.
    pub(super) fn guess(&mut self, callee: u32, at: u64, may: impl Fn(u64) -> bool) -> Option<(Arc<Handler>, f64)> {
        let guess = self.open.guess(self.sight.as_deref()?, callee, at, may)?;
        Some((Arc::clone(self.handlers.get(&guess.handler)?), guess.probability))
    }

    pub(super) fn call_started(&mut self, handler: u64, callee: u32, at: u64) {
        self.open.call_started(handler, callee, at);
    }

    pub(super) fn call_ended(&mut self, handler: u64, callee: u32, at: u64) {
        self.open.call_ended(handler, callee, at);
    }

    /// From now on calls are looked up in this.
    pub(super) fn learned(&mut self, sight: Sight) {
        self.sight = Some(Arc::new(sight));
    }
}
