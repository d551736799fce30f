//! Couplet's data plane: the sidecar proxy.
//!
//! The life of a request: a connection enters at `listener`; `connection` asks `detect` what it speaks and `tls` who
//! speaks, and reads requests from it. `inbound` takes the calling context off a request and opens a handler,
//! `outbound` finds who is called and links the call to the handler that makes it. `forward` asks `upstream` for a
//! connection, sends, and hands the answer back, its body frame by frame. When the body ends, `record` folds the
//! handling or the call into its worker's window (`aggregate`); each window `ship` sends a report. The data plane never
//! waits for that side.
//!
//! Modules stand from the outermost to the innermost, in the order in which a request meets them; a module uses only
//! modules that stand below it.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod app;
mod admin;
mod listener;
mod connection;
mod capture;
mod detect;
mod inbound;
mod outbound;
mod opaque;
mod forward;
mod ship;
mod totals;
mod sidecar;
mod verdicts;
mod upstream;
mod registry;
mod client;
mod resolve;
mod record;
mod timing;
mod policy;
mod link;
pub mod attribution;
mod aggregate;
mod context;
mod mesh;
mod tls;
mod http;
mod http2;
mod metrics;
mod drain;
mod http1;
mod deadline;
mod stream;
mod alarm;
#[cfg(test)]
mod woke;
mod warnings;
mod original;
mod error;

pub use app::{Ask, Change, ReloadError, Reloaded, Running, StartError, start};
pub use policy::{Begun, Replay};
