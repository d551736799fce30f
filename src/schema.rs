//! `couplet schema`: the JSON Schema of a configuration file, for editors and reviews.

use std::process::ExitCode;

use crate::check::Kind;
use crate::output;

/// What `couplet schema` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose configuration file
    kind: Kind,
}

/// Prints the schema.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    output::result(&format!("{:#}\n", args.kind.schema()))?;
    Ok(ExitCode::SUCCESS)
}
