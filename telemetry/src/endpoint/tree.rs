//! The tree of segments behind learned templates: below each prefix, the literal segments seen there and, once there
//! were too many, one variable segment in which they are merged.

use super::is_variable;

/// Longest segment that is told apart from others, in bytes.
const MAX_SEGMENT_BYTES: usize = 64;

/// Examples that are kept of the segments that became variable.
const EXAMPLES: usize = 3;

/// One prefix.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The literal segments that follow, sorted.
    literals: Vec<(Box<str>, Node)>,
    /// What follows after a variable segment, whether learned or seen to be an id by its looks.
    variable: Option<Box<Node>>,
    /// Set once the segment that follows is always variable.
    learned: Option<Box<Position>>,
    used: u32,
}

/// A position that was learned to be variable.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// Some of the literal segments that were merged, the first by name.
    pub(super) examples: Vec<Box<str>>,
    /// Requests that the template stands for which the rules alone would have kept apart.
    pub(super) requests: u64,
    /// Whether the callee's proxy said so.
    pub(super) told: bool,
}

/// The bounds and counts of one tree.
#[derive(Debug)]
pub(super) struct Budget {
    /// Literal segments that may follow a prefix.
    pub(super) max_values: usize,
    pub(super) max_nodes: usize,
    pub(super) nodes: usize,
    /// Positions that were learned so far.
    pub(super) learned: u64,
    /// Segments for which there was no room.
    pub(super) refused: u64,
}

impl Budget {
    /// Room for one more node, if there is; a refusal is counted.
    fn admit(&mut self) -> bool {
        let room = self.nodes < self.max_nodes;
        if room {
            self.nodes += 1;
        } else {
            self.refused += 1;
        }
        room
    }
}

impl Node {
    /// One step down without making anything: whether the segment is variable here, and what follows it.
    pub(super) fn step(&mut self, segment: &str, looks_variable: bool, age: u32) -> (bool, Option<&mut Node>) {
        self.used = age;
        if let Some(position) = &mut self.learned
            && !looks_variable
        {
            position.requests = position.requests.saturating_add(1);
        }
        if looks_variable || self.learned.is_some() {
            return (true, self.variable.as_deref_mut());
        }
        (false, self.literal_mut(segment))
    }

    /// Whether a literal segment here is still one.
    pub(super) fn keeps_literals(&self) -> bool {
        self.learned.is_none()
    }

    /// What follows this segment, without a trace that somebody looked.
    pub(super) fn peek(&self, segment: &str) -> Option<&Node> {
        if is_variable(segment) {
            return self.variable.as_deref();
        }
        self.place(segment).ok().and_then(|at| self.literals.get(at)).map(|(_, node)| node)
    }

    /// One step down, made where it is missing; `None` where there is no room. A literal segment beyond the limit makes
    /// the position variable.
    pub(super) fn grow(&mut self, segment: &str, age: u32, budget: &mut Budget) -> Option<&mut Node> {
        self.used = age;
        if is_variable(segment) || self.learned.is_some() {
            return self.variable_mut(age, budget);
        }
        if self.literals.len() == budget.max_values && self.place(segment).is_err() {
            self.insert(segment, age, budget)?;
            self.merge(age, false, budget);
            return self.variable.as_deref_mut();
        }
        self.insert(segment, age, budget)
    }

    /// The same without a limit of values: for what can only be one of few.
    pub(super) fn insert(&mut self, segment: &str, age: u32, budget: &mut Budget) -> Option<&mut Node> {
        self.used = age;
        let at = match self.place(segment) {
            Ok(at) => at,
            Err(at) => {
                if !budget.admit() {
                    return None;
                }
                self.literals.insert(at, (cut(segment).into(), Node { used: age, ..Node::default() }));
                at
            }
        };
        self.literals.get_mut(at).map(|(_, node)| node)
    }

    /// Makes the position variable: what follows the literal segments is merged, exactly as if they had always been
    /// one.
    pub(super) fn merge(&mut self, age: u32, told: bool, budget: &mut Budget) {
        if self.learned.is_some() {
            return;
        }
        budget.learned += 1;
        let literals = std::mem::take(&mut self.literals);
        let examples = literals.iter().take(EXAMPLES).map(|(text, _)| text.clone()).collect();
        self.learned = Some(Box::new(Position { examples, requests: 0, told }));
        for (_, node) in literals {
            match &mut self.variable {
                Some(variable) => {
                    budget.nodes -= 1;
                    variable.absorb(node, age, budget);
                }
                // The first of them becomes the variable one: no node more than before.
                empty => *empty = Some(Box::new(node)),
            }
        }
    }

    /// Takes over all that follows another prefix, whose own node is gone already.
    fn absorb(&mut self, other: Node, age: u32, budget: &mut Budget) {
        self.used = self.used.max(other.used);
        if let Some(theirs) = other.learned {
            self.merge(age, theirs.told, budget);
            if let Some(ours) = &mut self.learned {
                ours.requests = ours.requests.saturating_add(theirs.requests);
                ours.examples.extend(theirs.examples);
                ours.examples.sort_unstable();
                ours.examples.dedup();
                ours.examples.truncate(EXAMPLES);
            }
        }
        if let Some(theirs) = other.variable {
            self.absorb_variable(*theirs, age, budget);
        }
        for (text, node) in other.literals {
            if self.learned.is_some() {
                self.absorb_variable(node, age, budget);
                continue;
            }
            match self.place(&text) {
                Ok(at) => {
                    budget.nodes -= 1;
                    if let Some((_, known)) = self.literals.get_mut(at) {
                        known.absorb(node, age, budget);
                    }
                }
                Err(at) => {
                    self.literals.insert(at, (text, node));
                    if self.literals.len() > budget.max_values {
                        self.merge(age, false, budget);
                    }
                }
            }
        }
    }

    fn absorb_variable(&mut self, node: Node, age: u32, budget: &mut Budget) {
        match &mut self.variable {
            Some(variable) => {
                budget.nodes -= 1;
                variable.absorb(node, age, budget);
            }
            empty => *empty = Some(Box::new(node)),
        }
    }

    /// Forgets what was last used before `literals`, learned positions only before `learned`.
    pub(super) fn forget(&mut self, literals: u32, learned: u32, budget: &mut Budget) {
        self.literals.retain_mut(|(_, node)| {
            node.forget(literals, learned, budget);
            keep(node, literals, budget)
        });
        if let Some(variable) = &mut self.variable {
            variable.forget(literals, learned, budget);
        }
        // What follows a learned position lives as long as the position.
        let since = if self.learned.is_some() { learned } else { literals };
        if self.learned.is_some() && self.used < since {
            self.learned = None;
        }
        if self.variable.as_mut().is_some_and(|variable| !keep(variable, since, budget)) {
            self.variable = None;
        }
    }

    /// Whether nothing follows and nothing was learned.
    pub(super) fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.variable.is_none() && self.learned.is_none()
    }

    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Visits every learned position with the template that ends in it.
    pub(super) fn visit(&self, prefix: &mut String, each: &mut impl FnMut(&str, &Position)) {
        let length = prefix.len();
        // The first step is the method, the others are segments.
        let separator = if prefix.is_empty() {
            ""
        } else if prefix.contains(' ') {
            "/"
        } else {
            " /"
        };
        for (text, node) in &self.literals {
            prefix.push_str(separator);
            prefix.push_str(text);
            node.visit(prefix, each);
            prefix.truncate(length);
        }
        prefix.push_str(separator);
        prefix.push_str(super::VARIABLE);
        if let Some(position) = &self.learned {
            each(prefix, position);
        }
        if let Some(variable) = &self.variable {
            variable.visit(prefix, each);
        }
        prefix.truncate(length);
    }

    fn variable_mut(&mut self, age: u32, budget: &mut Budget) -> Option<&mut Node> {
        if self.variable.is_none() {
            if !budget.admit() {
                return None;
            }
            self.variable = Some(Box::new(Node { used: age, ..Node::default() }));
        }
        self.variable.as_deref_mut()
    }

    fn literal_mut(&mut self, segment: &str) -> Option<&mut Node> {
        let at = self.place(segment).ok()?;
        self.literals.get_mut(at).map(|(_, node)| node)
    }

    fn place(&self, segment: &str) -> Result<usize, usize> {
        let segment = cut(segment);
        self.literals.binary_search_by(|(text, _)| text.as_ref().cmp(segment))
    }
}

/// Whether a node stays; one that goes is given back to the budget. Only empty ones go.
fn keep(node: &Node, since: u32, budget: &mut Budget) -> bool {
    let keep = node.used() >= since || !node.is_empty();
    if !keep {
        budget.nodes -= 1;
    }
    keep
}

fn cut(segment: &str) -> &str {
    segment.get(..segment.floor_char_boundary(MAX_SEGMENT_BYTES)).unwrap_or(segment)
}

#[cfg(test)]
impl Node {
    /// Nodes from here on, this one included.
    pub(super) fn count(&self) -> usize {
        let literals: usize = self.literals.iter().map(|(_, node)| node.count()).sum();
        1 + literals + self.variable.as_ref().map_or(0, |node| node.count())
    }
}
