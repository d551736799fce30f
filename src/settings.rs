//! What the command line and the environment add to a configuration file.
//!
//! Flags are handed to the configuration as text, so that everything that is wrong with a file and with the flags is
//! reported in one answer.

use std::path::PathBuf;

use couplet_config::{AnalyzerConfig, Architecture, ConfigError, ConfigFile, Flag, ProxyConfig, Sources};

use crate::exit::{Failure, Fault};

/// Flags of every program that has a configuration file.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FileArgs {
    /// Configuration file (YAML); flags are stronger than the file
    #[arg(short, long, value_name = "FILE", help_heading = "Configuration")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

/// Flags of every program that can be configured.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct OverrideArgs {
    /// Set any key of the configuration, for example timeouts.connect=2s (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Configuration")]
    pub(crate) set: Vec<String>,

    /// Log level or filters: warn, or info,couplet_proxy=debug [env: COUPLET_LOG, RUST_LOG]
    #[arg(long, value_name = "LEVEL", help_heading = "Configuration")]
    pub(crate) log_level: Option<String>,

    /// Shape of the log lines: text or json
    #[arg(long, value_name = "FORMAT", help_heading = "Configuration")]
    pub(crate) log_format: Option<String>,
}

/// The flags that were given, in a form that the configuration understands.
#[derive(Debug, Default)]
pub(crate) struct Flags(Vec<Flag>);

impl Flags {
    /// `--name` sets `key`, if it was given.
    pub(crate) fn set(mut self, name: &str, key: &str, value: Option<&str>) -> Self {
        self.0.extend(value.map(|value| Flag::set(name, key, value)));
        self
    }

    /// Each use of `--name` adds one element to the list `key`.
    pub(crate) fn add(mut self, name: &str, key: &str, values: &[String]) -> Self {
        self.0.extend(values.iter().map(|value| Flag::add(name, key, value.as_str())));
        self
    }
}

/// Reads an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Everything that says something about the configuration of a proxy.
pub(crate) fn proxy(args: &FileArgs, flags: Flags, env: Environment<'_>) -> Result<ProxyConfig, Failure> {
    sources(args, flags, env, &LOG_VARIABLES).and_then(|sources| ProxyConfig::load(&sources)).map_err(wrong_proxy)
}

/// The configuration of a sidecar around a command. `RUST_LOG` is left to the command.
pub(crate) fn sidecar(args: &OverrideArgs, flags: Flags, env: Environment<'_>) -> Result<ProxyConfig, Failure> {
    let args = FileArgs { config: None, overrides: args.clone() };
    let [own, _] = LOG_VARIABLES;
    sources(&args, flags, env, &[own]).and_then(|sources| ProxyConfig::load(&sources)).map_err(wrong)
}

/// Everything that says something about the configuration of an analyzer.
pub(crate) fn analyzer(args: &FileArgs, flags: Flags, env: Environment<'_>) -> Result<AnalyzerConfig, Failure> {
    sources(args, flags, env, &LOG_VARIABLES).and_then(|sources| AnalyzerConfig::load(&sources)).map_err(wrong)
}

/// The architecture that an analyzer's configuration names; an empty one where it names none.
pub(crate) fn architecture(config: &AnalyzerConfig) -> Result<Architecture, Failure> {
    let path = config.architecture.as_deref();
    path.map_or_else(|| Ok(Architecture::default()), |path| Architecture::read(path, &variable)).map_err(wrong)
}

/// An environment variable of this process. One that is not UTF-8 counts as not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn sources<'a>(
    args: &FileArgs,
    flags: Flags,
    env: Environment<'a>,
    log_variables: &[&'static str],
) -> Result<Sources<'a>, ConfigError> {
    let file = args.config.as_deref().map(ConfigFile::read).transpose()?;
    let overrides = &args.overrides;
    let set = |&name: &&'static str| Some((name, env(name).filter(|level| !level.is_empty())?));
    let (variable, level) = log_variables.iter().find_map(set).unzip();
    // The last one to speak about a key wins: the environment, then the flags.
    let logs = Flags::default()
        .set(variable.unwrap_or_default(), "log.level", level.as_deref())
        .set("--log-level", "log.level", overrides.log_level.as_deref())
        .set("--log-format", "log.format", overrides.log_format.as_deref());
    let flags = flags.0.into_iter().chain(logs.0).collect();
    Ok(Sources { file, env, flags, sets: overrides.set.clone() })
}

fn wrong(error: ConfigError) -> Failure {
    Fault::Input.because(error)
}

/// As [`wrong`]; who forgot the one thing that has no default is told how to say it.
fn wrong_proxy(error: ConfigError) -> Failure {
    match error.keys().eq(["service"]) {
        true => Fault::Input.because(format_args!("{error}\n\nname it with --service NAME, or with the key `service`")),
        false => wrong(error),
    }
}

/// Environment variables that set the log level; only the first of them that is set counts.
const LOG_VARIABLES: [&str; 2] = ["COUPLET_LOG", "RUST_LOG"];

#[cfg(test)]
mod tests {
    use super::*;

    fn args(log_level: Option<&str>, set: &[&str]) -> FileArgs {
        let set = set.iter().map(|&set| set.to_owned()).collect();
        let overrides = OverrideArgs { set, log_level: log_level.map(str::to_owned), log_format: None };
        FileArgs { config: None, overrides }
    }

    fn service() -> Flags {
        Flags::default().set("--service", "service", Some("orders"))
    }

    fn both(name: &str) -> Option<String> {
        Some(if name == "COUPLET_LOG" { "debug" } else { "trace" }.to_owned())
    }

    fn rust(name: &str) -> Option<String> {
        (name == "RUST_LOG").then(|| "trace".to_owned())
    }

    #[test]
    fn the_log_level_comes_from_the_flag_then_the_environment_then_the_default() {
        let level = |flag, env: Environment<'_>| proxy(&args(flag, &[]), service(), env).unwrap().log.level;
        assert_eq!(level(Some("warn"), &both), "warn");
        assert_eq!(level(None, &both), "debug");
        assert_eq!(level(None, &rust), "trace");
        assert_eq!(level(None, &|_| Some(String::new())), "info");
        assert_eq!(level(None, &|_| None), "info");
    }

    #[test]
    fn a_sidecar_around_a_command_leaves_rust_log_to_the_command() {
        let level = |env: Environment<'_>| sidecar(&OverrideArgs::default(), service(), env).unwrap().log.level;
        assert_eq!(level(&rust), "info");
        assert_eq!(level(&both), "debug");
    }

    #[test]
    fn all_that_is_wrong_on_the_command_line_is_said_at_once() {
        let flags = service().set("--app", "app", Some("8080")).set("--admin", "admin", Some("of"));
        let message = proxy(&args(None, &["timeouts.conect=2s"]), flags, &|_| None).unwrap_err().to_string();
        for part in ["3 problems", "--app: ", "--admin: ", "--set timeouts.conect", "did you mean"] {
            assert!(message.contains(part), "{part} is missing in:\n{message}");
        }
    }

    #[test]
    fn a_wrong_level_names_the_variable_it_came_from() {
        let env = |name: &str| (name == "COUPLET_LOG").then(|| "loud".to_owned());
        let message = proxy(&args(None, &[]), service(), &env).unwrap_err().to_string();
        assert!(message.contains("COUPLET_LOG: log.level: ") && message.contains("`loud`"), "{message}");
    }
}
