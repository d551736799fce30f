//! A document in other notations: for terminals, for Graphviz, for Markdown. Pure functions of a
//! [`Document`](crate::view::document::Document), so they serve live systems and recorded ones alike.
//!
//! Names come from strangers; each notation escapes them by its own rules.

mod text;
mod dot;
mod mermaid;
mod layers;
mod plain;

pub use dot::dot;
pub use mermaid::mermaid;
pub use plain::name as plain_name;
pub use text::text;

#[cfg(test)]
mod tests;
