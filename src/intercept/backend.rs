//! What writes the rules: nftables, or one of the three forms of iptables. Each is tried in that order.

use std::fmt;
use std::fmt::Write as _;

use super::iptables::{self, Family, Present};
use super::nft;
use super::rules::Rules;
use super::tool::{Ran, has_ipv6, has_legacy_tables, missing_capabilities, run};
use crate::exit::Fault;

/// Something that rules can be written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    Nft,
    /// The tools for IPv4 and IPv6; each has a `-restore` beside it.
    Iptables {
        ipv4: &'static str,
        ipv6: &'static str,
    },
}

impl Backend {
    pub(super) const IPTABLES_NFT: Self = Self::Iptables { ipv4: "iptables-nft", ipv6: "ip6tables-nft" };
    pub(super) const IPTABLES: Self = Self::Iptables { ipv4: "iptables", ipv6: "ip6tables" };
    pub(super) const IPTABLES_LEGACY: Self = Self::Iptables { ipv4: "iptables-legacy", ipv6: "ip6tables-legacy" };
    pub(super) const ALL: [Self; 4] = [Self::Nft, Self::IPTABLES_NFT, Self::IPTABLES, Self::IPTABLES_LEGACY];
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Iptables { ipv4, .. } => ipv4,
        })
    }
}

/// Writes the rules with the first backend that can; whatever another one wrote before is removed. Says what was done.
///
/// # Errors
/// Where none can. Nothing is half-written then.
pub(super) fn apply(rules: &Rules, backends: &[Backend], dry_run: bool) -> anyhow::Result<String> {
    let ipv6 = has_ipv6();
    if dry_run {
        return Ok(backends.first().map(|backend| backend.dry(rules, ipv6)).unwrap_or_default());
    }
    may_change_rules()?;
    let mut problems = Vec::new();
    for &backend in backends {
        match backend.apply(rules, ipv6)? {
            Ok(()) => {
                // Rules of two backends would both be in force.
                let form = backend.form()?;
                for other in Backend::ALL {
                    if other.form()?.is_some_and(|other| form.as_ref() != Some(&other)) {
                        other.remove()?;
                    }
                }
                return Ok(told(backend, rules, ipv6));
            }
            Err(problem) => problems.push(format!("{backend}: {problem}")),
        }
    }
    Err(Fault::Input.because(format_args!("no rules were written.\n{}", problems.join("\n"))).into())
}

/// Removes everything of ours that is there.
///
/// # Errors
/// Where something is left.
pub(super) fn remove(backends: &[Backend], dry_run: bool) -> anyhow::Result<String> {
    if dry_run {
        return Ok(backends.iter().map(|backend| backend.dry_removal()).collect::<anyhow::Result<Vec<_>>>()?.concat());
    }
    may_change_rules()?;
    let before = show(backends)?;
    backends.iter().try_for_each(|backend| backend.remove())?;
    Ok(if before.is_empty() { "there were no rules of Couplet\n" } else { "all rules of Couplet are removed\n" }
        .to_owned())
}

/// The rules of ours that are in force, with their counters, as their tools print them; nothing where there are none.
///
/// # Errors
/// Where this process may not look.
pub(super) fn show(backends: &[Backend]) -> anyhow::Result<String> {
    may_change_rules()?;
    let mut text = String::new();
    let mut seen = Vec::new();
    for backend in backends {
        let Some(form) = backend.form()?.filter(|form| !seen.contains(form)) else { continue };
        seen.push(form);
        text.push_str(&backend.show()?);
    }
    Ok(text)
}

fn may_change_rules() -> anyhow::Result<()> {
    match missing_capabilities().as_slice() {
        [] => Ok(()),
        missing => {
            let message = format!(
                "this needs {}: run it as root, in a container with securityContext.capabilities.add: [NET_ADMIN, NET_RAW]",
                missing.join(" and ")
            );
            Err(Fault::Input.because(message).into())
        }
    }
}

fn told(backend: Backend, rules: &Rules, ipv6: bool) -> String {
    let mut text = String::new();
    let inbound = rules.inbound.as_ref().map(|inbound| ("inbound", inbound.port));
    let outbound = rules.outbound.as_ref().map(|outbound| ("outbound", outbound.port));
    let families = if ipv6 { "IPv4 and IPv6" } else { "IPv4 (this namespace has no IPv6)" };
    for (direction, port) in inbound.into_iter().chain(outbound) {
        let _ = writeln!(text, "{direction} TCP goes to port {port}, {families}, by {backend}");
    }
    text
}

/// What a backend says is wrong, where it cannot write; or an error that has nothing to do with it.
type Written = anyhow::Result<Result<(), String>>;

impl Backend {
    fn apply(self, rules: &Rules, ipv6: bool) -> Written {
        let (first, second) = match self {
            Self::Nft => return written(run("nft", &["-f", "-"], &nft::apply(rules, ipv6))?, "nft"),
            Self::Iptables { ipv4, ipv6 } => (ipv4, ipv6),
        };
        if let Err(problem) = restore(first, |present| iptables::apply(rules, Family::Ipv4, present))? {
            return Ok(Err(problem));
        }
        if !ipv6 {
            return Ok(Ok(()));
        }
        // Half of the traffic captured is worse than none: the other half would pass by unseen.
        Ok(match restore(second, |present| iptables::apply(rules, Family::Ipv6, present))? {
            Ok(()) => Ok(()),
            Err(problem) => {
                restore(first, iptables::remove)?.err();
                Err(format!("{problem}; this namespace has IPv6, so the rules for IPv4 were taken back"))
            }
        })
    }

    /// What stands behind the tool's name: `iptables` is another name for one of its two forms. Nothing where it is
    /// missing.
    fn form(self) -> anyhow::Result<Option<String>> {
        let Self::Iptables { ipv4, .. } = self else { return Ok(Some("nft".to_owned())) };
        Ok(match run(ipv4, &["-V"], "")? {
            Ran::Done(version) if version.contains("nf_tables") => Some("iptables-nft".to_owned()),
            Ran::Done(_) => Some("iptables-legacy".to_owned()),
            Ran::Failed(_) | Ran::Missing => None,
        })
    }

    fn remove(self) -> anyhow::Result<()> {
        let failed = |problem: String| anyhow::Error::from(Fault::Input.because(format_args!("{self}: {problem}")));
        match self {
            Self::Nft => {
                let families: Vec<_> = nft::FAMILIES.into_iter().filter(|family| nft_table(family).is_some()).collect();
                if families.is_empty() {
                    return Ok(());
                }
                written(run("nft", &["-f", "-"], &nft::remove(&families))?, "nft")?.map_err(failed)
            }
            Self::Iptables { .. } => self.tables().try_for_each(|tool| match present(tool)? {
                Ok(present) if present.any() => restore(tool, iptables::remove)?.map_err(failed),
                _ => Ok(()),
            }),
        }
    }

    fn show(self) -> anyhow::Result<String> {
        if self == Self::Nft {
            let tables = nft::FAMILIES.iter().filter_map(|family| nft_table(family));
            return Ok(tables.map(|table| format!("# nft\n{table}")).collect());
        }
        let mut text = String::new();
        for tool in self.tables() {
            let Ok(present) = present(tool)? else { continue };
            for chain in present.chains() {
                if let Ran::Done(listing) = run(tool, &["-w", "-t", "nat", "-v", "-n", "-x", "-L", chain], "")? {
                    let _ = write!(text, "# {tool}\n{listing}");
                }
            }
        }
        Ok(text)
    }

    /// The tools to look with, both families. Those of the legacy iptables only where its tables are in use.
    fn tables(self) -> impl Iterator<Item = &'static str> {
        let idle = self == Self::IPTABLES_LEGACY && !has_legacy_tables();
        let tools = match self {
            Self::Iptables { ipv4, ipv6 } if !idle => [Some(ipv4), has_ipv6().then_some(ipv6)],
            _ => [None, None],
        };
        tools.into_iter().flatten()
    }

    fn dry(self, rules: &Rules, ipv6: bool) -> String {
        let Self::Iptables { ipv4: first, ipv6: second } = self else {
            return format!("# nft -f -\n{}", nft::apply(rules, ipv6));
        };
        let families = [(first, Family::Ipv4, true), (second, Family::Ipv6, ipv6)];
        let texts = families.into_iter().filter(|(.., wanted)| *wanted).map(|(tool, family, _)| {
            format!("# {tool}-restore --noflush\n{}", iptables::apply(rules, family, Present::default()))
        });
        texts.collect()
    }

    fn dry_removal(self) -> anyhow::Result<String> {
        if self == Self::Nft {
            return Ok(format!("# nft -f -\n{}", nft::remove(&nft::FAMILIES)));
        }
        let mut text = String::new();
        for tool in self.tables() {
            if let Ok(present) = present(tool)? {
                let _ = write!(text, "# {tool}-restore --noflush\n{}", iptables::remove(present));
            }
        }
        Ok(text)
    }
}

/// Our nftables table of this family as nft prints it, if it is there.
fn nft_table(family: &str) -> Option<String> {
    match run("nft", &["list", "table", family, nft::TABLE], "") {
        Ok(Ran::Done(listing)) => Some(listing),
        _ => None,
    }
}

/// What is there of ours in a family, or why that cannot be known.
fn present(tool: &str) -> anyhow::Result<Result<Present, String>> {
    Ok(match run(tool, &["-w", "-t", "nat", "-S"], "")? {
        Ran::Done(listing) => Ok(Present::read(&listing)),
        Ran::Failed(said) => Err(format!("{tool}: {said}")),
        Ran::Missing => Err(format!("{tool} is not installed")),
    })
}

fn restore(tool: &str, table: impl Fn(Present) -> String) -> Written {
    match present(tool)? {
        Ok(present) => {
            let program = format!("{tool}-restore");
            written(run(&program, &["-w", "--noflush"], &table(present))?, &program)
        }
        Err(problem) => Ok(Err(problem)),
    }
}

fn written(ran: Ran, program: &str) -> Written {
    Ok(match ran {
        Ran::Done(_) => Ok(()),
        Ran::Failed(said) => Err(format!("{program}: {said}")),
        Ran::Missing => Err(format!("{program} is not installed")),
    })
}
