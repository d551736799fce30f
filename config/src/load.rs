//! From a file, the environment and flags to a configuration in which everything holds.

use std::{
    fmt,
    io::{self, Read},
    path::Path,
};

use garde::Validate;

use crate::{
    analyzer::AnalyzerConfig,
    architecture::Architecture,
    conflicts::{Conflict, conflicts},
    error::ConfigError,
    flags::{Flag, parse_set},
    interpolate::{Lookup, interpolate},
    link::AnalyzerLink,
    overlay::{Overlay, Reader, place_of},
    problem::{Place, Problem},
    proxy::ProxyConfig,
    tree::{self, Node},
};

/// Everything that says something about a configuration. What stands further down wins.
pub struct Sources<'a> {
    /// The file, if there is one.
    pub file: Option<ConfigFile>,
    /// Gives the value of a variable that the file names, or `None` when it is not set.
    pub env: &'a Lookup<'a>,
    /// Flags with a key of their own, such as `--app`.
    pub flags: Vec<Flag>,
    /// Texts given to `--set`, such as `timeouts.connect=2s`; a value beginning with `[` or `{` is YAML, and a list
    /// replaces the whole list.
    pub sets: Vec<String>,
}

impl<'a> Sources<'a> {
    /// No file and no flags: the defaults.
    pub fn new(env: &'a Lookup<'a>) -> Self {
        Self { file: None, env, flags: Vec::new(), sets: Vec::new() }
    }
}

/// The text of a configuration file, at most 1 MiB.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    name: String,
    text: String,
}

/// The text may hold a token, so only the name is shown.
impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ConfigFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is larger than 1 MiB, or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path);
        match file.and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut bytes)) {
            Ok(_) => Self::from_bytes(name, bytes),
            Err(error) => Err(ConfigError::of_file(&name, &unreadable(&error))),
        }
    }

    /// Takes `bytes` as the content of a file that errors call `name`.
    ///
    /// # Errors
    /// When they are more than 1 MiB, or not UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        let (name, bytes) = (name.into(), bytes.into());
        if bytes.len() > LARGEST {
            return Err(ConfigError::of_file(&name, "is larger than 1 MiB; is it a configuration file?"));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                Err(ConfigError::of_file(
                    &name,
                    &format!("is not a UTF-8 text (byte {at} does not belong to any character)"),
                ))
            }
        }
    }
}

/// Largest configuration file in bytes.
const LARGEST: usize = 1 << 20;

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read the file".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory, not a file".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

impl ProxyConfig {
    /// The configuration of a proxy from its sources.
    ///
    /// # Errors
    /// Everything that is wrong with the file and the flags, at once. A value that cannot be read is wrong even where a
    /// flag overrides it.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        load(Self::blank(), sources, |config, reader| {
            if config.service.is_empty() && !reader.is_wrong("service") {
                reader.push(required("service"));
            }
            if config.analyzer.as_ref().is_some_and(AnalyzerLink::lacks_url) && !reader.is_wrong("analyzer.url") {
                reader.push(required("analyzer.url"));
            }
            for key in config.tls.missing() {
                if !reader.is_wrong(key) {
                    reader.push(required(key));
                }
            }
            conflicts(config)
        })
    }
}

impl AnalyzerConfig {
    /// The configuration of an analyzer from its sources.
    ///
    /// # Errors
    /// Everything that is wrong with the file and the flags, at once. A value that cannot be read is wrong even where a
    /// flag overrides it.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        load(Self::default(), sources, |_, _| Vec::new())
    }
}

impl Architecture {
    /// The architecture of a system from its sources.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        load(Self::default(), sources, |architecture, _| architecture.conflicts())
    }

    /// The architecture in the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, and everything that is wrong with it, at once.
    pub fn read(path: &Path, env: &Lookup<'_>) -> Result<Self, ConfigError> {
        Self::load(&Sources { file: Some(ConfigFile::read(path)?), ..Sources::new(env) })
    }
}

fn required(key: &str) -> Problem {
    Problem::new(Place::File, key, "is required, but missing")
}

/// The bare comparison of a rule as a demand.
fn reworded(message: &str) -> String {
    let demands = [
        ("lower than ", "must be at least "),
        ("greater than ", "must be at most "),
        ("length is lower than ", "must not be shorter than "),
        ("length is greater than ", "must not be longer than "),
    ];
    let demand = demands.iter().find_map(|(bare, demand)| Some(format!("{demand}{}", message.strip_prefix(bare)?)));
    demand.unwrap_or_else(|| message.to_owned())
}

/// Lays all sources over `config`, then holds it against the rules of each key and those across keys.
fn load<C: Overlay + Validate<Context = ()>>(
    mut config: C,
    sources: &Sources<'_>,
    across: impl FnOnce(&C, &mut Reader) -> Vec<Conflict>,
) -> Result<C, ConfigError> {
    let mut reader = Reader::default();
    let (name, text) = sources.file.as_ref().map_or(("configuration", ""), |file| (&file.name, &file.text));
    let (layers, complete) = layers(text, sources, &mut reader);
    for layer in &layers {
        config.overlay(layer, &mut reader);
    }
    // After a mistake of syntax nobody knows what the file says, so nothing is missed in it and nothing contradicts it.
    if complete {
        let mut found = across(&config, &mut reader);
        let broken = config.validate().err().map(garde::Report::into_inner).unwrap_or_default();
        found.extend(broken.into_iter().map(|(key, error)| (key.to_string(), reworded(error.message()))));
        found.retain(|(key, _)| !reader.is_wrong(key));
        for (key, message) in found {
            let place = place(&layers, &key);
            reader.push(Problem::new(place, key, message));
        }
    }
    match reader.into_problems() {
        (problems, _) if problems.is_empty() => Ok(config),
        (problems, dropped) => Err(ConfigError::new(name, text, problems, dropped)),
    }
}

/// The trees of all sources, the strongest last, and whether that of the file is among them.
fn layers(text: &str, sources: &Sources<'_>, reader: &mut Reader) -> (Vec<Node>, bool) {
    let mut problems = Vec::new();
    let mut file = tree::parse(text, &mut problems);
    if let Some(node) = &mut file {
        interpolate(node, sources.env, &mut problems);
    }
    let complete = file.is_some();
    let mut layers = Vec::from_iter(file);
    layers.extend(sources.flags.iter().map(Flag::tree));
    layers.extend(sources.sets.iter().filter_map(|set| parse_set(set, &mut problems)));
    problems.into_iter().for_each(|problem| reader.push(problem));
    (layers, complete)
}

/// Where the value of `key` was written: in the strongest source that says something about it or, failing that, about a
/// key above it.
fn place(layers: &[Node], key: &str) -> Place {
    let places = layers.iter().filter_map(|layer| place_of(layer, key));
    places.max_by_key(|(depth, _)| *depth).map_or(Place::File, |(_, place)| place)
}
