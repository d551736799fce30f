//! Signals of the operating system: the polite request to end, and what has to reach a wrapped command.

use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// The signals that were asked for, as they come in. From here on they no longer end the program by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    listeners: Vec<(i32, Listener)>,
}

impl Signals {
    /// SIGTERM and SIGINT: please end.
    pub(crate) fn to_end() -> std::io::Result<Self> {
        Self::of(&[SignalKind::terminate(), SignalKind::interrupt()])
    }

    /// SIGHUP: please read the configuration again.
    pub(crate) fn to_reload() -> std::io::Result<Self> {
        Self::of(&[SignalKind::hangup()])
    }

    /// Everything that a wrapped command may want to hear of.
    pub(crate) fn to_forward() -> std::io::Result<Self> {
        Self::of(&[
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ])
    }

    /// Listens to `kinds`, except for those that this program was told to ignore when it was started: `nohup` and
    /// background jobs rely on that, and a command started from here inherits it.
    fn of(kinds: &[SignalKind]) -> std::io::Result<Self> {
        let ignored = ignored();
        let heard = kinds.iter().filter(|kind| !ignored.contains(kind.as_raw_value()));
        let listeners = heard.map(|kind| Ok((kind.as_raw_value(), signal(*kind)?)));
        Ok(Self { listeners: listeners.collect::<std::io::Result<_>>()? })
    }

    /// The number of the next signal. May be dropped and asked again without losing one.
    pub(crate) async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, listener) in &mut self.listeners {
                if listener.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// The exit code of a program that a signal has ended, as shells have it.
pub(crate) fn exit_code(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
}

/// A set of signals, as the kernel writes it: bit n-1 stands for signal n.
struct SignalSet(u64);

impl SignalSet {
    fn contains(&self, signal: i32) -> bool {
        u32::try_from(signal)
            .ok()
            .and_then(|signal| 1_u64.checked_shl(signal.checked_sub(1)?))
            .is_some_and(|bit| self.0 & bit != 0)
    }

    /// The line `SigIgn` of `/proc/self/status`.
    fn ignored_in(status: &str) -> Option<Self> {
        let digits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(digits.trim(), 16).ok().map(Self)
    }
}

/// What this program ignores. Where the system does not tell (it is no Linux), nothing.
fn ignored() -> SignalSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    SignalSet::ignored_in(&status).unwrap_or(SignalSet(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_signals_are_read_from_the_kernel() {
        let set = SignalSet::ignored_in("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n").unwrap();
        assert!(set.contains(1) && set.contains(13));
        assert!(!set.contains(2) && !set.contains(0) && !set.contains(-1) && !set.contains(900));
        assert!(SignalSet::ignored_in("SigIgn:\tnothing").is_none());
    }

    #[test]
    fn a_killed_program_ends_like_in_a_shell() {
        assert_eq!(exit_code(15), 143);
        assert_eq!(exit_code(9000), 255);
    }
}
