//! Who goes first where there are fewer processors than threads with something to do: who answers and who records.

/// What gives way has a weight of about a third of what does not, and never makes that wait for its turn to end.
const GIVES_WAY: i32 = 5;

/// From here on this thread gives way to others: nobody waits for what it does, or whoever does has asked for much. On
/// Linux every thread has a priority of its own; where that is not so, nothing changes.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(GIVES_WAY); // as urgent as before, where that is not allowed
    #[cfg(not(target_os = "linux"))]
    let _ = GIVES_WAY;
}
