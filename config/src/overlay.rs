//! Laying what somebody wrote over what is there: first a file over the defaults, then flags over the file.
//!
//! Every mistake becomes a problem and leaves the value as it was, so one pass finds them all.

use std::collections::HashSet;

use crate::{
    problem::{Place, Problem, push_step, quoted},
    suggest::did_you_mean,
    tree::{Content, Entry, Node},
};

/// A value over which a tree can be laid.
pub(crate) trait Overlay {
    /// Takes from `node` what it says; reports what is wrong and leaves the value in its place.
    fn overlay(&mut self, node: &Node, reader: &mut Reader);
}

/// A value that is written as one scalar.
pub(crate) trait Scalar: Sized {
    /// What is expected, as it stands in a sentence: "an address such as 127.0.0.1:8080".
    const EXPECTED: &'static str;
    /// Whether the word `off` stands for none where the value is optional.
    const CAN_BE_OFF: bool = false;
    /// Whether the text must never be shown.
    const SECRET: bool = false;

    /// Reads the text; the error is a whole message that does not repeat the key.
    fn read(text: &str) -> Result<Self, String>;
}

/// A value that can be an element of a list.
pub(crate) trait Element: Sized {
    /// The element that `node` describes; `None`, with a problem reported, when it describes none.
    fn element(node: &Node, reader: &mut Reader) -> Option<Self>;
}

/// Implements [`Overlay`] for a section: a mapping with exactly the given fields as keys.
macro_rules! keys {
    ($section:ident { $($field:ident),* $(,)? }) => {
        impl crate::overlay::Overlay for $section {
            fn overlay(&mut self, node: &crate::tree::Node, reader: &mut crate::overlay::Reader) {
                for entry in reader.entries(node) {
                    reader.enter(&entry.key);
                    match entry.key.as_str() {
                        $(stringify!($field) => self.$field.overlay(&entry.value, reader),)*
                        _ => reader.unknown_key(entry, &[$(stringify!($field)),*]),
                    }
                    reader.leave();
                }
            }
        }
    };
}
pub(crate) use keys;

/// Where in the tree the reading is, and what was wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    key: String,
    lengths: Vec<usize>,
    problems: Vec<Problem>,
    /// Problems found after [`MOST_PROBLEMS`] were kept.
    dropped: usize,
    wrong: HashSet<String>,
}

impl Reader {
    /// The keys of a mapping. Nothing at all is an empty mapping.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node) -> &'n [Entry] {
        match &node.content {
            Content::Map(entries) => entries,
            Content::Empty => &[],
            Content::Text(_) | Content::List(_) | Content::More(_) => {
                self.mismatch(node, "a mapping of keys to values");
                &[]
            }
        }
    }

    /// Goes into a key or, when it is written as `[0]`, into an element of a list.
    pub(crate) fn enter(&mut self, key: &str) {
        self.lengths.push(self.key.len());
        push_step(&mut self.key, key);
    }

    /// Goes back out of the key entered last.
    pub(crate) fn leave(&mut self) {
        self.key.truncate(self.lengths.pop().unwrap_or_default());
    }

    /// Reports what is wrong at the current key.
    pub(crate) fn report(&mut self, node: &Node, message: impl Into<String>) {
        self.push(Problem::new(node.place.clone(), self.key.as_str(), message));
    }

    /// Reports that the current key must be there. Nothing more is said about a key that is there but wrong.
    pub(crate) fn missing(&mut self, above: &Node) {
        if !self.is_wrong(&self.key) {
            self.report(above, "is required, but missing");
        }
    }

    /// Reports a problem found elsewhere.
    pub(crate) fn push(&mut self, problem: Problem) {
        self.wrong.insert(problem.key.clone());
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.dropped += 1;
        }
    }

    /// Whether the key, or one above it, has a problem already: then what depends on its value says nothing new.
    pub(crate) fn is_wrong(&self, key: &str) -> bool {
        let ends = key.match_indices(['.', '[']).map(|(at, _)| at).chain([key.len()]);
        ends.filter_map(|end| key.get(..end)).any(|above| self.wrong.contains(above))
    }

    /// The problems, and how many more there were.
    pub(crate) fn into_problems(self) -> (Vec<Problem>, usize) {
        (self.problems, self.dropped)
    }

    /// Reports that the shape of `node` is not the `expected` one.
    pub(crate) fn mismatch(&mut self, node: &Node, expected: &str) {
        let found = match &node.content {
            Content::Empty => "nothing".to_owned(),
            Content::Text(text) => quoted(text),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
            Content::More(_) => "one element of a list".to_owned(),
        };
        self.report(node, format!("expected {expected}, found {found}"));
    }

    /// Reports a key that does not exist, with the one that was probably meant.
    pub(crate) fn unknown_key(&mut self, entry: &Entry, known: &[&str]) {
        let suggestion = did_you_mean(&entry.key, known.iter().copied());
        let message = match suggestion {
            Some(meant) => format!("unknown key; did you mean `{meant}`?"),
            None if known.is_empty() => "unknown key; this section has no keys yet".to_owned(),
            None => format!("unknown key; known here: {}", known.join(", ")),
        };
        let secret = suggestion == Some("token");
        self.push(Problem { place: entry.place.clone(), key: self.key.clone(), message, secret });
    }

    /// Reads one scalar at the current key.
    fn scalar<S: Scalar>(&mut self, node: &Node) -> Option<S> {
        let Content::Text(text) = &node.content else {
            self.mismatch(node, S::EXPECTED);
            return None;
        };
        match S::read(text) {
            Ok(value) => Some(value),
            Err(message) => {
                // A URL may carry a password before its `@`.
                let secret = S::SECRET || text.contains('@');
                self.push(Problem { place: node.place.clone(), key: self.key.clone(), message, secret });
                None
            }
        }
    }
}

impl<S: Scalar> Overlay for S {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        if node.content != Content::Empty
            && let Some(value) = reader.scalar(node)
        {
            *self = value;
        }
    }
}

impl<S: Scalar> Overlay for Option<S> {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        match &node.content {
            Content::Empty => {}
            Content::Text(text) if S::CAN_BE_OFF && text == crate::units::OFF => *self = None,
            _ => {
                if let Some(value) = reader.scalar(node) {
                    *self = Some(value);
                }
            }
        }
    }
}

impl<S: Scalar> Element for S {
    fn element(node: &Node, reader: &mut Reader) -> Option<Self> {
        reader.scalar(node)
    }
}

/// A list replaces the list that is there; a flag can also add one element.
impl<E: Element> Overlay for Vec<E> {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        match &node.content {
            Content::Empty => {}
            Content::List(items) => {
                self.clear();
                for (index, item) in items.iter().enumerate() {
                    reader.enter(&format!("[{index}]"));
                    self.extend(E::element(item, reader));
                    reader.leave();
                }
            }
            Content::More(item) => {
                reader.enter(&format!("[{}]", self.len()));
                self.extend(E::element(item, reader));
                reader.leave();
            }
            Content::Text(_) | Content::Map(_) => reader.mismatch(node, "a list"),
        }
    }
}

/// Where `key` was written in `layer`: its own place, or that of the nearest key above it.
pub(crate) fn place_of(layer: &Node, key: &str) -> Option<(usize, Place)> {
    let mut node = layer;
    let mut depth = 0;
    for step in key.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let next = match &node.content {
            Content::Map(entries) => entries.iter().rev().find(|entry| entry.key == step).map(|entry| &entry.value),
            Content::List(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            Content::Empty | Content::Text(_) | Content::More(_) => None,
        };
        let Some(next) = next else { break };
        node = next;
        depth += 1;
    }
    (depth > 0).then(|| (depth, node.place.clone()))
}

/// Most problems that are kept and shown.
const MOST_PROBLEMS: usize = 100;
