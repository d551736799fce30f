//! Slots: what was reported in one stretch of time, folded together so that a day of it fits in bounded memory.
//!
//! The life of a slot: reports gather in the [`OpenSlot`]. After ten seconds it is sealed: one [`Rollup`] per service,
//! which is again a report, only of all replicas together. Six of these are folded into one slot of a minute, sixty
//! minutes into one of an hour; merging is exact, so a fold says the same as its parts. The [`Shelf`] keeps in memory
//! what the sliding windows need: `cover` picks the slots of one.
//!
//! Slots go by when a report arrived, on the analyzer's clock: the clocks of proxies differ, and one may be an hour off.

mod shelf;
mod open;
mod report;
mod rollup;
mod gathered;
pub(crate) mod rows;
mod sliding;
mod tier;

pub use open::OpenSlot;
pub use report::PackedReport;
pub use rollup::{Rollup, archive, fetched, fold};
pub use shelf::{Due, Shelf, Slot};
pub use sliding::SlidingWindow;
pub use tier::Tier;
