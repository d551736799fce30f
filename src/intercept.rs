//! `couplet intercept`: the rules that bring a pod's traffic to its proxy without the application knowing.

mod probe;
mod backend;
mod tool;
mod iptables;
mod nft;
mod rules;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use couplet_telemetry::names::ports;
use ipnet::IpNet;

use crate::output;
use backend::Backend;
use rules::{Inbound, Outbound, Ports, Rules};

/// What `couplet intercept` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  couplet intercept apply
  couplet intercept apply --skip-outbound-ports 25,3306 --skip-networks 169.254.169.254/32
  couplet intercept apply --dry-run
  couplet intercept check

The rules are those of the network namespace that the command runs in; changing them needs root or
CAP_NET_ADMIN and CAP_NET_RAW. Only TCP is captured: UDP, and so QUIC, passes the proxy by.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the rules; again replaces those that are there
    Apply(ApplyArgs),
    /// Remove every rule of Couplet
    Remove(BackendArgs),
    /// Print the rules in force, with what each has counted
    Show(BackendArgs),
    /// Make connections that must be captured, and say whether they are
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct BackendArgs {
    /// What writes the rules
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    backend: Choice,

    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Which backend: the order is that in which `auto` tries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    /// The first that works: nft, iptables-nft, iptables, iptables-legacy
    Auto,
    Nft,
    IptablesNft,
    Iptables,
    IptablesLegacy,
}

impl Choice {
    fn backends(self) -> Vec<Backend> {
        match self {
            Choice::Auto => Backend::ALL.to_vec(),
            Choice::Nft => vec![Backend::Nft],
            Choice::IptablesNft => vec![Backend::IPTABLES_NFT],
            Choice::Iptables => vec![Backend::IPTABLES],
            Choice::IptablesLegacy => vec![Backend::IPTABLES_LEGACY],
        }
    }
}

#[derive(Debug, clap::Args)]
struct ApplyArgs {
    /// Connections of this user are left alone: the proxy must run as it, and nothing else
    #[arg(long, value_name = "UID", default_value_t = PROXY_UID)]
    proxy_uid: u32,

    /// Connections of this group are left alone as well
    #[arg(long, value_name = "GID")]
    proxy_gid: Option<u32>,

    /// Packets with this mark are left alone as well (`capture.mark` of the proxy)
    #[arg(long, value_name = "MARK", default_value = "0x21", value_parser = mark)]
    mark: u32,

    /// Where the proxy takes inbound connections
    #[arg(long, value_name = "PORT", default_value_t = ports::INBOUND, value_parser = port())]
    inbound_port: u16,

    /// Where the proxy takes outbound connections
    #[arg(long, value_name = "PORT", default_value_t = ports::OUTBOUND, value_parser = port())]
    outbound_port: u16,

    /// Where the proxy's admin endpoints are: not captured
    #[arg(long, value_name = "PORT", default_value_t = ports::ADMIN, value_parser = port())]
    admin_port: u16,

    /// Inbound ports that are not captured: 22,8000-8010
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    skip_inbound_ports: Vec<Ports>,

    /// Outbound ports that are not captured
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    skip_outbound_ports: Vec<Ports>,

    /// Destinations that are not captured: 169.254.169.254/32,fd00::/8
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    skip_networks: Vec<IpNet>,

    /// Capture one direction only
    #[arg(long, value_enum)]
    only: Option<Direction>,

    #[command(flatten)]
    backend: BackendArgs,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The user that the proxy runs as
    #[arg(long, value_name = "UID", default_value_t = PROXY_UID)]
    proxy_uid: u32,

    /// Where the proxy takes inbound connections
    #[arg(long, value_name = "PORT", default_value_t = ports::INBOUND, value_parser = port())]
    inbound_port: u16,

    /// Where the proxy takes outbound connections
    #[arg(long, value_name = "PORT", default_value_t = ports::OUTBOUND, value_parser = port())]
    outbound_port: u16,

    /// Check one direction only
    #[arg(long, value_enum)]
    only: Option<Direction>,

    /// What wrote the rules
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    backend: Choice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Direction {
    /// Connections that come in
    Inbound,
    /// Connections that go out
    Outbound,
}

impl Direction {
    fn covers(only: Option<Self>, direction: Self) -> bool {
        only.is_none_or(|only| only == direction)
    }
}

/// The user of the proxy unless somebody says otherwise.
const PROXY_UID: u32 = 2102;

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

fn mark(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.ok().filter(|mark| *mark != 0).ok_or_else(|| "expected a number other than 0, such as 0x21".to_owned())
}

/// A network, or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address).ok_or_else(|| "expected a network such as 10.0.0.0/8 or fd00::/8".to_owned())
}

/// Writes, removes, shows or checks the rules.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Apply(args) => apply(args),
        Command::Remove(args) => {
            let removed = backend::remove(&args.backend.backends(), args.dry_run)?;
            output::result(&removed)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show(args) => {
            let shown = backend::show(&args.backend.backends())?;
            output::result(if shown.is_empty() { "no rules of Couplet are in force here\n" } else { &shown })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(args) => check(args),
    }
}

fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let rules = args.rules();
    let applied = backend::apply(&rules, &args.backend.backend.backends(), args.backend.dry_run)?;
    output::result(&applied)?;
    Ok(ExitCode::SUCCESS)
}

impl ApplyArgs {
    fn rules(&self) -> Rules {
        let inbound = Direction::covers(self.only, Direction::Inbound).then(|| {
            let admin = Ports::one(self.admin_port);
            let skip = self.skip_inbound_ports.iter().copied().chain([admin]);
            Inbound { port: self.inbound_port, skip: Ports::merged(skip) }
        });
        let outbound = Direction::covers(self.only, Direction::Outbound).then(|| Outbound {
            port: self.outbound_port,
            skip: Ports::merged(self.skip_outbound_ports.iter().copied()),
            skip_networks: IpNet::aggregate(&self.skip_networks),
        });
        Rules { inbound, outbound, uid: self.proxy_uid, gid: self.proxy_gid, mark: self.mark }
    }
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut verdict = probe::Verdict::default();
    let shown = backend::show(&args.backend.backends())?;
    if Direction::covers(args.only, Direction::Outbound) {
        probe::outbound(args.outbound_port, args.proxy_uid, &mut verdict);
    }
    if Direction::covers(args.only, Direction::Inbound) {
        probe::inbound(args.inbound_port, &shown, &mut verdict);
    }
    verdict.remark("UDP, and so QUIC, is not captured");
    output::result(&verdict.to_string())?;
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An address of each family that is nobody's (RFC 5737, RFC 3849): what is sent there goes nowhere but to the proxy.
fn nobody() -> [SocketAddr; 2] {
    couplet_telemetry::names::CAPTURE_PROBES.map(SocketAddr::from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn rules(line: &str) -> Rules {
        let words = ["intercept", "apply"].into_iter().chain(line.split_whitespace());
        match Line::try_parse_from(words).unwrap().args.command {
            Command::Apply(args) => args.rules(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_flags_both_directions_are_captured_for_the_usual_proxy() {
        let rules = rules("");
        assert_eq!((rules.uid, rules.gid, rules.mark), (2102, None, 0x21));
        assert_eq!(rules.inbound.map(|inbound| (inbound.port, inbound.skip)), Some((15406, vec![Ports::one(15420)])));
        assert_eq!(rules.outbound.map(|outbound| outbound.port), Some(15401));
    }

    #[test]
    fn one_direction_alone_can_be_captured() {
        assert!(rules("--only inbound").outbound.is_none());
        assert!(rules("--only outbound").inbound.is_none());
    }

    #[test]
    fn ports_and_networks_that_overlap_are_said_once() {
        let rules = rules(
            "--skip-outbound-ports 25,20-30,31,3306 --skip-networks 10.0.0.0/8,10.1.0.0/16,fd00::/8,169.254.169.254",
        );
        let outbound = rules.outbound.unwrap();
        assert_eq!(outbound.skip.iter().map(ToString::to_string).collect::<Vec<_>>(), ["20-31", "3306"]);
        let networks: Vec<_> = outbound.skip_networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "169.254.169.254/32", "fd00::/8"]);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_what_is_expected() {
        for (line, expected) in [
            ("--mark 0", "0x21"),
            ("--skip-networks 10.0.0.0/33", "10.0.0.0/8"),
            ("--skip-inbound-ports 9-3", "8000-8010"),
            ("--skip-inbound-ports http", "8000-8010"),
            ("--inbound-port 0", "1..=65535"),
            ("--backend nftables", "iptables-nft"),
        ] {
            let words = ["intercept", "apply"].into_iter().chain(line.split_whitespace());
            let error = Line::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
