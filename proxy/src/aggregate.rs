//! A worker's own memory of the current window, and of the names that go into it. One lock, which the worker shares
//! only with the shipper, who takes the window away once in its length.

use std::collections::HashMap;
use std::sync::Arc;

use couplet_telemetry::endpoint::Templates;
use couplet_telemetry::names::OTHER;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{Callee, PathDefinition, PathKind};
use couplet_telemetry::window::{Call, Handling, Loss, Window, WindowLimits, overflow};
use parking_lot::Mutex;

use crate::context::Calling;

/// Names that were not used for this many windows are forgotten: what strangers filled a table with does not stay.
const FORGET_AFTER: u32 = 60;

/// How much a worker remembers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of one window.
    pub(crate) window: WindowLimits,
    /// Endpoints of the own service.
    pub(crate) endpoints: usize,
    /// Hops from the root.
    pub(crate) depth: u32,
}

/// A worker's window and tables.
pub(crate) struct Local {
    service: String,
    templates: Templates,
    limits: Limits,
    unlinked: Arc<PathDefinition>,
    tables: Mutex<Tables>,
}

struct Tables {
    window: Window,
    age: u32,
    endpoints: HashMap<Box<str>, Kept<Arc<str>>>,
    paths: HashMap<PathId, Kept<Arc<PathDefinition>>>,
    callees: HashMap<u64, Kept<Arc<Callee>>>,
    /// Where an endpoint is written before it is looked up: no allocation for one that is known.
    scratch: String,
}

struct Kept<T> {
    value: T,
    used: u32,
}

impl Local {
    pub(crate) fn new(service: &str, templates: Templates, limits: Limits) -> Self {
        let tables = Tables {
            window: Window::new(limits.window),
            age: 0,
            endpoints: HashMap::new(),
            paths: HashMap::new(),
            callees: HashMap::new(),
            scratch: String::new(),
        };
        Self {
            service: service.to_owned(),
            templates,
            limits,
            unlinked: Arc::new(PathDefinition::unlinked(service)),
            tables: Mutex::new(tables),
        }
    }

    /// The path of calls that could not be linked to a handler.
    pub(crate) fn unlinked(&self) -> &Arc<PathDefinition> {
        &self.unlinked
    }

    /// The path of an inbound request: below its caller's, or a root.
    pub(crate) fn path(&self, method: &str, target: &str, calling: Option<&Calling<'_>>) -> Arc<PathDefinition> {
        let mut tables = self.tables.lock();
        let tables = &mut *tables;
        let endpoint = tables.endpoint(&self.templates, self.limits.endpoints, method, target);
        let id = match calling {
            Some(calling) if calling.depth >= self.limits.depth => {
                tables.window.lose(Loss::Depth, 1);
                return overflow();
            }
            Some(calling) => calling.path.child(&self.service, &endpoint),
            None => PathId::root(&self.service, &endpoint),
        };
        if let Some(known) = tables.paths.get_mut(&id) {
            known.used = tables.age;
            return Arc::clone(&known.value);
        }
        let path = Arc::new(PathDefinition {
            id,
            parent: calling.map(|calling| calling.path),
            root: calling.map_or(id, |calling| calling.root),
            caller: calling.map(|calling| calling.service.to_owned()),
            endpoint: endpoint.to_string(),
            depth: calling.map_or(0, |calling| calling.depth + 1),
            kind: PathKind::Handler,
            evidence: calling.map_or(Evidence::Exact, |calling| calling.evidence),
        });
        // Beyond the limit the definition is made again each time; the window counts what goes to the overflow path.
        if tables.paths.len() < self.limits.window.paths {
            tables.paths.insert(id, Kept { value: Arc::clone(&path), used: tables.age });
        }
        path
    }

    /// The callee endpoint of an outbound request to `service`.
    pub(crate) fn callee(&self, service: &str, method: &str, target: &str) -> Arc<Callee> {
        let mut tables = self.tables.lock();
        let tables = &mut *tables;
        self.templates.endpoint(method, target, &mut tables.scratch);
        let key = Callee::key_of(service, &tables.scratch);
        if let Some(known) = tables.callees.get_mut(&key) {
            known.used = tables.age;
            return Arc::clone(&known.value);
        }
        if tables.callees.len() < self.limits.window.callees {
            let callee = Arc::new(Callee::new(service, tables.scratch.as_str()));
            tables.callees.insert(key, Kept { value: Arc::clone(&callee), used: tables.age });
            return callee;
        }
        tables.window.lose(Loss::Callees, 1);
        Arc::new(Callee::new(service, OTHER))
    }

    pub(crate) fn handling(&self, path: &Arc<PathDefinition>, handling: &Handling<'_>) {
        self.tables.lock().window.handling(path, handling);
    }

    pub(crate) fn call(&self, path: &Arc<PathDefinition>, callee: &Arc<Callee>, call: &Call) {
        self.tables.lock().window.call(path, callee, call);
    }

    pub(crate) fn lose(&self, loss: Loss) {
        self.tables.lock().window.lose(loss, 1);
    }

    /// Takes the window away and begins the next; forgets names that nobody uses.
    pub(crate) fn take(&self) -> Window {
        let mut tables = self.tables.lock();
        tables.age = tables.age.saturating_add(1);
        if tables.age.is_multiple_of(FORGET_AFTER) {
            tables.forget();
        }
        std::mem::replace(&mut tables.window, Window::new(self.limits.window))
    }
}

impl Tables {
    fn endpoint(&mut self, templates: &Templates, limit: usize, method: &str, target: &str) -> Arc<str> {
        templates.endpoint(method, target, &mut self.scratch);
        if let Some(known) = self.endpoints.get_mut(self.scratch.as_str()) {
            known.used = self.age;
            return Arc::clone(&known.value);
        }
        let full = self.endpoints.len() >= limit;
        if full {
            // `GET (other)`: the method still says something.
            self.window.lose(Loss::Endpoints, 1);
            let method = self.scratch.split(' ').next().unwrap_or_default().len();
            self.scratch.truncate(method + 1);
            self.scratch.push_str(OTHER);
        }
        let endpoint: Arc<str> = Arc::from(self.scratch.as_str());
        if !full {
            let kept = Kept { value: Arc::clone(&endpoint), used: self.age };
            self.endpoints.insert(self.scratch.as_str().into(), kept);
        }
        endpoint
    }

    fn forget(&mut self) {
        let since = self.age.saturating_sub(FORGET_AFTER);
        self.endpoints.retain(|_, kept| kept.used >= since);
        self.paths.retain(|_, kept| kept.used >= since);
        self.callees.retain(|_, kept| kept.used >= since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_telemetry::report::Origin;

    fn local(endpoints: usize) -> Local {
        let window = WindowLimits { paths: 100, callees: 4 };
        Local::new("shop", Templates::default(), Limits { window, endpoints, depth: 3 })
    }

    fn losses(local: &Local) -> Vec<(Loss, u64)> {
        local.take().close(Origin::default(), 1, 0, 0).losses
    }

    fn calling(depth: u32) -> Calling<'static> {
        let path = PathId::root("front", "GET /");
        Calling { path, root: path, depth, call: 1, evidence: Evidence::Exact, service: "front" }
    }

    #[test]
    fn a_request_without_context_is_a_root_and_one_with_context_stands_below_it() {
        let local = local(10);
        let root = local.path("GET", "/orders/17?x=1", None);
        assert_eq!((root.parent, root.depth, root.endpoint.as_str()), (None, 0, "GET /orders/{id}"));
        let child = local.path("GET", "/orders/18", Some(&calling(0)));
        assert_eq!((child.parent, child.depth, child.caller.as_deref()), (Some(calling(0).path), 1, Some("front")));
        assert!(Arc::ptr_eq(&root, &local.path("GET", "/orders/99", None)));
    }

    #[test]
    fn endpoints_beyond_the_limit_keep_their_method_and_are_counted() {
        let local = local(2);
        for n in ["a", "b", "c", "d"] {
            local.path("GET", &format!("/{n}"), None);
        }
        assert_eq!(local.path("POST", "/e", None).endpoint, "POST (other)");
        assert_eq!(losses(&local), [(Loss::Endpoints, 3)]);
    }

    #[test]
    fn names_that_a_stranger_filled_the_table_with_are_forgotten() {
        let local = local(2);
        local.path("GET", "/junk-a", None);
        local.path("GET", "/junk-b", None);
        for _ in 0..=2 * FORGET_AFTER {
            local.take();
        }
        assert_eq!(local.path("GET", "/real", None).endpoint, "GET /real");
    }

    #[test]
    fn a_chain_beyond_the_depth_limit_goes_to_the_overflow_path() {
        let local = local(10);
        assert_eq!(local.path("GET", "/", Some(&calling(2))).depth, 3);
        assert_eq!(local.path("GET", "/", Some(&calling(3))).id, PathId::OVERFLOW);
        assert_eq!(losses(&local), [(Loss::Depth, 1)]);
    }

    #[test]
    fn callees_beyond_the_limit_keep_their_service() {
        let local = local(10);
        for n in ["a", "b", "c", "d"] {
            local.callee("stock", "GET", &format!("/{n}"));
        }
        let callee = local.callee("stock", "GET", "/e");
        assert_eq!((callee.service(), callee.endpoint()), ("stock", OTHER));
    }
}
