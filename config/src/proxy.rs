//! The configuration of `couplet proxy`: one sidecar beside one service.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    breakers::Breakers,
    capture::Capture,
    concurrency::Concurrency,
    dns::Dns,
    headers::Headers,
    limits::{ProxyLimits, Timeouts},
    link::AnalyzerLink,
    linking::Linking,
    log::Log,
    names,
    outbound::Outbound,
    overlay::keys,
    routes::Route,
    telemetry::{Endpoints, Telemetry},
    tls::Tls,
    trust::Trust,
    units,
};

/// The configuration of one Couplet sidecar. Only `service` is required.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema, Validate)]
#[schemars(title = "Couplet proxy", deny_unknown_fields, default = "ProxyConfig::blank")]
#[garde(allow_unvalidated)]
pub struct ProxyConfig {
    /// Name of the service that this proxy stands beside: 1 to 63 letters, digits, dots, dashes or underscores.
    #[garde(custom(names::service))]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$|\$\{"))]
    pub service: String,

    /// Version of the service, for example an image tag. A change of it is recorded as a deployment.
    #[garde(inner(length(min = 1, max = 255)))]
    pub version: Option<String>,

    /// Name of this instance of the service, for example the pod's name. Chosen by the program when absent.
    #[garde(inner(length(min = 1, max = 255)))]
    pub instance: Option<String>,

    /// Where inbound requests are delivered: the address the application itself listens on. Without it there is no
    /// inbound listener.
    #[serde(serialize_with = "units::serialize_or_off")]
    #[schemars(schema_with = "units::address_or_off_schema")]
    pub app: Option<SocketAddr>,

    /// Where the proxy takes inbound requests for the application. Used only when `app` or `capture.inbound` is set. In a
    /// pod, set `0.0.0.0:15406`.
    #[schemars(schema_with = "units::address_schema")]
    pub inbound: SocketAddr,

    /// Static outbound listeners: each delivers what it receives to one upstream.
    #[garde(length(max = 1000), dive)]
    pub outbound: Vec<Outbound>,

    /// Where the proxy serves as explicit HTTP proxy (`HTTP_PROXY`) of the application.
    #[serde(serialize_with = "units::serialize_or_off")]
    #[schemars(schema_with = "units::address_or_off_schema")]
    pub explicit: Option<SocketAddr>,

    /// Connections that the kernel brings to the proxy without the application knowing.
    #[garde(dive)]
    pub capture: Capture,

    /// Where health, metrics and the effective configuration are served; `off` disables it.
    #[serde(serialize_with = "units::serialize_or_off")]
    #[schemars(schema_with = "units::address_or_off_schema")]
    pub admin: Option<SocketAddr>,

    /// How the names of upstreams become addresses.
    #[garde(dive)]
    pub dns: Dns,

    /// The analyzer that receives reports. Without it the proxy reports to nobody.
    pub analyzer: Option<AnalyzerLink>,

    /// Announce the inbound address to the analyzer, so that peers find this service by its name.
    pub register: bool,

    /// Ask the analyzer for the address of names that an explicit request uses and nothing else knows.
    pub resolve: bool,

    /// What is measured, and how much memory that may take.
    #[garde(dive)]
    pub telemetry: Telemetry,

    /// When calls to a failing neighbour are stopped.
    #[garde(dive)]
    pub breakers: Breakers,

    /// How many requests the application gets at the same time.
    #[garde(dive)]
    pub concurrency: Concurrency,

    /// How calls are made that differ from others: how long they may take, and whether they are tried again.
    #[garde(length(max = 1000), dive)]
    pub routes: Vec<Route>,

    /// How requests are grouped into endpoints.
    #[garde(dive)]
    pub endpoints: Endpoints,

    /// What the proxy adds to the messages that it passes on.
    #[garde(dive)]
    pub headers: Headers,

    /// By which headers calls are linked to the requests that make them.
    #[garde(dive)]
    pub link: Linking,

    /// Who this proxy is to others, and what its inbound listener takes.
    #[garde(dive)]
    pub tls: Tls,

    /// Whose context and summary headers are believed.
    #[garde(dive)]
    pub trust: Trust,

    /// What the proxy carries at most at the same time.
    #[garde(dive)]
    pub limits: ProxyLimits,

    /// How long the proxy waits.
    #[garde(dive)]
    pub timeouts: Timeouts,

    /// Number of threads that carry traffic.
    #[garde(range(min = 1, max = 256))]
    pub workers: usize,

    /// Share the ports with another process of the same user that also sets this: a new proxy takes over while the old
    /// one drains, and no connection is refused in between.
    pub takeover: bool,

    /// How often the configuration file is read for changes: 100ms to 1h. With `off` only SIGHUP and `POST /reload`
    /// make the proxy read it.
    #[garde(inner(custom(units::between(Duration::from_millis(100), Duration::from_secs(3600)))))]
    #[serde(serialize_with = "units::serialize_duration_or_off")]
    #[schemars(schema_with = "units::duration_or_off_schema")]
    pub watch: Option<Duration>,

    /// What the proxy logs.
    #[garde(dive)]
    pub log: Log,
}

keys!(ProxyConfig {
    service,
    version,
    instance,
    app,
    inbound,
    outbound,
    explicit,
    capture,
    admin,
    dns,
    analyzer,
    register,
    resolve,
    telemetry,
    breakers,
    concurrency,
    routes,
    endpoints,
    headers,
    link,
    tls,
    trust,
    limits,
    timeouts,
    workers,
    takeover,
    watch,
    log,
});

impl ProxyConfig {
    /// The defaults for the service `service`, which must be a valid name: 1 to 63 of `[A-Za-z0-9._-]`.
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), ..Self::blank() }
    }

    /// The defaults, with the one required key still empty.
    pub(crate) fn blank() -> Self {
        Self {
            service: String::new(),
            version: None,
            instance: None,
            app: None,
            inbound: SocketAddr::from((Ipv4Addr::LOCALHOST, 15406)),
            outbound: Vec::new(),
            explicit: None,
            capture: Capture::default(),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 15420))),
            dns: Dns::default(),
            analyzer: None,
            register: false,
            resolve: false,
            telemetry: Telemetry::default(),
            breakers: Breakers::default(),
            concurrency: Concurrency::default(),
            routes: Vec::new(),
            endpoints: Endpoints::default(),
            headers: Headers::default(),
            link: Linking::default(),
            tls: Tls::default(),
            trust: Trust::default(),
            limits: ProxyLimits::default(),
            timeouts: Timeouts::default(),
            workers: 1,
            takeover: false,
            watch: Some(Duration::from_secs(1)),
            log: Log::default(),
        }
    }
}
