//! Configuration files of both programs. What follows a line of `===` are values of `--set`, one per line.

#![no_main]

use couplet_config::{AnalyzerConfig, ConfigFile, Flag, ProxyConfig, Sources};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.windows(MARK.len()).position(|window| window == MARK);
    let (text, sets) = bytes.split_at(at.unwrap_or(bytes.len()));
    let sets = String::from_utf8_lossy(sets.get(MARK.len()..).unwrap_or_default());
    let sets: Vec<String> = sets.split_terminator('\n').map(str::to_owned).collect();
    let Ok(file) = ConfigFile::from_bytes("fuzz.yaml", text) else { return };
    let env = |name: &str| match name {
        "EMPTY" => Some(String::new()),
        "URL" => Some("http://127.0.0.1:15400".to_owned()),
        "MANY" => Some("${MANY}".repeat(1_000)),
        _ => None,
    };
    let flags = sets.iter().take(2).map(|set| Flag::add("--to", "outbound", set)).collect();
    let sources = Sources { file: Some(file), env: &env, flags, sets };
    for error in [ProxyConfig::load(&sources).err(), AnalyzerConfig::load(&sources).err()].into_iter().flatten() {
        let message = error.to_string();
        assert!(!message.is_empty());
        assert!(message.len() < MESSAGE, "{} bytes are no message", message.len());
        let moves_the_cursor = |c: char| c.is_control() && c != '\n';
        assert!(!message.contains(moves_the_cursor), "{message:?}");
    }
});

const MARK: &[u8] = b"\n===\n";
/// A hundred problems, each with a line of the file.
const MESSAGE: usize = 256 << 10;
