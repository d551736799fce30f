//! What a process has used, as the kernel accounts for it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::heavy;
use crate::harness::Program;

/// Processor time of all threads of a program.
pub(crate) fn cpu(program: &Program) -> Duration {
    let threads = fs::read_dir(format!("/proc/{}/task", program.id())).unwrap();
    threads.map(|thread| on_cpu(&thread.unwrap().path())).sum()
}

/// Processor time of this thread.
pub(crate) fn own_cpu() -> Duration {
    on_cpu(Path::new("/proc/thread-self"))
}

/// From here on this thread runs only where nobody else wants to.
///
/// With the lowest niceness alone it would finish a slice of some milliseconds before anybody who is woken has his turn,
/// which is what is measured. In the short form, beside other tests, it must not starve.
pub(crate) fn give_way() {
    rustix::process::setpriority_process(None, 19).unwrap();
    if heavy() {
        idle();
    }
}

/// Whoever is woken runs before this thread from here on, at once (`SCHED_IDLE`).
#[expect(unsafe_code, reason = "no safe interface has it")]
fn idle() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters are read before it returns, and 0 is this thread.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn on_cpu(thread: &Path) -> Duration {
    let account = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(account.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Bytes that a program has in memory.
pub(crate) fn resident(program: &Program) -> u64 {
    program.memory("VmRSS:") << 10
}

/// Most bytes that a program had in memory since [`forget_peak`].
pub(crate) fn peak(program: &Program) -> u64 {
    program.memory("VmHWM:") << 10
}

/// From here on a new peak is looked for.
pub(crate) fn forget_peak(program: &Program) {
    fs::write(format!("/proc/{}/clear_refs", program.id()), "5").unwrap();
}

/// Whether there are bytes that went to `to` from the port `from` and were not read yet.
pub(crate) fn unread(to: std::net::SocketAddr, from: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let (to, from) = (format!("0100007F:{:04X}", to.port()), format!("0100007F:{from:04X}"));
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next(), words.next()) == (Some(to.as_str()), Some(from.as_str()))
            && words.nth(1).is_some_and(|queues| !queues.ends_with(":00000000"))
    })
}

/// Of all the metrics of a program, those whose names begin so: what is in their braces, and their values.
pub(crate) fn counters(page: &str, family: &str) -> Vec<(String, u64)> {
    let samples = page.lines().filter_map(|line| line.strip_prefix(family)?.rsplit_once(' '));
    samples.filter_map(|(labels, value)| Some((labels.to_owned(), value.parse().ok()?))).collect()
}
