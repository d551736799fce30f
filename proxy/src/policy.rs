//! What is decided of a call before it is sent and what is learned from how it ends: whether a neighbour that fails is
//! still called.

mod attempt;
mod breaker;
mod breakers;
mod classify;
mod concurrency;
mod ejection;
mod injection;
mod injections;
mod patience;
mod retry;
mod routes;
mod neighbour;
mod limit;
mod gradient;
mod times;
mod replay;
mod transition;

pub(crate) use attempt::Attempt;
pub(crate) use breaker::{Breaker, Counts, Forced, Refused, Stands, View};
pub(crate) use breakers::Breakers;
pub(crate) use concurrency::Concurrency;
pub(crate) use ejection::Noted;
pub(crate) use injection::{Abort, Aim, Injection};
pub(crate) use injections::Injections;
pub(crate) use limit::Limit;
pub(crate) use neighbour::{Counted, Neighbour};
pub(crate) use patience::{Patience, allowed};
pub use replay::{Begun, Replay};
pub(crate) use retry::{Came, decide, is_for};
pub(crate) use routes::{Routes, Way};
