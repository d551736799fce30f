//! Learned templates: a position that shows too many distinct segments becomes `{id}`.
//!
//! Only segments of requests that succeeded count as values, so that whoever tries names at random cannot merge real
//! endpoints. Which positions are variable depends on the set of values seen, not on their order: as long as nothing is
//! forgotten and there is room, both proxies of a call come to the same templates.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::tree::{Budget, Node, Position};
use super::{
    Asked, BEYOND, MAX_SEGMENTS, Templates, by_segment, is_variable, known_method, looks_like_id, truncate,
    variable_segments,
};
use crate::names::MAX_ENDPOINT_BYTES;

/// Names endpoints and learns where their variable segments are.
#[derive(Debug)]
pub struct Learner {
    templates: Templates,
    learns: bool,
    budget: Budget,
    /// By service, then by method and segments.
    services: HashMap<Box<str>, Node, RandomState>,
    age: u32,
}

/// How much is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnerLimits {
    /// Distinct segments at one position; with one more it becomes variable.
    pub values: usize,
    /// Segments that are kept in all, of about 150 bytes each at most.
    pub nodes: usize,
}

/// A position that was learned to be variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The service whose endpoints these are, as it was named when the endpoint was asked for.
    pub service: String,
    /// Method and path, up to and with the position: `GET /users/{id}`.
    pub template: String,
    /// Up to three of the segments that were merged.
    pub examples: Vec<String>,
    /// Requests named by this position that the rules alone would have kept apart.
    pub requests: u64,
    /// Whether the proxy of the service said so, rather than that it was seen here.
    pub told: bool,
}

impl Learner {
    /// Nothing learned yet; never anything where `limits` is `None`.
    #[must_use]
    pub fn new(templates: Templates, limits: Option<LearnerLimits>) -> Self {
        let bounds = limits.unwrap_or(LearnerLimits { values: 0, nodes: 0 });
        let budget =
            Budget { max_values: bounds.values.max(1), max_nodes: bounds.nodes, nodes: 0, learned: 0, refused: 0 };
        Self { templates, learns: limits.is_some(), budget, services: HashMap::default(), age: 0 }
    }

    /// Writes the endpoint of a request to `service` to `out`, without allocating once `out` has grown.
    ///
    /// What applies first: a configured template, the name of a gRPC method, the rules and what was learned. At most
    /// [`MAX_ENDPOINT_BYTES`] long.
    pub fn endpoint(&mut self, service: &str, asked: &Asked<'_>, out: &mut String) {
        let path = asked.path();
        let method = known_method(asked.method);
        out.clear();
        out.push_str(method);
        out.push(' ');
        let named = self.templates.configured(path).or_else(|| asked.grpc_method());
        if let Some(named) = named {
            out.push_str(named);
        } else {
            let age = self.age;
            let mut node = self.services.get_mut(service).and_then(|node| {
                let (_, next) = node.step(method, false, age);
                next
            });
            by_segment(path, out, |segment| {
                let looks_variable = looks_like_id(segment);
                let Some(here) = node.take() else {
                    return looks_variable;
                };
                let (variable, next) = here.step(segment, looks_variable, age);
                node = next;
                variable
            });
        }
        truncate(out, MAX_ENDPOINT_BYTES);
    }

    /// A request to this endpoint, as [`Learner::endpoint`] wrote it, succeeded. Whether that changed a template.
    pub fn succeeded(&mut self, service: &str, endpoint: &str) -> bool {
        self.grow(service, endpoint, 0, false)
    }

    /// The service's own proxy says which segments of this endpoint are variable ([`variable_segments`]): its word
    /// decides. Whether that changed a template.
    pub fn told(&mut self, service: &str, endpoint: &str, variable: u16) -> bool {
        // A segment that is an id by its looks says nothing of words at the same position.
        self.grow(service, endpoint, variable & !variable_segments(endpoint), true)
    }

    /// Takes over what another learner of the same proxy has learned. Whether that changed a template.
    pub fn adopt(&mut self, learned: &Learned) -> bool {
        let position = learned.template.split('/').count().saturating_sub(2);
        let bit = u32::try_from(position).ok().and_then(|n| 1u16.checked_shl(n)).unwrap_or(0);
        self.grow(&learned.service, &learned.template, bit, learned.told)
    }

    /// Whether an endpoint is still named as it was: not so once one of its segments became variable.
    #[must_use]
    pub fn keeps(&self, service: &str, endpoint: &str) -> bool {
        let Some((method, path)) = endpoint.split_once(" /") else {
            return true;
        };
        if self.templates.configured(path_in(endpoint)).is_some() {
            return true;
        }
        let mut node = self.services.get(service).and_then(|node| node.peek(method));
        for segment in path.split('/') {
            let Some(here) = node else {
                return true;
            };
            if !is_variable(segment) && segment != BEYOND && !here.keeps_literals() {
                return false;
            }
            node = here.peek(segment);
        }
        true
    }

    /// One more window has passed.
    pub fn grow_older(&mut self) {
        self.age = self.age.saturating_add(1);
    }

    /// Forgets segments that were not asked for in the last `literals` windows, and learned positions that were not in
    /// the last `learned`; as soon as the literals where more than half of the room is taken.
    pub fn forget(&mut self, literals: u32, learned: u32) {
        let crowded = self.budget.nodes > self.budget.max_nodes / 2;
        let literals = self.age.saturating_sub(literals);
        let learned = if crowded { literals } else { self.age.saturating_sub(learned) };
        let budget = &mut self.budget;
        self.services.retain(|_, node| {
            node.forget(literals, learned, budget);
            let keep = !node.is_empty();
            if !keep {
                budget.nodes -= 1;
            }
            keep
        });
    }

    /// What was learned and is not forgotten, in no order.
    #[must_use]
    pub fn learned(&self) -> Vec<Learned> {
        let mut all = Vec::new();
        for (service, node) in &self.services {
            let mut keep = |template: &str, position: &Position| {
                all.push(Learned {
                    service: service.to_string(),
                    template: template.to_owned(),
                    examples: position.examples.iter().map(ToString::to_string).collect(),
                    requests: position.requests,
                    told: position.told,
                });
            };
            node.visit(&mut String::new(), &mut keep);
        }
        all
    }

    /// How many positions were learned so far, forgotten ones included.
    #[must_use]
    pub fn positions(&self) -> u64 {
        self.budget.learned
    }

    /// How many segments are kept now.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.budget.nodes
    }

    /// How many segments there was no room for.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.budget.refused
    }

    /// Counts the segments of an endpoint; those of `variable` become variable whatever their values.
    fn grow(&mut self, service: &str, endpoint: &str, variable: u16, told: bool) -> bool {
        let Some((method, path)) = endpoint.split_once(" /") else {
            return false;
        };
        // The last segment of an endpoint that was cut is none. A configured template is never overruled.
        let known = endpoint.len() < MAX_ENDPOINT_BYTES && self.templates.configured(path_in(endpoint)).is_none();
        if !self.learns || !known {
            return false;
        }
        let before = self.budget.learned;
        let (age, budget) = (self.age, &mut self.budget);
        if !self.services.contains_key(service) {
            if budget.nodes >= budget.max_nodes {
                budget.refused += 1;
                return false;
            }
            budget.nodes += 1;
            self.services.insert(service.into(), Node::default());
        }
        let mut node = self.services.get_mut(service).and_then(|node| node.insert(method, age, budget));
        for (n, segment) in path.split('/').enumerate().take(MAX_SEGMENTS) {
            let Some(here) = node else {
                break;
            };
            if variable >> n & 1 == 1 {
                // The segment first, so that it becomes an example.
                let _ = here.grow(segment, age, budget);
                here.merge(age, told, budget);
            }
            node = here.grow(segment, age, budget);
        }
        self.budget.learned != before
    }
}

/// The path of an endpoint, which may itself have variable segments.
fn path_in(endpoint: &str) -> &str {
    endpoint.find('/').and_then(|at| endpoint.get(at..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: LearnerLimits = LearnerLimits { values: 5, nodes: 1_000 };

    fn learner(templates: &[&str]) -> Learner {
        Learner::new(Templates::new(templates).unwrap(), Some(LIMITS))
    }

    fn name(learner: &mut Learner, target: &str) -> String {
        let mut out = String::new();
        learner.endpoint("shop", &Asked { method: "GET", target, grpc: false }, &mut out);
        out
    }

    /// A request that succeeds; its name.
    fn get(learner: &mut Learner, target: &str) -> String {
        let name = name(learner, target);
        learner.succeeded("shop", &name);
        name
    }

    fn templates(learner: &Learner) -> Vec<String> {
        let mut all: Vec<_> = learner.learned().into_iter().map(|learned| learned.template).collect();
        all.sort();
        all
    }

    #[test]
    fn a_position_with_too_many_values_becomes_variable_and_others_stay() {
        let mut learner = learner(&[]);
        for user in ["ann", "bob", "cid", "dan", "eve"] {
            assert_eq!(get(&mut learner, &format!("/users/{user}/orders")), format!("GET /users/{user}/orders"));
        }
        get(&mut learner, "/users/fay/orders");
        assert_eq!(name(&mut learner, "/users/ann/orders"), "GET /users/{id}/orders");
        assert_eq!(name(&mut learner, "/users/gus/cart?x=1"), "GET /users/{id}/cart");
        assert_eq!(name(&mut learner, "/checkout"), "GET /checkout");
        let learned = learner.learned();
        assert_eq!(learned.len(), 1);
        assert_eq!((learned[0].template.as_str(), learned[0].requests), ("GET /users/{id}", 2));
        assert_eq!(learned[0].examples, ["ann", "bob", "cid"]);
    }

    #[test]
    fn what_followed_merged_segments_is_merged_too() {
        let mut learner = learner(&[]);
        for (user, item) in [("ann", "1a"), ("bob", "2b"), ("cid", "3c"), ("dan", "4d"), ("eve", "5e"), ("fay", "6f")] {
            get(&mut learner, &format!("/users/{user}/items/x{item}"));
        }
        assert_eq!(templates(&learner), ["GET /users/{id}", "GET /users/{id}/items/{id}"]);
    }

    #[test]
    fn names_that_nothing_answers_to_are_no_values() {
        let mut learner = learner(&["/static/{file}"]);
        for n in 'a'..='z' {
            name(&mut learner, &format!("/admin-{n}"));
            get(&mut learner, &format!("/static/{n}.css"));
        }
        assert_eq!((templates(&learner).len(), learner.nodes()), (0, 0));
    }

    #[test]
    fn grpc_methods_are_names_however_many_there_are_and_whatever_they_look_like() {
        let mut learner = learner(&[]);
        let mut out = String::new();
        for target in ["/shop.v1.Orders/ListOrders2026x01", "/shop.Orders/Get-17"] {
            learner.endpoint("shop", &Asked { method: "POST", target, grpc: true }, &mut out);
            assert_eq!(out, format!("POST {target}"));
        }
        learner.endpoint("shop", &Asked { method: "POST", target: "/a/b/17", grpc: true }, &mut out);
        assert_eq!(out, "POST /a/b/{id}");
    }

    #[test]
    fn the_word_of_the_callee_decides_and_is_only_about_segments() {
        let mut caller = learner(&[]);
        let told = variable_segments("GET /users/{name}/orders");
        assert_eq!(told, 0b10);
        let own = get(&mut caller, "/users/ann/orders");
        assert!(caller.told("shop", &own, told));
        assert_eq!(name(&mut caller, "/users/bob/orders"), "GET /users/{id}/orders");
        assert!(!caller.keeps("shop", &own) && caller.keeps("shop", "GET /users/{id}/orders"));
        assert!(caller.learned()[0].told);
        assert_eq!(caller.learned()[0].examples, ["ann"]);
        // The callee may well name /users/17 and /users/me apart.
        caller.told("shop", "GET /orders/{id}", variable_segments("GET /orders/{id}"));
        assert_eq!(name(&mut caller, "/orders/latest"), "GET /orders/latest");
        // All bits at once, about an endpoint of another shape: nothing beyond its own segments.
        caller.told("shop", "GET *", u16::MAX);
        caller.told("shop", "GET /", u16::MAX);
        assert!(caller.nodes() < 20);
    }

    #[test]
    fn what_one_learner_knows_another_can_take_over() {
        let (mut one, mut other) = (learner(&[]), learner(&[]));
        for n in 0..10 {
            get(&mut one, &format!("/a/{}/b/{}", word(n), word(n + 1)));
        }
        for learned in one.learned() {
            other.adopt(&learned);
        }
        assert_eq!(templates(&one), templates(&other));
        assert_eq!(name(&mut other, "/a/x/b/y"), "GET /a/{id}/b/{id}");
    }

    #[test]
    fn a_learned_position_stays_while_it_is_used_and_is_forgotten_with_its_memory_when_it_is_not() {
        let mut learner = learner(&[]);
        (0..10).for_each(|n| drop(get(&mut learner, &format!("/users/{}", word(n)))));
        let later = |learner: &mut Learner, windows: u32| {
            (0..windows).for_each(|_| learner.grow_older());
            learner.forget(10, 100);
        };
        for _ in 0..50 {
            later(&mut learner, 20);
            assert_eq!(name(&mut learner, "/users/zoe"), "GET /users/{id}");
        }
        later(&mut learner, 90);
        assert_eq!(templates(&learner).len(), 1);
        later(&mut learner, 20);
        later(&mut learner, 0);
        assert_eq!((templates(&learner).len(), learner.nodes()), (0, 0));
        assert_eq!(name(&mut learner, "/users/zoe"), "GET /users/zoe");
    }

    #[test]
    fn memory_is_bounded_and_what_does_not_fit_is_counted() {
        let mut learner = learner(&[]);
        for n in 0..100_000_u32 {
            get(&mut learner, &format!("/{}/{}/{}", word(n % 5), word(n % 25 / 5), word(n)));
            get(&mut learner, &format!("/{}/{}", word(n % 3), "x".repeat(n as usize % 300)));
        }
        assert!(learner.nodes() <= LIMITS.nodes);
        let mut narrow = Learner::new(Templates::default(), Some(LearnerLimits { values: 1_000, nodes: 10 }));
        (0..100).for_each(|n| drop(get(&mut narrow, &format!("/{}", word(n)))));
        assert_eq!((narrow.nodes(), narrow.refused()), (10, 92));
    }

    #[test]
    fn a_learner_that_may_not_learn_keeps_to_the_rules() {
        let mut learner = Learner::new(Templates::default(), None);
        (0..100).for_each(|n| drop(get(&mut learner, &format!("/users/{}", word(n)))));
        assert_eq!(name(&mut learner, "/users/zoe"), "GET /users/zoe");
        assert!(!learner.told("shop", "GET /users/zoe", 2));
        assert_eq!(learner.nodes(), 0);
    }

    /// Words that no rule takes for an id.
    fn word(mut n: u32) -> String {
        let mut word = String::from("w");
        loop {
            word.push(char::from(b'g' + (n % 16) as u8));
            n /= 16;
            if n == 0 {
                return word;
            }
        }
    }

    fn node_count(learner: &Learner) -> usize {
        learner.services.values().map(Node::count).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_order_of_requests_does_not_matter(
            (paths, shuffled) in prop::collection::vec(prop::collection::vec(0u32..9, 1..5), 0..120)
                .prop_flat_map(|paths| (Just(paths.clone()), Just(paths).prop_shuffle()))
        ) {
            let seen = |paths: &[Vec<u32>]| {
                let mut learner = learner(&[]);
                for path in paths {
                    get(&mut learner, &path.iter().map(|n| format!("/{}", word(*n))).collect::<String>());
                }
                assert_eq!(node_count(&learner), learner.nodes());
                templates(&learner)
            };
            prop_assert_eq!(seen(&paths), seen(&shuffled));
        }

        #[test]
        fn any_targets_and_words_are_taken_within_bounds(
            steps in prop::collection::vec((".{0,60}", ".{0,12}", any::<u16>(), any::<bool>()), 0..60)
        ) {
            let mut learner = Learner::new(Templates::default(), Some(LearnerLimits { values: 2, nodes: 40 }));
            let mut out = String::new();
            for (target, service, bits, grpc) in steps {
                let target = format!("/{target}");
                learner.endpoint(&service, &Asked { method: "GET", target: &target, grpc }, &mut out);
                prop_assert!(out.len() <= MAX_ENDPOINT_BYTES);
                learner.succeeded(&service, &out);
                learner.told(&service, &out, bits);
                learner.grow_older();
                learner.forget(2, 5);
                prop_assert!(learner.nodes() <= 40);
                prop_assert_eq!(node_count(&learner), learner.nodes());
            }
        }
    }
}
