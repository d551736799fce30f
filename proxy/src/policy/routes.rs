//! The routes of a configuration, found by destination and path.

use std::collections::HashMap;
use std::sync::Arc;

use couplet_config::Route;

use super::retry::Budget;

/// All of them.
pub(crate) struct Routes(HashMap<String, Vec<Arc<Way>>>);

/// One, and what goes with it.
pub(crate) struct Way {
    pub(crate) route: Route,
    /// How many tries there may be, where calls on it are tried again.
    pub(crate) budget: Option<Budget>,
}

impl Routes {
    /// Those of a new configuration. What stays as it is in `before` goes on with what is known of it.
    pub(crate) fn new(routes: &[Route], before: Option<&Self>) -> Self {
        let mut by: HashMap<_, Vec<_>> = HashMap::new();
        for route in routes {
            let known = before.and_then(|before| before.0.get(&route.to));
            let same = known.and_then(|known| known.iter().find(|way| way.route == *route));
            let way = same.map_or_else(|| Arc::new(Way::new(route)), Arc::clone);
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
    fn new(route: &Route) -> Self {
        Self { route: route.clone(), budget: route.retry.as_ref().map(|retry| Budget::new(&retry.budget)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_fits_holds_and_stays_over_a_change_of_others() {
        let items = Route { path: Some("/items/".to_owned()), ..Route::new("stock") };
        let routes = [items, Route::new("stock"), Route::new("prices")];
        let first = Routes::new(&routes, None);
        let path = |to, path| first.of(to, path).map(|way| way.route.path.clone());
        assert_eq!(path("stock", "/items/7"), Some(Some("/items/".to_owned())));
        assert_eq!(path("stock", "/"), Some(None));
        assert_eq!(path("bank", "/"), None);
        let next = Routes::new(&[Route::new("stock")], Some(&first));
        assert!(Arc::ptr_eq(next.of("stock", "/items/7").unwrap(), first.of("stock", "/").unwrap()));
    }
}
