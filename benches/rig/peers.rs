//! The proxies that are put beside one another, each with the least configuration that forwards to one service and with
//! one thread that does so.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::program::{Core, Program};

/// How long a proxy may take until it accepts connections.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    /// With everything on, reporting to an analyzer.
    Couplet,
    /// Couplet with telemetry switched off.
    CoupletQuiet,
    Haproxy,
    Nginx,
    Envoy,
}

/// What stands between the client and the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Two in a row, as between two services of a mesh: the first as the caller's, the second as the callee's.
    pub(crate) chain: bool,
    pub(crate) http2: bool,
    /// The first of the two has an application as well: the backend. Of Couplet alone.
    pub(crate) linked: bool,
}

/// A peer that forwards.
pub(crate) struct Running {
    /// Where to ask.
    pub(crate) address: SocketAddr,
    /// Where requests for the application of the first one go, where that is another address.
    pub(crate) inbound: Option<SocketAddr>,
    /// The proxies, which are measured.
    pub(crate) proxies: Vec<Program>,
    /// What they need.
    _others: Vec<Program>,
}

/// Where and with what proxies are started.
pub(crate) struct Stage<'a> {
    pub(crate) couplet: &'a Path,
    /// Holds their configurations and what they say.
    pub(crate) folder: &'a Path,
    /// Of the proxies.
    pub(crate) core: Core,
    /// Of everything else.
    pub(crate) other: Core,
    /// Words that are put before every command of a proxy, such as those of a tool that watches it. `{n}` in them is the
    /// number of the proxy.
    pub(crate) under: Vec<String>,
    /// Settings of sidecars, as `--set` takes them.
    pub(crate) settings: &'a [String],
    /// Whether sidecars report to an analyzer, as they do in life. Else they are left alone: nothing happens in them but
    /// what requests bring about.
    pub(crate) reports: bool,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] = [Self::Couplet, Self::CoupletQuiet, Self::Haproxy, Self::Nginx, Self::Envoy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Couplet => "Couplet",
            Peer::CoupletQuiet => "Couplet, telemetry off",
            Peer::Haproxy => "HAProxy",
            Peer::Nginx => "nginx",
            Peer::Envoy => "Envoy",
        }
    }

    /// The release that is installed.
    ///
    /// # Errors
    /// Why there is none, and how to get one.
    pub(crate) fn release(self, couplet: &Path) -> Result<String> {
        let (program, word) = match self {
            Peer::Couplet | Peer::CoupletQuiet => (couplet.to_owned(), "--version"),
            Peer::Haproxy => ("haproxy".into(), "-v"),
            Peer::Nginx => ("nginx".into(), "-v"),
            Peer::Envoy => (envoy(), "--version"),
        };
        let output = command(&program).arg(word).output();
        let output =
            output.with_context(|| format!("{} is not installed (benches/load/install)", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let numbers = text
            .split([' ', '/', '-', ',', '\n'])
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
        Ok(numbers.context("a release without a number")?.to_owned())
    }

    /// Whether this peer has a part in that layout. nginx speaks no HTTP/2 to services.
    pub(crate) fn can(self, layout: Layout) -> bool {
        match self {
            Peer::Couplet | Peer::CoupletQuiet | Peer::Haproxy => true,
            Peer::Nginx => !layout.chain && !layout.http2,
            Peer::Envoy => !layout.chain,
        }
    }

    /// Starts it before `backend`; it accepts connections when this returns.
    ///
    /// # Errors
    /// Where it does not.
    pub(crate) fn start(self, stage: &Stage<'_>, layout: Layout, backend: SocketAddr) -> Result<Running> {
        let mut others = Vec::new();
        let mut words = Vec::new();
        if self == Peer::Couplet && stage.reports {
            let address = free()?;
            let mut analyzer = command(stage.couplet);
            analyzer.args(["analyzer", "--listen", &address.to_string()]);
            others.push(Program::start(analyzer, stage.other, &stage.folder.join("analyzer.log"))?);
            reach(address, others.last_mut())?;
            words = vec!["--analyzer".to_owned(), format!("http://{address}")];
        } else if self == Peer::CoupletQuiet {
            words = vec!["--set".to_owned(), "telemetry.enabled=false".to_owned()];
        }
        if !stage.reports {
            words.extend(["--set".to_owned(), "telemetry.window=5m".to_owned()]);
        }
        words.extend(stage.settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
        let (mut proxies, mut next, mut inbound) = (Vec::new(), backend, None);
        for n in 0..=usize::from(layout.chain) {
            let address = free()?;
            let caller = layout.chain && n == 1;
            let command = match self {
                Peer::Couplet | Peer::CoupletQuiet => {
                    let mut command = sidecar(stage, address, next, caller, n, &words);
                    if layout.linked && caller {
                        let inside = free()?;
                        command.args(["--app", &backend.to_string(), "--inbound", &inside.to_string()]);
                        inbound = Some(inside);
                    }
                    command
                }
                Peer::Haproxy => haproxy(stage, address, next, layout, n)?,
                Peer::Nginx => nginx(stage, address, next)?,
                Peer::Envoy => envoy_of(stage, address, next, layout)?,
            };
            let log = stage.folder.join(format!("{}-{n}.log", self.name()));
            proxies.push(Program::start(command, stage.core, &log)?);
            reach(address, proxies.last_mut())?;
            next = address;
        }
        Ok(Running { address: next, inbound, proxies, _others: others })
    }
}

impl Running {
    /// Nanoseconds that all proxies have run.
    ///
    /// # Errors
    /// Where one has ended.
    pub(crate) fn cpu(&self) -> Result<u64> {
        self.proxies.iter().map(Program::cpu).sum()
    }

    /// Bytes that all proxies hold in memory.
    ///
    /// # Errors
    /// Where one has ended.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.proxies.iter().map(Program::resident).sum()
    }
}

/// A command that does not inherit the settings of whoever runs the bench.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["COUPLET_LOG", "RUST_LOG", "COUPLET_ANALYZER"] {
        command.env_remove(name);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin"));
    command
}

impl Stage<'_> {
    fn command(&self, program: &Path, n: usize) -> Command {
        let Some((first, rest)) = self.under.split_first() else { return command(program) };
        let mut command = command(Path::new(first));
        command.args(rest.iter().map(|word| word.replace("{n}", &n.to_string()))).arg(program);
        command
    }
}

fn sidecar(
    stage: &Stage<'_>,
    address: SocketAddr,
    to: SocketAddr,
    caller: bool,
    n: usize,
    words: &[String],
) -> Command {
    let mut command = stage.command(stage.couplet, n);
    command.args(["proxy", "--admin", "off", "--log-level", "warn"]).args(words);
    if caller {
        command.args(["--service", "front", "--to", &format!("shop@{address}={to}")]);
    } else {
        command.args(["--service", "shop", "--app", &to.to_string(), "--inbound", &address.to_string()]);
    }
    command
}

fn haproxy(stage: &Stage<'_>, address: SocketAddr, to: SocketAddr, layout: Layout, n: usize) -> Result<Command> {
    let proto = if layout.http2 { "proto h2" } else { "" };
    let config = stage.folder.join(format!("haproxy-{n}.cfg"));
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
         timeout server 60s\n  http-reuse always\nfrontend front\n  bind {address} {proto}\n  default_backend back\n\
         backend back\n  server shop {to} {proto}\n"
    );
    fs::write(&config, text)?;
    let mut command = stage.command(Path::new("haproxy"), n);
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}

fn nginx(stage: &Stage<'_>, address: SocketAddr, to: SocketAddr) -> Result<Command> {
    let folder = stage.folder.join("nginx");
    fs::create_dir_all(&folder)?;
    let at = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|kind| format!("{kind}_temp_path {at}/{kind};")).collect();
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
         events {{ worker_connections 4000; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; {temporary}\n\
         upstream shop {{ server {to}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://shop; proxy_http_version 1.1; \
         proxy_set_header Host $http_host; proxy_set_header Connection \"\"; }} }} }}\n"
    );
    let config = folder.join("nginx.conf");
    fs::write(&config, text)?;
    let mut command = stage.command(Path::new("nginx"), 0);
    command.arg("-p").arg(folder).arg("-e").arg("error.log").arg("-c").arg(config);
    Ok(command)
}

/// Envoy's program: the one that `benches/load/install` has put below `target`, or that of the system.
fn envoy() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/envoy/envoy/_bin/envoy");
    if installed.exists() { installed } else { "envoy".into() }
}

fn envoy_of(stage: &Stage<'_>, address: SocketAddr, to: SocketAddr, layout: Layout) -> Result<Command> {
    let socket = |address: SocketAddr| serde_json::json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let protocol = if layout.http2 { "http2_protocol_options" } else { "http_protocol_options" };
    let options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let config = serde_json::json!({"static_resources": {
        "listeners": [{"address": socket(address), "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "front",
                "codec_type": if layout.http2 { "HTTP2" } else { "HTTP1" },
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "route": {"cluster": "shop"}}]}]},
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
                    {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
            }}]}]}],
        "clusters": [{"name": "shop", "type": "STATIC", "connect_timeout": "5s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
                    {"@type": options, "explicit_http_config": {protocol: {}}}},
            "load_assignment": {"cluster_name": "shop", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket(to)}}]}]}}],
    }});
    let file = stage.folder.join("envoy.json");
    fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
    let mut command = stage.command(&envoy(), 0);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(file);
    Ok(command)
}

/// A port that was free a moment ago: these programs cannot say which one they have chosen.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until `program` accepts connections.
fn reach(address: SocketAddr, program: Option<&mut Program>) -> Result<()> {
    let program = program.context("no program")?;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        if let Some(words) = program.last_words() {
            bail!("a proxy ended instead of serving:\n{words}");
        }
        ensure!(Instant::now() < deadline, "nothing listens at {address} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
