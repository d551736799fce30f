//! What is said when a configuration is wrong: every problem, each with its place, its key and the line itself.

use std::fmt::Write as _;

use crate::problem::{Place, Problem, printable};

/// Everything that is wrong with one configuration. Its `Display` lists all problems in the order of their lines, those
/// of the command line last:
///
/// ```text
/// couplet.yaml: 1 problem
///
/// couplet.yaml:2:11: telemetry.window: `5 sec` is not a duration: write it like 250ms, 5s or 1m30s
///   |
/// 2 |   window: 5 sec
///   |           ^^^^^
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConfigError {
    keys: Vec<String>,
    text: String,
}

impl ConfigError {
    /// The keys that have a problem, as paths like `outbound[0].listen`; empty for a problem of the whole file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// One problem that concerns the file as a whole.
    pub(crate) fn of_file(name: &str, message: &str) -> Self {
        Self { keys: vec![String::new()], text: format!("{name}: {message}") }
    }

    /// Writes down `problems` found in the file `name` with the text `source`. `dropped` counts problems beyond those
    /// that were kept.
    pub(crate) fn new(name: &str, source: &str, mut problems: Vec<Problem>, dropped: usize) -> Self {
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        let lines: Vec<&str> = source.lines().collect();
        let count = problems.len() + dropped;
        let mut text = format!("{name}: {count} {}\n", if count == 1 { "problem" } else { "problems" });
        for problem in &problems {
            text.push('\n');
            text.push_str(&heading(name, problem));
            if let Place::Text { line, column, length } = problem.place
                && let Some(content) = at(&lines, line)
                && !problem.secret
                && at(&lines, line.saturating_sub(1)).and_then(token_end).is_none()
            {
                text.push_str(&snippet(line, column, length, content));
            }
        }
        if dropped > 0 {
            let _ = write!(text, "\nand {dropped} more\n");
        }
        text.truncate(text.trim_end().len());
        Self { keys: problems.into_iter().map(|problem| problem.key).collect(), text }
    }
}

/// The line with this number, counted from 1.
fn at<'a>(lines: &[&'a str], number: usize) -> Option<&'a str> {
    lines.get(number.checked_sub(1)?).copied()
}

fn heading(name: &str, problem: &Problem) -> String {
    let place = match &problem.place {
        Place::File => name.to_owned(),
        Place::Text { line, column, .. } => format!("{name}:{line}:{column}"),
        Place::Flag(flag) => flag.to_string(),
    };
    match problem.key.as_str() {
        // `--set a.b` has named the key already.
        key if key.is_empty() || place.ends_with(&format!(" {key}")) => format!("{place}: {}\n", problem.message),
        key => format!("{place}: {key}: {}\n", problem.message),
    }
}

/// The line with a mark below the place. A long line is cut to what surrounds the place.
fn snippet(line: usize, column: usize, length: usize, content: &str) -> String {
    let start = column.saturating_sub(1).min(content.chars().count());
    let skipped = start.saturating_sub(SHOWN / 2);
    let shown: String = visible(content).skip(skipped).take(SHOWN).collect();
    let shown = shown.trim_end();
    let offset = start - skipped;
    let marked = length.min(shown.chars().count().saturating_sub(offset)).max(1);
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let (indent, mark) = (" ".repeat(offset), "^".repeat(marked));
    format!("{margin} |\n{number} | {shown}\n{margin} | {indent}{mark}\n")
}

/// The characters of a line as they may be printed: nothing that moves the cursor, nothing of a token.
fn visible(content: &str) -> impl Iterator<Item = char> {
    let (shown, rest) = match token_end(content).and_then(|end| content.get(..end)) {
        Some(before) => (before, " [redacted]"),
        None => (content, ""),
    };
    shown.chars().map(printable).chain(rest.chars())
}

/// Where a token begins on this line. A mistake of syntax may point at it before anyone knows which key it belongs to.
fn token_end(content: &str) -> Option<usize> {
    content.match_indices("token").map(|(at, word)| at + word.len()).find(|&end| {
        let after = content.get(end..).unwrap_or_default();
        after.trim_start_matches(['"', '\'', ' ']).starts_with([':', '='])
    })
}

/// Most characters of a line that are shown.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, column: usize, length: usize) -> Problem {
        let place = Place::Text { line, column, length };
        Problem { place, key: "a.b".to_owned(), message: "is wrong".to_owned(), secret: false }
    }

    #[test]
    fn problems_are_shown_in_the_order_of_their_lines_with_a_mark() {
        let error = ConfigError::new("x.yaml", "a:\n  b: one\n", vec![problem(2, 6, 3), problem(1, 1, 1)], 0);
        insta::assert_snapshot!(error, @r"
        x.yaml: 2 problems

        x.yaml:1:1: a.b: is wrong
          |
        1 | a:
          | ^

        x.yaml:2:6: a.b: is wrong
          |
        2 |   b: one
          |      ^^^
        ");
    }

    #[test]
    fn a_token_is_never_shown() {
        for (source, line) in [("{token: hunter2, a: [}", 1), ("\"token\" : hunter2", 1), ("token:\n  @hunter2", 2)] {
            let error = ConfigError::new("x.yaml", source, vec![problem(line, 12, 1)], 0);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let text = ConfigError::new("x.yaml", &line, vec![problem(1, 501, 1)], 0).to_string();
        let mut rows = text.lines().skip(4);
        let (shown, mark) = (rows.next().unwrap(), rows.next().unwrap());
        assert_eq!(shown.find('X'), mark.find('^'));
        assert!(shown.len() < 120);
    }

    #[test]
    fn a_place_outside_of_the_text_is_survived() {
        for (line, column, length) in [(0, 0, 0), (9, 1, 1), (1, 900, 900)] {
            ConfigError::new("x.yaml", "a: b", vec![problem(line, column, length)], 3);
        }
    }
}
