//! One exchange on a connection: sending, what may be sent again, and when the connection may be used again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use couplet_config::SpiffeId;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, Request, Response, Uri};
use http_body::Body as _;
use tokio::time::Instant;

use super::connect::{Connector, Http1};
use super::endpoint::{Endpoint, Outstanding, Room};
use super::shared::Stream;
use crate::error::Fault;
use crate::http::{Asking, Expectation, Incoming, Lender, RequestBody, Spare, lend};
use crate::http2::{Aside, Interim, Unheard};
use crate::tls::is_refusal;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// How much of a body over HTTP/2 is kept until the answer's head comes: a small request can be sent again although it was
/// sent.
const KEPT: usize = 4 * 1024;

/// A connection to an upstream.
pub(crate) struct Connection {
    pub(super) sender: Sender,
    /// Where it leads.
    pub(crate) address: SocketAddr,
    /// Who answers there, where that has shown an identity.
    pub(crate) identity: Option<Arc<SpiffeId>>,
    /// Whether it was used before.
    #[expect(dead_code, reason = "says what the counters count")]
    pub(crate) reused: bool,
}

pub(super) enum Sender {
    Http1(Http1),
    Http2(Stream),
}

/// A connection, or a stream on one, that is in use; goes back to its pool when the exchange on it is whole.
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    endpoint: Arc<Endpoint>,
    /// For how long an HTTP/1 connection may be kept afterwards, and beside how many others.
    keep: Duration,
    room: Room,
    /// Set where the client waits to be asked for the body.
    asking: Option<Asking>,
    _outstanding: Outstanding,
}

/// Why a request has no answer.
pub(crate) struct Unanswered {
    /// The request itself, where the upstream provably processed no byte of it: it may be sent again.
    pub(crate) unsent: Option<Request<RequestBody>>,
    pub(crate) fault: Fault,
}

impl Lease {
    pub(super) fn new(
        connection: Connection,
        endpoint: Arc<Endpoint>,
        outstanding: Outstanding,
        connector: &Connector,
    ) -> Self {
        let (keep, room) = (connector.idle_timeout, connector.room);
        Self { connection, endpoint, keep, room, asking: None, _outstanding: outstanding }
    }

    /// The body of the request to send is read once it is known to be wanted, and of no use beyond this lease.
    pub(crate) fn asks(&mut self, expectation: Expectation) {
        self.asking = Some(Asking(expectation));
    }

    /// The client has the head of the answer.
    pub(crate) fn handed_on(&self) {
        if let Some(asking) = &self.asking {
            asking.0.handed_on();
        }
    }

    /// Sends a request and waits for the answer's head. The answers before it go to `interim`; over HTTP/2, what is left to
    /// do beside the answer goes to `aside`.
    ///
    /// # Errors
    /// Why there is none, with the request where it may be sent again.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        aside: &Aside,
        interim: &mut Interim<'_>,
    ) -> Result<Response<Incoming>, Unanswered> {
        match &mut self.connection.sender {
            Sender::Http2(stream) => send_http2(stream, request, aside, interim).await,
            Sender::Http1(sender) => match sender.send(request, interim).await {
                Ok(response) => {
                    self.keep = self.keep.min(keep_alive(response.headers()).unwrap_or(Duration::MAX));
                    Ok(response.map(Incoming::from))
                }
                Err(mut error) => {
                    let unsent = error.take_message();
                    if is_refusal(error.error()) {
                        return Err(Unanswered { unsent: None, fault: Fault::TlsRefused });
                    }
                    if unsent.is_some() {
                        self.endpoint.forget_idle();
                    }
                    let fault = if error.error().is_parse() || sender.violation().is_some() {
                        Fault::MalformedResponse
                    } else if error.error().is_user() {
                        // The request's own body broke: what its client sent of it cannot be read.
                        Fault::Malformed
                    } else {
                        Fault::Reset
                    };
                    Err(Unanswered { unsent, fault })
                }
            },
        }
    }

    /// The exchange is whole: the connection may be used again, unless the upstream closes it.
    pub(crate) fn give_back(self, now: Instant) {
        if self.asking.is_some_and(|asking| !asking.is_met()) {
            // A body was announced on it and will never come.
            return;
        }
        match self.connection.sender {
            Sender::Http1(sender) => self.endpoint.keep(sender, self.keep, self.room, now),
            Sender::Http2(stream) => stream.whole(now),
        }
    }
}

async fn send_http2(
    stream: &mut Stream,
    request: Request<RequestBody>,
    aside: &Aside,
    interim: &mut Interim<'_>,
) -> Result<Response<Incoming>, Unanswered> {
    let (mut head, body) = request.into_parts();
    if stream.is_https() {
        head.uri = https(head.uri);
    }
    let spare = Spare::of(&head);
    let (lent, kept) = if body.is_end_stream() {
        (None, Kept::Whole(body))
    } else {
        let (lent, lender) = lend(body, KEPT, None);
        (Some(lent), Kept::Lent(lender))
    };
    let (error, never_sent) = match stream.send(Request::from_parts(head, ()), lent, aside, interim).await {
        Ok(response) => return Ok(response.map(Incoming::from)),
        Err(Unheard::Malformed) => return Err(Unanswered { unsent: None, fault: Fault::MalformedResponse }),
        Err(Unheard::Unsent(error)) => (error, true),
        Err(Unheard::Broken(error)) => (error, false),
    };
    if is_refusal(&error) {
        stream.retire();
        return Err(Unanswered { unsent: None, fault: Fault::TlsRefused });
    }
    if !never_sent && !is_refused(&error) {
        return Err(Unanswered { unsent: None, fault: Fault::Reset });
    }
    // Whatever the reason, another connection has the better chance.
    stream.retire();
    let unsent = spare.head().zip(kept.body()).map(|(head, body)| Request::from_parts(head, body));
    Err(Unanswered { unsent, fault: Fault::Reset })
}

/// What there is of the body of a request that may be sent again.
#[expect(clippy::large_enum_variant, reason = "it stays where it is made; most requests would allocate for a box")]
enum Kept {
    /// All of it: there is none, and nothing of that was lent.
    Whole(RequestBody),
    Lent(Lender),
}

impl Kept {
    fn body(self) -> Option<RequestBody> {
        match self {
            Kept::Whole(body) => Some(body),
            Kept::Lent(lender) => lender.take_back(),
        }
    }
}

/// The target of a request that came in the clear and goes on over TLS.
fn https(uri: Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    if parts.scheme.is_none() {
        return uri;
    }
    parts.scheme = Some(Scheme::HTTPS);
    Uri::from_parts(parts).unwrap_or(uri)
}

/// Whether the other side says that it did not process the request: it refused the stream (RFC 9113, section 8.7), or
/// is going away and the stream is beyond the last one that it will process (section 6.8). h2 gives the latter error
/// to such streams alone; those before it go on, or end with the connection as broken ones.
fn is_refused(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

/// For how long the upstream says that it keeps an idle connection, less a second for the way: a request should not
/// meet the end of it.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| seconds.trim().parse::<u32>().ok())?
    });
    Some(Duration::from_secs(u64::from(seconds?.saturating_sub(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_a_second_less_than_its_upstream_keeps_it() {
        let kept = |value: &str| {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("keep-alive"), value.parse().unwrap())]);
            keep_alive(&headers).map(|keep| keep.as_secs())
        };
        assert_eq!(kept("timeout=5, max=100"), Some(4));
        assert_eq!(kept("max=100, Timeout = 2"), Some(1));
        assert_eq!(kept("timeout=1"), Some(0));
        assert_eq!(kept("timeout=0"), Some(0));
        assert_eq!(kept("max=100"), None);
        assert_eq!(kept("timeout=soon"), None);
        assert_eq!(keep_alive(&HeaderMap::new()), None);
    }
}
