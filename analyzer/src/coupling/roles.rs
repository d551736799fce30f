//! What part a service plays: some are hubs, or wait all the time, because that is what they are for.

use couplet_config::{Architecture, ServiceRole};

use crate::graph::{ServiceIx, Snapshot};

/// Callees from which on a service at the edge may be a gateway.
const GATEWAY_CALLEES: u64 = 3;
/// Share of its time that a gateway waits.
const GATEWAY_WAITS: f64 = 0.5;

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

/// A service that only outsiders call, that calls several others, and that mostly waits for them: a gateway.
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
    snapshot.services().iter().zip(time).map(shape).collect()
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
}
