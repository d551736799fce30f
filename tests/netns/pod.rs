//! The shape of an injected pod: an init step, a sidecar as a user of its own, an application as another one. The
//! applications know nothing of it.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{eventually, get};
use crate::peers::{ask, http};
use crate::world::{APP, Families, world};

/// Passes on the headers of a trace, as tracing libraries do.
fn trace_of(head: &str) -> String {
    let carried = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_lowercase();
        name == "traceparent" || name == "tracestate"
    };
    head.lines().filter(carried).map(|line| format!("{line}\r\n")).collect()
}

fn edge<'a>(document: &'a Value, source: &str, destination: &str) -> Option<&'a Value> {
    document["edges"].as_array()?.iter().find(|edge| edge["source"] == source && edge["destination"] == destination)
}

#[test]
fn two_injected_pods_call_each_other_and_the_analyzer_sees_the_chain() {
    let Some(world) = world("two injected pods", Families::Dual) else { return };
    let analyzer = world.analyzer();
    let (shop, stock) = (world.pods[0].clone(), world.pods[1].clone());
    for pod in [&shop, &stock] {
        pod.init("");
    }
    let mut sidecars = vec![shop.sidecar("shop", ""), stock.sidecar("stock", "")];
    for pod in [&shop, &stock] {
        let check = pod.couplet("intercept check").with(0);
        assert!(check.stdout().contains("the proxy listens at port 15406"), "{check}");
    }
    // `shop` asks `stock`, which asks `shop` for a price: requests flow in both directions.
    let (to_stock, to_shop) = (stock.ipv6, shop.ipv4);
    http(&stock, APP, (stock.ipv6, 8080), move |head| {
        ask((to_shop, 8080), "/price/7", "shop.market.svc.cluster.local", &trace_of(head)).body
    });
    http(&shop, APP, (shop.ipv4, 8080), move |head| match head.starts_with("GET /price/") {
        true => "12".to_owned(),
        false => ask((to_stock, 8080), "/items/7", "stock.market.svc:8080", &trace_of(head)).body,
    });
    let front = world.outside();
    for _ in 0..60 {
        let answer = front.inside(0, move || ask((to_shop, 8080), "/buy", "shop", ""));
        assert_eq!((answer.status, answer.body.as_str()), (200, "12"), "{}", answer.head);
    }
    // Probes of the platform pass and are nobody's requests.
    for _ in 0..5 {
        let answer =
            front.inside(0, move || ask((to_shop, 8080), "/price/1", "shop", "user-agent: kube-probe/1.31\r\n"));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(shop.metric("couplet_infra_requests_total"), Some(5.0));

    let document = analyzer.shows("both edges with all calls", |document| {
        let all = |edge: Option<&Value>| edge.is_some_and(|edge| edge["calls"] == 60 && edge["links"]["exact"] == 60);
        (all(edge(document, "shop", "stock")) && all(edge(document, "stock", "shop"))).then(|| document.clone())
    });
    let names: Vec<_> = document["services"].as_array().unwrap().iter().map(|service| &service["name"]).collect();
    assert_eq!(names, ["shop", "stock"], "each is known by one name");
    let entries = document["entries"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["endpoint"] == "GET /buy").unwrap();
    assert_eq!((&entry["requests"], &entry["depth"]["max"]), (&60.into(), &2.into()), "{entry:#}");
    assert_eq!(entries.len(), 1, "probes make no entry: {entries:#?}");
    let rules: Vec<_> = document["findings"].as_array().unwrap().iter().map(|finding| &finding["rule"]).collect();
    assert!(rules.contains(&&"CY".into()), "a request comes back to a service that waits for it: {rules:?}");

    // The sidecar outlives its application: told to end, it carries what is under way to its end, and new calls of it.
    let slow = std::sync::Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let gate = std::sync::Arc::clone(&slow);
    http(&stock, APP, (stock.ipv4, 8081), move |_| {
        let mut open = gate.0.lock().unwrap();
        while !*open {
            open = gate.1.wait(open).unwrap();
        }
        "at last".to_owned()
    });
    let (caller, slow_at) = (shop.clone(), stock.ipv4);
    let waiting = std::thread::spawn(move || caller.inside(APP, move || ask((slow_at, 8081), "/slow", "stock", "")));
    eventually("the slow request is under way", || shop.metric("couplet_in_flight").filter(|count| *count >= 1.0));
    sidecars[0].signal(Signal::TERM);
    eventually("the sidecar drains", || {
        let (status, _) = shop.inside(0, || get("127.0.0.1:15420".parse().unwrap(), "/readyz"));
        (status == 503).then_some(())
    });
    let while_draining = shop.inside(APP, move || ask((slow_at, 8080), "/", "gone", "")).status;
    assert_eq!(while_draining, 502, "nobody listens there, but the sidecar still carries calls of its application");
    *slow.0.lock().unwrap() = true;
    slow.1.notify_all();
    let answer = waiting.join().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "at last"));
    assert_eq!(sidecars[0].exit_code(), Some(0));

    // Without its rules a pod is as it was.
    for pod in [&shop, &stock] {
        pod.couplet("intercept remove").with(0);
        let shown = pod.couplet("intercept show").with(0);
        assert!(shown.stdout().contains("no rules of Couplet are in force"), "{shown}");
    }
    sidecars.clear();
    let plain = shop.inside(APP, move || ask((slow_at, 8081), "/plain", "stock", ""));
    assert_eq!(plain.body, "at last");
}
