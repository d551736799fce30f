//! Circuit breakers: when calls to a neighbour are stopped, for how long, and how they come back.

use std::time::Duration;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::{
    ejection::Ejection,
    names,
    off::{count_or_off_schema, number_or_off},
    overlay::{Element, Overlay, Reader, Scalar, keys},
    problem::quoted,
    suggest::did_you_mean,
    tree::{Content, Entry, Node},
    units,
};

/// When calls to a failing neighbour are stopped. Every destination has a breaker; by default it only observes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate, Default)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Breakers {
    /// For every destination that `edges` says nothing else of.
    #[garde(dive)]
    pub defaults: BreakerSettings,

    /// Destinations, and classes of calls to them, that differ from the defaults. What is left out is as in `defaults`; for a
    /// class, as for the destination.
    #[garde(length(max = 1000), dive)]
    pub edges: Vec<EdgeBreaker>,
}

impl Breakers {
    /// The settings for calls to `destination`, of a class where they are of one.
    #[must_use]
    pub fn of(&self, destination: &str, class: Option<&str>) -> &BreakerSettings {
        let edge = |class| self.edges.iter().find(|edge| edge.to == destination && edge.class.as_deref() == class);
        let edge = class.and_then(|class| edge(Some(class))).or_else(|| edge(None));
        edge.map_or(&self.defaults, |edge| &edge.settings)
    }
}

impl Overlay for Breakers {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        for entry in reader.entries(node) {
            reader.enter(&entry.key);
            match entry.key.as_str() {
                "defaults" => self.defaults.overlay(&entry.value, reader),
                "edges" => self.edges.overlay(&entry.value, reader),
                _ => reader.unknown_key(entry, &["defaults", "edges"]),
            }
            reader.leave();
        }
        // In whatever order and source both stand: an edge is what it says laid over the defaults.
        for edge in self.edges.iter_mut().filter(|edge| edge.class.is_none()) {
            edge.lay_over(&self.defaults);
        }
        let below: Vec<_> =
            self.edges.iter().map(|edge| edge.class.as_ref().map(|_| self.of(&edge.to, None).clone())).collect();
        for (edge, below) in self.edges.iter_mut().zip(below) {
            if let Some(below) = below {
                edge.lay_over(&below);
            }
        }
    }
}

/// The breaker for calls to one destination.
#[derive(Debug, Clone, Serialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub struct EdgeBreaker {
    /// Name of the destination, as it stands in `outbound`, in the request or in the graph.
    #[garde(custom(names::service))]
    #[schemars(required)]
    pub to: String,

    /// Only calls of this class; `class` of a route says which those are. Without it, all that are of none.
    #[garde(inner(custom(names::service)))]
    pub class: Option<String>,

    /// What is in force for it.
    #[serde(flatten)]
    #[garde(dive)]
    pub settings: BreakerSettings,

    /// What was written, without what the defaults say.
    #[serde(skip)]
    written: Option<Box<Node>>,
}

/// Where it was written does not matter.
impl PartialEq for EdgeBreaker {
    fn eq(&self, other: &Self) -> bool {
        self.to == other.to && self.class == other.class && self.settings == other.settings
    }
}

impl EdgeBreaker {
    /// A breaker for calls to `to`.
    pub fn new(to: impl Into<String>, settings: BreakerSettings) -> Self {
        Self { to: to.into(), class: None, settings, written: None }
    }

    fn lay_over(&mut self, defaults: &BreakerSettings) {
        if let Some(written) = self.written.clone() {
            self.settings = defaults.clone();
            // Its problems were reported when it was read.
            overlay_edge(self, &written, &mut Reader::default());
        }
    }
}

impl Element for EdgeBreaker {
    fn element(node: &Node, reader: &mut Reader) -> Option<Self> {
        let mut edge = Self::new("", BreakerSettings::default());
        if !matches!(node.content, Content::Map(_)) {
            reader.mismatch(node, "a mapping with `to` and what differs from the defaults");
            return Some(edge);
        }
        overlay_edge(&mut edge, node, reader);
        if edge.to.is_empty() {
            reader.enter("to");
            reader.missing(node);
            reader.leave();
        }
        edge.written = Some(Box::new(node.clone()));
        Some(edge)
    }
}

fn overlay_edge(edge: &mut EdgeBreaker, node: &Node, reader: &mut Reader) {
    let Content::Map(entries) = &node.content else { return };
    let names = |entry: &Entry| entry.key == "to" || entry.key == "class";
    let (names, rest) = entries.iter().cloned().partition::<Vec<_>, _>(names);
    for entry in names {
        reader.enter(&entry.key);
        match entry.key.as_str() {
            "to" => edge.to.overlay(&entry.value, reader),
            _ => edge.class.overlay(&entry.value, reader),
        }
        reader.leave();
    }
    edge.settings.overlay(&Node { place: node.place.clone(), content: Content::Map(rest) }, reader);
}

/// What a breaker does with what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum BreakerMode {
    /// There is none.
    Off,
    /// It stops nothing, and follows what it would have stopped: what became of those requests, what they cost.
    #[default]
    Observe,
    /// It stops calls.
    Enforce,
}

impl BreakerMode {
    /// The word in files, labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerMode::Off => "off",
            BreakerMode::Observe => "observe",
            BreakerMode::Enforce => "enforce",
        }
    }
}

impl Scalar for BreakerMode {
    const EXPECTED: &'static str = "off, observe or enforce";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "observe" => Ok(Self::Observe),
            "enforce" => Ok(Self::Enforce),
            _ => Err(match did_you_mean(text, ["off", "observe", "enforce"]) {
                Some(meant) => format!("{} is not a mode; did you mean `{meant}`?", quoted(text)),
                None => format!("{} is not a mode: use off, observe or enforce", quoted(text)),
            }),
        }
    }
}

/// The rules of one breaker.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct BreakerSettings {
    /// `off`, `observe` (stop nothing, say what would have been stopped) or `enforce`.
    pub mode: BreakerMode,

    /// With `enforce`: the share in percent of what the breaker rejects that really is rejected. The rest is observed.
    #[garde(range(max = 100))]
    pub enforce_percent: u32,

    /// How far back calls count: 1s to 10m. Ten exact buckets, no average that forgets slowly.
    #[garde(custom(units::between(Duration::from_secs(1), Duration::from_secs(600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub window: Duration,

    /// Calls within the window before a rate says anything.
    #[garde(range(min = 1, max = 1_000_000))]
    pub min_requests: u32,

    /// Share of failed calls from which on the breaker opens, above 0 and up to 1; `off` for never.
    #[garde(inner(custom(share)))]
    #[serde(serialize_with = "number_or_off")]
    #[schemars(schema_with = "share_or_off_schema")]
    pub failure_rate: Option<f64>,

    /// Failures in a row from which on the breaker opens; `off` for never. It counts only where the window has fewer than
    /// `min_requests` calls or at least half of `failure_rate` of them failed: runs happen by chance where there are many.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[serde(serialize_with = "number_or_off")]
    #[schemars(schema_with = "count_or_off_schema")]
    pub consecutive_failures: Option<u32>,

    /// How long such a run must last at least (0s to 10m), unless it makes up half of the window.
    #[garde(custom(units::between(Duration::ZERO, Duration::from_secs(600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub consecutive_min_span: Duration,

    /// Connections in a row that could not be made; `off` for never.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[serde(serialize_with = "number_or_off")]
    #[schemars(schema_with = "count_or_off_schema")]
    pub connect_failures: Option<u32>,

    /// Calls that take too long.
    #[garde(dive)]
    pub slow_call: SlowCall,

    /// How long calls are stopped.
    #[garde(dive)]
    pub open: OpenTime,

    /// How calls are let through to see whether the destination works again.
    #[garde(dive)]
    pub half_open: HalfOpen,

    /// Calls to the destination under way at the same time; what is beyond is rejected, and changes no state. `off` for no
    /// limit; the highest number so far is on `/breakers` in any case.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[serde(serialize_with = "number_or_off")]
    #[schemars(schema_with = "count_or_off_schema")]
    pub max_in_flight: Option<u32>,

    /// Connections to the destination at the same time, of all workers and idle ones included. A call that needs one more
    /// is rejected, and changes no state; over HTTP/2 clients then share connections. `off` for no limit.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[serde(serialize_with = "number_or_off")]
    #[schemars(schema_with = "count_or_off_schema")]
    pub max_connections: Option<u32>,

    /// Calls to the destination that wait for a connection at the same time: for an address, for it to be made, for its TLS
    /// handshake. What is beyond is rejected, and changes no state. `off` for no limit.
    #[garde(inner(range(min = 1, max = 1_000_000)))]
    #[serde(serialize_with = "number_or_off")]
    #[schemars(schema_with = "count_or_off_schema")]
    pub max_pending: Option<u32>,

    /// When one of several endpoints is passed over while the others serve.
    #[garde(dive)]
    pub ejection: Ejection,

    /// Once it works again: the time over which the share of calls that are let through grows from none to all, 0s to 10m.
    #[garde(custom(units::between(Duration::ZERO, Duration::from_secs(600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub ramp: Duration,

    /// Whether an answer that a breaker further down is the cause of counts as a failure of the service in between.
    pub count_propagated: bool,
}

keys!(BreakerSettings {
    mode,
    enforce_percent,
    window,
    min_requests,
    failure_rate,
    consecutive_failures,
    consecutive_min_span,
    connect_failures,
    slow_call,
    open,
    half_open,
    max_in_flight,
    max_connections,
    max_pending,
    ejection,
    ramp,
    count_propagated,
});

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            mode: BreakerMode::Observe,
            enforce_percent: 100,
            window: Duration::from_secs(10),
            min_requests: 20,
            failure_rate: Some(0.5),
            consecutive_failures: Some(7),
            consecutive_min_span: Duration::from_secs(1),
            connect_failures: Some(3),
            slow_call: SlowCall::default(),
            open: OpenTime::default(),
            half_open: HalfOpen::default(),
            max_in_flight: None,
            max_connections: None,
            max_pending: None,
            ejection: Ejection::default(),
            ramp: Duration::ZERO,
            count_propagated: false,
        }
    }
}

/// Calls that take too long. A stream (WebSocket, CONNECT, server-sent events) counts until its answer begins, everything
/// else until it is whole.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct SlowCall {
    /// From when on a call is slow: 1ms to 1h; `off` for never. Three times the usual p99 is a good beginning.
    #[garde(inner(custom(units::between(Duration::from_millis(1), Duration::from_secs(3600)))))]
    #[serde(serialize_with = "units::serialize_duration_or_off")]
    #[schemars(schema_with = "units::duration_or_off_schema")]
    pub duration: Option<Duration>,

    /// Share of slow calls from which on the breaker opens, above 0 and up to 1.
    #[garde(custom(share))]
    pub rate: f64,
}

keys!(SlowCall { duration, rate });

impl Default for SlowCall {
    fn default() -> Self {
        Self { duration: None, rate: 0.8 }
    }
}

/// How long calls are stopped: `base` the first time, `factor` times as long each further time, at most `max`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
#[garde(custom(|open: &Self, _| units::ordered("base", open.base, "max", open.max)))]
pub struct OpenTime {
    /// The first time: 100ms to 1h.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub base: Duration,

    /// At most: 100ms to 1h.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub max: Duration,

    /// By how much each further time is longer than the one before: 1 to 10.
    #[garde(range(min = 1.0, max = 10.0))]
    pub factor: f64,

    /// The share by which each time is made longer or shorter at random, 0 to 0.5, so that callers do not all come back
    /// at the same moment.
    #[garde(range(min = 0.0, max = 0.5))]
    pub jitter: f64,

    /// How long calls must pass before the next time is shorter by one step again: 1s to 24h.
    #[garde(custom(units::between(Duration::from_secs(1), Duration::from_secs(86_400))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub decay_after: Duration,

    /// A `Retry-After` of the destination is honoured up to here: 0s to 1h.
    #[garde(custom(units::between(Duration::ZERO, Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub honor_retry_after_max: Duration,
}

keys!(OpenTime { base, max, factor, jitter, decay_after, honor_retry_after_max });

impl Default for OpenTime {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(5),
            max: Duration::from_secs(60),
            factor: 2.0,
            jitter: 0.2,
            decay_after: Duration::from_secs(60),
            honor_retry_after_max: Duration::from_secs(300),
        }
    }
}

/// How calls are let through to see whether the destination works again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
#[garde(custom(|half: &Self, _| counted("successes_needed", half.successes_needed, "probes", half.probes)))]
pub struct HalfOpen {
    /// Calls that are let through at most before it is decided.
    #[garde(range(min = 1, max = 1_000))]
    pub probes: u32,

    /// Of those, so many must succeed; one that fails is enough to stop calls again.
    #[garde(range(min = 1, max = 1_000))]
    pub successes_needed: u32,

    /// How many of them may be under way at the same time.
    #[garde(range(min = 1, max = 1_000))]
    pub max_concurrent: u32,

    /// When one that has not answered has failed: 10ms to 1h.
    #[garde(custom(units::between(Duration::from_millis(10), Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub probe_timeout: Duration,
}

keys!(HalfOpen { probes, successes_needed, max_concurrent, probe_timeout });

impl Default for HalfOpen {
    fn default() -> Self {
        Self { probes: 5, successes_needed: 3, max_concurrent: 1, probe_timeout: Duration::from_secs(10) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that garde asks for")]
fn share(value: &f64, (): &()) -> garde::Result {
    if *value > 0.0 && *value <= 1.0 {
        return Ok(());
    }
    Err(garde::Error::new(format!("{value} is not a share above 0 and up to 1")))
}

fn counted(low: &str, below: u32, high: &str, above: u32) -> garde::Result {
    if below <= above {
        return Ok(());
    }
    Err(garde::Error::new(format!("`{low}` ({below}) must not be greater than `{high}` ({above})")))
}

fn share_or_off_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }, { "const": "off" }] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigFile, ProxyConfig, Sources};

    fn load(text: &str, sets: &[&str]) -> Result<Breakers, String> {
        let file = ConfigFile::from_bytes("couplet.yaml", format!("service: shop\n{text}")).unwrap();
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let sources = Sources { file: Some(file), sets, ..Sources::new(&|_| None) };
        ProxyConfig::load(&sources).map(|config| config.breakers).map_err(|error| error.to_string())
    }

    #[test]
    fn an_edge_is_what_it_says_over_the_defaults_wherever_those_stand() {
        let text = "
breakers:
  edges:
    - { to: payments, mode: enforce, open: { max: 30s } }
  defaults: { window: 20s, failure_rate: off, open: { base: 2s } }
";
        let breakers = load(text, &["breakers.defaults.min_requests=50"]).unwrap();
        let payments = breakers.of("payments", None);
        assert_eq!((payments.mode, payments.window.as_secs(), payments.failure_rate), (BreakerMode::Enforce, 20, None));
        assert_eq!((payments.open.base.as_secs(), payments.open.max.as_secs()), (2, 30));
        assert_eq!(payments.min_requests, 50, "a flag that changes the defaults reaches the edges of the file");
        assert_eq!(breakers.of("stock", None).mode, BreakerMode::Observe);
    }

    #[test]
    fn a_class_is_what_it_says_over_its_destination() {
        let text = "
routes: [{ to: payments, path: /export/, class: export }, { to: stock, path: /x, class: export }]
breakers:
  edges:
    - { to: payments, class: export, window: 60s }
    - { to: payments, mode: enforce, min_requests: 7 }
    - { to: stock, class: export, mode: enforce }
  defaults: { window: 20s }
";
        let breakers = load(text, &[]).unwrap();
        let of = |to, class| {
            let settings = breakers.of(to, class);
            (settings.mode, settings.window.as_secs(), settings.min_requests)
        };
        assert_eq!(of("payments", Some("export")), (BreakerMode::Enforce, 60, 7));
        assert_eq!(of("payments", None), (BreakerMode::Enforce, 20, 7));
        assert_eq!(of("payments", Some("other")), (BreakerMode::Enforce, 20, 7));
        assert_eq!(of("stock", Some("export")), (BreakerMode::Enforce, 20, 20));
        assert_eq!(of("stock", None), (BreakerMode::Observe, 20, 20));
    }

    #[test]
    fn what_contradicts_itself_is_told_where() {
        for (text, reason) in [
            ("breakers: { defaults: { mode: enforced } }", "did you mean `enforce`?"),
            ("breakers: { defaults: { failure_rate: 0 } }", "not a share above 0"),
            ("breakers: { defaults: { open: { base: 90s } } }", "`base` (1m30s) must not be greater than `max` (1m)"),
            ("breakers: { edges: [{ mode: enforce }] }", "breakers.edges[0].to"),
            ("breakers: { edges: [{ to: a, half_open: { probes: 2 } }] }", "`successes_needed` (3) must not"),
            ("breakers: { edges: [{ to: a }, { to: a }] }", "a breaker for a already"),
            ("breakers: { edges: [{ to: a, class: b }] }", "no route to a has this class"),
            (
                "routes: [{ to: a, class: b }]\nbreakers: { edges: [{ to: a, class: b }, { to: a, class: b }] }",
                "a breaker for a already",
            ),
            (
                "routes: [{ to: a, class: b }]\nbreakers: { edges: [{ to: a, class: b, max_pending: 3 }] }",
                "is of the destination, whatever the class",
            ),
            ("breakers: { edges: [{ to: a, windows: 5s }] }", "did you mean `window`?"),
        ] {
            let message = load(text, &[]).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
