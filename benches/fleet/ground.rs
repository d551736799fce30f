//! Synthetic fleets of which the truth is known: systems with problems that were planted in them, the traffic that goes
//! through them, and how much of the truth an analyzer finds.

pub(crate) mod judge;
mod plant;
mod predict;
pub(crate) mod random;
mod shape;
mod system;
pub(crate) mod traffic;

pub(crate) use plant::fleet;
pub(crate) use predict::{availability, what_if};
