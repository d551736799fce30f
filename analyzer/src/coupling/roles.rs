//! What part a service plays: some are hubs, or wait all the time, because that is what they are for.

use std::collections::BTreeMap;

use couplet_config::{Architecture, ServiceRole};

use crate::graph::{ServiceIx, Snapshot};

/// Callees from which on a service at the edge may be a gateway.
const GATEWAY_CALLEES: u64 = 3;
/// Share of its time that a gateway waits.
const GATEWAY_WAITS: f64 = 0.5;
/// Share of a front's callees that another front calls as well where both stand before the same services.
const SHARED_CALLEES: f64 = 0.5;

/// The part of every service, in their order: as `architecture` says, else by its shape.
#[must_use]
pub fn roles(snapshot: &Snapshot, architecture: &Architecture) -> Vec<ServiceRole> {
    let mut shapes = shapes(snapshot);
    for (service, shape) in snapshot.services().iter().zip(&mut shapes) {
        if let Some(role) = architecture.service(&service.name).and_then(|told| told.role) {
            *shape = role;
        }
    }
    shapes
}

/// A service that only outsiders call, that calls several others, and that mostly waits for them: a gateway. Where several of
/// these stand before the same services, each is there for one kind of client: they are BFFs.
fn shapes(snapshot: &Snapshot) -> Vec<ServiceRole> {
    let mut time = vec![(0_u64, 0_u64); snapshot.services().len()];
    for endpoint in snapshot.endpoints() {
        if let Some((blocked, whole)) = time.get_mut(endpoint.service.position()) {
            *blocked = blocked.saturating_add(endpoint.stats.blocked);
            *whole = whole.saturating_add(endpoint.stats.duration.sum());
        }
    }
    let shape = |(service, (blocked, whole)): (&crate::graph::Service, (u64, u64))| {
        let waits = whole > 0 && blocked as f64 / whole as f64 >= GATEWAY_WAITS;
        let outside = service.observed && service.fan_in == 0 && service.fan_out >= GATEWAY_CALLEES;
        if outside && waits { ServiceRole::Gateway } else { ServiceRole::Service }
    };
    let mut shapes: Vec<_> = snapshot.services().iter().zip(time).map(shape).collect();
    for service in beside_others(snapshot, &shapes) {
        if let Some(shape) = shapes.get_mut(service.position()) {
            *shape = ServiceRole::Bff;
        }
    }
    shapes
}

/// Gateways of whose callees another one calls so many that both stand before the same services.
fn beside_others(snapshot: &Snapshot, shapes: &[ServiceRole]) -> Vec<ServiceIx> {
    let mut fronts: BTreeMap<ServiceIx, Vec<ServiceIx>> = BTreeMap::new();
    let mut callers: BTreeMap<ServiceIx, Vec<ServiceIx>> = BTreeMap::new();
    // A service calls itself behind no client's back.
    for edge in snapshot.edges().iter().filter(|edge| edge.source != edge.destination) {
        if shapes.get(edge.source.position()) == Some(&ServiceRole::Gateway) {
            fronts.entry(edge.source).or_default().push(edge.destination);
            callers.entry(edge.destination).or_default().push(edge.source);
        }
    }
    let shares = |(front, callees): (&ServiceIx, &Vec<ServiceIx>)| {
        let mut common: BTreeMap<ServiceIx, usize> = BTreeMap::new();
        for other in callees.iter().filter_map(|callee| callers.get(callee)).flatten().filter(|other| *other != front) {
            *common.entry(*other).or_default() += 1;
        }
        let most = common.into_values().max().unwrap_or(0);
        (most as f64 >= SHARED_CALLEES * callees.len() as f64).then_some(*front)
    };
    fronts.iter().filter_map(shares).collect()
}

/// Whether a service plays a part in which being a hub, and waiting, is no fault.
#[must_use]
pub fn is_front(roles: &[ServiceRole], service: ServiceIx) -> bool {
    matches!(roles.get(service.position()), Some(ServiceRole::Gateway | ServiceRole::Bff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{on, traffic};

    #[test]
    fn who_is_called_by_nobody_and_mostly_waits_for_several_is_a_gateway() {
        let wide = |own| {
            let gate = on("gate", "GET /").takes(own);
            ["a", "b", "c"].iter().fold(gate, |gate, name| gate.calls(1, on(name, "GET /").takes(10)))
        };
        let role = |own| roles(&traffic().of(10, &wide(own)).snapshot(), &Architecture::default())[3];
        assert_eq!(role(5), ServiceRole::Gateway);
        assert_eq!(role(100), ServiceRole::Service, "it works itself");
        let inner = traffic().of(10, &on("web", "GET /").calls(1, wide(5))).snapshot();
        assert_eq!(roles(&inner, &Architecture::default())[3], ServiceRole::Service, "it is called");
    }

    #[test]
    fn gateways_before_the_same_services_are_each_for_one_kind_of_client() {
        let front = |name: &str, callees: &[&str]| {
            let front = on(name, "GET /").takes(1);
            callees.iter().fold(front, |front, callee| front.calls(1, on(callee, "GET /").takes(10)))
        };
        let seen = |fronts: &[(&str, &[&str])]| {
            let traffic = fronts.iter().fold(traffic(), |all, (name, callees)| all.of(10, &front(name, callees)));
            let snapshot = traffic.snapshot();
            let roles = roles(&snapshot, &Architecture::default());
            let named = snapshot.services().iter().zip(roles).filter(|(_, role)| *role != ServiceRole::Service);
            named.map(|(service, role)| (service.name.to_string(), role)).collect::<Vec<_>>()
        };
        let (gateway, bff) = (ServiceRole::Gateway, ServiceRole::Bff);
        let both = seen(&[("mobile", &["a", "b", "c", "d"]), ("web", &["c", "d", "e", "f"])]);
        assert_eq!(both, [("mobile".to_owned(), bff), ("web".to_owned(), bff)], "half of them, which is enough");
        let apart = seen(&[("mobile", &["a", "b", "c", "d"]), ("web", &["d", "e", "f", "g"])]);
        assert_eq!(apart, [("mobile".to_owned(), gateway), ("web".to_owned(), gateway)]);
        let small = seen(&[("admin", &["a", "b", "c"]), ("web", &["a", "b", "c", "d", "e", "f", "g"])]);
        assert_eq!(
            small,
            [("admin".to_owned(), bff), ("web".to_owned(), gateway)],
            "the small one stands beside the gateway"
        );
        assert_eq!(seen(&[("web", &["a", "b", "c"])]), [("web".to_owned(), gateway)]);
    }
}
