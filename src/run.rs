//! `couplet run`: wraps any command. Starts a sidecar, starts the command with an environment that leads its calls
//! through the sidecar, hands signals on, and ends as the command ends.

mod command;
mod environment;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use couplet_config::{HttpUrl, ProxyConfig};

use crate::client::{Client, default_analyzer};
use crate::exit::Fault;
use crate::settings::{Flags, OverrideArgs};
use crate::signals::Signals;
use crate::{log, output, serve, settings};

use command::Command;
use environment::Wrapping;

/// What `couplet run` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the service: what others call it, as in http://NAME/
    #[arg(long, value_name = "NAME")]
    service: String,

    /// Port on 127.0.0.1 at which the command listens; without it the service only calls others
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// Where to take requests for the service [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    inbound: Option<String>,

    /// Deliver calls to the service NAME to TARGET, which listens also at LISTEN (repeatable)
    #[arg(long, value_name = "NAME@LISTEN=TARGET")]
    to: Vec<String>,

    /// The analyzer to report to, and to ask for services by name, or off
    #[arg(long, value_name = "URL", env = "COUPLET_ANALYZER", default_value_t = default_analyzer().to_string())]
    analyzer: String,

    #[command(flatten)]
    overrides: OverrideArgs,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  couplet run --service orders --port 8080 -- python app.py
  couplet run --service web --port 3000 -- npm start
  couplet run --service nightly --analyzer http://127.0.0.1:15400 -- ./nightly.sh

The command calls other services by name, as in http://inventory/items: its calls go
through HTTP_PROXY, and what was started in the same way is found by its name. Where the
command itself listens does not change. HTTPS passes unseen. The exit code is that of
the command.";

/// Runs the command beside a sidecar, until the command ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = settings::sidecar(&args.overrides, args.flags(), &settings::variable)?;
    log::start(&config.log)?;
    let code = serve::runtime()?.block_on(wrap(args, config))?;
    Ok(ExitCode::from(code))
}

async fn wrap(args: &Args, config: ProxyConfig) -> anyhow::Result<u8> {
    let mut signals = Signals::to_forward().context("cannot listen to signals")?;
    let analyzer = config.analyzer.as_ref().map(|link| link.url.clone());
    let sidecar = couplet_proxy::start(config).map_err(|error| Fault::Input.because(error))?;

    // When this fails the sidecar is dropped, which closes it at once: it has nothing to report.
    let wrapping = prepare(args, &sidecar)?;
    let mut command = Command::start(&args.command, wrapping.variables(settings::variable))?;
    output::remark(&reachable(&args.service, &sidecar));
    let look = tokio::spawn(warn_without(analyzer));

    let code = command.run(&mut signals).await;
    // The shim is needed for as long as the command can start others.
    drop(wrapping);
    let stopped = serve::stopped_or_asked_again(signals, move || sidecar.stop());
    match tokio::time::timeout(LINGER, stopped).await {
        Ok(hurried) => Ok(hurried.unwrap_or(code?)),
        // That there is no analyzer was said already.
        Err(_) if look.is_finished() && look.await.unwrap_or(false) => code,
        Err(_) => {
            tracing::warn!("the analyzer did not take the last report within {LINGER:?}; what it counted is missing");
            code
        }
    }
}

impl Args {
    /// Free ports, and reports often enough to watch: what suits a developer's machine. `--set` is stronger.
    fn flags(&self) -> Flags {
        let app = self.port.map(|port| format!("127.0.0.1:{port}"));
        // Without an analyzer there is nobody to ask; without a port there is nothing to announce.
        let resolve = self.analyzer != "off";
        let register = resolve && app.is_some();
        Flags::default()
            .set("--service", "service", Some(&self.service))
            .set("--port", "app", app.as_deref())
            .set("--inbound", "inbound", Some(self.inbound.as_deref().unwrap_or(ANY_PORT)))
            .add("--to", "outbound", &self.to)
            .set("--analyzer", "analyzer", Some(&self.analyzer))
            .set("run", "explicit", Some(ANY_PORT))
            .set("run", "admin", Some("off"))
            .set("run", "register", Some(if register { "true" } else { "false" }))
            .set("run", "resolve", Some(if resolve { "true" } else { "false" }))
            .set("run", "telemetry.window", Some("1s"))
            .set("run", "timeouts.drain", Some("1s"))
            .set("run", "log.level", Some(LOG_LEVEL))
    }
}

/// All that the command's environment needs to know of the sidecar.
fn prepare(args: &Args, sidecar: &couplet_proxy::Running) -> anyhow::Result<Wrapping> {
    let explicit = sidecar.explicit().ok_or_else(|| {
        Fault::Input.because("`couplet run` needs the explicit listener: leave out --set explicit=off")
    })?;
    Wrapping::new(explicit, args.port)
}

/// The one line that says where the service is now.
fn reachable(service: &str, sidecar: &couplet_proxy::Running) -> String {
    match sidecar.inbound() {
        Some(inbound) => {
            format!("{service} is reachable at http://{inbound}, and as http://{service} for its neighbours")
        }
        None => format!("{service} calls through its sidecar; without --port nobody can call it"),
    }
}

/// Says once that nobody is watching, and whether it had to. The command works all the same.
async fn warn_without(analyzer: Option<HttpUrl>) -> bool {
    let Some(url) = analyzer.filter(|url| !url.https) else { return false };
    let away = Client::new(url.clone()).get("/livez").await.is_err();
    if away {
        output::remark(&format!(
            "no analyzer at {url}: calls work, except by the names of other services, and nobody sees them; start \
             one with `couplet analyzer`, or name another with --analyzer"
        ));
    }
    away
}

/// Warnings only, among the command's own output. That the analyzer is away is said by [`warn_without`].
const LOG_LEVEL: &str = "warn,couplet_proxy::ship=error";

/// Longest time that the sidecar outlives the command. Whoever waits for the command should not wait for an analyzer.
const LINGER: Duration = Duration::from_secs(2);

/// Loopback only: other machines have no business with a developer's service.
const ANY_PORT: &str = "127.0.0.1:0";
