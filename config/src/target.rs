//! A host and a port.

use std::{borrow::Cow, fmt, net::SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{overlay::Scalar, problem::quoted};

/// A host and a port, not yet resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// An IP address (IPv6 without brackets) or a host name, in lower case.
    pub host: String,
    /// The port, 1 to 65535.
    pub port: u16,
}

/// `host:port`, with brackets around an IPv6 address.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Target {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["127.0.0.1:8080", "inventory:8080"] })
    }
}

impl Scalar for Target {
    const EXPECTED: &'static str = "host:port, such as inventory:8080";

    fn read(text: &str) -> Result<Self, String> {
        let refuse = |reason: &str| Err(format!("{} is not host:port: {reason}", quoted(text)));
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => refuse("the port is 1 to 65535"),
                port => Ok(Self { host: address.ip().to_string(), port }),
            };
        }
        if text.contains("://") {
            return refuse("leave out the scheme");
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return refuse("a port is missing, as in inventory:8080");
        };
        if host.contains(':') {
            return refuse("an IPv6 address is written [::1]:8080");
        }
        if !host_name(host) {
            return refuse("the host is neither a name nor an IP address");
        }
        match port.parse() {
            Ok(port @ 1..) if !text.contains('+') => Ok(Self { host: host.to_ascii_lowercase(), port }),
            _ => refuse("the port is 1 to 65535"),
        }
    }
}

/// Whether this can be the name of a host. Underscores are none of DNS's, but in use.
pub(crate) fn host_name(host: &str) -> bool {
    let label = |label: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=63).contains(&label.len()) && label.chars().all(allowed)
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for good in ["a:1", "127.0.0.1:65535", "[::1]:80", "my_svc.ns.svc.cluster.local.:80"] {
            assert_eq!(Target::read(good).unwrap().to_string(), good);
        }
        for bad in
            ["", ":", "a", "a:", ":1", "a:0", "a:65536", "a:+1", "::1:80", "a b:1", "a..b:1", "127.0.0.1:0", "[x]:1"]
        {
            assert!(Target::read(bad).is_err(), "{bad}");
        }
    }
}
