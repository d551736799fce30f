//! What the proxy adds to the messages that it passes on.

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::overlay::keys;

/// What the proxy adds to the messages that it passes on, besides the context between proxies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Headers {
    /// Name this proxy in `Via` (RFC 9110, section 7.6.3), in requests and responses, as `couplet`.
    pub via: bool,

    /// Flag traces that begin at this proxy as sampled, as tracing libraries do with a request that brings no context.
    /// Applications that follow the flag would otherwise record none of them.
    pub sampled: bool,
}

keys!(Headers { via, sampled });

impl Default for Headers {
    fn default() -> Self {
        Self { via: false, sampled: true }
    }
}
