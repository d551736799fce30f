//! The programs that write rules, and what this process may do.

use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// What came of running a tool.
pub(super) enum Ran {
    /// It did what it was asked for, and printed this.
    Done(String),
    /// It did not, and said this.
    Failed(String),
    /// It is not installed.
    Missing,
}

/// Runs a tool to its end with `input` on its standard input.
pub(super) fn run(program: &str, args: &[&str], input: &str) -> anyhow::Result<Ran> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("LC_ALL", "C");
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Ok(Ran::Missing);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot run {program}")),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why in its exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot run {program}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok(match output.status.success() {
        true => Ran::Done(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Ran::Failed(match text(&output.stderr) {
            said if said.is_empty() => output.status.to_string(),
            said => said,
        }),
    })
}

/// The capabilities that changing rules needs and that this process lacks.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    lacking(&status)
}

fn lacking(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(bits) = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()) else {
        // Not for us to say; the tools will.
        return Vec::new();
    };
    // Numbers of linux/capability.h.
    let needed = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];
    needed.into_iter().filter(|(bit, _)| bits & (1 << bit) == 0).map(|(_, name)| name).collect()
}

/// Whether this network namespace has IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// Whether the nat tables of the legacy iptables are in use here. Asking its tools would load them.
pub(super) fn has_legacy_tables() -> bool {
    let names = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"].map(std::fs::read_to_string);
    names.iter().flatten().any(|names| names.lines().any(|name| name == "nat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_that_lack_are_named() {
        assert_eq!(lacking("Name:\tx\nCapEff:\t000001ffffffffff\n"), [""; 0]);
        assert_eq!(lacking("CapEff:\t0000000000000000\n"), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert_eq!(lacking("CapEff:\t0000000000001000\n"), ["CAP_NET_RAW"]);
        assert_eq!(lacking(""), [""; 0]);
    }

    #[test]
    fn a_tool_that_is_not_there_is_missing_and_one_that_fails_says_why() {
        assert!(matches!(run("no-such-tool-of-couplet", &[], "").unwrap(), Ran::Missing));
        assert!(matches!(run("sh", &["-c", "cat"], "echoed").unwrap(), Ran::Done(out) if out == "echoed"));
        assert!(matches!(run("sh", &["-c", "echo why >&2; exit 3"], "").unwrap(), Ran::Failed(why) if why == "why"));
    }
}
