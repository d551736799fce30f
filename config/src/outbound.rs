//! A static outbound listener: what arrives there goes to one upstream.

use std::net::SocketAddr;

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    destinations::{Destination, Destinations},
    names,
    overlay::{Element, Overlay, Reader, Scalar, keys},
    problem::quoted,
    tls::UpstreamTls,
    tree::{Content, Node},
    units,
};

/// One static outbound listener. In a file it is either a mapping or the text `NAME@LISTEN=TARGET`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, transform = units::or_text)]
#[garde(allow_unvalidated)]
pub struct Outbound {
    /// Name of the upstream service: 1 to 63 letters, digits, dots, dashes or underscores. Several listeners may share
    /// a name.
    #[garde(custom(names::service))]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$|\$\{"))]
    pub name: String,

    /// Where the application sends its requests for this upstream.
    #[schemars(schema_with = "units::address_schema")]
    pub listen: SocketAddr,

    /// Where they are delivered: `host:port`, where the host is an IP address or a name, or `srv:_http._tcp.name`.
    /// Several of them, with commas between or as a list, share the requests.
    pub target: Destinations,

    /// How the destinations are spoken to: `off` (in the clear), `mesh` or `on`, or a mapping that says more.
    pub tls: Option<UpstreamTls>,
}

impl Outbound {
    /// A listener at `listen` that delivers to `target`, in the clear.
    pub fn new(name: impl Into<String>, listen: SocketAddr, target: Destinations) -> Self {
        Self { name: name.into(), listen, target, tls: None }
    }

    /// The name that the destination's certificate must have: what is configured, else the one host of all targets.
    pub fn server_name(&self) -> Option<&str> {
        if let Some(name) = self.tls.as_ref().and_then(|tls| tls.server_name.as_deref()) {
            return Some(name);
        }
        let mut hosts = self.target.iter().map(|destination| match destination {
            Destination::Target(target) => Some(target.host.trim_end_matches('.')),
            Destination::Service(_) => None,
        });
        let first = hosts.next()??;
        hosts.all(|host| host == Some(first)).then_some(first)
    }

    /// Reads the short form `NAME@LISTEN=TARGET`, for example `inventory@127.0.0.1:9001=127.0.0.1:16406`.
    ///
    /// # Errors
    /// A message that says which part is wrong and shows the expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |message: String| Err(format!("{message}; expected {FORM}"));
        let Some((name, rest)) = text.split_once('@') else {
            return refuse(format!("{} has no `@` after the name", quoted(text)));
        };
        let Some((listen, target)) = rest.split_once('=') else {
            return refuse(format!("{} has no `=` before the target", quoted(text)));
        };
        if let Err(error) = names::service(name, &()) {
            return refuse(format!("in the name {}: {error}", quoted(name)));
        }
        let listen = match SocketAddr::read(listen) {
            Ok(listen) => listen,
            Err(message) => return refuse(format!("where to listen: {message}")),
        };
        match Destinations::parse(target) {
            Ok(target) => Ok(Self::new(name, listen, target)),
            Err(message) => refuse(format!("the target: {message}")),
        }
    }

    /// What stands for an entry until its keys are read. Port 0 collides with nothing.
    fn blank() -> Self {
        let listen = SocketAddr::from(([0, 0, 0, 0], 0));
        Self::new(String::new(), listen, Destinations::default())
    }
}

const FORM: &str = "NAME@LISTEN=TARGET such as inventory@127.0.0.1:9001=127.0.0.1:16406";

/// An entry with mistakes stays in the list, so that the numbers of the entries after it stay right.
impl Element for Outbound {
    fn element(node: &Node, reader: &mut Reader) -> Option<Self> {
        let mut outbound = Self::blank();
        if let Content::Text(text) = &node.content {
            match Self::parse(text) {
                Ok(parsed) => outbound = parsed,
                Err(message) => reader.report(node, message),
            }
            return Some(outbound);
        }
        if !matches!(node.content, Content::Map(_)) {
            reader.mismatch(node, "a mapping with name, listen and target");
            return Some(outbound);
        }
        outbound.overlay(node, reader);
        for key in ["name", "listen", "target"] {
            let given = |content: &Content| *content != Content::Empty;
            if !reader.entries(node).iter().any(|entry| entry.key == key && given(&entry.value.content)) {
                reader.enter(key);
                reader.missing(node);
                reader.leave();
            }
        }
        Some(outbound)
    }
}

keys!(Outbound { name, listen, target, tls });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_read() {
        let outbound = Outbound::parse("inventory@127.0.0.1:9001=Inventory.shop:16406").unwrap();
        assert_eq!(outbound.name, "inventory");
        assert_eq!(outbound.listen.to_string(), "127.0.0.1:9001");
        assert_eq!(outbound.target.to_string(), "inventory.shop:16406");
    }

    #[test]
    fn a_wrong_short_form_is_told_what_is_wrong_and_what_is_expected() {
        for (text, reason) in [
            ("inventory", "has no `@`"),
            ("inventory@127.0.0.1:9001", "has no `=`"),
            ("@127.0.0.1:9001=a:1", "cannot be empty"),
            ("in ventory@127.0.0.1:9001=a:1", "cannot contain ' '"),
            ("inventory@9001=a:1", "write 127.0.0.1:9001"),
            ("inventory@127.0.0.1:9001=a", "a port is missing"),
            ("inventory@127.0.0.1:9001=http://a:1", "leave out the scheme"),
        ] {
            let message = Outbound::parse(text).unwrap_err();
            assert!(message.contains(reason) && message.contains("NAME@LISTEN=TARGET"), "{text}: {message}");
        }
    }
}
