//! How a proxy reaches its analyzer.

use std::{borrow::Cow, fmt, path::PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{
    overlay::{Overlay, Reader, Scalar, keys},
    problem::quoted,
    secret::Secret,
    target::Target,
    tree::{Content, Node},
    units,
};

/// Where reports go. In a file it is either a mapping or just the URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = units::or_text)]
pub struct AnalyzerLink {
    /// Base URL of the analyzer, for example `http://127.0.0.1:15400`, or `https://` where something that terminates TLS
    /// stands before it.
    pub url: HttpUrl,

    /// Bearer token sent with every report.
    pub token: Option<Secret>,

    /// With `https://`: a file with the certificates that the analyzer's may be issued by; without it, those of the system.
    pub roots: Option<PathBuf>,
}

keys!(AnalyzerLink { url, token, roots });

impl AnalyzerLink {
    /// Reports to `url`, without a token.
    pub fn new(url: HttpUrl) -> Self {
        Self { url, token: None, roots: None }
    }

    /// What stands for a link of which only the token is known so far.
    fn blank() -> Self {
        Self::new(HttpUrl::http(Target { host: String::new(), port: 0 }))
    }

    /// Whether nobody has said yet where the analyzer is.
    pub(crate) fn lacks_url(&self) -> bool {
        self.url.authority.host.is_empty()
    }
}

/// A plain text is the URL alone; `off` is no analyzer.
impl Overlay for Option<AnalyzerLink> {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        match &node.content {
            Content::Empty => {}
            Content::Text(text) if text == units::OFF => *self = None,
            Content::Text(_) => self.get_or_insert_with(AnalyzerLink::blank).url.overlay(node, reader),
            Content::Map(_) => self.get_or_insert_with(AnalyzerLink::blank).overlay(node, reader),
            Content::List(_) | Content::More(_) => reader.mismatch(node, HttpUrl::EXPECTED),
        }
    }
}

/// An `http://` or `https://` URL without user, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// Whether it is an `https://` one.
    pub https: bool,
    /// Host and port; the port is 80 or 443 when the URL names none.
    pub authority: Target,
    /// The path without its last slash: empty, or beginning with `/`.
    pub path: String,
}

impl HttpUrl {
    /// `http://` with nothing behind the port.
    pub fn http(authority: Target) -> Self {
        Self { https: false, authority, path: String::new() }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for HttpUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HttpUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(https?://|.*\$\{)", "examples": ["http://127.0.0.1:15400"] })
    }
}

impl Scalar for HttpUrl {
    const EXPECTED: &'static str = "a URL such as http://127.0.0.1:15400";

    fn read(text: &str) -> Result<Self, String> {
        // The text is repeated only where it cannot hold a password.
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("the URL has no scheme: write it like http://127.0.0.1:15400".to_owned());
        };
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("{} is not a supported scheme: use http:// or https://", quoted(scheme)));
        }
        if rest.contains('@') {
            return Err("a URL cannot hold a user or password: use the key `token`".to_owned());
        }
        if rest.contains(['?', '#']) || rest.chars().any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
            return Err("the URL cannot have a query, a fragment, spaces or letters outside of ASCII".to_owned());
        }
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let authority = match (has_port, https) {
            (true, _) => Target::read(authority)?,
            (false, true) => Target::read(&format!("{authority}:443"))?,
            (false, false) => Target::read(&format!("{authority}:80"))?,
        };
        Ok(Self { https, authority, path: path.trim_end_matches('/').to_owned() })
    }
}

/// Reads `http[s]://host[:port][/path]`.
impl std::str::FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, shown) in [
            ("http://127.0.0.1:15400", "http://127.0.0.1:15400"),
            ("HTTP://Analyzer.ns/", "http://analyzer.ns:80"),
            ("http://[::1]:1/a/b/", "http://[::1]:1/a/b"),
            ("http://[::1]", "http://[::1]:80"),
            ("https://analyzer.example", "https://analyzer.example:443"),
        ] {
            assert_eq!(HttpUrl::read(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_supported_is_said_without_repeating_a_password() {
        for (text, reason) in [
            ("127.0.0.1:15400", "no scheme"),
            ("ftp://a:1", "`ftp` is not a supported scheme"),
            ("http://u:hunter2@a:1", "use the key `token`"),
            ("http://", "neither a name nor an IP address"),
            ("http://a:b", "the port is 1 to 65535"),
            ("http://a?x", "cannot have a query"),
        ] {
            let message = HttpUrl::read(text).unwrap_err();
            assert!(message.contains(reason) && !message.contains("hunter2"), "{text}: {message}");
        }
    }
}
