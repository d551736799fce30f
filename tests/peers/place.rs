//! Where the peers are, and whether they are there at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs of this test: what the peers are told to do.
pub(crate) fn program(name: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/programs").join(name))
}

/// A file below the folder that `tests/peers/install` fills.
pub(crate) fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(name)
}

/// The Python that has the packages.
pub(crate) fn python() -> String {
    text(&installed("venv/bin/python"))
}

/// A command of words, free of the tester's own proxies.
pub(crate) fn command(words: &[&str]) -> Command {
    let (name, arguments) = words.split_first().unwrap();
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("NODE_PATH", installed("node/node_modules"));
    for name in ["NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

/// Whether this command works. If not, `test` is left out loudly; with `COUPLET_PEERS` set, where every peer is expected
/// to be there, it fails instead.
pub(crate) fn has(test: &str, words: &[&str]) -> bool {
    let status = command(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = status.is_ok_and(|status| status.success());
    if !found {
        let remark = format!("SKIPPED {test}: `{}` does not work here; see tests/peers/install", words.join(" "));
        assert!(std::env::var_os("COUPLET_PEERS").is_none(), "{remark}");
        say(&remark);
    }
    found
}

/// Says a line that is heard even where the test passes: not by `eprintln`, which is silenced then.
pub(crate) fn say(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
