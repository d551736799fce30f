//! Reports: nothing is lost while the analyzer is away, and no request notices.

use std::net::SocketAddr;

use couplet_config::ProxyConfig;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;
use crate::pki::*;
use crate::secured::reached;

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

/// Something that terminates TLS before an analyzer, as load balancers do.
async fn terminates_tls(authority: &Authority, analyzer: SocketAddr) -> SocketAddr {
    let config = authority.server();
    let acceptor = acceptor(&Issued { certificate: config.certificate, key: config.key }, &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut there = TcpStream::connect(analyzer).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
            });
        }
    });
    address
}

fn reports_over_tls(config: ProxyConfig, to: SocketAddr, roots: &Authority) -> ProxyConfig {
    let mut link = couplet_config::AnalyzerLink::new(format!("https://localhost:{}", to.port()).parse().unwrap());
    link.roots = Some(roots.roots());
    ProxyConfig { analyzer: Some(link), admin: Some(free()), ..config }
}

#[tokio::test]
async fn reports_go_over_tls_to_who_has_the_right_name_and_issuer() {
    let (authority, stranger, analyzer) = (Authority::new(), Authority::named("a stranger"), analyzer().await);
    let (before, shop) = (terminates_tls(&authority, analyzer.address).await, answers(200, "").await);
    let proxy = reports_over_tls(config("shop").app(&shop), before, &authority).start();
    client(proxy.inbound().unwrap()).await.get("/").await;
    reached(&proxy, "couplet_reports_sent_total", 2).await;
    stop(proxy).await;
    let handled = |reports: Vec<couplet_telemetry::report::Report>| -> u64 {
        reports.iter().flat_map(|report| &report.paths).map(|path| path.stats.outcomes.total()).sum()
    };
    assert_eq!(handled(analyzer.reports()), 1);

    let count = analyzer.reports().len();
    let proxy = reports_over_tls(config("shop").app(&shop), before, &stranger).start();
    reached(&proxy, "couplet_report_failures_total", 2).await;
    stop(proxy).await;
    assert_eq!(analyzer.reports().len(), count, "nothing is told to who cannot show who it is");

    let mut config = reports_over_tls(config("shop").app(&shop), before, &stranger);
    config.analyzer.as_mut().unwrap().roots = Some("/nowhere/roots.pem".into());
    let error = couplet_proxy::start(config).unwrap_err().to_string();
    assert!(error.contains("/nowhere/roots.pem: there is no such file"), "{error}");
}

#[tokio::test]
async fn with_telemetry_switched_off_requests_pass_untouched_and_no_report_says_anything_of_them() {
    let analyzer = analyzer().await;
    let stock = answers(200, "").await;
    let mut config = config("shop").app(&stock).to("stock", stock.address).reports_to(&analyzer);
    config.telemetry.enabled = false;
    let proxy = config.start();
    for address in [proxy.inbound().unwrap(), proxy.outbound()[0].1] {
        let context = "1;00000000000000aa;00000000000000aa;0;0000000000000001;e;front";
        let answer = client(address).await.ask(get("/", &[("couplet-context", context)])).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert!(!answer.headers.contains_key("couplet-summary"));
    }
    stop(proxy).await;
    let seen = stock.seen();
    assert_eq!(seen.len(), 2);
    for name in ["traceparent", "tracestate", "couplet-context"] {
        assert!(seen.iter().all(|request| !request.headers().contains_key(name)), "{name}");
    }
    assert!(analyzer.reports().iter().all(|report| report.paths.is_empty() && report.calls.is_empty()));
}
