//! Raw bytes against a proxy with a raw origin behind it: what passes, in either direction, is what everybody reads
//! alike; and who sends slowly is let go. Prints figures, and holds them to their bars.
//!
//! Beside the cases made here, those of a folder of messages that others wrote are thrown, where it is present.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says why"
)]

mod corpus;
mod cases;
mod harness;
mod judge;
mod mutants;
mod requests;
mod responses;
mod slow;
