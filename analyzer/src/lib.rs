//! Couplet's analyzer: the coupling graph of a system, what is wrong with it, and the views of both.
//!
//! The life of a report: it is received, stored ([`history`]), merged into the [`graph`], and seen in the next
//! [`graph::Snapshot`]; meanwhile it becomes part of a slot ([`slots`]), of which sliding windows are made.
//! The life of a question: a snapshot is measured ([`coupling`]), judged ([`findings`]), and written down
//! ([`view::document`], [`export`]). Measures and findings are pure functions of a snapshot.

mod app;
pub mod export;
pub mod view;
pub mod receive;
pub mod history;
pub mod board;
pub mod slots;
mod gzip;
mod priority;
pub mod casebook;
pub mod judge;
pub mod registry;
pub mod breakers;
pub mod counters;
pub mod doctor;
pub mod blame;
pub mod whatif;
pub mod score;
pub mod findings;
pub mod coupling;
pub mod graph;
mod packed;
#[cfg(test)]
mod metamorphic;
#[cfg(test)]
mod traffic;

pub use app::{Running, StartError, start};
