//! Where things are, and whether they are there at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What `couplet proxy` may need on its way down beyond `timeouts.drain`: connections close, the last report leaves.
pub(crate) const AFTER_DRAIN_SECONDS: u64 = 6;
/// What `couplet intercept apply` lets pass by default.
pub(crate) const UID: u64 = 2102;

/// A file of the project.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What it says.
#[track_caller]
pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Seconds of a time as configurations and units write it.
#[track_caller]
pub(crate) fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text:?} are no seconds"))
}

/// Says a line that is heard even where the test passes: not by `eprintln`, which is silenced then.
pub(crate) fn say(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}
