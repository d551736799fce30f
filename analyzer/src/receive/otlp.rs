//! `POST /v1/metrics`: reports as OTLP/HTTP in protobuf, from proxies or from a Collector between them and us.
//!
//! 200 means recorded: on disk where there is a history, in memory where there is none. 429 and 503 ask the sender to
//! try again, every other status says that trying again is of no use. What is not Couplet's is accepted and counted.

mod body;
mod spans;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use couplet_config::{AnalyzerConfig, Secret};
use couplet_telemetry::otlp::{self, Bounds, DecodeError, Decoded};
use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use prost::Message;
use tokio::sync::{Semaphore, oneshot};

use super::recorder::{Delivery, Job, bounds};
use super::traces::otlp::Exported;
use crate::board::Board;
use crate::counters::Refusal;
use crate::slots::PackedReport;

/// The only media type that is read. It is also what keeps pages of other origins from posting reports.
const PROTOBUF: &str = "application/x-protobuf";
/// A body must have arrived after this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest reports that are held in memory at once while they arrive.
const BODIES_AT_ONCE: usize = 32;
/// Bodies up to this size are decoded in place; larger ones where they hold nobody up.
const DECODED_IN_PLACE: usize = 64 << 10;

/// What the route needs.
#[derive(Clone)]
struct Receiver {
    jobs: SyncSender<Job>,
    board: Arc<Board>,
    token: Option<Secret>,
    bounds: Bounds,
    limit: usize,
    spans: SyncSender<Vec<Exported>>,
    rate: Arc<spans::Rate>,
    /// KiB of bodies that may still be taken in.
    room: Arc<Semaphore>,
}

/// The route. Dropping it and all its requests ends the recorder behind `jobs`.
pub(crate) fn routes(
    config: &AnalyzerConfig,
    board: Arc<Board>,
    jobs: SyncSender<Job>,
    spans: SyncSender<Vec<Exported>>,
) -> Router {
    let limit = config.limits.report_bytes.as_usize();
    let receiver = Receiver {
        jobs,
        board,
        token: config.token.clone(),
        bounds: bounds(config),
        limit,
        spans,
        rate: Arc::new(spans::Rate::new(config.traces.spans_per_second)),
        room: Arc::new(Semaphore::new(body::kib(limit).saturating_mul(BODIES_AT_ONCE).min(Semaphore::MAX_PERMITS))),
    };
    Router::new().route("/v1/metrics", post(receive)).route("/v1/traces", post(spans::receive)).with_state(receiver)
}

async fn receive(State(receiver): State<Receiver>, request: Request) -> Response {
    match receiver.record(request).await {
        Ok(ignored) => acknowledge(ignored),
        Err(problem) => {
            receiver.board.counters.refuse(problem.refusal);
            refuse(&problem)
        }
    }
}

/// Why a request is refused, and in words.
struct Problem {
    refusal: Refusal,
    text: String,
}

fn problem(refusal: Refusal, text: impl Into<String>) -> Problem {
    Problem { refusal, text: text.into() }
}

impl Receiver {
    /// Records the reports of a request; the number of data points that were not ours.
    async fn record(&self, request: Request) -> Result<u64, Problem> {
        let (head, body) = request.into_parts();
        self.authorize(&head.headers)?;
        let (_, packed) = self.coding(&head.headers, &[PROTOBUF])?;
        let taken = tokio::time::timeout(BODY_TIMEOUT, body::read(body, packed, self.limit, &self.room))
            .await
            .map_err(|_| problem(Refusal::Slow, "the body did not arrive in time"))??;
        let (reports, ignored) = self.decode(taken.bytes).await?;
        self.board.counters.foreign_points.add(ignored);
        if !reports.is_empty() {
            self.hand_over(reports).await?;
        }
        Ok(ignored)
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match is_bearer(headers, self.token.as_ref()) {
            true => Ok(()),
            false if headers.contains_key(header::AUTHORIZATION) => {
                Err(problem(Refusal::Unauthorized, "the bearer token is not the one this analyzer is set to"))
            }
            false => Err(problem(Refusal::Unauthorized, "this analyzer wants a bearer token with reports")),
        }
    }

    /// Which of the media types the body has, and whether it is compressed.
    fn coding(&self, headers: &HeaderMap, known: &[&'static str]) -> Result<(&'static str, bool), Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
        let Some(found) = known.iter().find(|known| media.eq_ignore_ascii_case(known)) else {
            let known = known.join(" and ");
            return Err(problem(Refusal::MediaType, format!("only {known} is read, not {media:?}")));
        };
        match text(header::CONTENT_ENCODING).trim() {
            "" | "identity" => Ok((found, false)),
            "gzip" => Ok((found, true)),
            other => Err(problem(Refusal::MediaType, format!("content-encoding {other:?} is not known: use gzip"))),
        }
    }

    /// The reports, packed, and the number of data points that were not ours.
    async fn decode(&self, bytes: Bytes) -> Result<(Vec<PackedReport>, u64), Problem> {
        let bounds = self.bounds;
        let in_place = bytes.len() <= DECODED_IN_PLACE;
        let decode = move || {
            let Decoded { reports, ignored } = otlp::decode(&bytes, &bounds)?;
            Ok((reports.into_iter().map(PackedReport::new).collect(), ignored))
        };
        let decoded: Result<_, DecodeError> = if in_place {
            decode()
        } else {
            let apart = tokio::task::spawn_blocking(decode).await;
            apart.map_err(|_| problem(Refusal::Malformed, "the reports could not be read"))?
        };
        decoded.map_err(|error| problem(Refusal::Malformed, error.to_string()))
    }

    async fn hand_over(&self, reports: Vec<PackedReport>) -> Result<(), Problem> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job::Record(Delivery { reports, answer })).map_err(|error| match error {
            TrySendError::Full(_) => problem(Refusal::Busy, "too many reports are waiting"),
            TrySendError::Disconnected(_) => problem(Refusal::Busy, "the analyzer no longer records"),
        })?;
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refusal::Proxies)) => {
                Err(problem(Refusal::Proxies, "as many proxies report as limits.proxies of this analyzer allows"))
            }
            Ok(Err(Refusal::Recording)) => {
                Err(problem(Refusal::Recording, "this analyzer shows a recording and takes in nothing"))
            }
            Ok(Err(Refusal::Busy)) => Err(problem(Refusal::Busy, "more is reported than can be packed at present")),
            Ok(Err(refusal)) => Err(problem(refusal, "the history cannot be written at present")),
            Err(_) => Err(problem(Refusal::Busy, "the analyzer is stopping")),
        }
    }
}

/// Whether a request carries the bearer token that is wanted, if one is.
pub(crate) fn is_bearer(headers: &HeaderMap, wanted: Option<&Secret>) -> bool {
    let Some(token) = wanted else { return true };
    let given = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let bearer = given.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    bearer.is_some_and(|(_, given)| same(given, token.expose().as_bytes()))
}

/// Compares without telling by the time it takes how much of the beginning is right.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let difference = given.iter().zip(wanted).fold(0, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(difference) == 0 && given.len() == wanted.len()
}

fn acknowledge(ignored: u64) -> Response {
    let partial_success = (ignored > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(ignored).unwrap_or(i64::MAX),
        error_message: "only the metrics of Couplet's proxies are read here".to_owned(),
    });
    let body = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    ([(header::CONTENT_TYPE, PROTOBUF)], body).into_response()
}

fn refuse(problem: &Problem) -> Response {
    let status = match problem.refusal {
        Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
        Refusal::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Slow => StatusCode::REQUEST_TIMEOUT,
        Refusal::Malformed => StatusCode::BAD_REQUEST,
        Refusal::Recording => StatusCode::CONFLICT,
        Refusal::Proxies | Refusal::Rate => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Busy | Refusal::History => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = (status, format!("{}\n", problem.text)).into_response();
    let headers = response.headers_mut();
    match problem.refusal {
        Refusal::Unauthorized => {
            headers.insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
        }
        Refusal::Busy | Refusal::History | Refusal::Proxies | Refusal::Rate => {
            headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
        }
        // What is left of the body is not read: the connection cannot be used again.
        Refusal::TooLarge | Refusal::Slow => {
            headers.insert(header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        Refusal::MediaType | Refusal::Malformed | Refusal::Recording => {}
    }
    response
}
