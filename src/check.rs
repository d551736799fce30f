//! `couplet check`: says whether configuration files are right, before anything depends on them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use couplet_config::{
    AnalyzerConfig, Architecture, ConfigError, ConfigFile, ProxyConfig, Sources, analyzer_schema, architecture_schema,
    proxy_schema,
};
use couplet_proxy::Change;

use crate::exit::{Failure, Fault};
use crate::settings::Environment;
use crate::{output, settings};

/// What `couplet check` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files to check
    #[arg(value_name = "FILE", required_unless_present = "config")]
    files: Vec<PathBuf>,

    /// File to check (repeatable)
    #[arg(short, long, value_name = "FILE")]
    config: Vec<PathBuf>,

    /// Whose configuration the files are [default: the one that fits better]
    #[arg(long)]
    kind: Option<Kind>,

    /// The file that a proxy runs with: say what of the new ones it can take over, and what needs a restart
    #[arg(long, value_name = "FILE")]
    running: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  couplet check proxy.yaml analyzer.yaml
  couplet check --kind proxy -c proxy.yaml
  couplet check architecture.yaml
  couplet check --running proxy.yaml new.yaml

Every problem of every file is reported at once; the exit code is 2 when there is one.";

/// Whose configuration a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// That of `couplet proxy`.
    Proxy,
    /// That of `couplet analyzer`.
    Analyzer,
    /// An architecture that a system is held against.
    Architecture,
}

impl Kind {
    /// The JSON Schema of the file.
    pub(crate) fn schema(self) -> serde_json::Value {
        match self {
            Kind::Proxy => proxy_schema(),
            Kind::Analyzer => analyzer_schema(),
            Kind::Architecture => architecture_schema(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Proxy => "the file of a proxy",
            Kind::Analyzer => "the file of an analyzer",
            Kind::Architecture => "an architecture",
        }
    }

    fn load(self, file: ConfigFile, env: Environment<'_>) -> Result<Self, ConfigError> {
        let sources = Sources { file: Some(file), ..Sources::new(env) };
        match self {
            Kind::Proxy => ProxyConfig::load(&sources).map(|_| self),
            Kind::Analyzer => AnalyzerConfig::load(&sources).map(|_| self),
            Kind::Architecture => Architecture::load(&sources).map(|_| self),
        }
    }
}

/// Checks all files and says of each whether it is right.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let files = args.config.iter().chain(&args.files);
    let verdicts: Vec<_> = files.map(|path| (path, verdict(path, args.kind, &settings::variable))).collect();
    let right = verdicts.iter().filter_map(|(path, verdict)| Some((path, verdict.as_ref().ok()?)));
    let mut lines = String::new();
    for (path, kind) in right {
        let change = match (&args.running, kind) {
            (Some(running), Kind::Proxy) => told(&proxy(running)?, &proxy(path)?),
            _ => String::new(),
        };
        lines += &format!("{}: ok, {}{change}\n", path.display(), kind.name());
    }
    output::result(&lines)?;
    let wrong: Vec<String> = verdicts.into_iter().filter_map(|(_, verdict)| verdict.err()).collect();
    match wrong.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Fault::Input.because(wrong.join("\n\n")).into()),
    }
}

fn proxy(path: &Path) -> Result<ProxyConfig, Failure> {
    let file = ConfigFile::read(path).map_err(|error| Fault::Input.because(error))?;
    let sources = Sources { file: Some(file), ..Sources::new(&settings::variable) };
    ProxyConfig::load(&sources).map_err(|error| Fault::Input.because(error))
}

/// What a proxy that runs with `old` would do with `new`.
fn told(old: &ProxyConfig, new: &ProxyConfig) -> String {
    match Change::between(old, new) {
        Change::None => "; it says the same".to_owned(),
        Change::Live(keys) => format!("; comes into force without a restart: {}", keys.join(", ")),
        Change::Restart(keys) => format!("; a restart is needed for: {}", keys.join(", ")),
    }
}

/// The kind of a right file, or everything that is wrong with it.
fn verdict(path: &Path, kind: Option<Kind>, env: Environment<'_>) -> Result<Kind, String> {
    let file = ConfigFile::read(path).map_err(|error| error.to_string())?;
    match kind {
        Some(kind) => kind.load(file, env).map_err(|error| error.to_string()),
        None => load_as_either(&file, env),
    }
}

/// Reads the file as what fits it best: the kind that knows its sections best, and of those the one with the fewest
/// problems. A file is not another's for having many mistakes within its own sections.
fn load_as_either(file: &ConfigFile, env: Environment<'_>) -> Result<Kind, String> {
    let mut problems = Vec::new();
    for kind in [Kind::Proxy, Kind::Analyzer, Kind::Architecture] {
        match kind.load(file.clone(), env) {
            Ok(kind) => return Ok(kind),
            Err(error) => problems.push((error, kind)),
        }
    }
    let misfit = |error: &ConfigError| (error.keys().filter(|key| !key.contains('.')).count(), error.keys().count());
    let Some((error, kind)) = problems.iter().min_by_key(|(error, _)| misfit(error)) else {
        return Err(String::new());
    };
    // A mistake of syntax is the same for all.
    if problems.iter().all(|(other, _)| other.to_string() == error.to_string()) {
        return Err(error.to_string());
    }
    Err(format!("{error}\n\n(checked as {}; --kind says that it is something else)", kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Kind, String> {
        load_as_either(&ConfigFile::from_bytes("x.yaml", text).unwrap(), &|_| None)
    }

    #[test]
    fn a_right_file_is_recognized_by_what_it_says() {
        assert_eq!(check("service: orders\nlog:\n  level: info\n"), Ok(Kind::Proxy));
        assert_eq!(check("listen: 127.0.0.1:1\n"), Ok(Kind::Analyzer));
        assert_eq!(check("layers: [edge, core]\n"), Ok(Kind::Architecture));
    }

    #[test]
    fn a_wrong_file_is_judged_as_what_fits_it_better() {
        let proxy = check("service: orders\napp: 8080\nlisten: 127.0.0.1:1\n").unwrap_err();
        assert!(proxy.contains("2 problems") && proxy.contains("file of a proxy"), "{proxy}");
        let analyzer = check("listen: 127.0.0.1:1\nsnapshot_every: never\n").unwrap_err();
        assert!(analyzer.contains("1 problem\n") && analyzer.contains("file of an analyzer"), "{analyzer}");
        let many = "service: orders\nbreakers: {defaults: {max_connections: 0, max_pending: -1, max_in_flight: 0}}\n";
        let proxy = check(many).unwrap_err();
        assert!(proxy.contains("3 problems") && proxy.contains("file of a proxy"), "{proxy}");
        let architecture = check("layers: [edge]\nservices: {web: {layer: egde}}\n").unwrap_err();
        assert!(architecture.contains("did you mean `edge`?"), "{architecture}");
        assert!(architecture.contains("checked as an architecture"), "{architecture}");
    }

    #[test]
    fn what_a_running_proxy_does_with_a_new_file_is_told() {
        let old = ProxyConfig::new("orders");
        let mut new = old.clone();
        assert_eq!(told(&old, &new), "; it says the same");
        new.timeouts.connect = std::time::Duration::from_secs(1);
        assert_eq!(told(&old, &new), "; comes into force without a restart: timeouts.connect");
        new.workers = 3;
        assert_eq!(told(&old, &new), "; a restart is needed for: workers");
    }

    #[test]
    fn a_mistake_of_syntax_is_the_same_for_both_and_said_once() {
        let message = check("a: [").unwrap_err();
        assert!(!message.contains("--kind"), "{message}");
    }
}
