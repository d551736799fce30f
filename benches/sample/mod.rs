//! What is recorded in benches: a handling with one call.

use std::sync::Arc;

use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Callee, PathDefinition};
use couplet_telemetry::window::{Call, CalleeUse, Handling, WindowLimits};

pub(crate) const LIMITS: WindowLimits = WindowLimits { paths: 2_048, callees: 2_048 };

pub(crate) fn path(n: usize) -> Arc<PathDefinition> {
    Arc::new(PathDefinition::root("shop", &format!("GET /orders/{n}")))
}

pub(crate) fn callee(n: usize) -> Arc<Callee> {
    Arc::new(Callee::new("stock", format!("GET /items/{n}")))
}

pub(crate) fn handling(uses: &[CalleeUse]) -> Handling<'_> {
    Handling {
        outcome: Outcome::Ok,
        duration: 1_234_567,
        blocked: 600_000,
        busy: 700_000,
        asynchronous: 0,
        calls: 1,
        callees: 1,
        depth_below: 2,
        calls_below: 3,
        services_below: 2,
        below: Evidence::Exact,
        retries: 0,
        origin: None,
        trace: None,
        uses,
    }
}

pub(crate) const CALL: Call = Call {
    outcome: Outcome::Ok,
    duration: 654_321,
    first_byte: Some(600_000),
    blocking: true,
    evidence: Evidence::Exact,
    attempts: 1,
    request_bytes: 0,
    response_bytes: 512,
};

/// That the one call of a handling was to `callee`.
pub(crate) fn used(callee: &Arc<Callee>) -> [CalleeUse; 1] {
    [CalleeUse { callee: Arc::clone(callee), calls: 1, failed: false, blocked: 600_000 }]
}
