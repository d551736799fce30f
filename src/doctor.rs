//! `couplet doctor`: how surely the calls of each service are linked to requests, who breaks chains, what would mend them.

use std::fmt::Write as _;
use std::process::ExitCode;

use couplet_analyzer::doctor::{Diagnosis, Examination, Shares, Verdict};

use crate::client::WindowArgs;
use crate::exit::Fault;
use crate::output::{self, name};

/// What `couplet doctor` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Exit with 1 where a service has a smaller share of exact links, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    require: Option<u8>,

    /// Shape of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    analyzer: WindowArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet doctor
  couplet doctor --window 15m --require 95
  couplet doctor --format json | jq -r '.breaks[]'

The exit code is 3 when the analyzer has not seen any call yet.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines for people
    Text,
    /// An object with links, breaks and services
    Json,
}

/// Prints the examination.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let examination: Examination = args.analyzer.client().read("/api/v1/doctor")?;
    output::result(&match args.format {
        Format::Text => text(&examination),
        Format::Json => output::json(&examination)?,
    })?;
    if examination.links.calls == 0 {
        let way_out = "send requests through a sidecar, wait a few seconds and ask again";
        return Err(Fault::Evidence
            .because(format_args!("the analyzer has not seen any call between services yet: {way_out}"))
            .into());
    }
    let required = f64::from(args.require.unwrap_or(0)) / 100.0;
    let below: Vec<&str> = examination
        .services
        .iter()
        .filter(|service| service.links.exact < required)
        .map(|s| s.service.as_str())
        .collect();
    if below.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output::remark(&format!(
        "less than {:.0} % of the calls are linked exactly in: {}",
        100.0 * required,
        name(&below.join(", "))
    ));
    Ok(ExitCode::FAILURE)
}

fn text(examination: &Examination) -> String {
    let mut text = String::new();
    if examination.links.calls == 0 {
        return text;
    }
    let Examination { links, breaks, services } = examination;
    let _ = writeln!(text, "{} calls: {}", links.calls, shares(links));
    let verdict = match breaks.as_slice() {
        [] => "No service breaks chains.".to_owned(),
        [one] => format!("{} breaks chains: what it calls cannot be seen below what called it.", name(one)),
        more => format!("{} services break chains: {}.", more.len(), name(&more.join(", "))),
    };
    let _ = writeln!(text, "{verdict}");
    let width = services.iter().map(|service| service.service.chars().count()).max().unwrap_or(0).max("SERVICE".len());
    let _ = writeln!(text, "\n  {:width$}      CALLS  EXACT  INFERRED  UNKNOWN  BY", "SERVICE");
    for service in services {
        row(&mut text, service, width);
    }
    for service in services.iter().filter(|service| !service.advice.is_empty()) {
        let _ = writeln!(text, "\n{}", name(&service.service));
        if !service.cut_off.is_empty() {
            let _ = writeln!(text, "  cuts off {}", name(&service.cut_off.join(", ")));
        }
        for advice in &service.advice {
            lines(&mut text, &name(advice));
        }
    }
    text
}

fn row(text: &mut String, service: &Diagnosis, width: usize) {
    let mark = match service.verdict {
        Verdict::Breaks => "!",
        Verdict::Inferred => "·",
        Verdict::Exact => " ",
    };
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let by: Vec<&str> =
        service.headers.iter().filter(|header| header.links > 0).map(|h| h.name.as_str()).take(3).collect();
    let Shares { calls, exact, inferred, unknown } = service.links;
    let (exact, inferred, unknown) = (percent(exact), percent(inferred), percent(unknown));
    let line = format!(
        "{mark} {:width$}  {calls:>9}  {exact:>5}  {inferred:>8}  {unknown:>7}  {}",
        name(&service.service),
        name(&by.join(", "))
    );
    let _ = writeln!(text, "{}", line.trim_end());
}

fn shares(links: &Shares) -> String {
    let parts =
        [(links.exact, "linked exactly"), (links.inferred, "inferred from timing"), (links.unknown, "in no chain")];
    let some = parts.into_iter().filter(|(share, _)| *share > 0.0);
    some.map(|(share, what)| format!("{:.0} % {what}", 100.0 * share)).collect::<Vec<_>>().join(", ")
}

/// Whole words, so many characters to a line at most.
fn lines(text: &mut String, advice: &str) {
    const WIDTH: usize = 100;
    let mut at = 0;
    for (n, word) in advice.split(' ').enumerate() {
        let length = word.chars().count() + 1;
        if n == 0 || at + length > WIDTH {
            text.push_str(if n == 0 { "  → " } else { "\n    " });
            at = 4;
        } else {
            text.push(' ');
        }
        text.push_str(word);
        at += length;
    }
    text.push('\n');
}
