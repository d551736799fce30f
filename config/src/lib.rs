//! Configuration of Couplet's programs: schema, validation, loading.
//!
//! A file enters at `load`. `tree` parses it into texts with places, `interpolate` fills in variables, and flags become
//! trees like that of the file. `overlay` lays the trees over the defaults of [`ProxyConfig`], [`AnalyzerConfig`] or [`Architecture`], the
//! rules of each key and `conflicts` across keys are checked, and either everything holds or a [`ConfigError`] lists
//! every problem with its place. Nothing here touches the network or the environment of the process.

mod load;
mod schema;
mod conflicts;
mod proxy;
mod analyzer;
mod architecture;
mod link;
mod outbound;
mod concurrency;
mod breakers;
mod routes;
mod retry;
mod ejection;
mod tls;
mod capture;
mod destinations;
mod target;
mod dns;
mod telemetry;
mod headers;
mod linking;
mod trust;
mod spiffe;
mod limits;
mod thresholds;
mod scalars;
mod log;
mod names;
mod networks;
mod overlay;
mod flags;
mod interpolate;
mod tree;
mod error;
mod problem;
mod off;
mod units;
mod secret;
mod suggest;

pub use analyzer::{AnalyzerConfig, AnalyzerLimits};
pub use architecture::{
    AllowedEdges, Architecture, Budgets, ForbiddenEdge, NamePattern, RuleSeverity, ServiceRole, ServiceSpec, Services,
};
pub use breakers::{BreakerMode, BreakerSettings, Breakers, EdgeBreaker, HalfOpen, OpenTime, SlowCall};
pub use capture::{Capture, Mark};
pub use concurrency::{Adaptive, Concurrency, ConcurrencyLimit};
pub use destinations::{Destination, Destinations};
pub use dns::Dns;
pub use ejection::Ejection;
pub use error::ConfigError;
pub use flags::Flag;
pub use headers::Headers;
pub use interpolate::Lookup;
pub use limits::{ProxyLimits, Timeouts};
pub use link::{AnalyzerLink, HttpUrl};
pub use linking::Linking;
pub use load::{ConfigFile, Sources};
pub use log::{Log, LogFormat};
pub use outbound::Outbound;
pub use proxy::ProxyConfig;
pub use retry::{Retry, RetryBudget, RetryOn};
pub use routes::{Route, RouteTimeouts, TimeLimit};
pub use scalars::parse_duration;
pub use schema::{analyzer_schema, architecture_schema, proxy_schema};
pub use secret::Secret;
pub use spiffe::{SpiffeId, SpiffePattern};
pub use suggest::did_you_mean;
pub use target::Target;
pub use telemetry::{Endpoints, Telemetry};
pub use thresholds::{
    AvailabilityThresholds, ChainThresholds, CircularThresholds, FanOutThresholds, FindingThresholds, HubThresholds,
    Levels, PropagationThresholds, RepeatThresholds, RetryThresholds, ShareLevels, SinglePointThresholds,
    TimeoutThresholds, WarnLevels,
};
pub use tls::{Identity, InboundTls, OutboundTls, ServerCertificate, Tls, TlsMode, UpstreamTls};
pub use trust::{CallerNames, Trust};
pub use units::ByteSize;
