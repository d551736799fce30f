//! Reports: nothing is lost while the analyzer is away, and no request notices.

use crate::harness::*;

#[tokio::test]
async fn with_the_analyzer_away_requests_are_served_and_afterwards_every_one_is_counted_once() {
    let analyzer = analyzer().await;
    analyzer.go_away(true);
    let shop = answers(200, "").await;
    let proxy = config("shop").app(&shop).reports_to(&analyzer).start();
    let mut client = client(proxy.inbound().unwrap()).await;
    for round in 1..=5 {
        for _ in 0..40 {
            assert_eq!(client.get("/").await.status.as_u16(), 200);
        }
        analyzer.turned_away(round).await;
    }
    analyzer.go_away(false);
    stop(proxy).await;
    let reports = analyzer.reports();
    let handled: u64 = reports.iter().flat_map(|report| &report.paths).map(|path| path.stats.outcomes.total()).sum();
    assert_eq!(handled, 200);
    let sequences: Vec<_> = reports.iter().map(|report| report.sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "no report is skipped, none comes twice");
}

#[tokio::test]
async fn windows_follow_one_another_without_a_gap() {
    let analyzer = analyzer().await;
    let shop = answers(200, "").await;
    let proxy = config("shop").app(&shop).reports_to(&analyzer).start();
    let mut client = client(proxy.inbound().unwrap()).await;
    while analyzer.reports().len() < 4 {
        client.get("/").await;
    }
    stop(proxy).await;
    let reports = analyzer.reports();
    assert!(reports.iter().all(|report| report.origin == reports[0].origin));
    assert!(reports.windows(2).all(|pair| pair[0].end == pair[1].start));
}

#[tokio::test]
async fn two_starts_of_the_same_proxy_never_share_a_name() {
    let analyzer = analyzer().await;
    let shop = answers(200, "").await;
    for _ in 0..2 {
        let mut config = config("shop").app(&shop).reports_to(&analyzer);
        config.instance = Some("copied-pod".to_owned());
        stop(config.start()).await;
    }
    let instances: std::collections::BTreeSet<_> =
        analyzer.reports().into_iter().map(|report| report.origin.instance).collect();
    assert_eq!(instances.len(), 2);
}
