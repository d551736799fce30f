//! `couplet analyze`: judges recorded traces, or a recording, as if they were live traffic, without deploying anything.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use couplet_analyzer::coupling::roles::roles;
use couplet_analyzer::export;
use couplet_analyzer::findings::findings;
use couplet_analyzer::graph::{Graph, GraphLimits};
use couplet_analyzer::history::recording;
use couplet_analyzer::receive::traces;
use couplet_analyzer::score::score;
use couplet_analyzer::view::document::Document;
use couplet_config::AnalyzerConfig;

use crate::exit::{Failure, Fault};
use crate::settings::{FileArgs, Flags};
use crate::{log, output, settings};

/// What `couplet analyze` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Trace files (Zipkin v2, Jaeger or OTLP JSON, plain or gzip) or recordings, told by their content
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
    let mut graph = Graph::new(GraphLimits::from(&config.limits));
    let recordings = args.files.iter().filter(|file| is_recording(file)).count();
    let remarks = match recordings {
        0 => {
            let (reports, summary) = traces::read(&args.files).map_err(|error| Fault::Input.because(error))?;
            reports.iter().for_each(|report| graph.apply(report));
            summary.to_string()
        }
        all if all == args.files.len() => {
            args.files.iter().map(|file| replay(file, &config, &mut graph)).collect::<Result<Vec<_>, _>>()?.join("\n")
        }
        _ => return Err(Fault::Input.because("these are traces and recordings: give one kind at a time").into()),
    };
    let snapshot = graph.snapshot();
    let findings = findings(&snapshot, &config.findings, &architecture);
    let score = score(&snapshot, &config.findings, &architecture);
    let name = config.name.as_deref().unwrap_or_default();
    let roles = roles(&snapshot, &architecture);
    let document = Document::new(&snapshot, &findings, name).with_score(score).with_roles(&roles);

    for line in remarks.lines() {
        output::remark(line);
    }
    output::result(&match args.format {
        Format::Text => export::text(&document),
        Format::Json => document.to_json()?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn is_recording(file: &Path) -> bool {
    let mut head = [0; 16];
    File::open(file).and_then(|mut file| file.read_exact(&mut head)).is_ok() && recording::begins(&head)
}

/// Adds what a recording holds to the graph; a line about it.
fn replay(file: &Path, config: &AnalyzerConfig, graph: &mut Graph) -> Result<String, Failure> {
    let recording = recording::read(file).map_err(|error| Fault::Input.because(error))?;
    let damaged = recording.replay(config, |report| graph.apply(report));
    let slots = recording.rollups.len() + recording.reports.len();
    let damage = if damaged > 0 { format!(", {damaged} damaged and left out") } else { String::new() };
    Ok(format!("{}: {slots} stored reports{damage}", file.display()))
}
