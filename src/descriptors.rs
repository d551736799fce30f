//! File descriptors: a program that carries connections needs more of them than a shell usually grants, and must know
//! how many it can carry with those that it has.

use couplet_config::ProxyConfig;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this program's own limit, as far as the system allows it without asking anyone, to [`ENOUGH`].
///
/// Where that fails the program runs with what there is.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// Lowers `limits.connections` to what this program has descriptors for: one for each connection and one for the upstream
/// connection behind it. What it cannot carry is refused and counted then; otherwise it would wait, and requests that
/// are carried would find no descriptor for their upstream.
pub(crate) fn fit(config: &mut ProxyConfig) {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    let listeners = (config.outbound.len() + LISTENERS) * config.workers;
    config.limits.connections = config.limits.connections.min(room(limit, listeners));
}

/// How many connections fit, beside so many listeners.
fn room(limit: u64, listeners: usize) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    (limit.saturating_sub(listeners).saturating_sub(SPARE) / 2).max(1)
}

/// The inbound, the explicit and the admin listener, and what a worker needs besides.
const LISTENERS: usize = 8;

/// For logs, admin clients, reports, questions to DNS and a connection that is only being refused.
const SPARE: usize = 48;

/// For several hundred services with their sidecars and the connections between them.
const ENOUGH: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_has_a_descriptor_for_its_upstream() {
        assert_eq!(room(256, 8), 100);
        assert_eq!(room(20_000, 8), 9_972);
        assert_eq!(room(10, 8), 1);
    }

    #[test]
    fn a_raised_limit_is_never_lower_than_before() {
        let before = getrlimit(Resource::Nofile);
        raise_limit();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.maximum, before.maximum);
        assert!(after.current.is_none_or(|after| before.current.is_some_and(|before| after >= before)));
    }
}
