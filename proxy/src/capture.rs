//! What a captured connection speaks, found out on both of its sides without waiting for either: the destination is
//! asked for at once, and whoever speaks first tells. Databases and mail servers do; clients of HTTP and TLS do.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use couplet_telemetry::opaque::Protocol as Carried;
use tokio::time::{Instant, sleep_until};

use crate::detect::hello::{self, Peek, offers, server_name};
use crate::detect::{ENOUGH, Judgement, begins_with_settings, judge};
use crate::error::Fault;
use crate::http::Protocol;
use crate::sidecar::Worker;
use crate::stream::Stream;
use crate::tls::MESH;
use crate::upstream::{Dial, Opened};
use crate::verdicts::{Spoken, Verdict};

/// Bytes that may still become something are waited for so long; then they are passed on as they are.
const UNDECIDED: Duration = Duration::from_secs(1);
/// A destination whose clients spoke HTTP of late is asked for when a request comes, or when the client is silent for so
/// long: it may wait for the server's first word.
const SILENT: Duration = Duration::from_millis(50);
/// Where there is no connection to the destination, the client's first bytes are waited for so long: a request is
/// answered with the reason, anything else with a reset.
const GRACE: Duration = Duration::from_millis(50);
/// Longer than any connection lasts.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A captured connection of which it is known what it is.
pub(crate) struct Seen {
    pub(crate) client: Stream,
    /// The connection to the destination, made or about to be, where it was asked for.
    pub(crate) server: Option<Dial>,
    pub(crate) found: Found,
}

/// What a captured connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// TLS that is meant for this proxy.
    Ours,
    /// Requests.
    Http(Protocol),
    /// Bytes to be passed on as they are; with the name that a ClientHello asks for.
    Opaque(Carried, Option<String>),
    /// The client ended without a byte of either side, as whoever looks only whether a port is open.
    Ended,
    /// No connection to the destination, and no request that could be answered.
    Dead(Fault),
    /// The client is gone, or there was silence for as long as there may be.
    Gone,
}

/// Where a captured connection comes from, and leads to.
pub(crate) enum Side {
    /// From the application.
    Outbound,
    /// To the application.
    Inbound {
        /// For how long the ClientHello of a sidecar is waited for where the application has spoken.
        hello: Option<Duration>,
    },
    /// To the application as well, out of TLS that was meant for this proxy; with the connection to the application, where
    /// that was asked for.
    Within(Option<Dial>),
}

/// Looks at a captured connection to `destination` until it is known what it is.
pub(crate) async fn look(worker: &Arc<Worker>, mut client: Stream, destination: SocketAddr, side: Side) -> Seen {
    let now = Instant::now();
    let outbound = matches!(side, Side::Outbound);
    let dial = || if outbound { worker.dial_out(destination) } else { worker.dial(destination) };
    let (hello, ours) = match &side {
        Side::Inbound { hello } => (*hello, worker.sidecar.tls.accepts()),
        _ => (None, false),
    };
    let mut server = match side {
        Side::Within(Some(dial)) => Server::Asked(dial),
        _ if worker.sidecar.verdicts.is_http(destination, now) => Server::Unasked,
        _ => Server::Asked(dial()),
    };
    let mut looking = Looking { began: now, first: None, server_first: false, ours, hello, held: None };
    let found = looking.find(worker, &mut client, &mut server, &dial).await;
    if let Some(spoken) = found.spoken() {
        let now = Instant::now();
        let took = now.saturating_duration_since(looking.first.unwrap_or(now));
        worker.sidecar.verdicts.found(destination, Verdict { spoken, server_first: looking.server_first }, took, now);
    }
    let asked = match found {
        Found::Opaque(carried, _) => {
            let asked = server.dial().unwrap_or_else(dial);
            Some(if outbound && carried == Carried::Tls { worker.encrypted(asked, destination) } else { asked })
        }
        // A connection on which the server has spoken already is none for requests, unless those were its settings.
        Found::Http(Protocol::Http1) => server.dial_unspoken(),
        _ => server.dial(),
    };
    Seen { client, server: asked, found }
}

impl Found {
    fn spoken(&self) -> Option<Spoken> {
        match self {
            Found::Http(Protocol::Http1) => Some(Spoken::Http1),
            Found::Http(Protocol::Http2) => Some(Spoken::Http2),
            Found::Opaque(Carried::Tls, _) => Some(Spoken::Tls),
            Found::Opaque(Carried::Tcp, _) => Some(Spoken::Opaque),
            Found::Ours | Found::Ended | Found::Dead(_) | Found::Gone => None,
        }
    }
}

/// The side of the destination.
enum Server {
    Unasked,
    Asked(Dial),
    There(Opened),
    Refused(Fault),
}

/// What happened on it.
enum Event {
    Connected(Result<Opened, Fault>),
    /// So many bytes came; none where it has ended.
    Read(io::Result<usize>),
}

impl Server {
    /// The next thing to happen. Nothing is lost when this is cancelled.
    async fn next(&mut self) -> Event {
        match self {
            Server::Asked(dial) => Event::Connected(dial.await),
            Server::There(opened) => Event::Read(opened.stream.read_ahead(ENOUGH).await),
            Server::Unasked | Server::Refused(_) => std::future::pending().await,
        }
    }

    /// The connection, made or about to be; nothing where nobody asked for one.
    fn dial(self) -> Option<Dial> {
        match self {
            Server::Unasked => None,
            Server::Asked(dial) => Some(dial),
            Server::There(opened) => Some(Box::pin(std::future::ready(Ok(opened)))),
            Server::Refused(fault) => Some(Box::pin(std::future::ready(Err(fault)))),
        }
    }

    fn dial_unspoken(self) -> Option<Dial> {
        match self {
            Server::There(opened) if !opened.stream.ahead().is_empty() => None,
            other => other.dial(),
        }
    }
}

struct Looking {
    began: Instant,
    /// When the first byte of either side was read.
    first: Option<Instant>,
    server_first: bool,
    /// Whether TLS may be meant for this proxy.
    ours: bool,
    hello: Option<Duration>,
    /// What the server's first word says, while the client's is waited for.
    held: Option<Found>,
}

impl Looking {
    async fn find(
        &mut self,
        worker: &Arc<Worker>,
        client: &mut Stream,
        server: &mut Server,
        dial: &(impl Fn() -> Dial + Sync),
    ) -> Found {
        let idle = worker.sidecar.config.capture.idle.unwrap_or(NEVER);
        let silent = if matches!(server, Server::Unasked) { SILENT } else { idle };
        let mut timer = pin!(sleep_until(self.began + silent));
        let (mut most, mut name_wanted) = (ENOUGH, false);
        loop {
            tokio::select! {
                // Where both have spoken, the client's word says more.
                biased;
                read = client.read_ahead(most) => {
                    let ended = match read {
                        Ok(count) => count == 0,
                        Err(_) => return Found::Gone,
                    };
                    if ended && client.ahead().is_empty() {
                        return Found::Ended;
                    }
                    let is_ours = |hello: &[u8]| self.ours && (worker.sidecar.tls.serves() || offers(hello, MESH));
                    match said(client.ahead(), is_ours) {
                        Said::Found(found) => return found.unless_dead(server),
                        _ if ended => return Found::Opaque(Carried::Tcp, None).unless_dead(server),
                        Said::More => {}
                        Said::MoreOfHello => (most, name_wanted) = (hello::MOST, true),
                    }
                    if self.first.is_none() || self.held.is_some() {
                        self.first.get_or_insert_with(Instant::now);
                        timer.as_mut().reset(Instant::now() + UNDECIDED);
                    }
                }
                event = server.next(), if self.held.is_none() => match event {
                    Event::Connected(Ok(opened)) => {
                        let said = server_said(&opened.stream);
                        *server = Server::There(opened);
                        if let Some(found) = said {
                            self.server_first |= self.first.is_none();
                            self.first.get_or_insert_with(Instant::now);
                            return found;
                        }
                    }
                    Event::Connected(Err(fault)) => {
                        *server = Server::Refused(fault);
                        // A sidecar is told within its TLS.
                        timer.as_mut().reset(Instant::now() + self.hello.unwrap_or(GRACE).max(GRACE));
                    }
                    Event::Read(Err(_)) => return Found::Dead(Fault::Reset),
                    Event::Read(Ok(count)) => {
                        self.server_first |= self.first.is_none() && count > 0;
                        self.first.get_or_insert_with(Instant::now);
                        let Server::There(opened) = server else { continue };
                        let found = match server_said(&opened.stream) {
                            _ if count == 0 => Found::Opaque(Carried::Tcp, None),
                            Some(found) => found,
                            None => {
                                timer.as_mut().reset(Instant::now() + UNDECIDED);
                                continue;
                            }
                        };
                        let Some(hello) = self.hello.filter(|_| client.ahead().is_empty()) else { return found };
                        self.held = Some(found);
                        timer.as_mut().reset(Instant::now() + hello);
                    }
                },
                () = timer.as_mut() => match server {
                    _ if self.held.is_some() => return self.held.take().unwrap_or(Found::Gone),
                    Server::Refused(fault) => return Found::Dead(*fault),
                    _ if name_wanted => return Found::Opaque(Carried::Tls, None),
                    _ if self.first.is_some() => return Found::Opaque(Carried::Tcp, None),
                    Server::Unasked => {
                        *server = Server::Asked(dial());
                        timer.as_mut().reset(Instant::now() + idle);
                    }
                    Server::Asked(_) | Server::There(_) => return Found::Gone,
                },
            }
        }
    }
}

impl Found {
    /// Bytes cannot be passed on to a destination that refused the connection.
    fn unless_dead(self, server: &Server) -> Self {
        match (&self, server) {
            // It may be passed on as it is.
            (Found::Opaque(Carried::Tls, _), Server::Refused(Fault::ClearText)) => self,
            (Found::Opaque(..), Server::Refused(fault)) => Found::Dead(*fault),
            _ => self,
        }
    }
}

/// What the client's first bytes say.
enum Said {
    More,
    /// A ClientHello, not all of it.
    MoreOfHello,
    Found(Found),
}

/// What a server's first bytes say, where it has sent any and that can be told.
fn server_said(stream: &Stream) -> Option<Found> {
    Some(match begins_with_settings(stream.ahead()) {
        _ if stream.ahead().is_empty() => return None,
        Some(true) => Found::Http(Protocol::Http2),
        Some(false) => Found::Opaque(Carried::Tcp, None),
        None => return None,
    })
}

fn said(bytes: &[u8], is_ours: impl Fn(&[u8]) -> bool) -> Said {
    Said::Found(match judge(bytes) {
        Judgement::More => return Said::More,
        Judgement::Http1 => Found::Http(Protocol::Http1),
        Judgement::Http2 => Found::Http(Protocol::Http2),
        Judgement::Opaque => Found::Opaque(Carried::Tcp, None),
        Judgement::Tls => match server_name(bytes) {
            Peek::More => return Said::MoreOfHello,
            _ if is_ours(bytes) => Found::Ours,
            Peek::Name(name) => Found::Opaque(Carried::Tls, Some(name)),
            Peek::Nothing => Found::Opaque(Carried::Tls, None),
        },
    })
}
