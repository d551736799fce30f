//! `couplet record`: what a live analyzer receives, into a file that every reading command takes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use couplet_analyzer::graph::GraphLimits;
use couplet_analyzer::history::recording::Writer;
use couplet_analyzer::slots::fetched;
use couplet_config::{AnalyzerConfig, parse_duration};
use couplet_telemetry::otlp::Bounds;
use couplet_telemetry::window::WindowLimits;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, LiveArgs};
use crate::exit::Fault;
use crate::output;

/// What `couplet record` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file to make; it must not exist yet
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// How long to record; else until interrupted
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    length: Option<Duration>,

    #[command(flatten)]
    analyzer: LiveArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet record -o monday.couplet --for 10m
  couplet findings --recording monday.couplet
  couplet analyzer --recording monday.couplet

A recording is an SQLite file in steps of ten seconds; the first step begins up to ten seconds early.
An analyzer that goes away meanwhile leaves a gap, which is told. The exit code is 3 when no traffic
came.";

/// How often the analyzer is asked for what is new. It keeps slots of ten seconds for more than a minute.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// The slot in which the time ends is complete this much later at most.
const LAST_SLOT: Duration = Duration::from_secs(14);

#[derive(Deserialize)]
struct Listing {
    name: String,
    run: String,
    slots: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    number: u64,
    start: u64,
    end: u64,
}

/// Records until the time is over or somebody interrupts.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    crate::serve::runtime()?.block_on(record(args))
}

async fn record(args: &Args) -> anyhow::Result<ExitCode> {
    let client = args.analyzer.client();
    let first = list(&client, 0).await?;
    let writer = Writer::create(&args.output, &first.name).map_err(|error| Fault::Input.because(error))?;
    output::remark(&format!("recording into {}", args.output.display()));
    let after = first.slots.iter().map(|slot| slot.number).max().unwrap_or(0);
    let mut tape = Tape { client, writer, run: first.run, after, slots: 0, gaps: 0, end: 0 };

    let end = args.length.map(|length| Instant::now() + length);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut next = Instant::now();
    loop {
        next += ASK_EVERY;
        let last = end.is_some_and(|end| next > end);
        tokio::select! {
            () = sleep_until(if last { end.unwrap_or(next) } else { next }) => {}
            _ = &mut interrupt => break,
        }
        tape.fetch().await?;
        if last {
            break;
        }
    }
    // What came in the last seconds is still in the open slot. A second interruption does not wait for it.
    let (over, ended) = (Instant::now() + LAST_SLOT, unix_millis());
    while Instant::now() < over && tape.end < ended {
        tokio::select! {
            () = sleep_until((Instant::now() + ASK_EVERY).min(over)) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        tape.fetch().await?;
    }
    tape.finish(args)
}

/// The recording while it is made.
struct Tape {
    client: Client,
    writer: Writer,
    /// Which start of the analyzer the numbers belong to.
    run: String,
    after: u64,
    slots: u64,
    gaps: u64,
    end: u64,
}

impl Tape {
    /// Writes down every slot that is new. An analyzer that does not answer is asked again later.
    async fn fetch(&mut self) -> anyhow::Result<()> {
        let Ok(listing) = list(&self.client, self.after).await else {
            self.gap("the analyzer does not answer");
            return Ok(());
        };
        if listing.run != self.run {
            self.gap("the analyzer was started again");
            (self.run, self.after) = (listing.run, 0);
            return Ok(());
        }
        for slot in listing.slots {
            self.after = self.after.max(slot.number);
            let Ok(body) = self.client.get(&format!("/api/v1/slots/{}", slot.number)).await else {
                self.gap("a slot was gone before it was fetched");
                continue;
            };
            let graph = GraphLimits::from(&AnalyzerConfig::default().limits);
            let bounds = Bounds { paths: graph.paths, calls: graph.edges };
            let limits = WindowLimits { paths: graph.paths, callees: graph.paths };
            let Some(rollups) = fetched(&body, (slot.start, slot.end), &bounds, limits) else {
                self.gap("a slot could not be read");
                continue;
            };
            self.writer.add(&rollups).map_err(|error| Fault::Input.because(error))?;
            self.slots += 1;
            self.end = self.end.max(slot.end);
        }
        Ok(())
    }

    fn gap(&mut self, why: &str) {
        if self.gaps == 0 {
            output::remark(&format!("the recording has a gap: {why}"));
        }
        self.gaps += 1;
    }

    fn finish(self, args: &Args) -> anyhow::Result<ExitCode> {
        let file = args.output.display();
        if self.slots == 0 {
            return Err(Fault::Evidence.because(format_args!("no traffic came: {file} is an empty recording")).into());
        }
        output::remark(&format!("recorded {} slots of ten seconds into {file}", self.slots));
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(client: &Client, after: u64) -> anyhow::Result<Listing> {
    let body = client.get(&format!("/api/v1/slots?after={after}")).await?;
    Ok(serde_json::from_slice(&body).map_err(|error| Fault::Analyzer.because(format_args!("slots: {error}")))?)
}

fn unix_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
