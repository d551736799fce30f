//! gRPC: the status at the end of a call is its outcome, and the proxy's own answers are ones that gRPC clients read.

use bytes::Bytes;
use couplet_telemetry::outcome::{Outcome, Outcomes};
use h2::Reason;
use http::HeaderMap;

use crate::framed::{self, connect, headers, origin, read, request};
use crate::harness::*;

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn call() -> http::Request<()> {
    request("POST", "/stock.Stock/Take", &[GRPC, ("te", "trailers"), ("grpc-timeout", "5S")])
}

/// How the calls ended, as reported by the caller's sidecar; and the handlings, by the callee's.
async fn outcomes(analyzer: &Analyzer) -> (Outcomes, Outcomes) {
    let (mut calls, mut handlings) = (Outcomes::default(), Outcomes::default());
    for report in analyzer.reports() {
        report.calls.iter().for_each(|call| calls.merge(&call.stats.outcomes));
        report.paths.iter().for_each(|path| handlings.merge(&path.stats.outcomes));
    }
    (calls, handlings)
}

#[tokio::test]
async fn a_call_ends_as_its_status_says_wherever_that_stands() {
    let analyzer = analyzer().await;
    let address = framed::answering(|head, mut asking| {
        assert_eq!(head.headers["te"], "trailers");
        let allowed = head.headers["grpc-timeout"].to_str().unwrap().strip_suffix('u').unwrap();
        assert!(allowed.parse::<u64>().unwrap() < 5_000_000, "each of the two sidecars has taken some of it");
        let code = head.headers["x-code"].to_str().unwrap().to_owned();
        match head.headers["x-where"].to_str().unwrap() {
            "head" => {
                drop(asking.answer.send_response(framed::head(200, &[GRPC, ("grpc-status", &code)]), true).unwrap());
            }
            "nowhere" => {
                let mut body = asking.answer.send_response(framed::head(200, &[GRPC]), false).unwrap();
                body.send_data(Bytes::from("message"), true).unwrap();
            }
            _ => {
                let mut body = asking.answer.send_response(framed::head(200, &[GRPC]), false).unwrap();
                body.send_data(Bytes::from("message"), false).unwrap();
                body.send_trailers(headers(&[("grpc-status", &code), ("grpc-message", "why")])).unwrap();
            }
        }
    })
    .await;
    let mut inner = config("stock").reports_to(&analyzer);
    inner.app = Some(address);
    let inner = inner.start();
    let outer = config("shop").to("stock", inner.inbound().unwrap()).reports_to(&analyzer).start();
    let mut client = connect(outer.outbound()[0].1).await;
    let mut expected = Outcomes::default();
    for (place, code, outcome) in [
        ("trailers", "0", Outcome::Ok),
        ("head", "0", Outcome::Ok),
        ("trailers", "5", Outcome::ClientError),
        ("head", "12", Outcome::ClientError),
        ("trailers", "4", Outcome::Timeout),
        ("trailers", "1", Outcome::Cancelled),
        ("trailers", "13", Outcome::ServerError),
        ("head", "14", Outcome::ServerError),
        ("nowhere", "0", Outcome::ServerError),
    ] {
        let mut call = call();
        call.headers_mut().extend(headers(&[("x-where", place), ("x-code", code)]));
        let (answer, mut up) = client.send_request(call, false).unwrap();
        up.send_data(Bytes::from("question"), true).unwrap();
        let (head, body) = answer.await.unwrap().into_parts();
        let (_, trailers) = read(body).await.unwrap();
        let status = |fields: &HeaderMap| fields.get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
        let told = status(&head.headers).or(trailers.as_ref().and_then(status));
        assert_eq!(told.as_deref(), (place != "nowhere").then_some(code), "{place} {code}");
        expected.add(outcome, 1);
    }
    drop(client);
    stop(outer).await;
    stop(inner).await;
    assert_eq!(outcomes(&analyzer).await, (expected.clone(), expected));
}

/// The status of an answer that has nothing but a head.
fn trailers_only(head: &http::Response<h2::RecvStream>) -> (u16, &str, &str) {
    let field = |name: &str| head.headers()[name].to_str().unwrap();
    assert!(head.body().is_end_stream(), "a body behind the status");
    assert_eq!(field("content-type"), "application/grpc");
    (head.status().as_u16(), field("grpc-status"), field("couplet-error"))
}

#[tokio::test]
async fn what_the_proxy_answers_itself_is_a_status_that_grpc_clients_read() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut origin = origin().await;
    let mut config = config("shop").to("dead", closed).to("slow", origin.address);
    config.timeouts.request = Some(std::time::Duration::from_millis(100));
    let proxy = config.start();
    let (answer, _) = connect(proxy.outbound()[0].1).await.send_request(call(), true).unwrap();
    let head = answer.await.unwrap();
    assert_eq!(trailers_only(&head), (200, "14", "connect"));
    assert!(head.headers()["grpc-message"].to_str().unwrap().contains("dead"));

    let mut client = connect(proxy.outbound()[1].1).await;
    let (answer, _) = client.send_request(call(), true).unwrap();
    let slow = origin.next().await;
    assert_eq!(trailers_only(&answer.await.unwrap()), (200, "4", "request_timeout"));
    drop(slow);

    let mut malformed = call();
    malformed.headers_mut().insert("host", "other.test".parse().unwrap());
    let (answer, _) = client.send_request(malformed, true).unwrap();
    assert_eq!(trailers_only(&answer.await.unwrap()), (200, "13", "malformed"));
}

#[tokio::test]
async fn a_service_that_dies_within_an_answer_is_unavailable() {
    let analyzer = analyzer().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (die, dead) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut answer) = connection.accept().await.unwrap().unwrap();
        let mut body = answer.send_response(framed::head(200, &[GRPC]), false).unwrap();
        body.send_data(Bytes::from("half"), false).unwrap();
        tokio::select! {
            _ = connection.accept() => {}
            _ = dead => {}
        }
    });
    let proxy = config("shop").to("stock", address).reports_to(&analyzer).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let (answer, _) = client.send_request(call(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "half");
    die.send(()).unwrap();
    let (rest, trailers) = read(body).await.unwrap();
    let trailers = trailers.unwrap();
    assert_eq!((rest.len(), &trailers["grpc-status"]), (0, &"14".parse().unwrap()));
    drop(client);
    stop(proxy).await;
    assert_eq!(outcomes(&analyzer).await.0.get(Outcome::Reset), 1);
}

#[tokio::test]
async fn a_call_that_the_client_cancels_is_nobodys_failure() {
    let analyzer = analyzer().await;
    let mut origin = origin().await;
    let proxy = config("shop").to("stock", origin.address).reports_to(&analyzer).start();
    let mut client = connect(proxy.outbound()[0].1).await;
    let (answer, mut up) = client.send_request(call(), false).unwrap();
    let mut asked = origin.next().await;
    let mut reply = asked.begin(200, &[GRPC]);
    reply.send_data("first".into(), false).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "first");
    up.send_reset(Reason::CANCEL);
    drop(body);
    let reason = std::future::poll_fn(|cx| reply.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, Reason::CANCEL);
    drop(client);
    stop(proxy).await;
    let (calls, _) = outcomes(&analyzer).await;
    assert_eq!((calls.total(), calls.get(Outcome::Cancelled)), (1, 1));
}
