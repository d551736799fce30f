//! `POST /v1/traces`: spans from any OpenTelemetry SDK or Collector, as protobuf or JSON. 200 means received.

use std::sync::mpsc::TrySendError;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use parking_lot::Mutex;
use prost::Message;

use super::{BODY_TIMEOUT, PROTOBUF, Problem, Receiver, body, problem, refuse};
use crate::counters::Refusal;
use crate::receive::traces::otlp::{self, Exported};

const JSON: &str = "application/json";

/// How many spans came within the present second.
#[derive(Debug)]
pub(super) struct Rate {
    limit: usize,
    second: Mutex<(Instant, usize)>,
}

impl Rate {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, second: Mutex::new((Instant::now(), 0)) }
    }

    /// Whether so many more may be taken in. A request that is larger than the limit passes where nothing came before it.
    fn admits(&self, spans: usize, now: Instant) -> bool {
        let mut second = self.second.lock();
        if now.saturating_duration_since(second.0).as_secs() >= 1 {
            *second = (now, 0);
        }
        let admitted = second.1 == 0 || second.1.saturating_add(spans) <= self.limit;
        second.1 = second.1.saturating_add(if admitted { spans } else { 0 });
        admitted
    }
}

pub(super) async fn receive(State(receiver): State<Receiver>, request: Request) -> Response {
    match receiver.take_spans(request).await {
        Ok((media, rejected)) => acknowledge(media, rejected),
        Err(problem) => {
            receiver.board.counters.refuse(problem.refusal);
            refuse(&problem)
        }
    }
}

impl Receiver {
    /// Takes in the spans of a request; in which form it came, and how many spans have no ids.
    async fn take_spans(&self, request: Request) -> Result<(&'static str, u64), Problem> {
        let (head, body) = request.into_parts();
        self.authorize(&head.headers)?;
        let (media, packed) = self.coding(&head.headers, &[PROTOBUF, JSON])?;
        let taken = tokio::time::timeout(BODY_TIMEOUT, body::read(body, packed, self.limit, &self.room))
            .await
            .map_err(|_| problem(Refusal::Slow, "the body did not arrive in time"))??;
        let bytes = taken.bytes.clone();
        let read = move || if media == JSON { otlp::from_json(&bytes) } else { otlp::from_protobuf(&bytes) };
        let read = tokio::task::spawn_blocking(read).await;
        let spans = read.unwrap_or_else(|_| Err("the spans could not be read".to_owned()));
        let mut spans =
            spans.map_err(|why| problem(Refusal::Malformed, format!("not an OTLP traces request: {why}")))?;
        let all = spans.len();
        spans.retain(Exported::has_ids);
        let rejected = (all - spans.len()) as u64;
        self.board.counters.spans_set_aside.add(rejected);
        if !self.rate.admits(spans.len(), Instant::now()) {
            return Err(problem(Refusal::Rate, "more spans a second than traces.spans_per_second allows"));
        }
        let count = spans.len() as u64;
        if count > 0 {
            self.spans.try_send(spans).map_err(|error| match error {
                TrySendError::Full(_) => problem(Refusal::Busy, "too many spans are waiting"),
                TrySendError::Disconnected(_) => problem(Refusal::Busy, "the analyzer takes in no spans"),
            })?;
        }
        self.board.counters.spans.add(count);
        Ok((media, rejected))
    }
}

fn acknowledge(media: &'static str, rejected: u64) -> Response {
    let text = "spans without the id of a trace or of their own";
    if media == JSON {
        let partial =
            serde_json::json!({ "partialSuccess": { "rejectedSpans": rejected.to_string(), "errorMessage": text } });
        let body = if rejected > 0 { partial } else { serde_json::json!({}) };
        return ([(header::CONTENT_TYPE, JSON)], body.to_string()).into_response();
    }
    let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: text.to_owned(),
    });
    let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    ([(header::CONTENT_TYPE, PROTOBUF)], body).into_response()
}
