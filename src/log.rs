//! Logs to standard error, as text for people or as JSON for machines.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use couplet_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

use crate::exit::Fault;

/// Starts logging for the rest of the program's life.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|error| Fault::Input.because(format_args!("log.level: `{}` is no filter: {error}", log.level)))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => builder.with_ansi(colours()).try_init(),
    }
    .map_err(|error| anyhow::anyhow!(error))
    .context("cannot start logging")
}

/// Whether colours help: a person looks on, and did not ask for none.
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
