//! Where running sidecars can be reached, by the name of their service: what `http://inventory/` means to its peers.
//!
//! Only sidecars that ask for it are listed, and only while they report. Nothing of this outlives the program.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use couplet_telemetry::report::Report;

/// A sidecar is forgotten this long after its last report, or after three of its windows where those are longer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15);
/// The longest that three windows are waited for: a report that covers a long outage is no promise of another one.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// Who reports at present, and where those who want to be found are found.
#[derive(Debug, Default)]
pub struct Registry {
    instances: HashMap<String, Sidecar>,
}

#[derive(Debug)]
struct Sidecar {
    service: String,
    inbound: Option<SocketAddr>,
    until: Instant,
}

impl Registry {
    /// Notes that the sender of `report` was alive at `now`. An inbound address that is none is not listed.
    pub fn hear(&mut self, report: &Report, now: Instant) {
        let window = Duration::from_nanos(report.end.saturating_sub(report.start));
        let wait = window.saturating_mul(3).clamp(FORGOTTEN_AFTER, LONGEST_WAIT);
        let inbound = report.origin.inbound.as_deref().and_then(|address| address.parse().ok());
        let sidecar = Sidecar { service: report.origin.service.clone(), inbound, until: now + wait };
        self.instances.insert(report.origin.instance.clone(), sidecar);
    }

    /// Forgets who was not heard of for too long. Bounds the registry: senders are limited before they get here.
    pub fn forget(&mut self, now: Instant) {
        self.instances.retain(|_, sidecar| sidecar.until > now);
    }

    /// How many sidecars report at `now`.
    #[must_use]
    pub fn alive(&self, now: Instant) -> usize {
        self.instances.values().filter(|sidecar| sidecar.until > now).count()
    }

    /// Every service that can be found at `now` with its inbound addresses; both sorted.
    #[must_use]
    pub fn services(&self, now: Instant) -> Vec<(String, Vec<SocketAddr>)> {
        let mut found: Vec<_> = self.listed(now).map(|(service, inbound)| (service.to_owned(), inbound)).collect();
        found.sort_unstable();
        found.dedup();
        let mut services: Vec<(String, Vec<SocketAddr>)> = Vec::new();
        for (service, inbound) in found {
            match services.last_mut() {
                Some((last, addresses)) if *last == service => addresses.push(inbound),
                _ => services.push((service, vec![inbound])),
            }
        }
        services
    }

    /// The inbound addresses of one service at `now`, sorted; empty where nobody announces it.
    #[must_use]
    pub fn inbound(&self, service: &str, now: Instant) -> Vec<SocketAddr> {
        let mut found: Vec<_> =
            self.listed(now).filter(|(name, _)| *name == service).map(|(_, inbound)| inbound).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn listed(&self, now: Instant) -> impl Iterator<Item = (&str, SocketAddr)> {
        let live = self.instances.values().filter(move |sidecar| sidecar.until > now);
        live.filter_map(|sidecar| Some((sidecar.service.as_str(), sidecar.inbound?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_telemetry::report::Origin;

    fn report(service: &str, instance: &str, inbound: Option<&str>, window: Duration) -> Report {
        let origin = Origin {
            service: service.to_owned(),
            instance: instance.to_owned(),
            version: None,
            inbound: inbound.map(str::to_owned),
        };
        let end = u64::try_from(window.as_nanos()).unwrap();
        Report::empty(origin, 1, 0, end)
    }

    const WINDOW: Duration = Duration::from_secs(5);

    #[test]
    fn replicas_are_listed_together_and_only_if_they_ask_for_it() {
        let (mut registry, now) = (Registry::default(), Instant::now());
        registry.hear(&report("stock", "s2", Some("10.0.0.2:15406"), WINDOW), now);
        registry.hear(&report("stock", "s1", Some("10.0.0.1:15406"), WINDOW), now);
        registry.hear(&report("cart", "c1", None, WINDOW), now);
        registry.hear(&report("liar", "l1", Some("not an address"), WINDOW), now);
        let addresses: Vec<SocketAddr> = vec!["10.0.0.1:15406".parse().unwrap(), "10.0.0.2:15406".parse().unwrap()];
        assert_eq!(registry.services(now), [("stock".to_owned(), addresses.clone())]);
        assert_eq!(registry.inbound("stock", now), addresses);
        assert_eq!(registry.alive(now), 4);
    }

    #[test]
    fn a_sidecar_is_forgotten_fifteen_seconds_after_its_last_report() {
        let (mut registry, now) = (Registry::default(), Instant::now());
        registry.hear(&report("stock", "s1", Some("10.0.0.1:15406"), WINDOW), now);
        assert_eq!(registry.inbound("stock", now + Duration::from_millis(14_999)).len(), 1);
        assert_eq!(registry.inbound("stock", now + Duration::from_secs(15)).len(), 0);
        registry.forget(now + Duration::from_secs(15));
        assert!(registry.instances.is_empty());
    }

    #[test]
    fn long_windows_are_waited_for_but_not_for_ever() {
        let (mut registry, now) = (Registry::default(), Instant::now());
        registry.hear(&report("slow", "s1", Some("10.0.0.1:1"), Duration::from_secs(60)), now);
        registry.hear(&report("back", "b1", Some("10.0.0.2:1"), Duration::from_secs(36_000)), now);
        assert_eq!(registry.services(now + Duration::from_secs(179)).len(), 2);
        assert_eq!(registry.services(now + Duration::from_secs(180)).len(), 1);
        assert_eq!(registry.services(now + Duration::from_secs(900)).len(), 0);
    }
}
