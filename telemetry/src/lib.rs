//! The words that Couplet's proxy and analyzer share. No network, no clock, no runtime.
//!
//! A proxy folds every finished [`window::Handling`] and [`window::Call`] into a [`window::Window`]; when the window
//! closes, its contents become a [`report::Report`], which travels as OTLP ([`otlp`]). The analyzer reads the same
//! report back. Trace files take the same way: an importer folds recorded handlings into the same window, so live and
//! recorded traffic are judged by the same numbers.

pub mod exposition;
pub mod otlp;
pub mod window;
pub mod report;
pub mod opaque;
pub mod propagation;
pub mod breaker;
pub mod expected;
pub mod loss;
pub mod example;
pub mod path;
pub mod endpoint;
pub mod histogram;
pub mod counts;
pub mod outcome;
pub mod names;
