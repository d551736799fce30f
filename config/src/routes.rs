//! How calls to a destination are made: how long they may take, and whether they are tried again.

use std::fmt;
use std::time::Duration;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use crate::{
    names,
    overlay::{Element, Overlay, Reader, Scalar, keys},
    problem::quoted,
    retry::Retry,
    tree::{Content, Node},
    units,
};

/// Calls to one destination that are not made as others are. Of several routes that fit a call the first one holds.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Route {
    /// Name of the destination, as it stands in `outbound`, in the request or in the graph.
    #[garde(custom(names::service))]
    pub to: String,

    /// Only requests whose path begins so; all of them without it.
    #[garde(inner(custom(prefix)))]
    pub path: Option<String>,

    /// Name of a class of calls: those of all routes with it have a breaker of their own, beside the one of the destination's
    /// other calls. 1 to 63 letters, digits, dots, dashes or underscores.
    #[garde(inner(custom(names::service)))]
    pub class: Option<String>,

    /// How long these calls may take.
    #[garde(dive)]
    #[schemars(default)]
    pub timeouts: RouteTimeouts,

    /// Whether they are tried again; without it, they are not.
    #[garde(dive)]
    pub retry: Option<Retry>,
}

impl Route {
    /// A route for calls to `to` that changes nothing.
    pub fn new(to: impl Into<String>) -> Self {
        Self { to: to.into(), path: None, class: None, timeouts: RouteTimeouts::default(), retry: None }
    }

    /// Whether it is for a call of `path` to `to`.
    #[must_use]
    pub fn is_for(&self, to: &str, path: &str) -> bool {
        self.to == to && self.path.as_ref().is_none_or(|prefix| path.starts_with(prefix.as_str()))
    }
}

keys!(Route { to, path, class, timeouts, retry });

impl Element for Route {
    fn element(node: &Node, reader: &mut Reader) -> Option<Self> {
        let mut route = Self::new("");
        if !matches!(node.content, Content::Map(_)) {
            reader.mismatch(node, "a mapping with `to` and what differs for its calls");
            return Some(route);
        }
        route.overlay(node, reader);
        if route.to.is_empty() {
            reader.enter("to");
            reader.missing(node);
            reader.leave();
        }
        Some(route)
    }
}

/// How long calls on a route may take. What is left out is as in `timeouts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Validate, Default)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct RouteTimeouts {
    /// As `timeouts.connect`: 1ms to 24h. There is always a limit.
    #[garde(inner(custom(limited)))]
    pub connect: Option<TimeLimit>,

    /// As `timeouts.first_byte`.
    #[garde(inner(custom(sensible)))]
    pub first_byte: Option<TimeLimit>,

    /// As `timeouts.request`.
    #[garde(inner(custom(sensible)))]
    pub request: Option<TimeLimit>,

    /// For anything to pass within an answer that has begun, or its request: 1ms to 24h, or `off`. Of these calls alone,
    /// beside `timeouts.stream_idle`.
    #[garde(inner(custom(sensible)))]
    pub idle: Option<TimeLimit>,
}

keys!(RouteTimeouts { connect, first_byte, request, idle });

/// A limit of time, or none where the general one is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// There is none.
    Off,
    /// So long.
    After(Duration),
}

impl TimeLimit {
    /// How long, if there is a limit.
    #[must_use]
    pub fn get(self) -> Option<Duration> {
        match self {
            TimeLimit::Off => None,
            TimeLimit::After(limit) => Some(limit),
        }
    }
}

impl Scalar for TimeLimit {
    const EXPECTED: &'static str = "a duration such as 250ms or 5s, or off";

    fn read(text: &str) -> Result<Self, String> {
        if text == units::OFF {
            return Ok(Self::Off);
        }
        Duration::read(text).map(Self::After)
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeLimit::Off => f.write_str(units::OFF),
            TimeLimit::After(limit) => f.write_str(&units::show_duration(*limit)),
        }
    }
}

impl Serialize for TimeLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for TimeLimit {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeLimit".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        units::duration_or_off_schema(generator)
    }
}

fn sensible(limit: &TimeLimit, (): &()) -> garde::Result {
    let between = units::between(Duration::from_millis(1), Duration::from_secs(24 * 60 * 60));
    limit.get().map_or(Ok(()), |limit| between(&limit, &()))
}

fn limited(limit: &TimeLimit, (): &()) -> garde::Result {
    match limit {
        TimeLimit::Off => Err(garde::Error::new("there is always a limit: say how long")),
        TimeLimit::After(_) => sensible(limit, &()),
    }
}

fn prefix(path: &str, (): &()) -> garde::Result {
    let fine = path.starts_with('/') && path.len() <= 1_024 && !path.contains(['?', '#', ' ']);
    match fine {
        true => Ok(()),
        false => Err(garde::Error::new(format!("{} is not the beginning of a path, such as /items/", quoted(path)))),
    }
}

/// What contradicts itself among the routes: a key, and why.
pub(crate) fn conflicts(routes: &[Route]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let hides = |earlier: &&Route| earlier.is_for(&route.to, route.path.as_deref().unwrap_or("/"));
        let unreached = routes
            .iter()
            .take(index)
            .position(|earlier| hides(&earlier) && (earlier.path.is_none() || route.path.is_some()));
        if let Some(earlier) = unreached {
            let message = format!("`routes[{earlier}]` is for all of these calls: this one would be without effect");
            found.push((format!("routes[{index}].to"), message));
        }
        let RouteTimeouts { connect, first_byte, request, .. } = route.timeouts;
        let whole = request.and_then(TimeLimit::get);
        let within = |limit: Option<Duration>| limit.zip(whole).filter(|(limit, whole)| limit > whole);
        if let Some((limit, whole)) = within(first_byte.and_then(TimeLimit::get)) {
            found.push((format!("routes[{index}].timeouts.first_byte"), longer(limit, "request", whole)));
        }
        if let Some((limit, whole)) = within(connect.and_then(TimeLimit::get)) {
            found.push((format!("routes[{index}].timeouts.connect"), longer(limit, "request", whole)));
        }
        let Some(retry) = &route.retry else { continue };
        if let Some((limit, whole)) = within(retry.per_try_timeout) {
            found.push((format!("routes[{index}].retry.per_try_timeout"), longer(limit, "timeouts.request", whole)));
        }
        let key = |field: &str| format!("routes[{index}].retry.{field}");
        found.extend(retry.contradictions().map(|(field, why)| (key(field), why.to_owned())));
    }
    found
}

fn longer(limit: Duration, other: &str, whole: Duration) -> String {
    let (limit, whole) = (units::show_duration(limit), units::show_duration(whole));
    format!("{limit} is longer than `{other}` ({whole}), and so without effect")
}

#[cfg(test)]
mod tests {
    use crate::{ConfigFile, ProxyConfig, RetryOn, Sources};

    use super::*;

    fn load(text: &str) -> Result<Vec<Route>, String> {
        let file = ConfigFile::from_bytes("couplet.yaml", format!("service: shop\n{text}")).unwrap();
        let sources = Sources { file: Some(file), ..Sources::new(&|_| None) };
        ProxyConfig::load(&sources).map(|config| config.routes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_route_says_what_differs_and_off_is_not_the_same_as_nothing() {
        let routes = load(
            "
timeouts: { request: 10s }
routes:
  - { to: stock, path: /items/, timeouts: { request: off, first_byte: 2s, connect: 250ms } }
  - { to: stock, retry: { on: [connect, 503, unavailable], attempts: 3, methods: [GET, POST] } }
",
        )
        .unwrap();
        let [items, rest] = routes.as_slice() else { panic!("{routes:?}") };
        assert_eq!(items.timeouts.request, Some(TimeLimit::Off));
        assert_eq!(items.timeouts.connect, Some(TimeLimit::After(Duration::from_millis(250))));
        assert_eq!(items.timeouts.first_byte.and_then(TimeLimit::get), Some(Duration::from_secs(2)));
        assert_eq!(rest.timeouts, RouteTimeouts::default());
        let retry = rest.retry.as_ref().unwrap();
        assert_eq!((retry.attempts, retry.budget.percent, retry.budget.interval.as_secs()), (3, 20.0, 10));
        assert_eq!(retry.on, [RetryOn::Connect, RetryOn::Status(503), RetryOn::Grpc(14)]);
        assert!(
            items.is_for("stock", "/items/7") && !items.is_for("stock", "/") && !items.is_for("prices", "/items/7")
        );
    }

    #[test]
    fn what_makes_no_sense_is_told_where_and_why() {
        for (text, reason) in [
            ("routes: [{ timeouts: { request: 1s } }]", "routes[0].to"),
            ("routes: [{ to: a, path: items }]", "not the beginning of a path"),
            ("routes: [{ to: a, timeouts: { request: 0s } }]", "not between 1ms and 24h"),
            ("routes: [{ to: a, timeouts: { request: 1s, first_byte: 2s } }]", "longer than `request` (1s)"),
            ("routes: [{ to: a, timeouts: { request: 1s, connect: 2s } }]", "longer than `request` (1s)"),
            ("routes: [{ to: a, timeouts: { connect: off } }]", "there is always a limit"),
            ("routes: [{ to: a }, { to: a, path: /b }]", "`routes[0]` is for all of these calls"),
            ("routes: [{ to: a, path: /b }, { to: a, path: /bc }]", "`routes[0]` is for all of these calls"),
            ("routes: [{ to: a, retry: {} }]", "says not when"),
            ("routes: [{ to: a, retry: { on: [refused] } }]", "is nothing to try again on"),
            ("routes: [{ to: a, retry: { on: [unavailible] } }]", "did you mean `unavailable`?"),
            ("routes: [{ to: a, retry: { on: [404] } }]", "between 429 and 599"),
            ("routes: [{ to: a, retry: { on: [reset], attempts: 0 } }]", "retry.attempts"),
            ("routes: [{ to: a, retry: { on: [unavailable] } }]", "calls of gRPC are POST"),
            ("routes: [{ to: a, retry: { on: [timeout] } }]", "needs `per_try_timeout`"),
            ("routes: [{ to: a, retry: { on: [reset], methods: [get] } }]", "write it GET"),
            ("routes: [{ to: a, retry: { on: [reset], methods: [CONNECT] } }]", "cannot be tried again"),
            (
                "routes: [{ to: a, timeouts: { request: 1s }, retry: { on: [timeout], per_try_timeout: 2s } }]",
                "longer than `timeouts.request` (1s)",
            ),
            ("routes: [{ to: a, retry: { on: [reset], budget: { percent: 0, min_per_second: 0 } } }]", "no try ever"),
            ("routes: [{ to: a, retry: { on: [reset], budget: { interval: 2m } } }]", "not between 1s and 1m"),
        ] {
            let message = load(text).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }

    #[test]
    fn routes_that_are_not_hidden_are_no_conflict() {
        load("routes: [{ to: a, path: /bc }, { to: a, path: /b }, { to: a }, { to: b }]").unwrap();
    }
}
