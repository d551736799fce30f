//! The words of a file as the words of the graph: service names and endpoints, each kept once.

use std::collections::HashMap;
use std::sync::Arc;

use couplet_telemetry::endpoint::{Templates, truncate};
use couplet_telemetry::names::{MAX_ENDPOINT_BYTES, MAX_SERVICE_BYTES, is_service_name};

/// A word that is kept in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(u32);

/// All words of the files. A file repeats few words very often.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, Name>,
    services: HashMap<Box<str>, Option<Name>>,
    templates: Templates,
    renamed: u64,
}

/// What a span says about the HTTP request that it stands for.
#[derive(Debug, Default)]
pub(super) struct HttpWords {
    /// `http.method`, or its successor.
    pub(super) method: Option<String>,
    /// `http.route`: preferred to a path, for it is a template already.
    pub(super) route: Option<String>,
    /// A path or URL.
    pub(super) target: Option<String>,
}

impl Names {
    pub(super) fn text(&self, name: Name) -> &str {
        usize::try_from(name.0).ok().and_then(|at| self.texts.get(at)).map_or("", |text| text)
    }

    /// How many distinct service names had to be changed.
    pub(super) fn renamed(&self) -> u64 {
        self.renamed
    }

    /// The service of that name; `None` for an empty one.
    pub(super) fn service(&mut self, raw: &str) -> Option<Name> {
        if let Some(known) = self.services.get(raw) {
            return *known;
        }
        let valid = valid_service(raw);
        self.renamed += u64::from(valid.as_deref().is_some_and(|name| name != raw));
        let name = valid.map(|name| self.keep(&name));
        self.services.insert(raw.into(), name);
        name
    }

    /// The endpoint that a span stands for.
    ///
    /// By its HTTP attributes where it has them; else by its name, in the same spelling: `HTTP GET /x/17` is
    /// `GET /x/{id}`, `/x/17` is `/x/{id}`, and what does not look like a path stays as it is.
    pub(super) fn endpoint(&mut self, name: &str, http: &HttpWords) -> Name {
        let name = name.trim();
        let named = name.strip_prefix("HTTP ").unwrap_or(name);
        let (first, rest) = named.split_once(' ').unwrap_or((named, ""));
        let mut text = String::new();
        let method = http.method.as_deref().and_then(method_of).or_else(|| method_of(first));
        let target = http.route.as_deref().or(http.target.as_deref()).filter(|target| !target.is_empty());
        if let (Some(method), Some(target)) = (method, target) {
            self.templates.endpoint(method, path_of(target), &mut text);
        } else if let (Some(method), true) = (method_of(first), rest.starts_with('/') || rest.contains("://")) {
            self.templates.endpoint(method, path_of(rest), &mut text);
        } else if name.starts_with('/') {
            self.templates.endpoint("GET", name, &mut text);
            text.drain(.."GET ".len());
        } else {
            text.push_str(if name.is_empty() { UNNAMED } else { name });
            truncate(&mut text, MAX_ENDPOINT_BYTES);
        }
        self.keep(&text)
    }

    fn keep(&mut self, text: &str) -> Name {
        if let Some(name) = self.ids.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.ids.insert(text, name);
        name
    }
}

/// Endpoint of a span that has no name.
const UNNAMED: &str = "(unnamed)";

/// Whether a span of this endpoint, sent by one service, may well be the caller's side of a request that arrived
/// elsewhere at `callee`. Only asked of spans whose kind nobody recorded.
pub(super) fn looks_like_its_call(caller: &str, callee: &str) -> bool {
    let (first, _) = caller.strip_prefix("HTTP ").unwrap_or(caller).split_once(' ').unwrap_or((caller, ""));
    caller.starts_with("HTTP ") || method_of(first).is_some() || is_sending(caller) || bare(caller) == bare(callee)
}

/// Whether an endpoint is named as OpenTelemetry names the sending of a message: `orders send`.
pub(super) fn is_sending(endpoint: &str) -> bool {
    [" send", " publish"].iter().any(|verb| endpoint.ends_with(verb))
}

/// Whether an endpoint is named as OpenTelemetry names the arrival of a message: `orders process`.
pub(super) fn is_receiving(endpoint: &str) -> bool {
    [" process", " receive", " deliver"].iter().any(|verb| endpoint.ends_with(verb))
}

/// A gRPC method without what only one of both sides writes before it.
fn bare(endpoint: &str) -> &str {
    let endpoint = endpoint.strip_prefix("grpc.").unwrap_or(endpoint);
    endpoint.strip_prefix('/').unwrap_or(endpoint)
}

fn method_of(word: &str) -> Option<&'static str> {
    const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"];
    METHODS.into_iter().find(|method| method.eq_ignore_ascii_case(word))
}

/// The path of a URL, or of what is one already.
fn path_of(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    }
}

fn valid_service(raw: &str) -> Option<String> {
    let raw = raw.trim();
    if raw.is_empty() || is_service_name(raw) {
        return (!raw.is_empty()).then(|| raw.to_owned());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    Some(raw.chars().take(MAX_SERVICE_BYTES).map(|c| if fits(c) { c } else { '-' }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(name: &str, method: Option<&str>, route: Option<&str>, target: Option<&str>) -> String {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let mut names = Names::default();
        let name = names.endpoint(name, &HttpWords { method: own(method), route: own(route), target: own(target) });
        names.text(name).to_owned()
    }

    #[test]
    fn one_request_has_one_endpoint_however_it_was_named() {
        for (name, method, route, target) in [
            ("GET /orders/17", None, None, None),
            ("get /orders/17?full=yes", None, None, None),
            ("HTTP GET /orders/17", None, None, None),
            ("get", None, None, Some("/orders/17")),
            ("whatever", Some("GET"), None, Some("http://shop:8080/orders/17?full=yes")),
            ("whatever", Some("get"), Some("/orders/{order}"), Some("/orders/17")),
        ] {
            assert_eq!(endpoint(name, method, route, target), "GET /orders/{id}", "{name} {method:?} {route:?}");
        }
    }

    #[test]
    fn names_that_are_no_requests_stay_as_they_are() {
        for name in
            ["/search.Search/Nearby", "hipstershop.CartService/GetCart", "HTTP POST", "on-message", "SELECT a b"]
        {
            assert_eq!(endpoint(name, None, None, None), name);
        }
        assert_eq!(endpoint("  ", None, None, None), "(unnamed)");
    }

    #[test]
    fn the_same_word_is_kept_once_and_a_changed_service_is_counted_once() {
        let mut names = Names::default();
        let name = names.service("yelp_main/api proxy").unwrap();
        assert_eq!(names.text(name), "yelp_main-api-proxy");
        assert_eq!(names.service("yelp_main/api proxy"), Some(name));
        assert_eq!((names.renamed(), names.service(" ")), (1, None));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_valid_service_and_a_bounded_endpoint(text in ".*", method in ".*", target in ".*") {
            let mut names = Names::default();
            if let Some(service) = names.service(&text) {
                prop_assert!(is_service_name(names.text(service)));
            }
            prop_assert!(endpoint(&text, None, None, None).len() <= MAX_ENDPOINT_BYTES);
            prop_assert!(endpoint(&text, Some(&method), None, Some(&target)).len() <= MAX_ENDPOINT_BYTES);
        }
    }
}
