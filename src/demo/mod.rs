//! `couplet demo`: a small system on real sockets behind real sidecars, and what the analyzer makes of it.
//!
//! A [`scenario`] says what the services do and which problems are planted among them. The [`stage`] starts the
//! [`system`], keeps the [`load`] flowing and the [`narrator`] talking, and in the end the [`verdict`] compares what the
//! analyzer says with what the scenario knows. The analyzer never sees a scenario: it learns what the sidecars report.

mod stage;
mod watch;
mod narrator;
mod verdict;
mod system;
mod load;
mod service;
mod http;
mod layers;
mod library;
mod check;
mod scenario;
mod values;
mod random;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use couplet_config::Log;

use self::{library::BuiltIn, narrator::Narrator, scenario::Scenario, stage::Plan};
use crate::{
    exit::Fault,
    log, output, serve,
    signals::{Signals, exit_code},
};

/// Flags of `couplet demo`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which system to show
    #[arg(long, value_enum, default_value = "monolith")]
    scenario: BuiltIn,

    /// Show a made-up layered system of N services instead
    #[arg(long, value_name = "N", conflicts_with = "scenario", value_parser = clap::value_parser!(u16).range(2..=500))]
    services: Option<u16>,

    /// End after this time, for example 20s or 1m30s, with exit code 1 if the verdict is not ok [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    length: Option<Duration>,

    /// How to print the verdict
    #[arg(long, value_enum, default_value = "text")]
    format: Format,

    /// Do not point at the page
    #[arg(long)]
    no_page: bool,

    /// Port of the page and the API [default: 15400, or a free one]
    #[arg(long)]
    port: Option<u16>,

    /// How many times the usual number of requests to make
    #[arg(long, value_name = "TIMES", default_value = "1", value_parser = multiplier)]
    rate: f64,

    /// Let the breakers of calls to this service stop them; all others observe. Can be given several times
    #[arg(long, value_name = "SERVICE")]
    enforce: Vec<String>,

    /// Where chance begins: the same number gives the same system and the same requests
    #[arg(long, default_value = "1")]
    seed: u64,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A story and a table, for people.
    Text,
    /// One object on standard output, for programs; the story goes to standard error.
    Json,
}

const EXAMPLES: &str = "\
Examples:
  couplet demo                              the page is live until Ctrl-C
  couplet demo --scenario incident          services become slow and fail, with a narration
  couplet demo --scenario incident --enforce payments      the same, and calls to payments are stopped while it fails
  couplet demo --for 20s --format json      a verdict for scripts; exit code 1 if it is not ok";

/// Runs the demo. The exit code is 1 when it was to last for a given time and its verdict is not ok.
///
/// # Errors
/// Something cannot be started, or the analyzer does not answer in the end.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    log::start(&Log { level: "warn".to_owned(), ..Log::default() })?;
    let scenario = match args.services {
        Some(services) => layers::scenario(services, args.seed)?,
        None => library::built_in(args.scenario)?,
    };
    if let Some(unknown) = args.enforce.iter().find(|name| !scenario.services.contains_key(*name)) {
        return Err(Fault::Input.because(check::no_service(&scenario, unknown)).into());
    }
    let enforce = args.enforce.clone();
    let plan = Plan { length: args.length, multiplier: args.rate, seed: args.seed, enforce };
    crate::descriptors::raise_limit();
    // Dropping the runtime would wait for whatever still blocks, also after a second signal.
    let runtime = serve::runtime()?;
    let ended = runtime.block_on(show(args, &scenario, &plan));
    runtime.shutdown_background();
    ended
}

async fn show(args: &Args, scenario: &Scenario, plan: &Plan) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::to_end().context("cannot listen to signals")?;
    let mut again = Signals::to_end().context("cannot listen to signals")?;
    let analyzer = system::start_analyzer(&scenario.name, args.port)?;
    let address = analyzer.address();
    let mut narrator = match args.format {
        Format::Text => Narrator::on_stdout(),
        Format::Json => Narrator::on_stderr(),
    };
    narrator.banner(scenario, address, !args.no_page, args.length);
    let play = stage::play(scenario, plan, address, &mut signals, &mut narrator);
    let verdict = tokio::select! {
        verdict = play => verdict,
        signal = second(&mut again) => return Ok(ExitCode::from(exit_code(signal))),
    };
    tokio::task::spawn_blocking(move || analyzer.stop()).await.context("the analyzer did not stop")?;
    let verdict = verdict?;
    match args.format {
        Format::Text => narrator.verdict(&verdict),
        Format::Json => output::result(&output::json(&verdict)?)?,
    }
    // Without a time the spectator ends the demo, perhaps before there was anything to find.
    Ok(if verdict.ok || args.length.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The second signal: the first one asks the demo to end in order.
async fn second(signals: &mut Signals) -> i32 {
    signals.next().await;
    signals.next().await
}

fn length(text: &str) -> Result<Duration, String> {
    let length = values::parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&length) {
        Ok(length)
    } else {
        Err("must be between 1s and 24h".to_owned())
    }
}

fn multiplier(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(times) if (0.01..=100.0).contains(&times) => Ok(times),
        _ => Err("must be a number between 0.01 and 100".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &[&str]) -> Result<Args, String> {
        let words = std::iter::once("demo").chain(flags.iter().copied());
        Command::try_parse_from(words).map(|command| command.args).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_the_monolith_runs_until_it_is_ended() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.scenario, args.length, args.port), (BuiltIn::Monolith, None, None));
    }

    #[test]
    fn a_wrong_flag_says_what_would_be_right() {
        for (flags, says) in [
            (["--for", "20"], "such as `20s`"),
            (["--for", "0s"], "between 1s and 24h"),
            (["--rate", "0"], "between 0.01 and 100"),
            (["--rate", "NaN"], "between 0.01 and 100"),
            (["--scenario", "monolit"], "monolith"),
            (["--services", "1"], "2..=500"),
        ] {
            let problem = parse(&flags).unwrap_err();
            assert!(problem.contains(says), "{flags:?}: {problem}");
        }
    }
}
