//! How reports come in: from proxies over the network, or from trace files.

pub(crate) mod otlp;
pub(crate) mod recorder;
mod keeper;
pub(crate) mod collect;
pub mod ledger;
pub mod traces;
