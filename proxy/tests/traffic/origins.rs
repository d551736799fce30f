//! Where a failure began, what was tried again, and what nobody waited for: told up the tree by real proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use couplet_proxy::Running;
use couplet_telemetry::report::HandlingStats;
use http::Request;
use tokio::sync::{Notify, Semaphore};

use crate::harness::*;

/// What became of the handlings of a service.
fn stats(analyzer: &Analyzer, service: &str) -> HandlingStats {
    let mut stats = HandlingStats::default();
    let reports = analyzer.reports();
    let own = reports.iter().filter(|report| report.origin.service == service);
    own.flat_map(|report| &report.paths).for_each(|path| stats.merge(&path.stats));
    stats
}

fn origins(stats: &HandlingStats) -> Vec<(String, u64)> {
    stats.origins.iter().map(|(service, failures)| (service.to_owned(), failures)).collect()
}

/// A service that calls the next one until it answers, so many times at most, and fails when it does not.
async fn calling(next: &Later, times: usize) -> Service {
    let next = next.clone();
    service(move |request: Request<Bytes>| {
        let next = next.get();
        async move {
            for _ in 0..times {
                if pass_on(&request, next, "/").await.status.is_success() {
                    return answer(200, "");
                }
            }
            answer(502, "")
        }
    })
    .await
}

/// shop → stock → ledger, the last of which is given.
async fn chain(ledger: &Service, tries: usize, analyzer: &Analyzer) -> (Vec<Running>, std::net::SocketAddr) {
    let ledger_proxy = config("ledger").app(ledger).reports_to(analyzer).start();
    let (to_ledger, to_stock) = (Later::default(), Later::default());
    let stock = calling(&to_ledger, tries).await;
    let stock_proxy =
        config("stock").app(&stock).to("ledger", ledger_proxy.inbound().unwrap()).reports_to(analyzer).start();
    to_ledger.is(stock_proxy.outbound().remove(0).1);
    let shop = calling(&to_stock, 1).await;
    let shop_proxy = config("shop").app(&shop).to("stock", stock_proxy.inbound().unwrap()).reports_to(analyzer).start();
    to_stock.is(shop_proxy.outbound().remove(0).1);
    let entry = shop_proxy.inbound().unwrap();
    (vec![shop_proxy, stock_proxy, ledger_proxy], entry)
}

async fn stop_all(proxies: Vec<Running>) {
    for proxy in proxies {
        stop(proxy).await;
    }
}

#[tokio::test]
async fn a_failure_is_laid_at_the_door_of_the_deepest_service_that_failed_by_itself() {
    let analyzer = analyzer().await;
    let ledger = answers(500, "").await;
    let (proxies, entry) = chain(&ledger, 1, &analyzer).await;
    let mut client = client(entry).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.status.as_u16(), 502);
    }
    stop_all(proxies).await;
    for service in ["shop", "stock", "ledger"] {
        assert_eq!(origins(&stats(&analyzer, service)), [("ledger".to_owned(), 5)], "{service}");
    }
}

#[tokio::test]
async fn a_service_that_fails_although_all_it_calls_answer_has_failed_by_itself() {
    let analyzer = analyzer().await;
    let ledger = answers(200, "").await;
    let (proxies, entry) = chain(&ledger, 0, &analyzer).await;
    client(entry).await.get("/").await;
    stop_all(proxies).await;
    for service in ["shop", "stock"] {
        assert_eq!(origins(&stats(&analyzer, service)), [("stock".to_owned(), 1)], "{service}");
    }
}

#[tokio::test]
async fn a_call_that_is_made_again_until_it_succeeds_is_one_call_and_nobodys_failure() {
    let analyzer = analyzer().await;
    let asked = Arc::new(AtomicU64::new(0));
    // Two of three attempts fail.
    let ledger = service(move |_| {
        let status = if asked.fetch_add(1, Ordering::SeqCst) % 3 == 2 { 200 } else { 503 };
        async move { answer(status, "") }
    })
    .await;
    let (proxies, entry) = chain(&ledger, 3, &analyzer).await;
    let mut client = client(entry).await;
    for _ in 0..4 {
        assert_eq!(client.get("/").await.status.as_u16(), 200);
    }
    stop_all(proxies).await;
    let (shop, stock) = (stats(&analyzer, "shop"), stats(&analyzer, "stock"));
    assert_eq!((stock.retries, stock.calls.iter().collect::<Vec<_>>()), (8, vec![(1, 4)]));
    assert_eq!(shop.calls_below.iter().collect::<Vec<_>>(), [(2, 4)], "shop to stock, stock to ledger");
    assert_eq!((origins(&shop), origins(&stock)), (vec![], vec![]));
}

#[tokio::test]
async fn a_destination_that_cannot_be_reached_is_where_the_failure_began() {
    let analyzer = analyzer().await;
    let to_stock = Later::default();
    let shop = calling(&to_stock, 1).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = config("shop").app(&shop).to("stock", nobody).reports_to(&analyzer).start();
    to_stock.is(proxy.outbound().remove(0).1);
    client(proxy.inbound().unwrap()).await.get("/").await;
    stop(proxy).await;
    assert_eq!(origins(&stats(&analyzer, "shop")), [("stock".to_owned(), 1)]);
}

#[tokio::test]
async fn what_nobody_waits_for_is_counted_apart_and_is_no_part_of_the_chain() {
    let analyzer = analyzer().await;
    let arrived = Arc::new(Notify::new());
    let (arrives, gate) = (Arc::clone(&arrived), Arc::new(Semaphore::new(0)));
    let waiting = Arc::clone(&gate);
    let mail = service(move |_| {
        let (arrives, waiting) = (Arc::clone(&arrives), Arc::clone(&waiting));
        async move {
            arrives.notify_one();
            waiting.acquire().await.unwrap().forget();
            answer(200, "")
        }
    })
    .await;
    let mail_proxy = config("mail").app(&mail).reports_to(&analyzer).start();
    let to_mail = Later::default();
    let address = to_mail.clone();
    let shop = service(move |request: Request<Bytes>| {
        let (address, arrived) = (address.get(), Arc::clone(&arrived));
        async move {
            tokio::spawn(async move { pass_on(&request, address, "/mail").await });
            arrived.notified().await;
            answer(200, "")
        }
    })
    .await;
    let proxy = config("shop").app(&shop).to("mail", mail_proxy.inbound().unwrap()).reports_to(&analyzer).start();
    to_mail.is(proxy.outbound().remove(0).1);
    client(proxy.inbound().unwrap()).await.get("/").await;
    gate.add_permits(1);
    stop(proxy).await;
    stop(mail_proxy).await;
    let shop = stats(&analyzer, "shop");
    assert_eq!((shop.asynchronous, shop.calls.max(), shop.depth_below.max(), shop.blocked), (1, 0, 0, 0));
}
