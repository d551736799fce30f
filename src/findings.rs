//! `couplet findings`: what an analyzer has found, the gravest first.

use std::fmt::Write as _;
use std::process::ExitCode;

use couplet_analyzer::findings::{Finding, Severity};
use couplet_analyzer::view::document::Document;

use crate::client::WindowArgs;
use crate::exit::Fault;
use crate::output::{self, name};

/// What `couplet findings` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Show only what is at least as grave
    #[arg(long, value_enum, default_value_t = AtLeast::Info)]
    severity: AtLeast,

    /// Shape of the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    #[command(flatten)]
    analyzer: WindowArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet findings
  couplet findings --window 15m
  couplet findings --recording monday.couplet
  couplet findings --severity warn --format json | jq -r '.findings[].title'

The exit code is 3 when the analyzer has not seen any request yet: no traffic is no proof of health.";

/// A lower bound of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AtLeast {
    Info,
    Warn,
    Critical,
}

impl From<AtLeast> for Severity {
    fn from(bound: AtLeast) -> Self {
        match bound {
            AtLeast::Info => Severity::Info,
            AtLeast::Warn => Severity::Warn,
            AtLeast::Critical => Severity::Critical,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines for people
    Table,
    /// {"findings": [...]}
    Json,
}

/// Prints the findings.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // The whole document, because a list without findings means nothing without the number of requests behind it.
    let document: Document = args.analyzer.client().read("/api/v1/document")?;
    let least = Severity::from(args.severity);
    let shown: Vec<&Finding> = document.findings.iter().filter(|finding| finding.severity >= least).collect();
    output::result(&match args.format {
        Format::Table => table(&shown),
        Format::Json => output::json(&serde_json::json!({ "findings": shown }))?,
    })?;
    if document.services.iter().all(|service| service.requests == 0) {
        let way_out = "send requests through a sidecar, wait a few seconds and ask again";
        return Err(Fault::Evidence
            .because(format_args!("the analyzer has not seen any request yet: {way_out}"))
            .into());
    }
    if shown.is_empty() {
        output::remark(&format!("nothing found in {} requests", document.requests));
    }
    Ok(ExitCode::SUCCESS)
}

/// One line per finding, below a heading; nothing for no findings.
fn table(findings: &[&Finding]) -> String {
    let mut rows = vec![["SEVERITY", "ID", "TITLE", "SERVICES"].map(str::to_owned)];
    rows.extend(findings.iter().map(|finding| {
        let services = finding.services.join(", ");
        [finding.severity.as_str(), &finding.id, &finding.title, &services].map(name)
    }));
    if findings.is_empty() {
        return String::new();
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let [severity, id, title] = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for [a, b, c, d] in &rows {
        let _ = writeln!(text, "{a:severity$}  {b:id$}  {c:title$}  {d}");
    }
    text
}
