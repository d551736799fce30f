//! What is known of single services: a mapping from names and patterns.

use std::borrow::Cow;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::NamePattern;
use crate::{
    overlay::{Overlay, Reader, Scalar, keys},
    problem::{Place, quoted},
    tree::Node,
};

/// Services in one file at most.
const MOST: usize = 100_000;

/// What is known of services: plain names first, then patterns in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Services(Vec<ServiceSpec>);

/// What is known of one service, or of all that fit a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate, Default)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct ServiceSpec {
    /// The name or pattern: the key of the mapping.
    #[serde(skip)]
    #[schemars(skip)]
    pub name: NamePattern,
    /// The line of the file, from 1.
    #[serde(skip)]
    #[schemars(skip)]
    pub line: Option<usize>,
    /// Who looks after it: a team, a channel, an address.
    #[garde(inner(length(min = 1, max = 255)))]
    pub owner: Option<String>,
    /// What part it plays: `service`, `gateway`, `bff` or `store`. Gateways and BFFs may be hubs and may wait.
    pub role: Option<ServiceRole>,
    /// The layer it belongs to: one of `layers`.
    pub layer: Option<String>,
}

keys!(ServiceSpec { owner, role, layer });

impl Services {
    /// All of them: plain names, then patterns.
    pub fn iter(&self) -> std::slice::Iter<'_, ServiceSpec> {
        self.0.iter()
    }

    /// What is known of the service with this name.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<ServiceSpec> {
        let mut fitting = self.0.iter().filter(|spec| spec.name.fits(name));
        let mut known = fitting.next()?.clone();
        for spec in fitting {
            known.owner = known.owner.or_else(|| spec.owner.clone());
            known.role = known.role.or(spec.role);
            known.layer = known.layer.or_else(|| spec.layer.clone());
        }
        Some(known)
    }
}

/// What part a service plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ServiceRole {
    /// One of many.
    Service,
    /// The door for requests from outside: it passes them on and waits.
    Gateway,
    /// A backend for a frontend: it gathers what one kind of client needs.
    Bff,
    /// It keeps data: a database, a cache, a queue.
    Store,
}

impl Scalar for ServiceRole {
    const EXPECTED: &'static str = "service, gateway, bff or store";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "service" => Ok(Self::Service),
            "gateway" => Ok(Self::Gateway),
            "bff" => Ok(Self::Bff),
            "store" => Ok(Self::Store),
            _ => Err(format!("{} is no role: use {}", quoted(text), Self::EXPECTED)),
        }
    }
}

impl Overlay for Services {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        let entries = reader.entries(node);
        if entries.len() > MOST {
            reader.report(node, format!("names more than {MOST} services"));
            return;
        }
        for entry in entries {
            reader.enter(&entry.key);
            let line = match entry.place {
                Place::Text { line, .. } => Some(line),
                Place::File | Place::Flag(_) => None,
            };
            match NamePattern::read(&entry.key) {
                Ok(name) => {
                    let mut spec = ServiceSpec { name, line, ..ServiceSpec::default() };
                    spec.overlay(&entry.value, reader);
                    self.0.push(spec);
                }
                Err(message) => reader.report(&entry.value, message),
            }
            reader.leave();
        }
        self.0.sort_by_key(|spec| !spec.name.is_name());
    }
}

impl Validate for Services {
    type Context = ();

    fn validate_into(&self, ctx: &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        for spec in &self.0 {
            let mut path = || parent().join(spec.name.as_str());
            spec.validate_into(ctx, &mut path, report);
        }
    }
}

impl Serialize for Services {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|spec| (spec.name.as_str(), spec)))
    }
}

impl JsonSchema for Services {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Services".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let service = generator.subschema_for::<ServiceSpec>();
        json_schema!({ "type": "object", "maxProperties": MOST, "additionalProperties": service })
    }
}
