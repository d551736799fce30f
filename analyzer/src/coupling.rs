//! Measures of coupling: pure functions of a snapshot.
//!
//! A measure is defined where it is computed; the sources of definitions are named there.

pub mod cycles;
pub mod composed;
pub mod chain;
pub mod availability;
pub mod latency;
pub mod blast;
pub mod hub;
pub mod temporal;
pub mod roles;
pub mod flow;
pub mod digraph;
pub mod propagation;
pub mod blocking;
pub mod fan_out;
pub mod interval;
