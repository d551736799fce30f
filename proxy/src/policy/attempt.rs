//! One call, seen by the breaker of its destination: let through or stopped, and told how it ended, however that comes
//! about.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;

use super::breaker::{Breaker, Failed, LASTING, Permit, Refused, Ticket, What, Why};
use super::classify::{self, Class, Deadline, Said};
use crate::error::Fault;
use crate::http::code_of;

/// A call that was let through. Dropped when it has ended; what it says by then counts.
pub(crate) struct Attempt {
    breaker: Arc<Breaker>,
    ticket: Ticket,
    started: Instant,
    /// Whether it is a gRPC call, and what its client allows.
    grpc: Option<Option<Duration>>,
    said: Option<Said>,
    failed: Failed,
    ended: Option<Class>,
    whole_at: Option<Instant>,
    told: bool,
    /// What the head of the answer says of its length.
    length: Length,
}

/// How much of the answer is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// Its head said so, at this time.
    Known(Instant),
    /// Nobody knows, and nothing has come yet.
    Unknown,
    /// Nobody knows, and it is coming.
    Coming,
}

impl Attempt {
    /// Asks whether a call may pass. `headers` are those of the request.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn ask(breaker: &Arc<Breaker>, grpc: bool, headers: &HeaderMap, now: Instant) -> Result<Self, Refused> {
        let Some(under_way) = breaker.in_flight.enter() else {
            breaker.in_flight.rejected.add(1);
            return Err(Refused::new(breaker, Why::InFlight));
        };
        let ticket = breaker.ask(now).map_err(|rejection| {
            breaker.in_flight.leave();
            Refused::new(breaker, Why::Breaker(rejection))
        })?;
        breaker.in_flight.reached(under_way);
        Ok(Self {
            breaker: Arc::clone(breaker),
            ticket,
            started: now,
            grpc: grpc.then(|| classify::grpc_timeout(headers)),
            said: None,
            failed: Failed::default(),
            ended: None,
            whole_at: None,
            told: false,
            length: Length::Unknown,
        })
    }

    /// The trace that the call belongs to.
    pub(crate) fn belongs_to(&mut self, trace: u128) {
        self.failed.trace = trace;
    }

    /// The head of an answer came from `endpoint`. `rejected`: a sidecar of ours says there that a breaker further down
    /// is the cause. Of anybody else that is not believed, or any service could hide that it fails.
    pub(crate) fn answered(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        endpoint: SocketAddr,
        rejected: bool,
        now: Instant,
    ) {
        let said = match rejected {
            true => Said::Known(Class::Propagated),
            false => classify::head(status, headers, self.grpc.is_some(), self.deadline(now)),
        };
        self.said = Some(said);
        if headers.contains_key(header::CONTENT_LENGTH) {
            self.length = Length::Known(now);
        }
        self.failed.endpoint = Some(endpoint);
        let code = self.grpc.and_then(|_| code_of(headers)).flatten();
        self.failed.what = Some(code.map_or(What::Http(status.as_u16()), What::Grpc));
        self.failed.retry_after = retry_after(said, headers);
        // How long a stream takes says nothing.
        let stream = status == StatusCode::SWITCHING_PROTOCOLS || is_stream(headers);
        if stream || matches!(said, Said::Known(Class::Failure | Class::Throttled)) {
            self.tell(now);
        }
    }

    /// Bytes of the answer's body have come. Of a probe, that is enough once they have been coming for some time. One
    /// that says how long it is has to go on until then; any other may say its first word and be silent.
    pub(crate) fn streams(&mut self) {
        if self.told || !matches!(self.ticket, Ticket::Counts(Permit::Probe { .. })) {
            return;
        }
        match self.length {
            Length::Coming => {}
            Length::Unknown => {
                let now = Instant::now();
                self.length = Length::Coming;
                self.breaker.answers(self.ticket, now.saturating_duration_since(self.started), now);
            }
            Length::Known(since) => {
                let now = Instant::now();
                if now.saturating_duration_since(since) >= LASTING {
                    self.tell(now);
                }
            }
        }
    }

    /// There is a connection for bytes that nobody here understands; that is all that can be known.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.said = Some(Said::Known(Class::Success));
        self.tell(now);
    }

    /// The trailers have come; `rejected` as in the head.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap, rejected: bool, now: Instant) {
        if self.said != Some(Said::InTrailers) {
            return;
        }
        let said = match rejected {
            true => Said::Known(Class::Propagated),
            false => classify::trailers(trailers, self.deadline(now)),
        };
        self.said = Some(said);
        self.failed.retry_after = retry_after(said, trailers);
        self.failed.what = Some(code_of(trailers).flatten().map_or(What::NoGrpcStatus, What::Grpc));
    }

    /// The answer is whole.
    pub(crate) fn whole(&mut self, now: Instant) {
        self.whole_at = Some(now);
        self.ended = match self.said {
            Some(Said::Known(class)) => Some(class),
            Some(Said::InTrailers) => {
                self.failed.what = Some(What::NoGrpcStatus);
                Some(Class::Failure)
            }
            // What explains a fault to the application is no answer.
            None => self.ended,
        };
    }

    /// The answer broke off.
    pub(crate) fn broken(&mut self) {
        self.failed.what = Some(What::Broken);
        self.ended = Some(Class::Failure);
    }

    /// The call was sent to this endpoint, whether it answers or not.
    pub(crate) fn reached(&mut self, endpoint: SocketAddr) {
        self.failed.endpoint = Some(endpoint);
    }

    /// There was no answer.
    pub(crate) fn failed(&mut self, fault: Fault) {
        self.failed.what = Some(What::Fault(fault));
        self.ended = Some(classify::fault(fault, self.deadline(Instant::now())));
    }

    fn deadline(&self, now: Instant) -> Deadline {
        let spent = now.saturating_duration_since(self.started);
        Deadline { allowed: self.grpc.flatten(), spent }
    }

    /// Tells the breaker what is known by now, once.
    fn tell(&mut self, now: Instant) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let so_far = match self.said {
            Some(Said::Known(class)) => class,
            // It answers; what it says in the end comes too late for those who wait.
            Some(Said::InTrailers) => Class::Success,
            None if self.ended.is_none() && self.deadline(now).has_passed() => {
                self.failed.what = Some(What::Deadline);
                Class::Failure
            }
            None => Class::Ignored,
        };
        let class = self.ended.unwrap_or(so_far);
        let took = now.saturating_duration_since(self.started);
        if let Some(endpoint) = self.failed.endpoint {
            self.breaker.neighbour.endpoints.ended(endpoint, class, now);
        }
        self.breaker.ended(self.ticket, class, took, self.failed, now);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.breaker.in_flight.leave();
        let now = self.whole_at.unwrap_or_else(Instant::now);
        if self.ended.is_none() && self.said.is_some() {
            // The head came, and the caller went away before the rest: that says nothing, but for what the head said.
            self.ended = match self.said {
                Some(Said::Known(class)) if class != Class::Success => Some(class),
                _ if self.deadline(now).has_passed() => {
                    self.failed.what = Some(What::Deadline);
                    Some(Class::Failure)
                }
                _ => Some(Class::Ignored),
            };
        }
        self.tell(now);
    }
}

fn retry_after(said: Said, headers: &HeaderMap) -> Option<Duration> {
    let throttled = said == Said::Known(Class::Throttled);
    throttled.then(|| classify::retry_after(headers, SystemTime::now)).flatten()
}

/// Whether the answer goes on for as long as somebody listens.
fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}
