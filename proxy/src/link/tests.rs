//! What proves a handler, what does not, and what is learned.

use super::*;
use couplet_config::Linking;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::propagation::{Client, HeaderUse};
use couplet_telemetry::window::overflow;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// A sidecar's memory of requests, without the requests.
struct Service {
    headers: Headers,
    handlers: Handlers,
    next: u64,
}

fn service(linking: &Linking) -> Service {
    Service { headers: Headers::new(linking), handlers: Handlers::new(), next: 0 }
}

fn fields(list: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    list.iter().map(field).collect()
}

impl Service {
    /// A request comes in with these headers; a trace is given to the application as well.
    fn open(&mut self, list: &[(&str, &str)]) -> Arc<Handler> {
        self.next += 1;
        let (mut carried, watched) = self.headers.inbound(&fields(list));
        self.headers.give(&mut carried, u128::from(self.next) + (1 << 70), self.next);
        let handler = Handler::new(self.next, 1, &carried, overflow(), 0, Instant::now()).watched(watched);
        let handler = Arc::new(handler);
        self.handlers.open(&handler);
        handler
    }

    fn end(&self, handler: &Arc<Handler>) {
        handler.end(Instant::now());
        self.handlers.ended(handler);
        if let Some(watched) = &handler.watched {
            self.headers.closed(watched);
        }
    }

    /// The application calls with these headers.
    fn call(&self, list: &[(&str, &str)]) -> Found {
        let fields = fields(list);
        let carried = self.headers.outbound(&fields);
        let found = self.handlers.find(&carried);
        self.headers.found(&carried, &found, &fields);
        found
    }

    /// The one handler that is found.
    fn one(&self, list: &[(&str, &str)]) -> Option<u64> {
        match self.call(list) {
            Found::One(handler, _) => Some(handler.id),
            Found::Several(_) | Found::None => None,
        }
    }

    /// So many requests with `inbound`, three at a time; each makes a call with `outbound`. How many are linked, each to the
    /// request that made it.
    fn serve(&mut self, requests: usize, name: &str, value: impl Fn(usize) -> String, called: &str) -> usize {
        let mut linked = 0;
        for n in 0..requests {
            let handlers: Vec<_> =
                (0..3).map(|m| self.open(&[(name, &value(3 * n + m)), ("accept", "text/plain")])).collect();
            for (m, handler) in handlers.iter().enumerate() {
                let found = self.one(&[(called, &value(3 * n + m)), ("accept", "text/plain")]);
                assert!(found.is_none_or(|found| found == handler.id), "a call is linked to another request");
                linked += usize::from(found.is_some());
            }
            handlers.iter().for_each(|handler| self.end(handler));
        }
        linked
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn state(id: u64) -> String {
    format!("couplet={id:016x}")
}

#[test]
fn every_known_header_is_proof_by_itself() {
    for (n, (name, inbound, outbound)) in [
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-00000000000000aa-01",
        ),
        (
            "b3",
            "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "0af7651916cd43dd8448eb211c80319c-00000000000000aa-1-b7ad6b7169203331",
        ),
        ("x-b3-traceid", "8448eb211c80319c", "8448eb211c80319c"),
        ("uber-trace-id", "8448eb211c80319c:1:0:1", "8448eb211c80319c:2:1:1"),
        ("x-datadog-trace-id", "5208512171318403364", "5208512171318403364"),
        ("x-cloud-trace-context", "105445aa7843bc8bf206b12000100000/1;o=1", "105445aa7843bc8bf206b12000100000/2;o=1"),
        (
            "x-amzn-trace-id",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
            "Self=1-1-1;Root=1-5759e988-bd862e3fe1be46a994272793",
        ),
        ("grpc-trace-bin", "AABkZWZnaGlqa2xtbm9wcXJzAWFiY2RlZmdoAgE", "AABkZWZnaGlqa2xtbm9wcXJzAWFiY2RlZmdpAgE="),
        (
            "sw8",
            "1-VFJBQ0U0Mg==-U0VH-3-c2hvcA==-aTE=-L2FwaQ==-ODA=",
            "1-VFJBQ0U0Mg==-U0VHMg==-1-c2hvcA==-aTE=-L2FwaQ==-ODA=",
        ),
        ("x-request-id", "c6b2e1e2-3f0a-4c58-9d8f-000000000042", "c6b2e1e2-3f0a-4c58-9d8f-000000000042"),
        ("baggage", "order=42", "order=42"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut service = service(&Linking::default());
        service.open(&[("x-request-id", "another")]);
        let handler = service.open(&[(name, inbound)]);
        assert_eq!(service.one(&[(name, outbound)]), Some(handler.id), "{n} {name}");
        assert_eq!(service.one(&[("x-unrelated", outbound)]), None, "{name}");
        let ignored = Linking { ignore: vec![name.to_owned()], ..Linking::default() };
        let mut service = self::service(&ignored);
        service.open(&[(name, inbound)]);
        assert_eq!(service.one(&[(name, outbound)]), None, "{name} is switched off");
    }
}

#[test]
fn a_trace_that_is_passed_on_in_another_format_is_the_same_trace() {
    let mut service = service(&Linking::default());
    let handler = service.open(&[("b3", &format!("{TRACE}-b7ad6b7169203331-1"))]);
    assert_eq!(service.one(&[("traceparent", &format!("00-{TRACE}-00000000000000aa-01"))]), Some(handler.id));
    assert_eq!(service.one(&[("x-datadog-trace-id", &0x8448_eb21_1c80_319c_u64.to_string())]), Some(handler.id));
}

#[test]
fn where_a_chain_comes_back_handler_id_span_or_another_value_tell_the_handlers_apart() {
    let mut service = service(&Linking::default());
    let [first, second] = ["00000000000000a1", "00000000000000a2"].map(|span| {
        service.open(&[("traceparent", &format!("00-{TRACE}-{span}-01")), ("x-request-id", &format!("request-{span}"))])
    });
    let call = format!("00-{TRACE}-00000000000000ff-01");
    assert_eq!(service.one(&[("traceparent", &call), ("tracestate", &state(second.id))]), Some(second.id));
    assert_eq!(service.one(&[("traceparent", &format!("00-{TRACE}-00000000000000a1-01"))]), Some(first.id));
    assert_eq!(service.one(&[("b3", &format!("{TRACE}-00000000000000ff-1-00000000000000a2"))]), Some(second.id));
    assert_eq!(service.one(&[("traceparent", &call), ("x-request-id", "request-00000000000000a1")]), Some(first.id));
    match service.call(&[("traceparent", &call)]) {
        Found::Several(few) => {
            assert_eq!(few.iter().map(|handler| handler.id).collect::<Vec<_>>(), [first.id, second.id]);
        }
        Found::One(..) | Found::None => panic!("it is one of the two, and nothing tells which"),
    }
    assert_eq!(service.one(&[("tracestate", &state(77)), ("traceparent", &call)]), None, "no handler has this id");
}

#[test]
fn what_too_many_handlers_share_tells_nothing_and_leaves_nothing_behind() {
    let mut service = service(&Linking::default());
    let traceparent = format!("00-{TRACE}-00000000000000ff-01");
    let handlers: Vec<_> = (0..3 * FEW).map(|_| service.open(&[("traceparent", &traceparent)])).collect();
    assert!(matches!(service.call(&[("b3", &format!("{TRACE}-1"))]), Found::None));
    for handler in &handlers {
        service.end(handler);
    }
    for n in 0..10_000u32 {
        let handler = service.open(&[("x-request-id", &format!("request-{n}"))]);
        service.end(&handler);
    }
    let known: usize = service.handlers.0.iter().map(|shard| shard.lock().holders.len()).sum();
    assert!(known <= 2 * SHARDS * ENDED_KEPT, "{known}");
}

#[test]
fn a_handler_that_ended_is_found_where_none_is_open() {
    let mut service = service(&Linking::default());
    let traceparent = format!("00-{TRACE}-00000000000000ff-01");
    let first = service.open(&[("traceparent", &traceparent)]);
    service.end(&first);
    assert_eq!(service.one(&[("traceparent", &traceparent)]), Some(first.id));
    let second = service.open(&[("traceparent", &traceparent)]);
    assert_eq!(service.one(&[("traceparent", &traceparent)]), Some(second.id));
}

#[test]
fn baggage_that_more_than_one_request_had_proves_nothing() {
    let mut service = service(&Linking::default());
    let first = service.open(&[("baggage", "region=north")]);
    assert_eq!(service.one(&[("baggage", "region=north")]), Some(first.id));
    service.end(&first);
    service.open(&[("baggage", "region=north")]);
    assert_eq!(service.one(&[("baggage", "region=north")]), None);
}

#[test]
fn a_configured_header_counts_at_once_and_not_after_it_was_taken_out() {
    let linking = Linking { headers: vec!["x-correlation-id".to_owned()], ..Linking::default() };
    let mut service = service(&linking);
    let handler = service.open(&[("x-correlation-id", "id-17")]);
    service.open(&[("x-correlation-id", "id-18")]);
    assert_eq!(service.one(&[("x-correlation-id", "id-17")]), Some(handler.id));
    service.headers.configure(&Linking::default());
    assert_eq!(service.one(&[("x-correlation-id", "id-17")]), None);
}

#[test]
fn a_header_that_calls_repeat_is_learned_whatever_it_is_called_and_stays_learned_over_a_reload() {
    for called in ["x-correlation-id", "x-cause"] {
        let mut service = service(&Linking::default());
        let id = |n: usize| format!("request-{n}");
        let before = service.serve(100, "x-correlation-id", id, called);
        assert!(before < 100, "{before} of 300 calls");
        assert_eq!(service.serve(100, "x-correlation-id", |n| id(n + 10_000), called), 300);
        service.headers.configure(&Linking { headers: vec!["x-other".to_owned()], ..Linking::default() });
        assert_eq!(service.serve(10, "x-correlation-id", |n| id(n + 20_000), called), 30);
        let off = Linking { ignore: vec!["x-correlation-id".to_owned()], ..Linking::default() };
        service.headers.configure(&off);
        assert_eq!(service.serve(300, "x-correlation-id", |n| id(n + 30_000), called), 0, "and can be switched off");
    }
}

#[test]
fn what_does_not_name_a_request_is_never_learned() {
    let tenants = |n: usize| format!("tenant-{}", n % 40);
    let constant = |_| "production".to_owned();
    let secret = |n: usize| format!("Bearer {n}");
    assert_eq!(service(&Linking::default()).serve(600, "x-env", constant, "x-env"), 0);
    assert_eq!(service(&Linking::default()).serve(600, "x-tenant", tenants, "x-tenant"), 0);
    assert_eq!(service(&Linking::default()).serve(600, "authorization", secret, "authorization"), 0);
    let opted = Linking { headers: vec!["authorization".to_owned()], ..Linking::default() };
    assert_eq!(service(&opted).serve(10, "authorization", secret, "authorization"), 30);
    let off = Linking { learn: false, ..Linking::default() };
    assert_eq!(service(&off).serve(600, "x-correlation-id", |n| format!("request-{n}"), "x-correlation-id"), 0);
}

#[test]
fn a_header_that_stops_being_right_is_given_up_and_asks_for_more_proof_the_next_time() {
    let mut service = service(&Linking::default());
    service.serve(200, "x-job", |n| format!("job-{n}"), "x-job");
    assert_eq!(service.serve(10, "x-job", |n| format!("more-{n}"), "x-job"), 30);
    // From now on the service makes up the values of its calls.
    for n in 0..300 {
        let handler = service.open(&[("x-job", &format!("in-{n}"))]);
        assert_eq!(service.one(&[("x-job", &format!("out-{n}"))]), None);
        service.end(&handler);
        service.headers.review();
    }
    let source =
        |service: &Service| service.headers.tallies().into_iter().find(|(name, ..)| name == "x-job").unwrap().1;
    assert_eq!(source(&service), Source::Off);
    let before = service.serve(130, "x-job", |n| format!("again-{n}"), "x-job");
    assert!(before == 0, "{before}: four hundred calls are needed now");
    service.serve(200, "x-job", |n| format!("at-last-{n}"), "x-job");
    assert_eq!(source(&service), Source::Learned);
}

#[test]
fn a_learned_header_whose_values_begin_to_come_again_is_given_up() {
    let mut service = service(&Linking::default());
    service.serve(200, "x-job", |n| format!("job-{n}"), "x-job");
    assert_eq!(service.serve(10, "x-job", |n| format!("more-{n}"), "x-job"), 30);
    for n in 0..2_000 {
        let handler = service.open(&[("x-job", &format!("shift-{}", n % 3))]);
        service.end(&handler);
        service.headers.review();
    }
    assert_eq!(service.one(&[("x-job", "shift-1")]), None);
}

#[test]
fn strangers_do_not_make_the_learner_grow() {
    let mut service = service(&Linking::default());
    service.call(&[]);
    for n in 0..3_000 {
        let headers: Vec<_> = (0..40).map(|m| (format!("x-{n}-{m}"), format!("value-{n}-{m}"))).collect();
        let list: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let handler = service.open(&list);
        service.call(&list);
        service.end(&handler);
    }
    let learning = serde_json::to_value(service.headers.learning()).unwrap();
    assert_eq!(learning["values"], 0, "every request has ended");
    assert!(learning["candidates"].as_array().unwrap().len() <= 128);
}

#[test]
fn where_calls_are_linked_nothing_is_watched() {
    let mut service = service(&Linking::default());
    for n in 0..100 {
        let id = format!("request-{n}");
        let handler = service.open(&[("x-request-id", &id), ("x-correlation-id", &id)]);
        assert!(handler.watched.is_none());
        assert_eq!(service.one(&[("x-request-id", &id)]), Some(handler.id));
        service.end(&handler);
    }
    service.headers.called_by(Some(b"curl/8"), Evidence::Inferred);
    let told = service.headers.since();
    let used = HeaderUse { inbound: 100, outbound: 100, linked: 100 };
    assert_eq!(told.headers["x-request-id"], used);
    assert_eq!(
        told.headers["traceparent"],
        HeaderUse { inbound: 100, ..HeaderUse::default() },
        "given, and not passed on"
    );
    assert_eq!(told.clients[&Client::Curl].get(Evidence::Inferred), 1);
    assert!(service.headers.since().is_empty());
}
