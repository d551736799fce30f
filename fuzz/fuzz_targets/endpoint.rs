//! Endpoint templates, configured and learned: templates, an empty line, then requests such as `GET /orders/17`; one
//! that begins with `+` is gRPC's.

#![no_main]

use couplet_telemetry::endpoint::{Asked, Learner, LearnerLimits, Templates, variable_segments};
use couplet_telemetry::names::MAX_ENDPOINT_BYTES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (templates, requests) = text.split_once("\n\n").unwrap_or(("", text));
    // The configuration refuses these before anybody reads them as templates.
    if templates.chars().any(|c| c.is_control() && c != '\n') {
        return;
    }
    let templates = match Templates::new(templates.split('\n').filter(|line| !line.is_empty())) {
        Ok(templates) => templates,
        Err(why) => return assert!(!why.is_empty()),
    };
    let mut learner = Learner::new(templates, Some(LIMITS));
    let mut other = Learner::new(Templates::default(), Some(LIMITS));
    for request in requests.split('\n') {
        let (grpc, request) = request.strip_prefix('+').map_or((false, request), |rest| (true, rest));
        let (method, target) = request.split_once(' ').unwrap_or(("GET", request));
        by_rules(method, target);

        let asked = Asked { method, target, grpc };
        let name = named(&mut learner, &asked);
        assert_eq!(named(&mut learner, &asked), name, "asking changes nothing");
        learner.succeeded("shop", &name);
        other.told("shop", &name, variable_segments(&name));
        named(&mut other, &asked);
        assert!(learner.nodes() <= LIMITS.nodes && other.nodes() <= LIMITS.nodes);
        learner.grow_older();
    }
    for learned in learner.learned() {
        other.adopt(&learned);
        assert!(other.nodes() <= LIMITS.nodes);
    }
    learner.forget(2, 3);
    for mut learner in [learner, other] {
        (0..3).for_each(|_| learner.grow_older());
        learner.forget(1, 1);
        assert_eq!((learner.nodes(), learner.learned().len()), (0, 0), "all is forgotten");
    }
});

/// Small, so that inputs reach them.
const LIMITS: LearnerLimits = LearnerLimits { values: 2, nodes: 40 };

fn by_rules(method: &str, target: &str) {
    let rules = |method: &str, target: &str| {
        let mut out = String::new();
        Templates::default().endpoint(method, target, &mut out);
        checked(&out);
        out
    };
    let name = rules(method, target);
    if name.len() < MAX_ENDPOINT_BYTES
        && let Some((method, path)) = name.split_once(' ')
    {
        assert_eq!(rules(method, path), name, "a template is its own template");
    }
}

fn named(learner: &mut Learner, asked: &Asked<'_>) -> String {
    let mut out = "left over".to_owned();
    learner.endpoint("shop", asked, &mut out);
    checked(&out);
    out
}

/// An endpoint is one that an analyzer takes.
fn checked(endpoint: &str) {
    assert!(endpoint.len() <= MAX_ENDPOINT_BYTES);
    assert!(!endpoint.chars().any(char::is_control), "a report with {endpoint:?} would be refused");
}
