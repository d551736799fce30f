//! Measures of coupling: pure functions of a snapshot.
//!
//! A measure is defined where it is computed; the sources of definitions are named there.

pub mod cycles;
pub mod chain;
pub mod digraph;
pub mod blocking;
pub mod fan_out;
