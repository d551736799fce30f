//! Where an outbound listener delivers: addresses, names, and names of services with `SRV` records.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{
    overlay::{Overlay, Reader, Scalar},
    problem::quoted,
    target::{Target, host_name},
    tree::{Content, Node},
};

/// Most destinations of one upstream.
const MOST: usize = 256;

/// Where requests for one upstream are delivered: one destination, or several among which they are balanced. Written
/// as one text with commas between, or as a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Destinations(Vec<Destination>);

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// `host:port`; where the host is a name, every address it has.
    Target(Target),
    /// `srv:_http._tcp.name`: hosts, ports, priorities and weights come from the `SRV` records of that name, which
    /// stands here in lower case and without `srv:`.
    Service(String),
}

impl Destinations {
    /// The destinations, in the order in which they were written; never none in a configuration that was loaded.
    pub fn iter(&self) -> std::slice::Iter<'_, Destination> {
        self.0.iter()
    }

    /// Reads `a:1,b:2`.
    ///
    /// # Errors
    /// A message that says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list: Vec<_> = text.split(',').map(|part| Destination::read(part.trim())).collect::<Result<_, _>>()?;
        if list.len() > MOST { Err(too_many()) } else { Ok(Self(list)) }
    }
}

impl<'a> IntoIterator for &'a Destinations {
    type Item = &'a Destination;
    type IntoIter = std::slice::Iter<'a, Destination>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Target> for Destinations {
    fn from(target: Target) -> Self {
        Self(vec![Destination::Target(target)])
    }
}

impl FromIterator<Destination> for Destinations {
    fn from_iter<I: IntoIterator<Item = Destination>>(destinations: I) -> Self {
        Self(destinations.into_iter().collect())
    }
}

impl fmt::Display for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, destination) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{destination}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Target(target) => target.fmt(f),
            Destination::Service(name) => write!(f, "{SRV}{name}"),
        }
    }
}

const SRV: &str = "srv:";

impl Serialize for Destinations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.collect_str(one),
            several => serializer.collect_seq(several.iter().map(ToString::to_string)),
        }
    }
}

impl JsonSchema for Destinations {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Destinations".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let examples = ["127.0.0.1:8080", "inventory:8080", "10.0.3.7:8080,10.0.3.8:8080", "srv:_http._tcp.inventory"];
        let item = json_schema!({ "type": "string", "examples": examples });
        json_schema!({ "anyOf": [item, { "type": "array", "minItems": 1, "maxItems": MOST, "items": item }] })
    }
}

impl Scalar for Destination {
    const EXPECTED: &'static str = "host:port, such as inventory:8080";

    fn read(text: &str) -> Result<Self, String> {
        let Some(name) = text.strip_prefix(SRV) else {
            return Target::read(text).map(Destination::Target);
        };
        let labels = name.split('.').filter(|label| label.starts_with('_')).count();
        if host_name(name) && labels >= 2 {
            Ok(Destination::Service(name.to_ascii_lowercase()))
        } else {
            Err(format!("{} is not the name of a service, such as srv:_http._tcp.inventory.shop", quoted(text)))
        }
    }
}

impl Overlay for Destinations {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        match &node.content {
            Content::Text(text) => match Self::parse(text) {
                Ok(destinations) => *self = destinations,
                Err(message) => reader.report(node, message),
            },
            Content::List(items) if items.is_empty() => reader.report(node, "names no destination"),
            Content::List(items) if items.len() > MOST => reader.report(node, too_many()),
            Content::Map(_) => reader.mismatch(node, "host:port, such as inventory:8080, or a list of them"),
            _ => self.0.overlay(node, reader),
        }
    }
}

fn too_many() -> String {
    format!("names more than {MOST} destinations")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_destinations_stand_with_commas_between() {
        for text in ["a:1", "a:1,127.0.0.1:2,[::1]:3", "srv:_http._tcp.stock.shop,a:1"] {
            assert_eq!(Destinations::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Destinations::parse("a:1, b:2").unwrap().to_string(), "a:1,b:2");
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in ["", "a:1,", ",a:1", "a:1,b", "srv:", "srv:stock", "srv:_http.stock", "srv:_http._tcp.a b"] {
            assert!(Destinations::parse(text).is_err(), "{text}");
        }
    }
}
