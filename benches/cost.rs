//! What one request costs the proxy: instructions in user mode, and system calls. Neither depends on how fast or how busy
//! the machine is, so both can be compared with a budget.
//!
//! `cargo bench --workspace --bench cost -- [--check] [--update] [--calls]`, or `just bench-cost`. Needs `valgrind` and
//! `strace`.
//!
//! Every figure is that of a long run less that of a short one, so that what start and end take cancels out, divided by
//! the requests between them. One connection asks, one request after the other: the way of a sidecar at rest, and one in
//! which every request meets the same. `--calls` puts system calls beside those of HAProxy, also under 32 connections.
//!
//! `--check` compares with `benches/cost/budget/`, and fails where something costs more than the budget and
//! its tolerance (3 %: other versions of the C library and of processors choose other copies of `memcpy` and its like), or
//! so much less that the budget should follow. `--update` writes it anew.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for one who looks at its output")]

#[path = "cost/budget.rs"]
mod budget;
#[path = "cost/count.rs"]
mod count;
mod rig;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser as _;

use budget::Budget;
use count::{Counter, Scene, count};
use rig::backend::Backend;
use rig::program::Core;

/// Instructions and system calls of one request.
#[derive(Debug, clap::Parser)]
struct Args {
    /// Fail where the budget is not kept
    #[arg(long)]
    check: bool,

    /// Write the budget anew
    #[arg(long)]
    update: bool,

    /// Leave system calls out
    #[arg(long)]
    instructions: bool,

    /// System calls beside HAProxy's, with one connection and with 32
    #[arg(long, conflicts_with = "instructions")]
    calls: bool,

    /// Only this scene
    #[arg(long)]
    scene: Option<String>,

    /// Another binary of Couplet than the one built along
    #[arg(long)]
    couplet: Option<PathBuf>,

    /// Keeps the profile of the long run, for callgrind_annotate
    #[arg(long)]
    profile: Option<PathBuf>,

    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let couplet = args.couplet.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_couplet").into());
    let (core, other) = Core::pair();
    other.take();
    let scenes = Scene::ALL.into_iter().filter(|scene| args.scene.as_deref().is_none_or(|name| scene.name() == name));
    // Others have no budget.
    let budgeted = args.check || args.update;
    let scenes: Vec<_> = scenes.filter(|scene| !(budgeted && scene.is_peer())).collect();
    ensure!(!scenes.is_empty(), "there is no such scene");
    let mut budget = Budget::default();
    println!("| scene | instructions | system calls |\n|---|---|---|");
    for scene in scenes {
        // A backend of its own: one that calls does so through the proxy of its scene.
        let counted = |counter: &Counter, connections| {
            let backend = Backend::start(other)?;
            count(&couplet, (core, other), &backend, scene, counter, connections)
        };
        let instructions = counted(&Counter::Instructions { keep: args.profile.clone() }, 1)?;
        let calls = if args.instructions { None } else { Some(counted(&Counter::SystemCalls, 1)?) };
        let busy = if args.calls {
            format!(", {:.2} under 32 connections", counted(&Counter::SystemCalls, 32)?)
        } else {
            String::new()
        };
        let shown = calls.map_or_else(|| "–".to_owned(), |calls| format!("{calls:.2}"));
        println!("| {} | {instructions:.0} | {shown}{busy} |", scene.name());
        if !scene.is_peer() {
            budget.set(scene.name(), instructions, calls);
        }
    }
    if args.update {
        budget.save()?;
    }
    let broken = if args.check { Budget::load()?.compare(&budget) } else { Vec::new() };
    for line in &broken {
        eprintln!("error: {line}");
    }
    if !broken.is_empty() {
        eprintln!("If that is meant to be so, the budget is written anew by `just bench-cost --update`");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
