//! Variables in the values of a file: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`.
//!
//! They are replaced in scalars after the file has been parsed, so the value of a variable can never change its shape.

use crate::{
    problem::{Problem, push_step, quoted},
    tree::{Content, Node},
};

/// Looks up the value of a variable by its name.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Replaces the variables in all scalars of `node`. A scalar that is empty afterwards counts as absent.
pub(crate) fn interpolate(node: &mut Node, lookup: &Lookup<'_>, problems: &mut Vec<Problem>) {
    let mut room = ROOM;
    walk(node, &mut String::new(), lookup, &mut room, problems);
}

fn walk(node: &mut Node, key: &mut String, lookup: &Lookup<'_>, room: &mut usize, problems: &mut Vec<Problem>) {
    let parent = key.len();
    match &mut node.content {
        Content::Text(text) if text.contains("${") => match expand(text, lookup, *room) {
            Ok(expanded) if expanded.is_empty() => node.content = Content::Empty,
            Ok(expanded) => {
                *room = room.saturating_sub(expanded.len());
                *text = expanded;
            }
            Err(message) => {
                problems.push(Problem::new(node.place.clone(), key.as_str(), message));
                node.content = Content::Empty;
            }
        },
        Content::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                push_step(key, &format!("[{index}]"));
                walk(item, key, lookup, room, problems);
                key.truncate(parent);
            }
        }
        Content::Map(entries) => {
            for entry in entries {
                push_step(key, &entry.key);
                walk(&mut entry.value, key, lookup, room, problems);
                key.truncate(parent);
            }
        }
        Content::Empty | Content::Text(_) | Content::More(_) => {}
    }
}

/// `text` with its variables replaced, if the result has at most `room` bytes.
fn expand(text: &str, lookup: &Lookup<'_>, room: usize) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        let Some((reference, after)) = after.split_once('}') else {
            return Err("`${` has no closing `}`; write `$${` for a literal `${`".to_owned());
        };
        expanded.push_str(before);
        expanded.push_str(&resolve(reference, lookup)?);
        if expanded.len() > room {
            return Err("the variables of this file unfold to more than 1 MiB".to_owned());
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// As in a shell, `:-` stands in for a variable that is unset or empty.
fn resolve(reference: &str, lookup: &Lookup<'_>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(valid) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let shown = quoted(&format!("${{{reference}}}"));
        return Err(format!("{shown} is not a variable: write ${{NAME}} or ${{NAME:-default}}"));
    }
    match (lookup(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!("the variable {name} is not set; set it, or write ${{{name}:-default}}")),
    }
}

/// Most bytes that the variables of one file may unfold to.
const ROOM: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            "LOOP" => Some("${LOOP}".to_owned()),
            _ => None,
        };
        expand(text, &lookup, 100)
    }

    #[test]
    fn variables_are_replaced_once_and_defaults_fill_in() {
        for (text, expected) in [
            ("127.0.0.1:${PORT}", "127.0.0.1:8080"),
            ("${PORT}${PORT}", "80808080"),
            ("${HOST:-localhost}:1", "localhost:1"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$${PORT}", "${PORT}"),
            ("$PORT $ {PORT}", "$PORT $ {PORT}"),
            ("${LOOP}", "${LOOP}"),
            ("${NONE:-a:-b}", "a:-b"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_unset_is_named() {
        assert!(expanded("a ${NONE} b").unwrap_err().contains("the variable NONE is not set"));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in ["${}", "${1A}", "${A B}", "${A-b}", "${", "a${b", "${:-x}"] {
            assert!(expanded(text).is_err(), "{text}");
        }
        assert!(expanded(&"${PORT}".repeat(30)).is_err());
    }
}
