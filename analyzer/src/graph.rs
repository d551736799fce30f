//! The coupling graph: who was called by whom, on which path, how often and how it went.
//!
//! A [`Graph`] merges reports; a [`Snapshot`] of it is immutable, resolved and sorted, so that everything derived from
//! it depends on what was reported and not on the order in which the reports came. Time is deliberately no dimension
//! here: a sliding window is another graph.

mod build;
mod tree;
mod merge;
mod snapshot;
mod table;
mod directory;
mod limits;
mod index;

pub use crate::packed::{CallTotals, HandlingTotals, Measures, Packed, ServerSide};
pub use index::{EdgeIx, EndpointIx, EntryIx, PairIx, PathIx, ServiceIx};
pub use limits::{GraphLimits, GraphLoss};
pub use merge::Graph;
pub use snapshot::{Call, ClientSide, Edge, Endpoint, Entry, Expected, OpaqueEdge, Pair, Path, Service, Snapshot};
