//! The command line: all sub-commands, one module each.

use std::process::ExitCode;

use clap::Subcommand;

use crate::{
    analyze, analyzer, blame, breakers, check, cuts, demo, doctor, explain, findings, graph, intercept, proxy, ready,
    record, run, schema, whatif,
};

/// The whole command line.
#[derive(Debug, clap::Parser)]
#[command(name = "couplet", version, about, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  couplet demo
  couplet run --service orders --port 8080 -- python app.py
  couplet analyze traces.json

Exit codes: 0 ok, 1 a verdict failed, 2 wrong usage, file or address, 3 not enough
evidence, 4 no analyzer, 5 no sidecar that is ready.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show Couplet at work on a small system with planted problems
    Demo(demo::Args),
    /// Run a command with a sidecar around it
    Run(run::Args),
    /// Run a sidecar proxy beside a service
    Proxy(proxy::Args),
    /// Wait until a sidecar is ready
    Await(ready::Args),
    /// Bring a pod's traffic to its proxy without the application knowing
    Intercept(intercept::Args),
    /// Run the analyzer: page, API and receiver of reports
    Analyzer(analyzer::Args),
    /// List what a live analyzer has found
    Findings(findings::Args),
    /// Show one finding with everything it rests on
    Explain(explain::Args),
    /// Say which service caused the failures that users saw, and which costs them most time
    Blame(blame::Args),
    /// Say what to cut first
    Cuts(cuts::Args),
    /// Say what a change would gain
    #[command(name = "whatif")]
    WhatIf(whatif::Args),
    /// Say what circuit breakers did, and what they would have done
    Breakers(breakers::Args),
    /// Print the coupling graph of a live analyzer
    Graph(graph::Args),
    /// Say which services break chains, and the header that would mend them
    Doctor(doctor::Args),
    /// Judge recorded traces (Jaeger, Zipkin v2 or OTLP JSON, plain or gzip) or recordings
    Analyze(analyze::Args),
    /// Record what a live analyzer receives into a file that every reading command takes
    Record(record::Args),
    /// Say whether configuration files are right
    Check(check::Args),
    /// Print the JSON Schema of a configuration file
    Schema(schema::Args),
}

impl Cli {
    /// Runs the command to its end.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Demo(args) => demo::run(&args),
            Command::Run(args) => run::run(&args),
            Command::Proxy(args) => proxy::run(&args),
            Command::Await(args) => ready::run(&args),
            Command::Intercept(args) => intercept::run(&args),
            Command::Analyzer(args) => analyzer::run(&args),
            Command::Findings(args) => findings::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Blame(args) => blame::run(&args),
            Command::Cuts(args) => cuts::run(&args),
            Command::WhatIf(args) => whatif::run(&args),
            Command::Breakers(args) => breakers::run(&args),
            Command::Graph(args) => graph::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Analyze(args) => analyze::run(&args),
            Command::Record(args) => record::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Schema(args) => schema::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_documentation_shows_is_understood() {
        for line in [
            "couplet proxy --service orders --app 127.0.0.1:8080 --inbound 127.0.0.1:15406 \
             --to inventory@127.0.0.1:9001=127.0.0.1:16406 --explicit 127.0.0.1:15408 --admin 127.0.0.1:15420 \
             --analyzer http://127.0.0.1:15400",
            "couplet proxy -c proxy.yaml --set a=1 --set b=2",
            "couplet proxy -c proxy.yaml --takeover",
            "couplet await --admin 127.0.0.1:15420 --timeout 30s",
            "couplet intercept apply --proxy-uid 2102 --proxy-gid 2102 --mark 0x21 --inbound-port 15406 \
             --outbound-port 15401 --admin-port 15420 --skip-inbound-ports 22,8000-8010 --skip-outbound-ports 25,3306 \
             --skip-networks 169.254.169.254/32,fd00::/8 --only inbound --backend nft --dry-run",
            "couplet intercept remove",
            "couplet intercept show",
            "couplet intercept check --proxy-uid 2102 --only outbound",
            "couplet analyzer --listen 127.0.0.1:15400 --data /var/lib/couplet",
            "couplet run --service orders --port 8080 -- python -m http.server --bind 127.0.0.1",
            "couplet run --service orders python app.py --service not-ours",
            "couplet findings --severity warn --format json",
            "couplet breakers report --format json",
            "couplet graph --format mermaid --analyzer http://127.0.0.1:15400",
            "couplet doctor --format json --require 95",
            "couplet analyze a.json b.json.gz --format json",
            "couplet findings --recording monday.couplet --window 15m",
            "couplet graph --window 24h",
            "couplet analyzer --recording monday.couplet",
            "couplet record -o monday.couplet --for 10m --analyzer http://127.0.0.1:15400",
            "couplet analyze monday.couplet",
            "couplet check -c proxy.yaml --kind proxy",
            "couplet check a.yaml b.yaml",
            "couplet schema analyzer",
            "couplet schema architecture",
            "couplet explain SC-3fa9c1 --format json",
            "couplet blame --format json",
            "couplet cuts -k 3",
            "couplet whatif --async orders->billing --cache web->catalog=0.9 --merge a,b",
            "couplet analyzer --architecture architecture.yaml",
            "couplet analyze traces.json --architecture architecture.yaml",
        ] {
            Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_misspelt_flag_or_command_is_answered_with_the_right_one() {
        for (line, meant) in [
            ("couplet proxy --sevrice orders", "--service"),
            ("couplet anlayzer", "analyzer"),
            ("couplet graph --format txt", "text"),
        ] {
            let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(meant), "{error}");
        }
    }
}
