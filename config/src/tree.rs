//! The text of a configuration as a tree in which every scalar is still the text that somebody wrote, with its place.
//!
//! The types of the configuration decide later what a scalar means, so `version: 1.10` stays `1.10` and a mistake can be
//! shown as it was made.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, NonFiniteFloatPolicy, Spanned, UserMessageFormatter};

use crate::problem::{Place, Problem, printable};

/// One value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Nothing: the default is meant.
    Empty,
    /// A scalar, quoted or not.
    Text(String),
    /// Values in order; they replace what is there.
    List(Vec<Node>),
    /// Keys in order.
    Map(Vec<Entry>),
    /// One more value for a list; only a flag can say this.
    More(Box<Node>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

/// Reads a YAML text. The first mistake of syntax ends it; a duplicate key is a problem, and its first value counts.
///
/// The budget bounds what a small text can unfold to through anchors: nodes, depth and replayed events.
pub(crate) fn parse(source: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut result = read(source, DuplicateKeyPolicy::Error);
    if let Err(error) = &result
        && matches!(error.without_snippet(), Error::DuplicateMappingKey { .. })
    {
        problems.push(syntax_problem(source, error));
        result = read(source, DuplicateKeyPolicy::FirstWins);
    }
    match result {
        Ok(raw) => Some(node(source, raw)),
        Err(error) => {
            problems.push(syntax_problem(source, &error));
            None
        }
    }
}

fn read(source: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Spanned<Raw>, Error> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        duplicate_keys: duplicate_keys,
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 50_000,
            max_events: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 50_000,
            max_documents: 2,
            max_merge_keys: 100,
        },
    };
    serde_saphyr::from_str_with_options(source, options)
}

fn syntax_problem(source: &str, error: &Error) -> Problem {
    let place = error.location().map_or(Place::File, |location| place(&location));
    let message = error.render_with_formatter(&UserMessageFormatter);
    // The place is shown in front of the message, once; and the message may repeat a key of any length.
    let message = message.split(" at line ").next().unwrap_or_default();
    let mut message: String = message.chars().take(300).map(printable).collect();
    if let Place::Text { line, .. } = place
        && source.lines().nth(line.saturating_sub(1)).is_some_and(|content| content.contains("${"))
    {
        message.push_str("; a ${VARIABLE} inside [ ] or { } needs quotes around it");
    }
    Problem::new(place, "", message)
}

fn place(location: &Location) -> Place {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    match number(location.line()) {
        0 => Place::File,
        line => Place::Text { line, column: number(location.column()), length: number(location.span().len()).max(1) },
    }
}

fn node(source: &str, raw: Spanned<Raw>) -> Node {
    let content = match raw.value {
        Raw::Empty => Content::Empty,
        Raw::Text(text) => Content::Text(text),
        Raw::Typed(fallback) => Content::Text(written(source, &raw.defined).unwrap_or(fallback)),
        Raw::List(items) => Content::List(items.into_iter().map(|item| node(source, item)).collect()),
        Raw::Map(entries) => Content::Map(entries.into_iter().map(|(key, value)| entry(source, key, value)).collect()),
    };
    Node { place: place(&raw.referenced), content }
}

fn entry(source: &str, key: Spanned<String>, value: Spanned<Raw>) -> Entry {
    Entry { place: place(&key.referenced), key: key.value, value: node(source, value) }
}

/// The text of an unquoted scalar, which the parser has already turned into a number or a truth value.
fn written(source: &str, location: &Location) -> Option<String> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    let text = source.get(start..start.checked_add(length)?)?.trim();
    (!text.is_empty() && !text.starts_with(['"', '\'', '!', '&', '|', '>'])).then(|| text.to_owned())
}

/// A value as the parser delivers it.
enum Raw {
    Empty,
    Text(String),
    /// A number or truth value, as text in the parser's own spelling.
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Empty)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        let Some(Node { content: Content::Map(entries), .. }) = parse(source, &mut Vec::new()) else {
            panic!("not a mapping: {source}")
        };
        let text = |entry: Entry| match entry.value.content {
            Content::Text(text) => text,
            other => format!("{other:?}"),
        };
        entries.into_iter().map(text).collect()
    }

    #[test]
    fn a_scalar_stays_as_it_was_written() {
        let source =
            "a: 1.10\nb: 0x10\nc: on\nd: 007\ne: \"q\"\nf: &z 5_0\ng: *z\nh: 5 # note\ni: .inf\nj: 12:30\nk: true\n";
        let expected = ["1.10", "0x10", "on", "007", "q", "5_0", "5_0", "5", ".inf", "12:30", "true"];
        assert_eq!(texts(source), expected);
        assert_eq!(texts("ä: 1.50\nb: !!int \"7\"\nc: ~\nd: '1.10'\n"), ["1.50", "7", "Empty", "1.10"]);
    }

    #[test]
    fn a_text_that_unfolds_to_very_much_is_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        for source in [bomb, "[".repeat(5_000), "a: ".repeat(5_000), "- ".repeat(5_000), "{a: ".repeat(5_000)] {
            let mut problems = Vec::new();
            assert_eq!(parse(&source, &mut problems), None);
            assert_eq!(problems.len(), 1);
        }
    }

    #[test]
    fn a_duplicate_key_is_a_problem_but_does_not_hide_the_rest() {
        let mut problems = Vec::new();
        assert!(parse("a: 1\nb: 2\na: 3\n", &mut problems).is_some());
        assert_eq!(problems[0].place, Place::Text { line: 3, column: 1, length: 1 });
    }
}
