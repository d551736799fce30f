//! File descriptors: the whole system lives in one program, so it needs more of them than a shell usually grants.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this program's own limit, as far as the system allows it without asking anyone, to [`ENOUGH`].
///
/// Where that fails the demo runs with what there is; a small system fits.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// For several hundred services with their sidecars and the connections between them.
const ENOUGH: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_limit_is_never_lower_than_before() {
        let before = getrlimit(Resource::Nofile);
        raise_limit();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.maximum, before.maximum);
        assert!(after.current.is_none_or(|after| before.current.is_some_and(|before| after >= before)));
    }
}
