//! `architecture.yaml`: what a system is meant to look like. It lives in the repository of the system's owners.
//!
//! Services are named as they report themselves, or by a pattern in which `*` stands for any characters. Where several
//! patterns fit a service, each key comes from the first that says it; a plain name comes before any pattern.

mod services;

use std::{borrow::Cow, fmt};

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::{
    names,
    overlay::{Element, Overlay, Reader, Scalar, keys},
    problem::quoted,
    suggest::did_you_mean,
    tree::{Content, Node},
};

pub use services::{ServiceRole, ServiceSpec, Services};

/// The architecture that a system is held against. Nothing is required; what is not said is not judged.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate, Default)]
#[schemars(title = "Couplet architecture", deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Architecture {
    /// Names of the layers, from the outermost to the innermost. A service may call its own layer and those below.
    #[garde(length(max = 100), inner(custom(names::service)))]
    pub layers: Vec<String>,

    /// Whether a service may call its own layer and the next one below only.
    pub strict_layers: bool,

    /// What is known of services, by name or pattern.
    #[garde(dive)]
    pub services: Services,

    /// Calls that must not be.
    #[garde(length(max = 10_000), dive)]
    pub forbidden: Vec<ForbiddenEdge>,

    /// Services that may call certain others only.
    #[garde(length(max = 10_000), dive)]
    pub allowed: Vec<AllowedEdges>,

    /// What one request may cost.
    #[garde(dive)]
    pub budgets: Budgets,
}

keys!(Architecture { layers, strict_layers, services, forbidden, allowed, budgets });

impl Architecture {
    /// What is known of a service; none where nothing is.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<ServiceSpec> {
        self.services.of(name)
    }

    /// The position of a layer, from the outermost.
    #[must_use]
    pub fn layer(&self, name: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer == name)
    }

    /// The first rule that forbids calls from one service to another.
    #[must_use]
    pub fn forbids(&self, from: &str, to: &str) -> Option<&ForbiddenEdge> {
        self.forbidden.iter().find(|rule| rule.from.fits(from) && rule.to.fits(to))
    }

    /// The rules that say whom a service may call; where there is one, everything else is forbidden.
    pub fn allows<'a>(&'a self, from: &'a str) -> impl Iterator<Item = &'a AllowedEdges> + 'a {
        self.allowed.iter().filter(move |rule| rule.from.fits(from))
    }

    /// What contradicts itself across keys: each key with what is wrong.
    pub(crate) fn conflicts(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            if self.layers.iter().take(at).any(|other| other == layer) {
                found.push((format!("layers[{at}]"), format!("the layer {} is there twice", quoted(layer))));
            }
        }
        for (name, layer) in self.services.iter().filter_map(|spec| Some((&spec.name, spec.layer.as_ref()?))) {
            if self.layer(layer).is_none() {
                let known = self.layers.iter().map(String::as_str);
                let hint = did_you_mean(layer, known).map_or_else(
                    || "it must be one of `layers`".to_owned(),
                    |meant| format!("did you mean `{meant}`?"),
                );
                found.push((format!("services.{name}.layer"), format!("there is no layer {}; {hint}", quoted(layer))));
            }
        }
        found
    }
}

/// Calls that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate, Default)]
#[schemars(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct ForbiddenEdge {
    /// Who must not call.
    pub from: NamePattern,
    /// Who must not be called.
    pub to: NamePattern,
    /// The reason, for whoever meets the rule.
    #[garde(inner(length(max = 1000)))]
    #[schemars(default)]
    pub why: Option<String>,
    /// How grave it is: `info`, `warn` or `critical`. Left out: `critical`.
    #[schemars(default)]
    pub severity: Option<RuleSeverity>,
}

keys!(ForbiddenEdge { from, to, why, severity });

/// Whom a service may call; everything else is forbidden to it. Several rules for one service add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate, Default)]
#[schemars(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct AllowedEdges {
    /// Who calls.
    pub from: NamePattern,
    /// Who may be called; nobody where the list is empty.
    #[garde(length(max = 10_000))]
    pub to: Vec<NamePattern>,
    /// The reason, for whoever meets the rule.
    #[garde(inner(length(max = 1000)))]
    #[schemars(default)]
    pub why: Option<String>,
    /// How grave it is: `info`, `warn` or `critical`. Left out: `critical`.
    #[schemars(default)]
    pub severity: Option<RuleSeverity>,
}

keys!(AllowedEdges { from, to, why, severity });

impl Element for ForbiddenEdge {
    fn element(node: &Node, reader: &mut Reader) -> Option<Self> {
        element(node, reader, "a mapping with from and to")
    }
}

impl Element for AllowedEdges {
    fn element(node: &Node, reader: &mut Reader) -> Option<Self> {
        element(node, reader, "a mapping with from and to")
    }
}

/// A rule with mistakes stays in the list, so that the numbers of the rules after it stay right.
fn element<E: Default + Overlay>(node: &Node, reader: &mut Reader, expected: &str) -> Option<E> {
    let mut rule = E::default();
    if !matches!(node.content, Content::Map(_)) {
        reader.mismatch(node, expected);
        return Some(rule);
    }
    rule.overlay(node, reader);
    for key in ["from", "to"] {
        let given = |content: &Content| *content != Content::Empty;
        if !reader.entries(node).iter().any(|entry| entry.key == key && given(&entry.value.content)) {
            reader.enter(key);
            reader.missing(node);
            reader.leave();
        }
    }
    Some(rule)
}

/// What one request may cost. More than this is a warning at least, whatever the thresholds of the analyzer say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema, Validate, Default)]
#[schemars(deny_unknown_fields, default)]
pub struct Budgets {
    /// Hops below an entry.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    pub depth: Option<u32>,
    /// Distinct services that one endpoint calls.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    pub fan_out: Option<u32>,
    /// Calls for one request of an entry, over the whole chain.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    pub calls: Option<u32>,
    /// Share of the requests of an entry that must succeed, such as 0.999.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    pub availability: Option<f64>,
}

keys!(Budgets { depth, fan_out, calls, availability });

/// How grave the breach of a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum RuleSeverity {
    /// Worth knowing.
    Info,
    /// Should be looked at.
    Warn,
    /// Endangers the system.
    Critical,
}

impl Scalar for RuleSeverity {
    const EXPECTED: &'static str = "info, warn or critical";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "info" => Ok(Self::Info),
            "warn" => Ok(Self::Warn),
            "critical" => Ok(Self::Critical),
            _ => Err(format!("{} is no severity: use info, warn or critical", quoted(text))),
        }
    }
}

/// The name of a service, or a pattern in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Default)]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether a name fits.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            // The earliest place leaves most for what follows.
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.ends_with(last)
    }

    /// Whether it is a plain name.
    #[must_use]
    pub fn is_name(&self) -> bool {
        !self.0.contains('*')
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for NamePattern {
    const EXPECTED: &'static str = "the name of a service, or a pattern such as `billing-*`";

    /// The names of services that others report may be anything that is visible: an address, a host with its port.
    fn read(text: &str) -> Result<Self, String> {
        match text.chars().find(|c| c.is_control() || c.is_whitespace()) {
            Some(stranger) => Err(format!("the name of a service cannot contain {stranger:?}")),
            None if text.is_empty() || text.len() > 255 => {
                Err("the name of a service has 1 to 255 characters".to_owned())
            }
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl JsonSchema for NamePattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "NamePattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 255, "examples": ["orders", "billing-*"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigFile, Sources};

    fn load(text: &str) -> Result<Architecture, String> {
        let sources = Sources {
            file: Some(ConfigFile::from_bytes("architecture.yaml", text).unwrap()),
            ..Sources::new(&|_| None)
        };
        Architecture::load(&sources).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pattern_fits_whole_names() {
        let fits = |pattern: &str, name: &str| NamePattern::read(pattern).unwrap().fits(name);
        assert!(fits("orders", "orders") && !fits("orders", "orders-db") && !fits("orders", "order"));
        assert!(fits("*", "anything") && fits("billing-*", "billing-") && !fits("billing-*", "billing"));
        assert!(fits("*-db", "orders-db") && fits("a*b*c", "a-b-b-c") && !fits("a*b*c", "a-c-b"));
        assert!(!fits("aa*aa", "aaa") && fits("aa*aa", "aaaa"));
    }

    #[test]
    fn a_service_is_known_by_its_name_first_and_by_patterns_where_that_is_silent() {
        let text = "layers: [edge, core]\n\
                    services:\n  '*': {owner: platform, layer: core}\n  web*: {role: gateway}\n  web: {layer: edge}\n";
        let architecture = load(text).unwrap();
        let web = architecture.service("web").unwrap();
        assert_eq!(
            (web.layer.as_deref(), web.role, web.owner.as_deref()),
            (Some("edge"), Some(ServiceRole::Gateway), Some("platform"))
        );
        assert_eq!(architecture.service("stock").unwrap().layer.as_deref(), Some("core"));
        assert_eq!(web.line, Some(5));
    }

    #[test]
    fn every_mistake_is_shown_with_its_line() {
        let error = load(
            "layers: [edge, core, edge]\nservices:\n  web: {layer: egde, role: king}\n\
             forbidden:\n  - {from: web}\n  - {from: a, to: b, severity: bad}\nbudgets: {depth: 0}\nlayrs: []\n",
        )
        .unwrap_err();
        for says in [
            "7 problems",
            "architecture.yaml:1:22: layers[2]: the layer `edge` is there twice",
            "architecture.yaml:3:16: services.web.layer: there is no layer `egde`; did you mean `edge`?",
            "services.web.role: `king` is no role",
            "forbidden[0].to: is required, but missing",
            "forbidden[1].severity: `bad` is no severity",
            "budgets.depth: must be at least 1",
            "layrs: unknown key; did you mean `layers`?",
        ] {
            assert!(error.contains(says), "{says} is not in:\n{error}");
        }
    }

    #[test]
    fn rules_for_one_service_add_up_and_the_first_that_forbids_is_named() {
        let architecture = load(
            "allowed:\n  - {from: billing, to: [accounts]}\n  - {from: 'bill*', to: ['ledger-*']}\n\
             forbidden:\n  - {from: web, to: 'db-*', why: through the api}\n  - {from: '*', to: db-1}\n",
        )
        .unwrap();
        assert_eq!(architecture.allows("billing").count(), 2);
        assert_eq!(architecture.allows("web").count(), 0);
        assert_eq!(architecture.forbids("web", "db-1").unwrap().why.as_deref(), Some("through the api"));
        assert_eq!(architecture.forbids("web", "api"), None);
    }
}
