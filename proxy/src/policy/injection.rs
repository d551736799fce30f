//! One fault that somebody injects on purpose: which calls it meets, what it does to them, and until when.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::metrics::Counter;

/// What is wanted of a fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aim {
    /// The destination.
    pub(crate) to: String,
    /// Calls of other methods are spared.
    pub(crate) method: Option<Method>,
    /// Calls to other paths are spared.
    pub(crate) path: Option<String>,
    /// Of the calls that are left, above 0 and up to 100.
    pub(crate) percent: f64,
    /// They are held up for so long.
    pub(crate) delay: Option<Duration>,
    /// They are answered so, and not sent. Calls of gRPC where only this is said get what it means there.
    pub(crate) status: Option<StatusCode>,
    /// Calls of gRPC are answered so, and not sent. Where only this is said, other calls are spared.
    pub(crate) grpc: Option<u8>,
    pub(crate) by: String,
    pub(crate) why: String,
}

/// A fault in force.
pub(crate) struct Injection {
    /// Counted from 1.
    pub(crate) id: u64,
    pub(crate) aim: Aim,
    pub(crate) until: Instant,
    pub(crate) delayed: Counter,
    pub(crate) aborted: Counter,
}

/// A call, as a fault looks at it.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) to: &'a str,
    pub(super) method: &'a Method,
    /// Without the query.
    pub(super) path: &'a str,
    pub(super) grpc: bool,
}

/// How an aborted call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    Http(StatusCode),
    Grpc(u8),
}

impl Injection {
    pub(super) fn new(id: u64, aim: Aim, until: Instant) -> Arc<Self> {
        Arc::new(Self { id, aim, until, delayed: Counter::default(), aborted: Counter::default() })
    }

    /// Whether it may meet such a call.
    pub(super) fn is_for(&self, target: Target<'_>, now: Instant) -> bool {
        let Aim { to, method, path, .. } = &self.aim;
        let does_something = self.aim.delay.is_some() || self.abort(target.grpc).is_some();
        now < self.until
            && *to == target.to
            && method.as_ref().is_none_or(|method| method == target.method)
            && path.as_ref().is_none_or(|path| target.path.starts_with(path.as_str()))
            && does_something
    }

    /// How it answers a call, if it does.
    pub(super) fn abort(&self, grpc: bool) -> Option<Abort> {
        match grpc {
            true => self.aim.grpc.or_else(|| self.aim.status.map(code_of)).map(Abort::Grpc),
            false => self.aim.status.map(Abort::Http),
        }
    }
}

/// The code that stands for an HTTP status where gRPC is spoken:
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
fn code_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
