//! What a request carries that can tell whose it is: keyed hashes of ids, spans, the id of a handler.

use super::known::Header;
use crate::context::Traceparent;

/// Values of one request that are kept.
const MAX_KEYS: usize = 8;
/// Spans of one request that are kept.
const MAX_SPANS: usize = 6;

/// A value that names a request, as a hash that means nothing outside of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) value: u64,
    /// Where it stands.
    pub(crate) header: Header,
}

/// The values of one request, each once; those that prove most come first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keys {
    keys: [Option<Key>; MAX_KEYS],
}

/// The spans that one request names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spans([Option<u64>; MAX_SPANS]);

/// All of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Carried {
    pub(crate) keys: Keys,
    pub(crate) spans: Spans,
    /// What `traceparent` says, whether requests are linked by it or not.
    pub(crate) traceparent: Said<Traceparent>,
    /// The id of a handler that the application was given.
    pub(crate) handler: Option<u64>,
    /// Whether there is a `tracestate`.
    pub(crate) state: bool,
    /// Which headers there are, a bit for each.
    pub(crate) present: u64,
}

/// What a field says that should stand there once: the first one counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Said<T> {
    #[default]
    Nothing,
    /// It cannot be read.
    Nonsense,
    This(T),
}

impl Carried {
    /// What a request carries that shall not be linked to anything.
    pub(crate) fn unwatched(traceparent: Option<&[u8]>, tracestate: Option<&[u8]>) -> Self {
        let traceparent = traceparent.map_or(Said::Nothing, Said::read);
        Self { traceparent, state: tracestate.is_some(), ..Self::default() }
    }
}

impl Said<Traceparent> {
    pub(crate) fn read(value: &[u8]) -> Self {
        Traceparent::parse(value).map_or(Self::Nonsense, Self::This)
    }
}

impl<T> Said<T> {
    pub(crate) fn get(self) -> Option<T> {
        match self {
            Said::This(said) => Some(said),
            Said::Nothing | Said::Nonsense => None,
        }
    }
}

impl Keys {
    /// Adds a value. Beyond the limit those that prove least are left out.
    pub(crate) fn push(&mut self, key: Key) {
        if self.iter().any(|known| known.value == key.value) {
            return;
        }
        let mut adding = Some(key);
        for slot in &mut self.keys {
            if slot.is_none_or(|known| adding.is_some_and(|adding| adding.header < known.header)) {
                std::mem::swap(slot, &mut adding);
            }
            if adding.is_none() {
                return;
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Key> + '_ {
        self.keys.iter().map_while(|key| *key)
    }

    /// Whether the value is one of these.
    pub(crate) fn holds(&self, value: u64) -> bool {
        self.iter().any(|key| key.value == value)
    }
}

impl Spans {
    pub(crate) fn push(&mut self, span: u64) {
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(span);
        }
    }

    /// Whether both name one span.
    pub(crate) fn meet(&self, other: &Self) -> bool {
        self.0.iter().flatten().any(|span| other.0.contains(&Some(*span)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_most_stays_and_comes_first() {
        let mut keys = Keys::default();
        for header in (0..12).rev() {
            keys.push(Key { value: u64::from(header), header: Header(header) });
            keys.push(Key { value: u64::from(header), header: Header(header + 20) });
        }
        assert_eq!(keys.iter().map(|key| key.header.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(keys.holds(7) && !keys.holds(8));
    }

    #[test]
    fn spans_meet_where_one_is_named_by_both() {
        let (mut a, mut b) = (Spans::default(), Spans::default());
        (1..20).for_each(|span| a.push(span));
        b.push(7);
        assert!(!a.meet(&b) && !Spans::default().meet(&Spans::default()), "only six are kept");
        b.push(6);
        assert!(a.meet(&b));
    }
}
