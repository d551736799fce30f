//! Where a proxy listens: which places a configuration names, and the sockets that are bound there.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use couplet_config::ProxyConfig;

use super::StartError;
use crate::connection::Role;
use crate::listener::{self, Reserved, Siblings};
use crate::metrics::Metrics;
use crate::sidecar::Worker;

/// A place to listen at, by which its socket is found again when another configuration names it. Several places of one
/// configuration may say port 0: then the name and the order tell them apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    address: SocketAddr,
    name: Option<(String, usize)>,
}

/// What is served at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Inbound,
    /// By its number in the configuration.
    Outbound(usize),
    Explicit,
    Captured,
}

impl Duty {
    /// The same for the connections of one worker.
    pub(super) fn role(self, worker: &Worker) -> Option<Role> {
        match self {
            Duty::Inbound => Some(Role::Inbound),
            Duty::Outbound(number) => worker.outbound.get(number).cloned().map(Role::Outbound),
            Duty::Explicit => Some(Role::Explicit),
            Duty::Captured => Some(Role::Captured),
        }
    }
}

/// A place that a configuration names, and what for.
pub(super) struct Wanted {
    pub(super) place: Place,
    pub(super) duty: Duty,
    what: String,
    /// The option that changes the address.
    option: &'static str,
    /// What is done where this machine has no such protocol.
    otherwise: Otherwise,
}

/// What to do where a protocol is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    Fail,
    /// There is nobody to listen to.
    Pass,
    /// The other protocol does.
    At(SocketAddr),
}

/// All places of a configuration but the admin listener's, in the order of the configuration.
pub(super) fn wanted(config: &ProxyConfig) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut add = |address: SocketAddr, duty, what: String, option, otherwise| {
        let before = wanted.iter().filter(|earlier| earlier.place.address == address && earlier.what == what).count();
        let name = (address.port() == 0).then(|| (what.clone(), before));
        wanted.push(Wanted { place: Place { address, name }, duty, what, option, otherwise });
    };
    let port = config.inbound.port();
    if config.capture.inbound {
        // Captured connections arrive at whatever address their clients asked for.
        let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let ipv4 = Otherwise::At(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
        add(all, Duty::Inbound, "inbound requests".to_owned(), "--inbound", ipv4);
    } else if config.app.is_some() {
        add(config.inbound, Duty::Inbound, "inbound requests".to_owned(), "--inbound", Otherwise::Fail);
    }
    for (number, to) in config.outbound.iter().enumerate() {
        let what = format!("outbound requests to {}", to.name);
        add(to.listen, Duty::Outbound(number), what, "--to NAME@LISTEN=TARGET", Otherwise::Fail);
    }
    if let Some(explicit) = config.explicit {
        add(explicit, Duty::Explicit, "explicit proxy requests".to_owned(), "--explicit", Otherwise::Fail);
    }
    if let Some(captured) = config.capture.outbound {
        let mut add = |address, otherwise| {
            add(address, Duty::Captured, "captured connections".to_owned(), "--set capture.outbound", otherwise);
        };
        add(captured, Otherwise::Fail);
        if captured.ip() == Ipv4Addr::LOCALHOST {
            // The kernel brings connections of either protocol to its own loopback address.
            add(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), captured.port()), Otherwise::Pass);
        }
    }
    wanted
}

/// A socket that nobody accepts from yet, and the others at its address.
pub(super) type Fresh = (TcpListener, Siblings);

/// The sockets that a configuration needs and nobody has yet.
pub(super) struct Sockets {
    /// Where each place really is, kept ones included.
    pub(super) addresses: HashMap<Place, SocketAddr>,
    /// Of each worker.
    pub(super) workers: Vec<HashMap<Place, Fresh>>,
    pub(super) admin: Option<(SocketAddr, TcpListener)>,
}

impl Sockets {
    /// Binds what `wanted` names and `held` does not have, and the admin listener where it is asked for. They listen
    /// only once all of them are bound.
    ///
    /// # Errors
    /// Which place cannot be had, and why; then nothing is bound.
    pub(super) fn open(
        config: &ProxyConfig,
        wanted: &[Wanted],
        held: &HashMap<Place, SocketAddr>,
        admin: Option<SocketAddr>,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let reserve = |address, workers, what: &str, option| {
            let reserved = listener::reserve(address, workers, config.takeover);
            reserved.map_err(|source| bind_error(address, what, option, source))
        };
        let mut reserved = Vec::new();
        for wanted in wanted.iter().filter(|wanted| !held.contains_key(&wanted.place)) {
            let reserve = |address| reserve(address, config.workers, &wanted.what, wanted.option);
            let sockets = match (reserve(wanted.place.address), wanted.otherwise) {
                (Err(error), Otherwise::Pass) if error.lacks_protocol() => continue,
                (Err(error), Otherwise::At(address)) if error.lacks_protocol() => reserve(address)?,
                (sockets, _) => sockets?,
            };
            reserved.push((wanted, sockets));
        }
        let admin = admin.map(|admin| reserve(admin, 1, "the admin endpoints", "--admin")).transpose()?;

        let mut sockets = Self { addresses: HashMap::new(), workers: Vec::new(), admin: None };
        sockets.workers.resize_with(config.workers, HashMap::new);
        for (wanted, reserved) in reserved {
            let (address, listeners) = listen(reserved, &wanted.what, wanted.option, metrics)?;
            sockets.addresses.insert(wanted.place.clone(), address);
            let siblings = Siblings::default();
            for (worker, listener) in sockets.workers.iter_mut().zip(listeners) {
                worker.insert(wanted.place.clone(), (listener, siblings.clone()));
            }
        }
        if let Some(reserved) = admin {
            let (address, listeners) = listen(reserved, "the admin endpoints", "--admin", metrics)?;
            sockets.admin = listeners.into_iter().next().map(|listener| (address, listener));
        }
        let kept = wanted.iter().filter_map(|wanted| held.get_key_value(&wanted.place));
        sockets.addresses.extend(kept.map(|(place, address)| (place.clone(), *address)));
        Ok(sockets)
    }
}

fn listen(
    reserved: Reserved,
    what: &str,
    option: &'static str,
    metrics: &Metrics,
) -> Result<(SocketAddr, Vec<TcpListener>), StartError> {
    let address = reserved.address;
    let listeners = reserved.listen(metrics).map_err(|source| bind_error(address, what, option, source))?;
    Ok((address, listeners))
}

fn bind_error(address: SocketAddr, what: &str, option: &'static str, source: io::Error) -> StartError {
    StartError::Bind { address, what: what.to_owned(), option, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_config::Outbound;

    #[test]
    fn places_are_told_apart_and_found_again() {
        let mut config = ProxyConfig::new("shop");
        config.app = Some(([127, 0, 0, 1], 8080).into());
        for to in
            ["stock@127.0.0.1:0=a:1", "stock@127.0.0.1:0=b:1", "cart@127.0.0.1:0=c:1", "prices@127.0.0.1:9001=d:1"]
        {
            config.outbound.push(Outbound::parse(to).unwrap());
        }
        let before: Vec<_> = wanted(&config).into_iter().map(|wanted| wanted.place).collect();
        for (n, place) in before.iter().enumerate() {
            assert!(!before[..n].contains(place), "{place:?}");
        }
        // The same places, whatever is served there now.
        config.outbound.swap(2, 3);
        config.outbound[2] = Outbound::parse("other@127.0.0.1:9001=e:1").unwrap();
        let after: Vec<_> = wanted(&config).into_iter().map(|wanted| wanted.place).collect();
        assert!(before.iter().all(|place| after.contains(place)));
    }
}
