//! The `couplet` binary: one sub-command per file, told from the outside to the inside.
//!
//! [`cli`] reads the command line and hands over to the command. A serving command takes its configuration from
//! [`settings`] and lives as [`serve`] says, and replaces it as [`reload`] says; a reading command asks an analyzer through [`client`]. Each ends in
//! [`exit`]: an exit code and, if need be, one message.

mod cli;
mod demo;
mod run;
mod proxy;
mod ready;
mod intercept;
mod analyzer;
mod findings;
mod explain;
mod blame;
mod cuts;
mod whatif;
mod graph;
mod doctor;
mod analyze;
mod record;
mod schema;
mod breakers;
mod check;
mod reload;
mod descriptors;
mod serve;
mod signals;
mod settings;
mod client;
mod log;
mod allocator;
mod output;
mod exit;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    exit::report(cli::Cli::parse().run())
}
