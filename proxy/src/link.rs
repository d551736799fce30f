//! Which outbound call belongs to which inbound request: the handlers that are open, found by what a call carries.

mod carried;
mod found;
mod handler;
mod headers;
mod known;
mod learn;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use carried::{Carried, Said as CarriedOnce};
pub(crate) use found::{FEW, Found, How, Link};
pub(crate) use handler::{CallEnd, Handler, nanos};
pub(crate) use headers::{Headers, Source, Tally};
#[cfg(test)]
pub(crate) use known::TRACEPARENT;
pub(crate) use learn::Learning;

use carried::Key;
use known::BAGGAGE;

/// Values are spread over this many tables, so that workers seldom meet at a lock.
const SHARDS: usize = 16;
/// Ended handlers that each table still knows, so that a call made after the answer finds who made it.
const ENDED_KEPT: usize = 64;

/// Handlers that are open or ended lately, by the values that they were given.
pub(crate) struct Handlers([Mutex<Shard>; SHARDS]);

#[derive(Default)]
struct Shard {
    holders: HashMap<u64, Holders, BuildHasherDefault<Hashed>>,
    /// Those whose first value is here.
    ended: VecDeque<Arc<Handler>>,
}

/// The handlers that have one value: nearly always one.
struct Holders {
    first: Option<Arc<Handler>>,
    more: Vec<Arc<Handler>>,
    /// Beyond those that are listed.
    unlisted: u32,
}

/// What one value says.
enum Said {
    One(Arc<Handler>, How),
    Several(Vec<Arc<Handler>>),
    Nothing,
}

impl Handlers {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    /// Makes a handler findable.
    pub(crate) fn open(&self, handler: &Arc<Handler>) {
        for key in handler.keys.iter() {
            if let Some(shard) = self.shard(key.value) {
                shard.lock().holders.entry(key.value).or_insert_with(Holders::nobody).add(handler);
            }
        }
    }

    /// Keeps an ended handler findable for a while, as one of a bounded number.
    pub(crate) fn ended(&self, handler: &Arc<Handler>) {
        let Some(first) = handler.keys.iter().next() else { return };
        let Some(shard) = self.shard(first.value) else { return };
        let oldest = {
            let mut shard = shard.lock();
            shard.ended.push_back(Arc::clone(handler));
            if shard.ended.len() <= ENDED_KEPT {
                return;
            }
            let Some(oldest) = shard.ended.pop_front() else { return };
            oldest.keys.iter().take(1).for_each(|key| shard.forget(key.value, &oldest));
            oldest
        };
        for key in oldest.keys.iter().skip(1) {
            if let Some(shard) = self.shard(key.value) {
                shard.lock().forget(key.value, &oldest);
            }
        }
    }

    /// The handler that a call belongs to, as far as what it carries proves it.
    ///
    /// The id of a handler is proof. Without it, a value is proof where a single open handler has it; where several have
    /// (a chain that comes back to this service), the parent span that was given to one of them is, or another value that
    /// only one of them has. Handlers that ended count only where none is open.
    pub(crate) fn find(&self, carried: &Carried) -> Found {
        let mut few: Vec<Arc<Handler>> = Vec::new();
        for key in carried.keys.iter() {
            match self.look(key, carried) {
                Said::One(handler, how) => return Found::One(handler, how),
                Said::Nothing => {}
                Said::Several(others) if few.is_empty() => few = others,
                Said::Several(others) => {
                    let both = |handler: &&Arc<Handler>| others.iter().any(|other| other.id == handler.id);
                    let common: Vec<_> = few.iter().filter(both).cloned().collect();
                    match common.as_slice() {
                        [only] => return Found::One(Arc::clone(only), How::Value(key.header)),
                        [] => {}
                        _ => few = common,
                    }
                }
            }
        }
        if few.is_empty() { Found::None } else { Found::Several(few) }
    }

    fn look(&self, key: Key, carried: &Carried) -> Said {
        let Some(shard) = self.shard(key.value) else { return Said::Nothing };
        let shard = shard.lock();
        let Some(holders) = shard.holders.get(&key.value) else { return Said::Nothing };
        if let Some(by_id) = carried.handler.and_then(|id| holders.iter().find(|handler| handler.id == id)) {
            return Said::One(Arc::clone(by_id), How::Handler(key.header));
        }
        if holders.unlisted > 0 {
            return Said::Nothing;
        }
        // What may be the same in many requests is proof only where no other, ended or not, had it.
        let open = |handler: &&Arc<Handler>| key.header != BAGGAGE && !handler.has_ended();
        match holders.iter().any(|handler| open(&handler)) {
            true => among(holders.iter().filter(open), key, carried),
            false => among(holders.iter(), key, carried),
        }
    }

    fn shard(&self, value: u64) -> Option<&Mutex<Shard>> {
        self.0.get((value >> 32) as usize % SHARDS)
    }
}

/// The only one, or the only one that was given a span that the call names, or all.
fn among<'a>(candidates: impl Iterator<Item = &'a Arc<Handler>> + Clone, key: Key, carried: &Carried) -> Said {
    if let Some(only) = only(candidates.clone()) {
        return Said::One(only, How::Value(key.header));
    }
    if let Some(only) = only(candidates.clone().filter(|handler| handler.spans.meet(&carried.spans))) {
        return Said::One(only, How::Parent(key.header));
    }
    Said::Several(candidates.cloned().collect())
}

fn only<'a>(mut candidates: impl Iterator<Item = &'a Arc<Handler>>) -> Option<Arc<Handler>> {
    let first = candidates.next()?;
    candidates.next().is_none().then(|| Arc::clone(first))
}

impl Shard {
    fn forget(&mut self, value: u64, handler: &Handler) {
        if let Some(holders) = self.holders.get_mut(&value)
            && holders.remove(handler)
        {
            self.holders.remove(&value);
        }
    }
}

impl Holders {
    fn nobody() -> Self {
        Self { first: None, more: Vec::new(), unlisted: 0 }
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Handler>> + Clone {
        self.first.iter().chain(&self.more)
    }

    fn add(&mut self, handler: &Arc<Handler>) {
        if self.first.is_none() {
            self.first = Some(Arc::clone(handler));
        } else if self.more.len() + 1 < FEW {
            self.more.push(Arc::clone(handler));
        } else {
            self.unlisted += 1;
        }
    }

    /// Whether nobody is left.
    fn remove(&mut self, handler: &Handler) -> bool {
        if self.first.as_ref().is_some_and(|first| first.id == handler.id) {
            self.first = self.more.pop();
        } else if let Some(at) = self.more.iter().position(|other| other.id == handler.id) {
            self.more.swap_remove(at);
        } else {
            self.unlisted = self.unlisted.saturating_sub(1);
        }
        self.first.is_none() && self.unlisted == 0
    }
}

/// Values are hashes already, of a secret that no stranger knows.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests;
