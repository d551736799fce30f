//! `couplet analyzer`: receives what the proxies see, and says what is wrong with the system.

use std::process::ExitCode;

use crate::exit::Fault;
use crate::settings::{FileArgs, Flags};
use crate::{log, serve, settings};

/// What `couplet analyzer` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to serve the page, the API and the receiver of reports [default: 127.0.0.1:15400]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// Directory of the history; without it everything is kept in memory only
    #[arg(long, value_name = "DIR")]
    data: Option<String>,

    /// File with the architecture that the system is held against
    #[arg(long, value_name = "FILE")]
    architecture: Option<String>,

    /// Show a recording, and receive nothing
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    recording: Option<String>,

    /// Name of the system, shown on the page
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    file: FileArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet analyzer
  couplet analyzer --listen 0.0.0.0:15400 --data /var/lib/couplet --name shop
  couplet analyzer --recording monday.couplet
  couplet analyzer -c analyzer.yaml --set findings.min_samples=100";

/// Runs an analyzer until it is asked to end.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = settings::analyzer(&args.file, args.flags(), &settings::variable)?;
    log::start(&config.log)?;
    serve::until_asked_to_end(
        || couplet_analyzer::start(config).map_err(|error| Fault::Input.because(error).into()),
        |running| tracing::info!(listener = "analyzer", address = %running.address(), "listening"),
        async |_| std::future::pending().await,
        couplet_analyzer::Running::stop,
    )
}

impl Args {
    fn flags(&self) -> Flags {
        Flags::default()
            .set("--listen", "listen", self.listen.as_deref())
            .set("--data", "data", self.data.as_deref())
            .set("--recording", "recording", self.recording.as_deref())
            .set("--architecture", "architecture", self.architecture.as_deref())
            .set("--name", "name", self.name.as_deref())
    }
}
