//! TLS: who this proxy is, what it takes, and how it speaks to a destination.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use garde::Validate;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    networks,
    overlay::{Overlay, Reader, Scalar, keys},
    problem::quoted,
    spiffe::{SpiffeId, is_trust_domain},
    suggest::did_you_mean,
    tree::{Content, Node},
    units,
};

/// Who this proxy is to others, and what its inbound listener takes. Files are PEM; they are read again when they
/// change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Validate)]
#[schemars(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Tls {
    /// Who this proxy is to other sidecars: mutual TLS, with a SPIFFE ID in the certificate.
    pub identity: Option<Identity>,

    /// A certificate for clients that are no sidecars: TLS without asking for theirs.
    pub server: Option<ServerCertificate>,

    /// What the inbound listener takes: `permissive` (TLS and clear text), `strict` (no clear text from other hosts) or
    /// `off` (no TLS). Means nothing while there is neither `identity` nor `server`.
    pub inbound: InboundTls,

    /// How destinations inside of `networks` are spoken to that no `outbound` entry configures: those of captured and of
    /// explicit requests. `permissive` (mutual TLS where a sidecar answers, else clear text), `strict` (mutual TLS, or
    /// nothing but what the application has encrypted itself) or `off` (clear text). Means nothing without `identity`.
    pub outbound: OutboundTls,

    /// Networks in which other sidecars may be, such as `10.0.0.0/8` or `fd00::/8`: addresses to which `outbound` applies.
    /// The default is every private, loopback, unique local and carrier-grade NAT address.
    #[garde(length(max = 1000))]
    #[schemars(schema_with = "units::networks_schema")]
    pub networks: Vec<IpNet>,

    /// Trust domains whose SPIFFE IDs are accepted; when empty, that of the own identity alone.
    #[garde(length(max = 64), inner(custom(trust_domain)))]
    pub trust_domains: Vec<String>,

    /// How often the files are looked at: 100ms to 1h. Those that cannot be used leave in force what was before.
    #[garde(custom(units::between(Duration::from_millis(100), Duration::from_secs(3600))))]
    #[serde(serialize_with = "units::serialize_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub reload: Duration,
}

keys!(Tls { identity, server, inbound, outbound, networks, trust_domains, reload });

impl Default for Tls {
    fn default() -> Self {
        Self {
            identity: None,
            server: None,
            inbound: InboundTls::default(),
            outbound: OutboundTls::default(),
            networks: networks::routable(),
            trust_domains: Vec::new(),
            reload: Duration::from_secs(5),
        }
    }
}

/// The files of the own identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Default)]
#[schemars(deny_unknown_fields)]
pub struct Identity {
    /// The certificate with the SPIFFE ID, followed by the intermediate ones.
    pub certificate: PathBuf,

    /// Its private key. Nobody but this user should be able to read it.
    pub key: PathBuf,

    /// The certificates that other sidecars' are issued by.
    pub roots: PathBuf,
}

keys!(Identity { certificate, key, roots });

/// The files of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Default)]
#[schemars(deny_unknown_fields)]
pub struct ServerCertificate {
    /// The certificate, followed by the intermediate ones.
    pub certificate: PathBuf,

    /// Its private key. Nobody but this user should be able to read it.
    pub key: PathBuf,
}

keys!(ServerCertificate { certificate, key });

/// What the inbound listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum InboundTls {
    /// TLS and clear text on the same port.
    #[default]
    Permissive,
    /// No clear text from other hosts.
    Strict,
    /// Clear text alone.
    Off,
}

/// How destinations are spoken to that nobody has configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OutboundTls {
    /// Mutual TLS where a sidecar answers, else clear text.
    #[default]
    Permissive,
    /// Mutual TLS, or nothing but what the application has encrypted itself.
    Strict,
    /// Clear text alone.
    Off,
}

/// How a destination is spoken to. In a file it is either a mapping or just the mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Default)]
#[schemars(deny_unknown_fields, transform = units::or_text)]
pub struct UpstreamTls {
    /// `mesh` (mutual TLS with another sidecar; the default) or `on` (TLS with an ordinary server).
    pub mode: TlsMode,

    /// With `mesh`: the SPIFFE ID that the destination must have. Without it, any of the trust domains will do.
    pub identity: Option<SpiffeId>,

    /// With `on`: the name that the destination's certificate must have; without it, the host of `target`.
    pub server_name: Option<String>,

    /// With `on`: a file with the certificates that the destination's may be issued by; without it, those of the
    /// system.
    pub roots: Option<PathBuf>,
}

keys!(UpstreamTls { mode, identity, server_name, roots });

/// How a destination is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TlsMode {
    /// Mutual TLS with another sidecar.
    #[default]
    Mesh,
    /// TLS with an ordinary server.
    On,
}

impl Tls {
    /// Whether a sidecar may be at this address. An IPv4 address written as IPv6 counts as IPv4.
    pub fn covers(&self, peer: IpAddr) -> bool {
        networks::cover(&self.networks, peer)
    }

    /// The keys that must be there beside those that are.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &'static str> {
        let identity = self.identity.iter().flat_map(|files| {
            [
                ("tls.identity.certificate", &files.certificate),
                ("tls.identity.key", &files.key),
                ("tls.identity.roots", &files.roots),
            ]
        });
        let server = self
            .server
            .iter()
            .flat_map(|files| [("tls.server.certificate", &files.certificate), ("tls.server.key", &files.key)]);
        identity.chain(server).filter(|(_, path)| path.as_os_str().is_empty()).map(|(key, _)| key)
    }
}

impl UpstreamTls {
    /// Keys that contradict the mode, and why.
    pub(crate) fn contradictions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let mesh =
            (self.mode != TlsMode::Mesh && self.identity.is_some(), "identity", "means nothing without `mode: mesh`");
        let name =
            (self.mode != TlsMode::On && self.server_name.is_some(), "server_name", "means nothing without `mode: on`");
        let roots = (self.mode != TlsMode::On && self.roots.is_some(), "roots", "means nothing without `mode: on`");
        [mesh, name, roots].into_iter().filter(|(wrong, ..)| *wrong).map(|(_, key, why)| (key, why))
    }
}

fn trust_domain(domain: &str, (): &()) -> garde::Result {
    if is_trust_domain(domain) {
        return Ok(());
    }
    let shown = quoted(domain);
    Err(garde::Error::new(format!("{shown} is not a trust domain: write it like shop.example, without spiffe://")))
}

/// `off` is none.
macro_rules! optional {
    ($section:ty) => {
        impl Overlay for Option<$section> {
            fn overlay(&mut self, node: &Node, reader: &mut Reader) {
                match &node.content {
                    Content::Empty => {}
                    Content::Text(text) if text == units::OFF => *self = None,
                    _ => self.get_or_insert_default().overlay(node, reader),
                }
            }
        }
    };
}

optional!(Identity);
optional!(ServerCertificate);

/// A plain text is the mode alone; `off` is clear text.
impl Overlay for Option<UpstreamTls> {
    fn overlay(&mut self, node: &Node, reader: &mut Reader) {
        match &node.content {
            Content::Empty => {}
            Content::Text(text) if text == units::OFF => *self = None,
            Content::Text(_) => self.get_or_insert_default().mode.overlay(node, reader),
            _ => self.get_or_insert_default().overlay(node, reader),
        }
    }
}

/// The three modes of a direction.
macro_rules! modes {
    ($modes:ty) => {
        impl Scalar for $modes {
            const EXPECTED: &'static str = "permissive, strict or off";

            fn read(text: &str) -> Result<Self, String> {
                match text {
                    "permissive" => Ok(Self::Permissive),
                    "strict" => Ok(Self::Strict),
                    "off" => Ok(Self::Off),
                    _ => Err(no_mode(text)),
                }
            }
        }
    };
}

modes!(InboundTls);
modes!(OutboundTls);

fn no_mode(text: &str) -> String {
    match did_you_mean(text, ["permissive", "strict", "off"]) {
        Some(meant) => format!("{} is not a mode; did you mean `{meant}`?", quoted(text)),
        None => format!("{} is not a mode: use permissive, strict or off", quoted(text)),
    }
}

impl Scalar for TlsMode {
    const EXPECTED: &'static str = "off, mesh or on";

    fn read(text: &str) -> Result<Self, String> {
        // The word for none is read where there may be none.
        match text {
            "mesh" => Ok(Self::Mesh),
            "on" => Ok(Self::On),
            _ => Err(format!("{} is none of off, mesh and on", quoted(text))),
        }
    }
}
