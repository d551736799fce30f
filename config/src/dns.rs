//! How names become addresses.

use std::net::SocketAddr;

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{overlay::keys, units};

/// How the names of upstreams become addresses. The hosts file of the system, as it is at the start, is asked first in
/// any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate, Default)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Dns {
    /// Name servers, such as `10.0.0.10:53`. With none given, name servers and search domains are those of the system
    /// (`/etc/resolv.conf`).
    #[garde(length(max = 16))]
    #[schemars(schema_with = "units::addresses_schema")]
    pub servers: Vec<SocketAddr>,
}

keys!(Dns { servers });
