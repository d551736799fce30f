//! `couplet proxy`: one sidecar beside one service.

use std::process::ExitCode;

use couplet_config::ProxyConfig;

use crate::exit::{Failure, Fault};
use crate::reload::{self, Source};
use crate::settings::{FileArgs, Flags};
use crate::{descriptors, log, serve, settings};

/// What `couplet proxy` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the service that this proxy stands beside
    #[arg(long, value_name = "NAME")]
    service: Option<String>,

    /// Where the application listens; inbound requests are delivered there
    #[arg(long, value_name = "ADDRESS")]
    app: Option<String>,

    /// Where to take inbound requests for the application [default: 127.0.0.1:15406]
    #[arg(long, value_name = "ADDRESS")]
    inbound: Option<String>,

    /// Listen at LISTEN for calls to the service NAME and deliver them to TARGET (repeatable)
    #[arg(long, value_name = "NAME@LISTEN=TARGET")]
    to: Vec<String>,

    /// Where to serve as the application's HTTP_PROXY, or off [default: off]
    #[arg(long, value_name = "ADDRESS")]
    explicit: Option<String>,

    /// Take connections that the rules of `couplet intercept apply` bring here [default: off]
    #[arg(long, value_name = "DIRECTION", num_args = 0..=1, require_equals = true, default_missing_value = "both")]
    capture: Option<Direction>,

    /// Where to serve health, metrics and the configuration, or off [default: 127.0.0.1:15420]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,

    /// The analyzer to report to, or off [default: off]
    #[arg(long, value_name = "URL")]
    analyzer: Option<String>,

    /// Take over the ports of a running proxy that was started in the same way, and let another one do so later
    #[arg(long)]
    takeover: bool,

    #[command(flatten)]
    file: FileArgs,
}

/// Which captured connections are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Direction {
    Both,
    Inbound,
    Outbound,
    Off,
}

impl Direction {
    /// What `capture.outbound` and `capture.inbound` are set to.
    fn settings(self) -> (&'static str, &'static str) {
        const OUTBOUND: &str = "127.0.0.1:15401";
        match self {
            Direction::Both => (OUTBOUND, "true"),
            Direction::Inbound => ("off", "true"),
            Direction::Outbound => (OUTBOUND, "false"),
            Direction::Off => ("off", "false"),
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  couplet proxy --service orders --app 127.0.0.1:8080 --analyzer http://127.0.0.1:15400
  couplet proxy --service orders --app 127.0.0.1:8080 --to inventory@127.0.0.1:9001=10.0.0.7:15406
  couplet proxy --service orders --capture
  couplet proxy -c proxy.yaml --set timeouts.connect=2s

SIGTERM and SIGINT end it in peace: no new requests, open ones finish, the last report
is sent. A second signal ends at once. SIGHUP, POST /reload at the admin address, or a
change of the configuration file puts the file into force without losing a request.";

/// Runs a proxy until it is asked to end.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    descriptors::raise_limit();
    let config = args.load()?;
    log::start(&config.log)?;
    let (wanted, possible) = (args.configured()?.limits.connections, config.limits.connections);
    let (service, watch) = (config.service.clone(), config.watch);
    let load = || args.load();
    let mut source = args.file.config.as_deref().map(|file| Source::new(file, &load, watch));
    serve::until_asked_to_end(
        || couplet_proxy::start(config).map_err(|error| Fault::Input.because(error).into()),
        |running| {
            announce(&service, running);
            if possible < wanted {
                tracing::warn!(
                    wanted,
                    possible,
                    "the limit of open files is too low for limits.connections; more than possible are refused"
                );
            }
        },
        async |running| reload::attend(running, source.as_mut(), |running| announce(&service, running)).await,
        couplet_proxy::Running::stop,
    )
}

impl Args {
    /// The configuration as far as this process can serve it.
    fn load(&self) -> Result<ProxyConfig, Failure> {
        let mut config = self.configured()?;
        descriptors::fit(&mut config);
        Ok(config)
    }

    fn configured(&self) -> Result<ProxyConfig, Failure> {
        settings::proxy(&self.file, self.flags(), &settings::variable)
    }

    fn flags(&self) -> Flags {
        Flags::default()
            .set("--service", "service", self.service.as_deref())
            .set("--app", "app", self.app.as_deref())
            .set("--inbound", "inbound", self.inbound.as_deref())
            .add("--to", "outbound", &self.to)
            .set("--explicit", "explicit", self.explicit.as_deref())
            .set("--capture", "capture.outbound", self.capture.map(|capture| capture.settings().0))
            .set("--capture", "capture.inbound", self.capture.map(|capture| capture.settings().1))
            .set("--admin", "admin", self.admin.as_deref())
            .set("--analyzer", "analyzer", self.analyzer.as_deref())
            .set("--takeover", "takeover", self.takeover.then_some("true"))
    }
}

/// One line per listener, with the port that was really bound.
fn announce(service: &str, running: &couplet_proxy::Running) {
    if let Some(address) = running.inbound() {
        tracing::info!(service, listener = "inbound", %address, "listening");
    }
    for (to, address) in running.outbound() {
        tracing::info!(service, listener = "outbound", to, %address, "listening");
    }
    if let Some(address) = running.explicit() {
        tracing::info!(service, listener = "explicit", %address, "listening");
    }
    for address in running.captured() {
        tracing::info!(service, listener = "captured", %address, "listening");
    }
    if let Some(address) = running.admin() {
        tracing::info!(service, listener = "admin", %address, "listening");
    }
}
