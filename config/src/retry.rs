//! When a call is tried again that may have been heard: never but where somebody says so.

use std::time::Duration;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::{
    overlay::{Overlay, Reader, Scalar, keys},
    problem::quoted,
    suggest::did_you_mean,
    tree::Node,
    units,
};

/// When calls on a route are tried again. A call that was provably not heard is, without any of this.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Retry {
    /// On what: `connect` (no connection), `reset` (broken off before the answer began), `timeout` (`per_try_timeout` was
    /// over), `gateway_error` (502, 503, 504), `5xx`, a status such as `503`, or a status of gRPC: `cancelled`,
    /// `deadline_exceeded`, `internal`, `resource_exhausted`, `unavailable`.
    #[garde(length(max = 32))]
    pub on: Vec<RetryOn>,

    /// How often at most, after the first time: 1 to 10.
    #[garde(range(min = 1, max = 10))]
    pub attempts: u32,

    /// For the head of the answer of each try: 1ms to 24h; `off` for no limit of its own.
    #[garde(inner(custom(units::between(Duration::from_millis(1), Duration::from_secs(24 * 60 * 60)))))]
    #[serde(serialize_with = "units::serialize_duration_or_off")]
    #[schemars(schema_with = "units::duration_or_off_schema")]
    pub per_try_timeout: Option<Duration>,

    /// How long to wait before the second try, about twice as long before each further one, at most ten times as long;
    /// each time somewhere between none of it and all of it, at random. 0s to 10s.
    #[garde(custom(units::between(Duration::ZERO, Duration::from_secs(10))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub backoff: Duration,

    /// Requests of which methods. Those that are not idempotent (POST, PATCH), and so all calls of gRPC, only where they
    /// are named here: they may be done twice.
    #[garde(length(min = 1, max = 16), inner(custom(method)))]
    pub methods: Vec<String>,

    /// How many tries there may be beside the requests of the route.
    #[garde(dive)]
    pub budget: RetryBudget,
}

keys!(Retry { on, attempts, per_try_timeout, backoff, methods, budget });

impl Default for Retry {
    fn default() -> Self {
        Self {
            on: Vec::new(),
            attempts: 1,
            per_try_timeout: None,
            backoff: Duration::from_millis(25),
            methods: IDEMPOTENT.map(str::to_owned).to_vec(),
            budget: RetryBudget::default(),
        }
    }
}

impl Overlay for Option<Retry> {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        self.get_or_insert_default().overlay(node, reader);
    }
}

impl Retry {
    /// What no key of it says alone: a key, and why it makes no sense.
    pub(crate) fn contradictions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let posts = self.methods.iter().any(|method| method == "POST");
        let speaks_grpc = self.on.iter().any(|on| matches!(on, RetryOn::Grpc(_)));
        let waits = self.on.contains(&RetryOn::Timeout) && self.per_try_timeout.is_none();
        let found = [
            (self.on.is_empty(), "on", "says not when a call is tried again: such as [connect, reset, 503]"),
            (
                speaks_grpc && !posts,
                "methods",
                "calls of gRPC are POST: name it, with all others that are meant, if they may be done twice",
            ),
            (waits, "on", "`timeout` needs `per_try_timeout`"),
            (
                self.budget.percent <= 0.0 && self.budget.min_per_second == 0,
                "budget",
                "allows no try ever: leave out `retry` instead",
            ),
        ];
        found.into_iter().filter_map(|(wrong, key, why)| wrong.then_some((key, why)))
    }
}

/// Tries beside the requests of a route, so that they are not what brings a destination down.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct RetryBudget {
    /// Share of the requests within `interval` that may be tried again: 0 to 100 percent.
    #[garde(range(min = 0.0, max = 100.0))]
    pub percent: f64,

    /// How long a request counts: 1s to 1m.
    #[garde(custom(units::between(Duration::from_secs(1), Duration::from_secs(60))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub interval: Duration,

    /// So many per second are allowed however few requests there are: 0 to 1000.
    #[garde(range(max = 1_000))]
    pub min_per_second: u32,
}

keys!(RetryBudget { percent, interval, min_per_second });

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20.0, interval: Duration::from_secs(10), min_per_second: 3 }
    }
}

/// What a call is tried again on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection could be made.
    Connect,
    /// The connection broke before the answer began.
    Reset,
    /// A try took longer than it may.
    Timeout,
    /// 502, 503, 504.
    GatewayError,
    /// All from 500 on.
    ServerError,
    /// This one.
    Status(u16),
    /// This one, where it is all of the answer.
    Grpc(u8),
}

const WORDS: [(&str, RetryOn); 10] = [
    ("connect", RetryOn::Connect),
    ("reset", RetryOn::Reset),
    ("timeout", RetryOn::Timeout),
    ("gateway_error", RetryOn::GatewayError),
    ("5xx", RetryOn::ServerError),
    ("cancelled", RetryOn::Grpc(1)),
    ("deadline_exceeded", RetryOn::Grpc(4)),
    ("internal", RetryOn::Grpc(13)),
    ("resource_exhausted", RetryOn::Grpc(8)),
    ("unavailable", RetryOn::Grpc(14)),
];

impl RetryOn {
    /// Whether an answer with this status is one; `grpc` is the status of gRPC, where that is spoken and known.
    #[must_use]
    pub fn is_met(self, status: u16, grpc: Option<u8>) -> bool {
        match self {
            RetryOn::Connect | RetryOn::Reset | RetryOn::Timeout => false,
            RetryOn::GatewayError => matches!(status, 502..=504),
            RetryOn::ServerError => status >= 500,
            RetryOn::Status(only) => status == only,
            RetryOn::Grpc(only) => grpc == Some(only),
        }
    }
}

impl Scalar for RetryOn {
    const EXPECTED: &'static str = "a word such as connect, or a status such as 503";

    fn read(text: &str) -> Result<Self, String> {
        if let Some((_, on)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(*on);
        }
        if let Ok(status) = text.parse() {
            let sensible = matches!(status, 429 | 500..=599);
            let message = || {
                format!("{status} is nothing to try again on: use 429, or one from 500 to 599 (between 429 and 599)")
            };
            return sensible.then_some(Self::Status(status)).ok_or_else(message);
        }
        let words = WORDS.map(|(word, _)| word);
        Err(match did_you_mean(text, words) {
            Some(meant) => format!("{} is nothing to try again on; did you mean `{meant}`?", quoted(text)),
            None => format!("{} is nothing to try again on: use a status or {}", quoted(text), words.join(", ")),
        })
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self, WORDS.iter().find(|(_, on)| on == self)) {
            (_, Some((word, _))) => serializer.serialize_str(word),
            (RetryOn::Status(status), None) => serializer.serialize_u16(*status),
            (RetryOn::Grpc(code), None) => serializer.collect_str(&format_args!("grpc {code}")),
            (_, None) => serializer.serialize_str("unknown"),
        }
    }
}

impl JsonSchema for RetryOn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RetryOn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = WORDS.map(|(word, _)| word);
        json_schema!({ "anyOf": [{ "enum": words }, { "type": "integer", "minimum": 429, "maximum": 599 }] })
    }
}

/// RFC 9110, section 9.2.2.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

fn method(method: &str, (): &()) -> garde::Result {
    let reject = |message: String| Err(garde::Error::new(message));
    if method == "CONNECT" {
        return reject("CONNECT cannot be tried again".to_owned());
    }
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
        return reject(format!("{} is not a method, such as GET", quoted(method)));
    }
    if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return reject(format!("methods are written large: write it {}", method.to_ascii_uppercase()));
    }
    Ok(())
}
