//! What no single key can say: keys of a proxy that contradict one another.

use std::net::{IpAddr, SocketAddr};

use crate::{
    breakers::EdgeBreaker,
    destinations::Destination,
    proxy::ProxyConfig,
    routes,
    tls::{InboundTls, OutboundTls, TlsMode},
};

/// A key and why it contradicts another one.
pub(crate) type Conflict = (String, String);

/// Finds addresses used twice, requests that would run in a circle, and keys that lack the one they need.
pub(crate) fn conflicts(config: &ProxyConfig) -> Vec<Conflict> {
    let listeners = listeners(config);
    let mut found = Vec::new();
    for (index, (key, listen)) in listeners.iter().enumerate() {
        let earlier = listeners.iter().take(index).find(|(_, other)| overlaps(*listen, *other));
        if let Some((other, address)) = earlier {
            found.push((key.clone(), format!("cannot listen on {listen}: `{other}` already listens on {address}")));
        }
    }
    for (key, target) in targets(config) {
        if let Some((listener, _)) = listeners.iter().find(|(_, listen)| reaches(target, *listen)) {
            found.push((
                key,
                format!("{target} is where this proxy itself listens (`{listener}`): requests would circle"),
            ));
        }
    }
    if config.register && config.app.is_none() {
        found.push(("register".to_owned(), "there is no inbound address to announce: set `app`".to_owned()));
    }
    for (key, wanted) in [("register", config.register), ("resolve", config.resolve)] {
        if wanted && config.analyzer.is_none() {
            found.push((key.to_owned(), "needs an analyzer: set `analyzer`".to_owned()));
        }
    }
    if config.analyzer.as_ref().is_some_and(|link| link.roots.is_some() && !link.url.https) {
        found.push(("analyzer.roots".to_owned(), "means nothing without `https://`".to_owned()));
    }
    for (index, outbound) in config.outbound.iter().enumerate() {
        let Some(tls) = &outbound.tls else { continue };
        let key = format!("outbound[{index}].tls");
        if tls.mode == TlsMode::Mesh && config.tls.identity.is_none() {
            found.push((key.clone(), "`mesh` needs an identity: set `tls.identity`".to_owned()));
        }
        if tls.mode == TlsMode::On && outbound.server_name().is_none() {
            let message = "which name must the certificate have? Set `server_name`: the targets have no host in common";
            found.push((key.clone(), message.to_owned()));
        }
        let contradictions = tls.contradictions();
        found.extend(contradictions.map(|(field, why)| (format!("{key}.{field}"), why.to_owned())));
    }
    for (index, edge) in config.breakers.edges.iter().enumerate() {
        let same = |earlier: &EdgeBreaker| earlier.to == edge.to && earlier.class == edge.class;
        if config.breakers.edges.iter().take(index).any(same) {
            let message = format!("there is a breaker for {} already: one of the two would be without effect", edge.to);
            found.push((format!("breakers.edges[{index}].to"), message));
        }
        if edge.class.is_none() {
            continue;
        }
        if !config.routes.iter().any(|route| route.to == edge.to && route.class == edge.class) {
            let message = format!("no route to {} has this class: it would be without effect", edge.to);
            found.push((format!("breakers.edges[{index}].class"), message));
        }
        let (own, all) = (&edge.settings, config.breakers.of(&edge.to, None));
        for (key, differs) in [
            ("max_connections", own.max_connections != all.max_connections),
            ("max_pending", own.max_pending != all.max_pending),
            ("ejection", own.ejection != all.ejection),
        ] {
            if differs {
                let message = "is of the destination, whatever the class of a call: say it without `class`";
                found.push((format!("breakers.edges[{index}].{key}"), message.to_owned()));
            }
        }
    }
    found.extend(routes::conflicts(&config.routes));
    if config.tls.inbound == InboundTls::Strict && config.tls.identity.is_none() && config.tls.server.is_none() {
        found.push(("tls.inbound".to_owned(), "`strict` needs `tls.identity` or `tls.server`".to_owned()));
    }
    if config.tls.outbound == OutboundTls::Strict && config.tls.identity.is_none() {
        found.push(("tls.outbound".to_owned(), "`strict` needs `tls.identity`".to_owned()));
    }
    found
}

fn listeners(config: &ProxyConfig) -> Vec<(String, SocketAddr)> {
    let mut listeners = Vec::new();
    if config.capture.inbound {
        // On every address, whatever stands there.
        listeners.push(("inbound".to_owned(), SocketAddr::from(([0; 16], config.inbound.port()))));
        listeners.push(("inbound".to_owned(), SocketAddr::from(([0; 4], config.inbound.port()))));
    } else if config.app.is_some() {
        listeners.push(("inbound".to_owned(), config.inbound));
    }
    let outbound = config.outbound.iter().enumerate();
    listeners.extend(outbound.map(|(index, outbound)| (format!("outbound[{index}].listen"), outbound.listen)));
    listeners.extend(config.explicit.map(|address| ("explicit".to_owned(), address)));
    listeners.extend(config.capture.outbound.map(|address| ("capture.outbound".to_owned(), address)));
    listeners.extend(config.admin.map(|address| ("admin".to_owned(), address)));
    listeners
}

/// Where requests are sent, as far as these are addresses and not names.
fn targets(config: &ProxyConfig) -> Vec<(String, SocketAddr)> {
    let mut targets = Vec::new();
    targets.extend(config.app.map(|app| ("app".to_owned(), app)));
    for (index, outbound) in config.outbound.iter().enumerate() {
        for destination in &outbound.target {
            if let Destination::Target(target) = destination
                && let Ok(host) = target.host.parse::<IpAddr>()
            {
                targets.push((format!("outbound[{index}].target"), SocketAddr::new(host, target.port)));
            }
        }
    }
    targets
}

/// Whether both cannot be bound at once. Port 0 is a free port each time; `0.0.0.0` covers every IPv4 address.
fn overlaps(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host =
        a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && same_host
}

/// Whether what is sent to `target` arrives at `listen`, as far as this host can be sure: an address of another host is
/// not ours just because we listen on the same port of all of ours.
fn reaches(target: SocketAddr, listen: SocketAddr) -> bool {
    let here = target.ip().is_loopback() || target.ip().is_unspecified();
    target == listen || (here && overlaps(target, listen))
}
