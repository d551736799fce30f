//! Names of services in certificates: SPIFFE IDs, and patterns of them.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{overlay::Scalar, problem::quoted};

/// A SPIFFE ID with a path, such as `spiffe://shop.example/ns/prod/sa/orders` or `spiffe://shop.example/orders`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Box<str>,
    /// Where the path begins.
    path: usize,
}

impl SpiffeId {
    /// Reads an ID as the SPIFFE specification has it: no other form of the same one is accepted.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{} is not a SPIFFE ID: {why}", quoted(text)));
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return refuse("it begins with spiffe://, as in spiffe://shop.example/orders");
        };
        let domain = rest.split('/').next().unwrap_or_default();
        if !is_trust_domain(domain) {
            return refuse("a trust domain has 1 to 255 lower-case letters, digits, dots, dashes or underscores");
        }
        let path = SCHEME.len() + domain.len();
        let segments = rest.get(domain.len()..).unwrap_or_default();
        let Some(segments) = segments.strip_prefix('/') else {
            return refuse("the name of a service is missing behind the trust domain");
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let whole = |segment: &str| !matches!(segment, "" | "." | "..") && segment.chars().all(plain);
        if text.len() > MOST || !segments.split('/').all(whole) {
            return refuse(
                "its path has segments of letters, digits, dots, dashes and underscores, 2048 bytes at most",
            );
        }
        Ok(Self { text: text.into(), path })
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands between `spiffe://` and the path.
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.path).unwrap_or_default()
    }

    /// The service that it names: the last segment of the path. None for the service account `default` of a Kubernetes
    /// namespace, which is that of many services.
    pub fn service(&self) -> Option<&str> {
        let path = self.text.get(self.path..).unwrap_or_default();
        let name = path.rsplit('/').next().filter(|name| (1..=63).contains(&name.len()))?;
        (!path.ends_with("/sa/default")).then_some(name)
    }
}

/// Whether this can be the name of a trust domain.
pub(crate) fn is_trust_domain(domain: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    (1..=255).contains(&domain.len()) && domain.chars().all(plain)
}

const SCHEME: &str = "spiffe://";
/// Longest ID, in bytes (SPIFFE-ID, section 2.3).
const MOST: usize = 2048;

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl JsonSchema for SpiffeId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SpiffeId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^spiffe://|\$\{", "examples": ["spiffe://shop.example/orders"] })
    }
}

impl Scalar for SpiffeId {
    const EXPECTED: &'static str = "a SPIFFE ID such as spiffe://shop.example/orders";

    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

/// One SPIFFE ID, or all that begin alike: `spiffe://shop.example/ns/prod/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffePattern(String);

impl SpiffePattern {
    /// Every ID.
    pub fn every() -> Self {
        Self(format!("{SCHEME}*"))
    }

    /// Whether `id` is meant.
    pub fn covers(&self, id: &SpiffeId) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => id.as_str().starts_with(start),
            None => self.0 == id.as_str(),
        }
    }
}

impl Serialize for SpiffePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl JsonSchema for SpiffePattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SpiffePattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let examples = ["spiffe://*", "spiffe://shop.example/ns/prod/*", "spiffe://shop.example/orders"];
        json_schema!({ "type": "string", "pattern": r"^spiffe://|\$\{", "examples": examples })
    }
}

impl Scalar for SpiffePattern {
    const EXPECTED: &'static str = "a SPIFFE ID, or the start of some with `/*` behind it";

    fn read(text: &str) -> Result<Self, String> {
        match text.strip_suffix('*') {
            None => SpiffeId::parse(text)?,
            Some(SCHEME) => return Ok(Self(text.to_owned())),
            // Only whole segments: `spiffe://shop*` would cover the trust domain shop.attacker.example.
            Some(start) if start.ends_with('/') => SpiffeId::parse(&format!("{start}x"))?,
            Some(_) => return Err(format!("{}: a `*` stands behind a `/`, for whole segments", quoted(text))),
        };
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_names_a_trust_domain_and_a_service() {
        for (text, domain, service) in [
            ("spiffe://shop.example/orders", "shop.example", Some("orders")),
            ("spiffe://td/ns/prod/sa/orders-v2", "td", Some("orders-v2")),
            ("spiffe://cluster.local/ns/prod/sa/default", "cluster.local", None),
            ("spiffe://td/default", "td", Some("default")),
        ] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!((id.trust_domain(), id.service(), id.as_str()), (domain, service, text));
        }
    }

    #[test]
    fn what_is_no_id_is_refused_with_the_reason() {
        for (text, reason) in [
            ("orders", "begins with spiffe://"),
            ("https://shop.example/orders", "begins with spiffe://"),
            ("spiffe://shop.example", "name of a service is missing"),
            ("spiffe://", "a trust domain has"),
            ("spiffe://Shop/orders", "a trust domain has"),
            ("spiffe://user@shop/orders", "a trust domain has"),
            ("spiffe://shop:443/orders", "a trust domain has"),
            ("spiffe://shop/", "its path"),
            ("spiffe://shop/a//b", "its path"),
            ("spiffe://shop/a/../b", "its path"),
            ("spiffe://shop/a%2fb", "its path"),
            ("spiffe://shop/a?b", "its path"),
        ] {
            let message = SpiffeId::parse(text).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }

    #[test]
    fn a_pattern_covers_whole_segments() {
        let covers =
            |pattern: &str, id: &str| SpiffePattern::read(pattern).unwrap().covers(&SpiffeId::parse(id).unwrap());
        assert!(covers("spiffe://*", "spiffe://any/thing"));
        assert!(covers("spiffe://shop/*", "spiffe://shop/ns/a/sa/b"));
        assert!(!covers("spiffe://shop/*", "spiffe://shop.attacker.example/a"));
        assert!(covers("spiffe://shop/a", "spiffe://shop/a"));
        assert!(!covers("spiffe://shop/a", "spiffe://shop/ab"));
        for wrong in ["*", "spiffe://shop*", "spiffe://shop/a*", "spiffe://", "spiffe://*/a"] {
            assert!(SpiffePattern::read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_be_read(text in "(spiffe://)?\\PC{0,40}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert!(!id.trust_domain().is_empty());
                let _ = id.service();
            }
            let _ = SpiffePattern::read(&text);
        }
    }
}
