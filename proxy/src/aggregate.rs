//! A worker's own memory of the current window, and of the names that go into it. One lock, which the worker shares
//! only with the shipper, who takes the window away once in its length.

use std::collections::HashMap;
use std::sync::Arc;

use couplet_telemetry::endpoint::{Asked, Learned, Learner, variable_segments};
use couplet_telemetry::expected::ExpectedStats;
use couplet_telemetry::names::OTHER;
use couplet_telemetry::opaque::{OpaqueStats, Protocol};
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{Callee, PathDefinition, PathKind};
use couplet_telemetry::window::{Call, Handling, Loss, Window, WindowLimits, overflow};
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::context::Calling;

/// Names that were not used for this many windows are forgotten: what strangers filled a table with does not stay.
const FORGET_AFTER: u32 = 60;

/// Learned templates stay longer, a day with windows of five seconds: a quiet night must not make a service's endpoints
/// change their names.
const FORGET_LEARNED_AFTER: u32 = 17_280;

/// Path segments that a worker keeps to learn templates from: about a megabyte.
pub(crate) const LEARNED_SEGMENTS: usize = 8_192;

/// The learner's name for the own service, whose endpoints are the inbound ones: no other has it.
const OWN: &str = "";

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
    limits: Limits,
    unlinked: Arc<PathDefinition>,
    tables: Mutex<Tables>,
}

struct Tables {
    window: Window,
    age: u32,
    learner: Learner,
    endpoints: HashMap<Box<str>, Kept<Arc<str>>, RandomState>,
    /// One path may be reached on links of different strength: its definition says how surely.
    paths: HashMap<(PathId, Evidence), Kept<Arc<PathDefinition>>, RandomState>,
    callees: HashMap<u64, Kept<Arc<Callee>>, RandomState>,
    /// Where an endpoint is written before it is looked up: no allocation for one that is known.
    scratch: String,
}

struct Kept<T> {
    value: T,
    used: u32,
    /// Whether the learner has it already, or shall not have it.
    learned: bool,
}

/// What a worker learned about endpoints.
pub(crate) struct Learning {
    /// Whose endpoints: the own service's have no name here.
    pub(crate) learned: Vec<Learned>,
    /// Positions learned so far, forgotten ones included.
    pub(crate) positions: u64,
    /// Segments that are kept.
    pub(crate) segments: usize,
    /// Segments for which there was no room.
    pub(crate) refused: u64,
}

impl Local {
    pub(crate) fn new(service: &str, learner: Learner, limits: Limits) -> Self {
        let tables = Tables {
            window: Window::new(limits.window),
            age: 0,
            learner,
            endpoints: HashMap::default(),
            paths: HashMap::default(),
            callees: HashMap::default(),
            scratch: String::new(),
        };
        Self {
            service: service.to_owned(),
            limits,
            unlinked: Arc::new(PathDefinition::unlinked(service)),
            tables: Mutex::new(tables),
        }
    }

    /// The service beside which this proxy stands.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// The path of calls that could not be linked to a handler.
    pub(crate) fn unlinked(&self) -> &Arc<PathDefinition> {
        &self.unlinked
    }

    /// The path of an inbound request: below its caller's, or a root.
    pub(crate) fn path(&self, asked: &Asked<'_>, calling: Option<&Calling<'_>>) -> Arc<PathDefinition> {
        let mut tables = self.tables.lock();
        let tables = &mut *tables;
        let endpoint = tables.endpoint(self.limits.endpoints, asked);
        let id = match calling {
            Some(calling) if calling.depth >= self.limits.depth => {
                tables.window.lose(Loss::Depth, 1);
                return overflow();
            }
            Some(calling) => calling.path.child(&self.service, &endpoint),
            None => PathId::root(&self.service, &endpoint),
        };
        let evidence = calling.map_or(Evidence::Exact, |calling| calling.evidence);
        if let Some(known) = tables.paths.get_mut(&(id, evidence)) {
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
            evidence,
        });
        // Beyond the limit the definition is made again each time; the window counts what goes to the overflow path.
        if tables.paths.len() < self.limits.window.paths {
            tables.paths.insert((id, evidence), Kept { value: Arc::clone(&path), used: tables.age, learned: true });
        }
        path
    }

    /// The callee endpoint of an outbound request to `service`.
    pub(crate) fn callee(&self, service: &str, asked: &Asked<'_>) -> Arc<Callee> {
        let mut tables = self.tables.lock();
        let tables = &mut *tables;
        tables.learner.endpoint(service, asked, &mut tables.scratch);
        let key = Callee::key_of(service, &tables.scratch);
        if let Some(known) = tables.callees.get_mut(&key) {
            known.used = tables.age;
            return Arc::clone(&known.value);
        }
        if tables.callees.len() < self.limits.window.callees {
            let callee = Arc::new(Callee::new(service, tables.scratch.as_str()));
            let kept = Kept { value: Arc::clone(&callee), used: tables.age, learned: asked.grpc };
            tables.callees.insert(key, kept);
            return callee;
        }
        tables.window.lose(Loss::Callees, 1);
        Arc::new(Callee::new(service, OTHER))
    }

    pub(crate) fn handling(&self, path: &Arc<PathDefinition>, handling: &Handling<'_>) {
        let mut tables = self.tables.lock();
        if handling.outcome == Outcome::Ok {
            tables.handled(&path.endpoint);
        }
        tables.window.handling(path, handling);
    }

    pub(crate) fn call(&self, path: &Arc<PathDefinition>, callee: &Arc<Callee>, call: &Call) {
        let mut tables = self.tables.lock();
        if call.outcome == Outcome::Ok {
            tables.called(callee);
        }
        tables.window.call(path, callee, call);
    }

    /// A request met injected faults.
    pub(crate) fn injected(&self, path: &Arc<PathDefinition>, callee: &Arc<Callee>, delayed: bool, aborted: bool) {
        self.tables.lock().window.injected(path, callee, delayed, aborted);
    }

    pub(crate) fn opaque(&self, peer: &str, protocol: Protocol, change: &OpaqueStats) {
        self.tables.lock().window.opaque(peer, protocol, change);
    }

    /// What timing found endpoints to call.
    pub(crate) fn expected(&self, found: &[(String, Arc<Callee>, ExpectedStats)]) {
        let mut tables = self.tables.lock();
        found.iter().for_each(|(endpoint, callee, stats)| tables.window.expected(endpoint, callee, stats));
    }

    /// The callee's proxy says which segments of its endpoint stand for many values: later calls are named so too.
    pub(crate) fn told(&self, callee: &Callee, variable: u16) {
        if variable & !variable_segments(callee.endpoint()) == 0 {
            return;
        }
        let mut tables = self.tables.lock();
        if tables.callees.contains_key(&callee.key())
            && tables.learner.told(callee.service(), callee.endpoint(), variable)
        {
            tables.rename(callee.service());
        }
    }

    /// What this worker learned about endpoints.
    pub(crate) fn learning(&self) -> Learning {
        let learner = &self.tables.lock().learner;
        Learning {
            learned: learner.learned(),
            positions: learner.positions(),
            segments: learner.nodes(),
            refused: learner.refused(),
        }
    }

    /// How many positions this worker learned so far.
    pub(crate) fn positions(&self) -> u64 {
        self.tables.lock().learner.positions()
    }

    /// Takes over what another worker learned.
    pub(crate) fn adopt(&self, learned: &[Learned]) {
        let mut tables = self.tables.lock();
        for one in learned {
            if tables.learner.adopt(one) {
                tables.rename(&one.service);
            }
        }
    }

    pub(crate) fn lose(&self, loss: Loss) {
        self.tables.lock().window.lose(loss, 1);
    }

    /// Takes the window away and begins the next; forgets names that nobody uses.
    pub(crate) fn take(&self) -> Window {
        let mut tables = self.tables.lock();
        tables.age = tables.age.saturating_add(1);
        tables.learner.grow_older();
        if tables.age.is_multiple_of(FORGET_AFTER) {
            tables.forget();
        }
        std::mem::replace(&mut tables.window, Window::new(self.limits.window))
    }
}

impl Tables {
    fn endpoint(&mut self, limit: usize, asked: &Asked<'_>) -> Arc<str> {
        self.learner.endpoint(OWN, asked, &mut self.scratch);
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
            let kept = Kept { value: Arc::clone(&endpoint), used: self.age, learned: asked.grpc };
            self.endpoints.insert(self.scratch.as_str().into(), kept);
        }
        endpoint
    }

    /// A request to an endpoint of the own service succeeded: the first time, its segments count as values.
    fn handled(&mut self, endpoint: &str) {
        let Some(kept) = self.endpoints.get_mut(endpoint).filter(|kept| !kept.learned) else {
            return;
        };
        kept.learned = true;
        if self.learner.succeeded(OWN, endpoint) {
            self.rename(OWN);
        }
    }

    /// The same for a call.
    fn called(&mut self, callee: &Callee) {
        let Some(kept) = self.callees.get_mut(&callee.key()).filter(|kept| !kept.learned) else {
            return;
        };
        kept.learned = true;
        if self.learner.succeeded(callee.service(), callee.endpoint()) {
            self.rename(callee.service());
        }
    }

    /// Makes room where names of a service were merged. Requests under way keep the names they have.
    fn rename(&mut self, service: &str) {
        let learner = &self.learner;
        if service == OWN {
            self.endpoints.retain(|name, _| learner.keeps(OWN, name));
            self.paths.retain(|_, kept| learner.keeps(OWN, &kept.value.endpoint));
        } else {
            self.callees
                .retain(|_, kept| kept.value.service() != service || learner.keeps(service, kept.value.endpoint()));
        }
    }

    fn forget(&mut self) {
        let since = self.age.saturating_sub(FORGET_AFTER);
        self.endpoints.retain(|_, kept| kept.used >= since);
        self.paths.retain(|_, kept| kept.used >= since);
        self.callees.retain(|_, kept| kept.used >= since);
        self.learner.forget(FORGET_AFTER, FORGET_LEARNED_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_telemetry::endpoint::{LearnerLimits, Templates};
    use couplet_telemetry::report::Origin;

    fn local(endpoints: usize) -> Local {
        let window = WindowLimits { paths: 100, callees: 4 };
        let learner = Learner::new(Templates::default(), Some(LearnerLimits { values: 5, nodes: 100 }));
        Local::new("shop", learner, Limits { window, endpoints, depth: 3 })
    }

    fn get(target: &str) -> Asked<'_> {
        Asked { method: "GET", target, grpc: false }
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
        let root = local.path(&get("/orders/17?x=1"), None);
        assert_eq!((root.parent, root.depth, root.endpoint.as_str()), (None, 0, "GET /orders/{id}"));
        let child = local.path(&get("/orders/18"), Some(&calling(0)));
        assert_eq!((child.parent, child.depth, child.caller.as_deref()), (Some(calling(0).path), 1, Some("front")));
        assert!(Arc::ptr_eq(&root, &local.path(&get("/orders/99"), None)));
    }

    #[test]
    fn endpoints_beyond_the_limit_keep_their_method_and_are_counted() {
        let local = local(2);
        for n in ["a", "b", "c", "d"] {
            local.path(&get(&format!("/{n}")), None);
        }
        assert_eq!(local.path(&Asked { method: "POST", ..get("/e") }, None).endpoint, "POST (other)");
        assert_eq!(losses(&local), [(Loss::Endpoints, 3)]);
    }

    #[test]
    fn names_that_a_stranger_filled_the_table_with_are_forgotten() {
        let local = local(2);
        local.path(&get("/junk-a"), None);
        local.path(&get("/junk-b"), None);
        for _ in 0..=2 * FORGET_AFTER {
            local.take();
        }
        assert_eq!(local.path(&get("/real"), None).endpoint, "GET /real");
    }

    #[test]
    fn a_chain_beyond_the_depth_limit_goes_to_the_overflow_path() {
        let local = local(10);
        assert_eq!(local.path(&get("/"), Some(&calling(2))).depth, 3);
        assert_eq!(local.path(&get("/"), Some(&calling(3))).id, PathId::OVERFLOW);
        assert_eq!(losses(&local), [(Loss::Depth, 1)]);
    }

    #[test]
    fn callees_beyond_the_limit_keep_their_service() {
        let local = local(10);
        for n in ["a", "b", "c", "d"] {
            local.callee("stock", &get(&format!("/{n}")));
        }
        let callee = local.callee("stock", &get("/e"));
        assert_eq!((callee.service(), callee.endpoint()), ("stock", OTHER));
    }

    /// An inbound request that ended so; the endpoint it was counted on.
    fn handle(local: &Local, target: &str, outcome: Outcome) -> String {
        let path = local.path(&get(target), None);
        let handling = Handling {
            outcome,
            duration: 1,
            blocked: 0,
            busy: 0,
            asynchronous: 0,
            calls: 0,
            callees: 0,
            depth_below: 0,
            calls_below: 0,
            services_below: 0,
            below: Evidence::Exact,
            retries: 0,
            origin: None,
            trace: None,
            uses: &[],
        };
        local.handling(&path, &handling);
        path.endpoint.clone()
    }

    const USERS: [&str; 6] = ["/users/ann", "/users/bob", "/users/cid", "/users/dan", "/users/eve", "/users/fay"];

    #[test]
    fn endpoints_that_succeed_are_learned_and_make_room() {
        let local = local(8);
        handle(&local, "/cart", Outcome::Ok);
        for user in USERS {
            assert_eq!(handle(&local, user, Outcome::Ok), format!("GET {user}"));
        }
        for n in 0..100 {
            assert_eq!(handle(&local, &format!("/users/g{n}g"), Outcome::Ok), "GET /users/{id}");
        }
        assert_eq!(handle(&local, "/cart", Outcome::Ok), "GET /cart");
        assert_eq!(losses(&local), []);
        assert_eq!(local.learning().learned[0].template, "GET /users/{id}");
    }

    #[test]
    fn names_tried_at_random_merge_nothing() {
        let local = local(8);
        handle(&local, "/cart", Outcome::Ok);
        for n in 'a'..='z' {
            handle(&local, &format!("/admin-{n}"), Outcome::ClientError);
        }
        assert_eq!(handle(&local, "/cart", Outcome::Ok), "GET /cart");
        assert_eq!(local.positions(), 0);
    }

    #[test]
    fn the_word_of_a_callee_names_the_next_call_and_another_worker_takes_it_over() {
        let (one, other) = (local(10), local(10));
        let first = one.callee("stock", &get("/items/blue"));
        one.told(&first, variable_segments("GET /items/{colour}"));
        assert_eq!(one.callee("stock", &get("/items/red")).endpoint(), "GET /items/{id}");
        assert_eq!(one.callee("prices", &get("/items/red")).endpoint(), "GET /items/red");
        other.adopt(&one.learning().learned);
        assert_eq!(other.callee("stock", &get("/items/red")).endpoint(), "GET /items/{id}");
    }

    #[test]
    fn a_word_about_what_was_never_called_is_not_taken() {
        let local = local(10);
        local.told(&Callee::new("stock", "GET /items/blue"), u16::MAX);
        local.told(&local.callee("stock", &get("/items/17")), !1);
        assert_eq!(local.positions(), 0);
    }
}
