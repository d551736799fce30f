//! Which signals the terminal has sent: those went to the wrapped command, too.

use rustix::process::{Signal, getpgrp};
use rustix::termios::tcgetpgrp;

/// Whether `signal` most likely came from the terminal, which sends to the whole foreground group, the wrapped command
/// included. Sent on, it would arrive twice; and a second Ctrl-C means "at once" to many programs.
///
/// A signal does not say where it came from. So Ctrl-C and Ctrl-\ count as the terminal's while this program is in its
/// foreground; SIGHUP, SIGTERM and the others never do.
pub(super) fn has_sent(signal: Signal) -> bool {
    matches!(signal, Signal::INT | Signal::QUIT) && in_foreground()
}

fn in_foreground() -> bool {
    // Without a controlling terminal this cannot be opened.
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    tcgetpgrp(&terminal).is_ok_and(|foreground| foreground == getpgrp())
}
