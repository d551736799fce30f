//! The application gets as many requests at the same time as it may have; the others are answered at once, and nobody is
//! blamed for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use couplet_config::{BreakerMode, BreakerSettings, ConcurrencyLimit, ProxyConfig, Trust};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::breakers::{breaker, field, grpc_call, with};
use crate::framed;
use crate::harness::*;

fn limited(mode: BreakerMode, limit: ConcurrencyLimit) -> ProxyConfig {
    let mut config = with("stock", BreakerSettings::default());
    (config.concurrency.mode, config.concurrency.limit) = (mode, limit);
    config
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_answered_at_once_and_the_service_never_sees_it() {
    for (mode, passes) in [(BreakerMode::Enforce, 2), (BreakerMode::Observe, 3), (BreakerMode::Off, 3)] {
        let (stock, gate) = gated().await;
        let proxy = limited(mode, ConcurrencyLimit::Fixed(2)).app(&stock).start();
        let address = proxy.inbound().unwrap();
        let mut waiting = JoinSet::new();
        for n in 1..=passes {
            waiting.spawn(async move { client(address).await.get("/").await.status.as_u16() });
            while stock.seen().len() < n {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(metric(&proxy, "couplet_concurrency").await, passes as u64);
        if mode == BreakerMode::Enforce {
            let refused = client(address).await.get("/").await;
            assert_eq!((refused.status.as_u16(), field(&refused.headers, "couplet-error")), (503, "overloaded"));
            assert_eq!(field(&refused.headers, "retry-after"), "1");
            let mut grpc = framed::connect(address).await;
            let (answer, _) = grpc.send_request(grpc_call(), true).unwrap();
            let answer = answer.await.unwrap();
            let code = (field(answer.headers(), "grpc-status"), field(answer.headers(), "grpc-retry-pushback-ms"));
            assert_eq!(code, ("14", "1000"));
            assert_eq!(metric(&proxy, "couplet_answers_total{reason=\"overloaded\"}").await, 2);
        }
        // The platform's probes pass: an application that is busy is not dead.
        let probe = get("/healthz", &[("user-agent", "kube-probe/1.33")]);
        waiting.spawn(async move { client(address).await.ask(probe).await.status.as_u16() });
        while stock.seen().len() < passes + 1 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(10);
        assert!(waiting.join_all().await.into_iter().all(|status| status == 200));
        assert_eq!(client(address).await.get("/").await.status, 200, "there is room again");
        assert_eq!(metric(&proxy, "couplet_concurrency_peak").await, passes as u64 + 1);
        assert_eq!(metric(&proxy, "couplet_concurrency").await, 0);
        let count = async |result: &str| {
            metric(&proxy, &format!("couplet_concurrency_rejected_total{{result=\"{result}\"}}")).await
        };
        let expected = match mode {
            BreakerMode::Enforce => (2, 0),
            // The probe is within what the platform may have beyond it.
            BreakerMode::Observe => (0, 1),
            BreakerMode::Off => (0, 0),
        };
        assert_eq!((count("rejected").await, count("would_reject").await), expected, "{mode:?}");
        assert_eq!(stock.seen().len(), passes + 2);
    }
}

#[tokio::test]
async fn a_caller_of_the_mesh_hears_who_has_too_much_and_its_breaker_blames_nobody() {
    let (app, gate) = gated().await;
    let stock = limited(BreakerMode::Enforce, ConcurrencyLimit::Fixed(1)).app(&app).start();
    let settings = BreakerSettings { mode: BreakerMode::Enforce, ..BreakerSettings::default() };
    let shop = with("shop", settings).to("stock", stock.inbound().unwrap()).start();
    let address = shop.outbound()[0].1;
    let first = tokio::spawn(async move { client(address).await.get("/").await.status });
    while app.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let mut caller = client(address).await;
    for _ in 0..50 {
        let refused = caller.get("/").await;
        assert_eq!((refused.status.as_u16(), field(&refused.headers, "couplet-error")), (503, "overloaded"));
        let why = field(&refused.headers, "couplet-reject");
        assert_eq!(why, "limit; service=\"stock\"; reason=limit_concurrency; for=1s");
    }
    let page = breaker(&shop, "stock").await;
    assert_eq!((&page["state"], &page["calls"]["propagated"]), (&"closed".into(), &50.into()), "{page}");
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(app.seen().len(), 1);
}

#[tokio::test]
async fn strangers_hear_that_it_is_too_much_and_not_why() {
    let (app, gate) = gated().await;
    let mut config = limited(BreakerMode::Enforce, ConcurrencyLimit::Fixed(1)).app(&app);
    config.trust = Trust { networks: Vec::new(), ..Trust::default() };
    let stock = config.start();
    let address = stock.inbound().unwrap();
    let first = tokio::spawn(async move { client(address).await.get("/").await.status });
    while app.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let refused = client(address).await.get("/").await;
    assert_eq!((refused.status.as_u16(), field(&refused.headers, "retry-after")), (503, "1"));
    assert!(!refused.headers.contains_key("couplet-reject"));
    gate.add_permits(1);
    assert_eq!(first.await.unwrap(), 200);
}

#[tokio::test]
async fn another_limit_is_in_force_with_the_configuration_that_says_so() {
    let (app, gate) = gated().await;
    let config = limited(BreakerMode::Enforce, ConcurrencyLimit::Fixed(1)).app(&app);
    let mut proxy = config.clone().start();
    let address = proxy.inbound().unwrap();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { client(address).await.get("/").await.status });
    while app.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(client(address).await.get("/").await.status, 503);
    let mut more = config;
    more.concurrency.limit = ConcurrencyLimit::Fixed(2);
    proxy.reload(Ok(more)).unwrap();
    waiting.spawn(async move { client(address).await.get("/").await.status });
    while app.seen().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client(address).await.get("/").await.status, 503, "what was under way before counts");
    gate.add_permits(2);
    assert!(waiting.join_all().await.into_iter().all(|status| status == 200));
}

/// Four at once, and five milliseconds of work for each: everybody else waits within the service.
#[tokio::test]
async fn an_adaptive_limit_finds_its_way_under_a_load_that_never_ends() {
    let (threads, served) = (Arc::new(Semaphore::new(4)), Arc::new(Semaphore::new(0)));
    let count = Arc::clone(&served);
    let app = service(move |_| {
        let (threads, served) = (Arc::clone(&threads), Arc::clone(&count));
        async move {
            let _thread = threads.acquire().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            served.add_permits(1);
            answer(200, "")
        }
    })
    .await;
    let mut config = limited(BreakerMode::Enforce, ConcurrencyLimit::Adaptive);
    let adaptive = &mut config.concurrency.adaptive;
    (adaptive.initial, adaptive.min, adaptive.window) = (40, 2, Duration::from_millis(50));
    let proxy = config.app(&app).start();
    let (address, ended) = (proxy.inbound().unwrap(), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let ended = Arc::clone(&ended);
        callers.spawn(async move {
            let mut client = client(address).await;
            while !ended.load(Ordering::SeqCst) {
                match client.get("/").await.status.as_u16() {
                    200 => {}
                    // As those do who are asked to come back later.
                    503 => tokio::time::sleep(Duration::from_millis(200)).await,
                    other => panic!("{other}"),
                }
            }
        });
    }
    // From ten times what it can do to a few times that, and it serves all the while.
    while metric(&proxy, "couplet_concurrency_limit").await > 24 {
        served.acquire_many(50).await.unwrap().forget();
    }
    served.acquire_many(500).await.unwrap().forget();
    assert!(metric(&proxy, "couplet_concurrency_limit").await >= 2);
    ended.store(true, Ordering::SeqCst);
    callers.join_all().await;
    assert!(metric(&proxy, "couplet_concurrency_rejected_total{result=\"rejected\"}").await > 0);
    assert!(metrics(&proxy).await.contains("couplet_concurrency_baseline_seconds 0.0"));
}
