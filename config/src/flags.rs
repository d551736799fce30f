//! What the command line says, in the same tree form as a file, so that both are read by the same code.

use std::{fmt, sync::Arc};

use crate::{
    problem::{Place, Problem, printable, quoted},
    tree::{Content, Entry, Node, parse},
};

/// One thing that the command line (or the environment) says about one key.
#[derive(Clone, PartialEq, Eq)]
pub struct Flag {
    name: String,
    key: String,
    value: String,
    adds: bool,
}

/// The value may be a token, so it is not shown.
impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flag").field("name", &self.name).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Flag {
    /// The flag `name` (as shown in errors: `--app`) gives the key at the path `key` (`timeouts.connect`) the value
    /// `value`, written as it would be in a file.
    pub fn set(name: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), key: key.into(), value: value.into(), adds: false }
    }

    /// As [`Flag::set`], but adds `value` to the list at `key`.
    pub fn add(name: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { adds: true, ..Self::set(name, key, value) }
    }

    /// The tree that says the same.
    pub(crate) fn tree(&self) -> Node {
        let place = Place::Flag(Arc::from(self.name.as_str()));
        let value = Node { place: place.clone(), content: Content::Text(self.value.clone()) };
        let content = if self.adds { Content::More(Box::new(value)) } else { value.content };
        nest(&self.key, content, &place)
    }
}

/// Reads `path=value` as given to `--set`: the path is keys joined by dots; a value that begins with `[` or `{` is
/// YAML, any other is the text itself. The problems name the override, but never its value.
pub(crate) fn parse_set(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key.trim(), Some(value)));
    // Without `=` the text may be a key and its value, separated by a space.
    let shown: String = key.chars().take_while(|c| !c.is_whitespace()).take(100).map(printable).collect();
    let place = Place::Flag(Arc::from(format!("--set {shown}")));
    let mut refuse = |message: String| {
        problems.push(Problem { place: place.clone(), key: String::new(), message, secret: true });
        None
    };
    let Some(value) = value else {
        return refuse("expected a key and its value: --set timeouts.connect=2s".to_owned());
    };
    let steps = key.split('.').count();
    if key.is_empty() || steps > DEEPEST || key.split('.').any(|step| step.is_empty() || step.contains(['[', ']'])) {
        return refuse(format!("{} is not a path of keys: write it like timeouts.connect", quoted(key)));
    }
    if !value.starts_with(['[', '{']) {
        return Some(nest(key, Content::Text(value.to_owned()), &place));
    }
    let mut mistakes = Vec::new();
    let parsed = parse(value, &mut mistakes);
    if let Some(mistake) = mistakes.into_iter().next() {
        return refuse(format!("the value is not valid YAML: {}", mistake.message));
    }
    let mut node = parsed?;
    relocate(&mut node, &place);
    Some(nest(key, node.content, &place))
}

/// Wraps `content` into one mapping per step of the path `key`.
fn nest(key: &str, content: Content, place: &Place) -> Node {
    let value = Node { place: place.clone(), content };
    key.rsplit('.').fold(value, |value, step| {
        let entry = Entry { key: step.to_owned(), place: place.clone(), value };
        Node { place: place.clone(), content: Content::Map(vec![entry]) }
    })
}

/// Says of the whole tree that it was written at `place`.
fn relocate(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.content {
        Content::List(items) => items.iter_mut().for_each(|item| relocate(item, place)),
        Content::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.place = place.clone();
            relocate(&mut entry.value, place);
        }),
        Content::More(item) => relocate(item, place),
        Content::Empty | Content::Text(_) => {}
    }
}

/// Most keys in a path. No configuration is nearly as deep.
const DEEPEST: usize = 16;
