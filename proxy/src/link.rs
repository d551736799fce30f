//! Which outbound call belongs to which inbound request: the handlers that are open, found by what a call carries.

mod found;
mod handler;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use found::{FEW, Found, How, Link};
pub(crate) use handler::{CallEnd, Handler, nanos};

/// Handlers are spread by trace over this many tables, so that workers seldom meet at a lock.
const SHARDS: usize = 16;
/// Ended handlers that each table still knows, so that a call made after the answer finds who made it.
const ENDED_KEPT: usize = 64;

/// Handlers that are open or ended lately, by trace.
pub(crate) struct Handlers([Mutex<Shard>; SHARDS]);

#[derive(Default)]
struct Shard {
    by_trace: HashMap<u128, Vec<Arc<Handler>>>,
    ended: VecDeque<Arc<Handler>>,
}

/// What an outbound request carries of its handler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    /// Trace of the `traceparent`.
    pub(crate) trace: u128,
    /// Parent span of the `traceparent`.
    pub(crate) span: u64,
    /// Handler id of the `tracestate`, if it was passed on.
    pub(crate) handler: Option<u64>,
}

impl Handlers {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    /// Makes a handler findable.
    pub(crate) fn open(&self, handler: &Arc<Handler>) {
        if let Some(shard) = self.shard(handler.trace) {
            shard.lock().by_trace.entry(handler.trace).or_default().push(Arc::clone(handler));
        }
    }

    /// Keeps an ended handler findable for a while, as one of a bounded number.
    pub(crate) fn ended(&self, handler: &Arc<Handler>) {
        if let Some(shard) = self.shard(handler.trace) {
            let mut shard = shard.lock();
            shard.ended.push_back(Arc::clone(handler));
            if shard.ended.len() > ENDED_KEPT
                && let Some(oldest) = shard.ended.pop_front()
            {
                shard.forget(&oldest);
            }
        }
    }

    /// The handler that a call belongs to, as far as what it carries proves it.
    ///
    /// The handler id is proof. Without it, the trace is proof where a single open handler has it; where several have
    /// (a chain that comes back to this service), the parent span that was given to one of them is. Handlers that
    /// ended count only where none is open.
    pub(crate) fn find(&self, carried: Carried) -> Found {
        let Some(shard) = self.shard(carried.trace) else { return Found::None };
        let shard = shard.lock();
        let Some(handlers) = shard.by_trace.get(&carried.trace) else { return Found::None };
        if let Some(by_id) = handlers.iter().find(|handler| Some(handler.id) == carried.handler) {
            return Found::One(Arc::clone(by_id), How::Handler);
        }
        let open = |handler: &&Arc<Handler>| !handler.has_ended();
        if handlers.iter().any(|handler| open(&handler)) {
            among(handlers.iter().filter(open), carried.span)
        } else {
            among(handlers.iter(), carried.span)
        }
    }

    fn shard(&self, trace: u128) -> Option<&Mutex<Shard>> {
        self.0.get((trace % SHARDS as u128) as usize)
    }
}

/// The only one, or the only one that gave out this parent span, or all.
fn among<'a>(candidates: impl Iterator<Item = &'a Arc<Handler>> + Clone, span: u64) -> Found {
    if let Some(only) = only(candidates.clone()) {
        return Found::One(only, How::Value);
    }
    if let Some(only) = only(candidates.clone().filter(|handler| handler.span == span)) {
        return Found::One(only, How::Parent);
    }
    let few: Vec<_> = candidates.take(FEW + 1).cloned().collect();
    if (2..=FEW).contains(&few.len()) { Found::Several(few) } else { Found::None }
}

fn only<'a>(mut candidates: impl Iterator<Item = &'a Arc<Handler>>) -> Option<Arc<Handler>> {
    let first = candidates.next()?;
    candidates.next().is_none().then(|| Arc::clone(first))
}

impl Shard {
    fn forget(&mut self, handler: &Handler) {
        if let Some(handlers) = self.by_trace.get_mut(&handler.trace) {
            handlers.retain(|known| known.id != handler.id);
            if handlers.is_empty() {
                self.by_trace.remove(&handler.trace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_telemetry::window::overflow;
    use tokio::time::Instant;

    fn handler(id: u64, trace: u128, span: u64) -> Arc<Handler> {
        Arc::new(Handler::new(id, trace, span, overflow(), 0, Instant::now()))
    }

    fn found(handlers: &Handlers, trace: u128, span: u64, id: Option<u64>) -> Option<u64> {
        match handlers.find(Carried { trace, span, handler: id }) {
            Found::One(handler, _) => Some(handler.id),
            Found::Several(_) | Found::None => None,
        }
    }

    fn end(handlers: &Handlers, handler: &Arc<Handler>) {
        handler.end(Instant::now());
        handlers.ended(handler);
    }

    #[test]
    fn a_trace_that_one_open_handler_has_is_proof() {
        let handlers = Handlers::new();
        handlers.open(&handler(1, 10, 100));
        handlers.open(&handler(2, 20, 200));
        assert_eq!(found(&handlers, 10, 999, None), Some(1));
        assert_eq!(found(&handlers, 30, 999, None), None);
    }

    #[test]
    fn where_a_chain_comes_back_the_handler_id_tells_the_handlers_apart() {
        let handlers = Handlers::new();
        handlers.open(&handler(1, 10, 100));
        handlers.open(&handler(2, 10, 200));
        assert_eq!(found(&handlers, 10, 999, Some(2)), Some(2));
        assert_eq!(found(&handlers, 10, 100, None), Some(1), "the parent span was passed on unchanged");
        match handlers.find(Carried { trace: 10, span: 999, handler: None }) {
            Found::Several(few) => assert_eq!(few.iter().map(|handler| handler.id).collect::<Vec<_>>(), [1, 2]),
            Found::One(..) | Found::None => panic!("it is one of the two, and nothing tells which"),
        }
    }

    #[test]
    fn what_too_many_handlers_share_tells_nothing() {
        let handlers = Handlers::new();
        (0..=FEW as u64).for_each(|n| handlers.open(&handler(n, 10, 100 + n)));
        assert!(matches!(handlers.find(Carried { trace: 10, span: 999, handler: None }), Found::None));
        assert_eq!(found(&handlers, 10, 103, None), Some(3));
    }

    #[test]
    fn a_handler_that_ended_is_found_where_none_is_open() {
        let handlers = Handlers::new();
        let (first, second) = (handler(1, 10, 100), handler(2, 10, 200));
        handlers.open(&first);
        end(&handlers, &first);
        assert_eq!(found(&handlers, 10, 999, None), Some(1));
        handlers.open(&second);
        assert_eq!(found(&handlers, 10, 999, None), Some(2));
    }

    #[test]
    fn ended_handlers_do_not_pile_up() {
        let handlers = Handlers::new();
        for n in 0..10_000u64 {
            let handler = handler(n, u128::from(n), n);
            handlers.open(&handler);
            end(&handlers, &handler);
        }
        let known: usize = handlers.0.iter().map(|shard| shard.lock().by_trace.len()).sum();
        assert_eq!(known, SHARDS * ENDED_KEPT);
    }
}
