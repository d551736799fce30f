//! Endpoints: method + route template. Proxies and importers must find the same template for the same request, so the
//! rules live here: configured templates first, then segments that look like ids become `{id}`. What a proxy learns on
//! top of that is in [`Learner`], which does no I/O and has no clock either.

mod learner;
mod tree;

pub use learner::{Learned, Learner, LearnerLimits};

use crate::names::MAX_ENDPOINT_BYTES;

/// Longest path that is looked at segment by segment; what follows becomes one `…` segment.
const MAX_SEGMENTS: usize = 12;

/// What stands for the segments beyond [`MAX_SEGMENTS`].
const BEYOND: &str = "…";

/// What stands for a segment that names one thing of many.
const VARIABLE: &str = "{id}";

/// What of a request says which endpoint it asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method as it came.
    pub method: &'a str,
    /// A path, with or without a query; `*`; or empty.
    pub target: &'a str,
    /// Whether the content type is one of gRPC's: `/package.Service/Method` is then a name, whatever it looks like.
    pub grpc: bool,
}

impl Asked<'_> {
    /// The path without its query.
    fn path(&self) -> &str {
        path_of(self.target)
    }

    /// The path of a gRPC method, where the request is for one.
    fn grpc_method(&self) -> Option<&str> {
        let path = self.path();
        let word = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        (self.grpc && word(service) && word(method)).then_some(path)
    }
}

/// The segments of an endpoint that stand for many values, as bits: the first segment is bit 0.
///
/// Both proxies of a call see the same segments, so these bits alone tell the caller's how the callee's names an
/// endpoint; no name has to travel, and none can be made up.
#[must_use]
pub fn variable_segments(endpoint: &str) -> u16 {
    let path = endpoint.split_once(" /").map_or("", |(_, path)| path);
    let bits = path.split('/').take(MAX_SEGMENTS).enumerate();
    bits.fold(0, |bits, (n, segment)| if is_variable(segment) { bits | 1 << n } else { bits })
}

fn is_variable(segment: &str) -> bool {
    segment.starts_with('{')
}

fn path_of(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or("/")
}

/// Configured route templates, tried before the built-in rules.
///
/// A template is a path with `{name}` for one segment and a final `{name...}` for all that follows:
/// `/orders/{id}/lines`, `/static/{file...}`.
#[derive(Debug, Clone, Default)]
pub struct Templates(Vec<Template>);

#[derive(Debug, Clone)]
struct Template {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Literal(String),
    Any,
    Rest,
}

impl Templates {
    /// Reads templates; the first that matches a path wins.
    ///
    /// # Errors
    /// A sentence naming the template that does not start with `/`, has an empty or unclosed `{}`, or something after
    /// `{name...}`.
    pub fn new<S: AsRef<str>>(templates: impl IntoIterator<Item = S>) -> Result<Self, String> {
        templates.into_iter().map(|text| Template::parse(text.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Writes the endpoint of a request to `out`: `GET /orders/{id}`.
    ///
    /// `target` is a path, with or without a query. Unknown methods become `OTHER`, so that strangers cannot make up
    /// endpoints by their methods. At most [`MAX_ENDPOINT_BYTES`] long.
    pub fn endpoint(&self, method: &str, target: &str, out: &mut String) {
        out.clear();
        out.push_str(known_method(method));
        out.push(' ');
        let path = path_of(target);
        match self.configured(path) {
            Some(template) => out.push_str(template),
            None => by_rules(path, out),
        }
        truncate(out, MAX_ENDPOINT_BYTES);
    }

    /// The text of the first configured template that matches a path.
    fn configured(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|template| template.matches(path)).map(|template| template.text.as_str())
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("template {text:?}: {why}"));
        let Some(path) = text.strip_prefix('/') else {
            return wrong("must start with '/'");
        };
        let mut segments = Vec::new();
        for part in path.split('/') {
            if segments.last() == Some(&Segment::Rest) {
                return wrong("nothing may follow a '{name...}' segment");
            }
            segments.push(match part.strip_prefix('{') {
                None if part.contains(['{', '}']) => return wrong("a '{name}' must be a whole segment"),
                None => Segment::Literal(part.to_owned()),
                Some(rest) => match rest.strip_suffix('}') {
                    None => return wrong("a '{' is not closed in its segment"),
                    Some("" | "...") => return wrong("a '{}' needs a name"),
                    Some(name) if name.ends_with("...") => Segment::Rest,
                    Some(_) => Segment::Any,
                },
            });
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut parts = path.split('/');
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Rest, Some(_)) => return true,
                (Segment::Any, Some(part)) if !part.is_empty() => {}
                (Segment::Literal(text), Some(part)) if text == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }
}

/// The method itself where it is one of the registered ones that services use.
fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("OTHER")
}

fn by_rules(path: &str, out: &mut String) {
    by_segment(path, out, looks_like_id);
}

/// Writes a path, asking for each segment whether it stands for many.
fn by_segment(path: &str, out: &mut String, mut is_variable: impl FnMut(&str) -> bool) {
    let Some(path) = path.strip_prefix('/') else {
        out.push('*'); // "*" of OPTIONS, or an authority: neither names a resource
        return;
    };
    for (n, segment) in path.split('/').enumerate() {
        out.push('/');
        if n == MAX_SEGMENTS {
            out.push_str(BEYOND);
            return;
        }
        out.push_str(if is_variable(segment) { VARIABLE } else { segment });
    }
}

/// Whether a path segment names one thing of many.
///
/// Numbers, UUIDs, hexadecimal strings, long tokens that mix letters and digits, words with an ordinal (`order-17`),
/// and everything that is not plain text. Words, versions (`v1`), file names and gRPC methods are not ids.
fn looks_like_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    if segment.is_empty() {
        return false;
    }
    if segment.len() > 40 || segment.bytes().any(|b| !(b.is_ascii_alphanumeric() || b"-_.~:".contains(&b))) {
        return !is_plain_word(segment);
    }
    let hexadecimal = segment.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let ordinal = segment.rsplit_once(['-', '_', ':']).is_some_and(|(_, last)| is_number(last));
    is_number(segment)
        || hexadecimal && digits > 0 && segment.len() >= 8
        || digits >= 4 && segment.len() >= 16
        || ordinal
        // A short code: more digits than letters, such as `2026-11-21`, `A1234`, `12.5`.
        || digits >= 2 && digits * 2 > segment.len()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A long word without digits, such as a gRPC service with its package.
fn is_plain_word(segment: &str) -> bool {
    segment.bytes().all(|b| b.is_ascii_alphabetic() || b"-_.~$()*,".contains(&b))
}

/// Cuts at a character boundary at or below `max` bytes.
pub fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(templates: &[&str], method: &str, target: &str) -> String {
        let mut out = String::new();
        Templates::new(templates).unwrap().endpoint(method, target, &mut out);
        out
    }

    #[test]
    fn segments_that_look_like_ids_are_collapsed() {
        for (target, template) in [
            ("/orders/17/lines", "GET /orders/{id}/lines"),
            ("/users/3fa85f64-5717-4562-b3fc-2c963f66afa6", "GET /users/{id}"),
            ("/o/deadbeef01", "GET /o/{id}"),
            ("/sku/order-17", "GET /sku/{id}"),
            ("/days/2026-11-21?tz=utc", "GET /days/{id}"),
            ("/mail/a%40b.org", "GET /mail/{id}"),
            ("/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", "GET /t/{id}"),
        ] {
            assert_eq!(endpoint(&[], "GET", target), template);
        }
    }

    #[test]
    fn words_versions_files_and_grpc_methods_stay() {
        for target in [
            "/",
            "/api/v1/orders",
            "/index.html",
            "/hipstershop.ProductCatalogService/GetProduct",
            "/feed",
            "/added/face",
            "/s3/oauth2",
        ] {
            assert_eq!(endpoint(&[], "POST", target), format!("POST {target}"));
        }
    }

    #[test]
    fn a_configured_template_wins_over_the_rules() {
        let templates = ["/orders/{number}/lines", "/static/{file...}"];
        assert_eq!(endpoint(&templates, "GET", "/orders/blue/lines?x=1"), "GET /orders/{number}/lines");
        assert_eq!(endpoint(&templates, "GET", "/static/a/b/c.js"), "GET /static/{file...}");
        assert_eq!(endpoint(&templates, "GET", "/orders//lines"), "GET /orders//lines");
        assert_eq!(endpoint(&templates, "GET", "/orders/blue"), "GET /orders/blue");
    }

    #[test]
    fn a_template_that_cannot_match_is_refused_with_its_text() {
        for wrong in ["orders", "/a{b}", "/{}", "/{a", "/{rest...}/x"] {
            let error = Templates::new([wrong]).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn strangers_cannot_make_up_methods() {
        assert_eq!(endpoint(&[], "BREW", "/pot"), "OTHER /pot");
        assert_eq!(endpoint(&[], "OPTIONS", "*"), "OPTIONS *");
    }

    proptest! {
        #[test]
        fn an_endpoint_is_bounded_for_any_target(method in ".*", target in ".*") {
            prop_assert!(endpoint(&[], &method, &target).len() <= MAX_ENDPOINT_BYTES);
        }

        #[test]
        fn numbers_never_make_new_endpoints(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(endpoint(&[], "GET", &format!("/x/{a}")), endpoint(&[], "GET", &format!("/x/{b}")));
        }
    }
}
