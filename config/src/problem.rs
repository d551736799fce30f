//! One thing that is wrong, and where.

use std::sync::Arc;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The file as a whole.
    File,
    /// In the text of the file: line and column from 1, and the number of characters.
    Text { line: usize, column: usize, length: usize },
    /// On the command line; the text names the flag.
    Flag(Arc<str>),
}

/// One thing that is wrong, not yet shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    /// Path of the key, like `outbound[0].listen`; empty for the whole.
    pub(crate) key: String,
    pub(crate) message: String,
    /// Whether the text at the place must not be shown.
    pub(crate) secret: bool,
}

impl Problem {
    /// A problem whose place may be shown.
    pub(crate) fn new(place: Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place, key: key.into(), message: message.into(), secret: false }
    }
}

/// Appends one step to the path of a key: `[0]` as it is, a name after a dot. The name may be anything a file can
/// contain, so it is cut and cleaned.
pub(crate) fn push_step(path: &mut String, step: &str) {
    if !path.is_empty() && !step.starts_with('[') {
        path.push('.');
    }
    path.extend(step.chars().take(100).map(printable));
}

/// The character, or a placeholder for one that would move the cursor.
pub(crate) fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        _ if c.is_control() => '\u{fffd}',
        _ => c,
    }
}

/// `text` in backticks, without control characters and at most 60 characters of it, for messages.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).map(printable).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
