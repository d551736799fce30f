//! The environment that leads a command's calls through its sidecar.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

/// What it takes to wrap a command. The shim for Node.js is a file that lives as long as this.
pub(super) struct Wrapping {
    proxy: SocketAddr,
    port: Option<u16>,
    shim: Shim,
}

impl Wrapping {
    /// Calls go to the sidecar's explicit listener at `explicit`; the command listens at `port`.
    pub(super) fn new(explicit: SocketAddr, port: Option<u16>) -> anyhow::Result<Self> {
        Ok(Self { proxy: callable(explicit), port, shim: Shim::write().context("cannot write the shim for Node.js")? })
    }

    /// The variables that the command gets on top of this program's own, which `env` reads.
    pub(super) fn variables(&self, env: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, OsString)> {
        variables(self.proxy, self.port, &self.shim.path, env)
    }
}

fn variables(
    proxy: SocketAddr,
    port: Option<u16>,
    shim: &Path,
    env: impl Fn(&str) -> Option<String>,
) -> Vec<(&'static str, OsString)> {
    let url = format!("http://{proxy}");
    let mut variables: Vec<(&str, OsString)> = Vec::new();
    for name in ["http_proxy", "HTTP_PROXY"] {
        variables.push((name, url.clone().into()));
    }
    // Exceptions that are there already stay: HTTPS_PROXY may need them.
    for name in ["no_proxy", "NO_PROXY"] {
        variables.push((name, joined(env(name), ",", NOT_PROXIED).into()));
    }
    variables.push(("NODE_USE_ENV_PROXY", "1".into()));
    variables.push(("NODE_OPTIONS", with_shim(env("NODE_OPTIONS"), shim)));
    variables.push(("JAVA_TOOL_OPTIONS", joined(env("JAVA_TOOL_OPTIONS"), " ", &java_options(proxy)).into()));
    if let (Some(port), None) = (port, env("PORT")) {
        variables.push(("PORT", port.to_string().into()));
    }
    variables
}

/// Loopback itself is never called through the sidecar: whoever writes an address and a port knows where to go.
const NOT_PROXIED: &str = "127.0.0.1,localhost,::1";

fn java_options(proxy: SocketAddr) -> String {
    let (host, port) = (proxy.ip(), proxy.port());
    format!("-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1]")
}

/// `--require` for the shim. Node splits the variable at spaces outside of double quotes.
fn with_shim(existing: Option<String>, shim: &Path) -> OsString {
    let quoted = shim.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    joined(existing, " ", &format!("--require \"{quoted}\"")).into()
}

fn joined(existing: Option<String>, separator: &str, addition: &str) -> String {
    match existing.filter(|existing| !existing.is_empty()) {
        Some(existing) => format!("{existing}{separator}{addition}"),
        None => addition.to_owned(),
    }
}

/// Where the listener at `address` can be called: one that listens everywhere is called on loopback.
fn callable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The shim as a file, in a directory that only this user can enter: what Node loads must not be anyone else's.
struct Shim {
    path: PathBuf,
    /// Removed when dropped.
    _directory: TempDir,
}

impl Shim {
    fn write() -> std::io::Result<Self> {
        let private = fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("couplet-").permissions(private).tempdir()?;
        let path = directory.path().join("couplet-env-proxy.cjs");
        fs::write(&path, SHIM)?;
        Ok(Self { path, _directory: directory })
    }
}

/// What lets a Node.js that is too old for `NODE_USE_ENV_PROXY` read HTTP_PROXY.
const SHIM: &str = include_str!("env-proxy.cjs");

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(port: Option<u16>, env: &[(&str, &str)]) -> Vec<(&'static str, OsString)> {
        let lookup = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        variables(SocketAddr::from(([127, 0, 0, 1], 4000)), port, Path::new("/tmp/a b/shim.cjs"), lookup)
    }

    fn value<'a>(variables: &'a [(&str, OsString)], name: &str) -> Option<&'a str> {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_str().unwrap())
    }

    #[test]
    fn http_goes_through_the_sidecar_but_https_and_loopback_do_not() {
        let variables = wrapped(None, &[]);
        for name in ["http_proxy", "HTTP_PROXY"] {
            assert_eq!(value(&variables, name), Some("http://127.0.0.1:4000"));
        }
        for name in ["no_proxy", "NO_PROXY"] {
            assert_eq!(value(&variables, name), Some("127.0.0.1,localhost,::1"));
        }
        for name in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            assert_eq!(value(&variables, name), None, "{name} belongs to the user");
        }
    }

    #[test]
    fn what_the_user_has_set_is_kept() {
        let variables = wrapped(
            Some(8080),
            &[("no_proxy", "corp"), ("NODE_OPTIONS", "--inspect"), ("JAVA_TOOL_OPTIONS", "-Xmx1g"), ("PORT", "9")],
        );
        assert_eq!(value(&variables, "no_proxy"), Some("corp,127.0.0.1,localhost,::1"));
        assert_eq!(value(&variables, "NODE_OPTIONS"), Some("--inspect --require \"/tmp/a b/shim.cjs\""));
        assert!(value(&variables, "JAVA_TOOL_OPTIONS").unwrap().starts_with("-Xmx1g -Dhttp.proxyHost=127.0.0.1 "));
        assert_eq!(value(&variables, "PORT"), None);
    }

    #[test]
    fn the_command_learns_its_port_when_nobody_has_set_one() {
        assert_eq!(value(&wrapped(Some(8080), &[]), "PORT"), Some("8080"));
        assert_eq!(value(&wrapped(None, &[]), "PORT"), None);
    }

    #[test]
    fn a_listener_on_all_addresses_is_called_on_loopback() {
        for (bound, called) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")] {
            assert_eq!(callable(bound.parse().unwrap()).to_string(), called);
        }
    }

    #[test]
    fn the_shim_is_private_and_gone_afterwards() {
        let shim = Shim::write().unwrap();
        let directory = shim.path.parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o077, 0);
        assert_eq!(fs::read_to_string(&shim.path).unwrap(), SHIM);
        drop(shim);
        assert!(!directory.exists());
    }
}
