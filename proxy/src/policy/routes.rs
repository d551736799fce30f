//! The routes of a configuration, found by destination and path.

use std::collections::HashMap;
use std::sync::Arc;

use couplet_config::{ProxyConfig, Route};
use tokio::time::Instant;

use super::breaker::Breaker;
use super::breakers::Breakers;
use super::retry::Budget;

/// All of them.
pub(crate) struct Routes(HashMap<String, Vec<Arc<Way>>>);

/// One, and what goes with it.
pub(crate) struct Way {
    pub(crate) route: Route,
    /// How many tries there may be, where calls on it are tried again.
    pub(crate) budget: Option<Budget>,
    /// That of its class, where it is of one.
    pub(crate) breaker: Option<Arc<Breaker>>,
}

impl Routes {
    /// Those of a new configuration. What stays as it is in `before` goes on with what is known of it.
    pub(crate) fn new(config: &ProxyConfig, breakers: &Breakers, before: Option<&Self>, now: Instant) -> Self {
        let mut by: HashMap<_, Vec<_>> = HashMap::new();
        for route in &config.routes {
            let known = before.and_then(|before| before.0.get(&route.to));
            let same = known.and_then(|known| known.iter().find(|way| way.route == *route));
            let new = || {
                let class = route.class.as_ref();
                let breaker = class.and_then(|class| breakers.of_class(&route.to, class, &config.breakers, now));
                Arc::new(Way::new(route, breaker))
            };
            let way = same.map_or_else(new, Arc::clone);
            by.entry(route.to.clone()).or_default().push(way);
        }
        Self(by)
    }

    /// The route of a call, if it has one.
    pub(crate) fn of(&self, to: &str, path: &str) -> Option<&Arc<Way>> {
        // A map without anything in it is not asked: most have none.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(to)?.iter().find(|way| way.route.is_for(to, path))
    }
}

impl Way {
    fn new(route: &Route, breaker: Option<Arc<Breaker>>) -> Self {
        let budget = route.retry.as_ref().map(|retry| Budget::new(&retry.budget));
        Self { route: route.clone(), budget, breaker }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(routes: &[Route], breakers: &Breakers, before: Option<&Routes>) -> Routes {
        let mut config = ProxyConfig::new("shop");
        config.routes = routes.to_vec();
        Routes::new(&config, breakers, before, Instant::now())
    }

    #[test]
    fn the_first_route_that_fits_holds_and_stays_over_a_change_of_others() {
        let items = Route { path: Some("/items/".to_owned()), ..Route::new("stock") };
        let breakers = Breakers::new("shop");
        let first = routes(&[items, Route::new("stock"), Route::new("prices")], &breakers, None);
        let path = |to, path| first.of(to, path).map(|way| way.route.path.clone());
        assert_eq!(path("stock", "/items/7"), Some(Some("/items/".to_owned())));
        assert_eq!(path("stock", "/"), Some(None));
        assert_eq!(path("bank", "/"), None);
        let next = routes(&[Route::new("stock")], &breakers, Some(&first));
        assert!(Arc::ptr_eq(next.of("stock", "/items/7").unwrap(), first.of("stock", "/").unwrap()));
        assert!(breakers.all().is_empty(), "none is of a class");
    }

    #[test]
    fn routes_of_one_class_share_a_breaker_which_shares_the_destination() {
        let of = |path: &str, class: &str| Route {
            path: Some(path.to_owned()),
            class: Some(class.to_owned()),
            ..Route::new("stock")
        };
        let breakers = Breakers::new("shop");
        let first = routes(&[of("/a", "slow"), of("/b", "slow"), of("/c", "other")], &breakers, None);
        let breaker = |routes: &Routes, path| Arc::clone(routes.of("stock", path).unwrap().breaker.as_ref().unwrap());
        let [a, b, c] = ["/a", "/b", "/c"].map(|path| breaker(&first, path));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        assert!(Arc::ptr_eq(&a.neighbour, &c.neighbour));
        let all = breakers.known("stock", None).unwrap();
        assert!(Arc::ptr_eq(&a.neighbour, &all.neighbour) && !Arc::ptr_eq(&a, &all));
        let next = routes(&[of("/d", "slow")], &breakers, Some(&first));
        assert!(Arc::ptr_eq(&a, &breaker(&next, "/d")), "what is known of a class outlives its routes");
    }
}
