//! `couplet analyze`: judges recorded traces as if they were live traffic, without deploying anything.

use std::path::PathBuf;
use std::process::ExitCode;

use couplet_analyzer::export;
use couplet_analyzer::findings::findings;
use couplet_analyzer::graph::{Graph, GraphLimits};
use couplet_analyzer::receive::traces;
use couplet_analyzer::view::document::Document;

use crate::exit::Fault;
use crate::settings::{FileArgs, Flags};
use crate::{log, output, settings};

/// What `couplet analyze` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Trace files: Zipkin v2 JSON or Jaeger JSON, plain or gzip, told by their content
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Shape of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// File with the architecture that the system is held against
    #[arg(long, value_name = "FILE")]
    architecture: Option<String>,

    /// Name of the system, shown in the answer
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    file: FileArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet analyze traces.json
  couplet analyze monday.json.gz tuesday.json.gz --format json > coupling.json
  couplet analyze traces.json --set findings.min_samples=10

Thresholds and limits are those of the analyzer's configuration.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A report for people, the findings first
    Text,
    /// The canonical document
    Json,
}

/// Reads the files and prints what they say about the system.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = Flags::default().set("--name", "name", args.name.as_deref()).set(
        "--architecture",
        "architecture",
        args.architecture.as_deref(),
    );
    let config = settings::analyzer(&args.file, flags, &settings::variable)?;
    log::start(&config.log)?;

    let architecture = settings::architecture(&config)?;
    let (reports, summary) = traces::read(&args.files).map_err(|error| Fault::Input.because(error))?;
    let mut graph = Graph::new(GraphLimits::from(&config.limits));
    for report in &reports {
        graph.apply(report);
    }
    let snapshot = graph.snapshot();
    let findings = findings(&snapshot, &config.findings, &architecture);
    let document = Document::new(&snapshot, &findings, config.name.as_deref().unwrap_or_default());

    for line in summary.to_string().lines() {
        output::remark(line);
    }
    output::result(&match args.format {
        Format::Text => export::text(&document),
        Format::Json => document.to_json()?,
    })?;
    Ok(ExitCode::SUCCESS)
}
