//! By which headers outbound calls are linked to the inbound requests that make them.

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{names, overlay::keys};

/// By which headers outbound calls are linked to the inbound requests that make them. The usual ones are known:
/// `traceparent`, `b3` and `x-b3-*`, `x-request-id`, `uber-trace-id`, `x-datadog-*`, `x-cloud-trace-context`,
/// `x-amzn-trace-id`, `sw8`, `grpc-trace-bin`, `baggage`. Of every value only a hash is kept, with a key that changes with
/// each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Linking {
    /// Further headers that the application copies from an inbound request to the calls that it makes for it, such as
    /// `x-correlation-id`. They count at once; every inbound request must have its own value.
    #[garde(length(max = 16), inner(custom(names::header)))]
    #[schemars(schema_with = "names::headers_schema")]
    pub headers: Vec<String>,

    /// Headers that link nothing and are never learned, known ones included.
    #[garde(length(max = 64), inner(custom(names::header)))]
    #[schemars(schema_with = "names::headers_schema")]
    pub ignore: Vec<String>,

    /// Find such headers without being told: those whose values calls repeat of exactly one open request. Headers that
    /// hold secrets, such as `authorization` and `cookie`, are never looked at unless `headers` names them.
    pub learn: bool,
}

keys!(Linking { headers, ignore, learn });

impl Default for Linking {
    fn default() -> Self {
        Self { headers: Vec::new(), ignore: Vec::new(), learn: true }
    }
}
