//! A made-up system of any size: layers of services, each calling a few of the next layer. Nothing is planted in it.

use super::{library, random::Random, scenario::Scenario};

/// A layered system of `services` services; the same seed gives the same system.
///
/// # Errors
/// Never for 2 services or more; what is made up passes the same check as a file.
pub(crate) fn scenario(services: u16, seed: u64) -> anyhow::Result<Scenario> {
    library::parse("the generated system", &text(services, &Random::new(seed)))
}

fn text(services: u16, random: &Random) -> String {
    let layers = layers(services);
    let mut text = format!("name: layers-{services}\nabout: a made-up system of {services} services\nservices:\n");
    for (n, layer) in layers.iter().enumerate() {
        let below = layers.get(n + 1).map(Vec::as_slice).unwrap_or_default();
        for (position, name) in layer.iter().enumerate() {
            text += &format!("  {name}:\n    endpoints:\n      GET /work:\n        work: 2ms..8ms\n");
            let callees = callees(position, layer.len(), below, random);
            if !callees.is_empty() {
                text += "        steps:\n";
            }
            for callee in callees {
                text += &format!("          - call: {callee} GET /work\n");
            }
        }
    }
    let entries = layers.first().map(Vec::as_slice).unwrap_or_default();
    text += "load:\n";
    let rate = TOTAL_RATE / entries.len().max(1) as f64;
    for entry in entries {
        text += &format!("  - {{entry: {entry} GET /work, rate: {rate:.3}}}\n");
    }
    text
}

/// The names of the services, layer by layer, each layer about twice as wide as the one above it.
fn layers(services: u16) -> Vec<Vec<String>> {
    let services = usize::from(services);
    let mut width = (services / 15).max(1);
    let (mut layers, mut made) = (Vec::new(), 0);
    while made < services {
        let take = if layers.len() + 1 == MAX_LAYERS { services - made } else { width.min(services - made) };
        layers.push((made..made + take).map(|n| format!("service-{n:03}")).collect());
        made += take;
        width *= 2;
    }
    layers
}

/// Every service of the next layer has one caller for certain; a few more calls go anywhere.
fn callees<'a>(position: usize, width: usize, below: &'a [String], random: &Random) -> Vec<&'a str> {
    let mut callees: Vec<_> = below.iter().skip(position).step_by(width.max(1)).map(String::as_str).collect();
    let wish = random.below(u64::try_from(below.len()).unwrap_or(0));
    if let Some(other) = usize::try_from(wish).ok().and_then(|wish| below.get(wish)).filter(|_| random.unit() < 0.3) {
        callees.push(other);
    }
    callees.sort_unstable();
    callees.dedup();
    callees
}

/// Requests from outside per second, over all entries.
const TOTAL_RATE: f64 = 40.0;

/// Hops of the longest chain, and one more.
const MAX_LAYERS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_system_is_valid_and_has_as_many_services_as_asked_for() {
        for services in [2, 3, 15, 16, 40, 200, 500] {
            let scenario = scenario(services, 7).unwrap();
            assert_eq!(scenario.services.len(), usize::from(services));
        }
    }

    #[test]
    fn every_generated_service_is_called_by_somebody() {
        let scenario = scenario(120, 3).unwrap();
        for name in scenario.services.keys() {
            let entered = scenario.load.iter().any(|entry| entry.entry.service == *name);
            assert!(
                entered || scenario.services.values().any(|other| other.callees().contains(&name.as_str())),
                "{name}"
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_system() {
        assert_eq!(text(50, &Random::new(1)), text(50, &Random::new(1)));
        assert_ne!(text(50, &Random::new(1)), text(50, &Random::new(2)));
    }
}
