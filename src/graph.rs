//! `couplet graph`: the coupling graph of a live analyzer, in a notation for people or for another program.

use std::process::ExitCode;

use couplet_analyzer::export;
use couplet_analyzer::view::document::Document;

use crate::client::WindowArgs;
use crate::output;

/// What `couplet graph` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Notation of the graph
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    analyzer: WindowArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet graph
  couplet graph --window 1h
  couplet graph --recording monday.couplet
  couplet graph --format dot | dot -Tsvg > graph.svg
  couplet graph --format json | jq '.edges[] | select(.circular)'";

/// A notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For terminals
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
    /// The canonical document
    Json,
}

/// Prints the graph.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let document: Document = args.analyzer.client().read("/api/v1/document")?;
    if document.services.is_empty() {
        output::remark("the analyzer has not seen any traffic yet: the graph is empty");
    }
    output::result(&match args.format {
        Format::Text => export::text(&document),
        Format::Dot => export::dot(&document),
        Format::Mermaid => export::mermaid(&document),
        Format::Json => document.to_json()?,
    })?;
    Ok(ExitCode::SUCCESS)
}
