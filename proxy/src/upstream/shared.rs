//! HTTP/2 connections to one endpoint. Each carries the streams of one client, so that nobody pays for what another one
//! does: a server may end a connection on which too many streams were reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use couplet_config::SpiffeId;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connect::Http2;
use crate::deadline::Downstream;
use crate::http::Lent;
use crate::http2::{Aside, Body, Client, Interim, Outgoing, Unheard};

/// Beyond so many connections, clients share.
const MOST: usize = 64;
/// Streams that may have been cut on a connection that another client takes over. Servers bear twice as many at least.
const MAX_BROKEN: usize = 8;

/// The connections to one endpoint.
#[derive(Default)]
pub(super) struct Shared(Mutex<Vec<Arc<Connection>>>);

struct Connection {
    server: Client,
    /// Whether requests on it say that they came over TLS.
    https: bool,
    identity: Option<Arc<SpiffeId>>,
    /// Whose streams it carries.
    client: Mutex<Downstream>,
    /// Streams that are not whole: those that are open, and those that were cut.
    broken: AtomicUsize,
    /// It takes no further requests; those on it come to their end.
    retired: AtomicBool,
    used: Mutex<Instant>,
}

/// One stream on an HTTP/2 connection, begun or about to be.
pub(super) struct Stream {
    outgoing: Outgoing,
    connection: Arc<Connection>,
    /// When the exchange on it came to its end.
    ended: Option<Instant>,
}

impl Shared {
    /// For how many more connections there is room.
    pub(super) fn room(&self) -> usize {
        MOST.saturating_sub(self.0.lock().len())
    }

    /// Keeps a connection for whatever `client` asks for, and begins a stream on it. None where it takes no request, and
    /// so is of no use.
    pub(super) fn add(
        &self,
        Http2 { client: server, identity }: Http2,
        https: bool,
        client: &Downstream,
    ) -> Option<Stream> {
        let connection = Arc::new(Connection {
            server,
            https,
            identity,
            client: Mutex::new(client.clone()),
            broken: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            used: Mutex::new(Instant::now()),
        });
        let stream = Stream::on(&connection)?;
        self.0.lock().push(connection);
        Some(stream)
    }

    /// A stream on a connection of `client` with room, or on one that carries nothing and is in good standing, best on one
    /// whose client is gone; on the one with the fewest streams where there may be no more connections. None where one is
    /// to be made.
    pub(super) fn join(&self, client: &Downstream) -> Option<Stream> {
        let mut connections = self.0.lock();
        let is_own =
            |connection: &Arc<Connection>| *connection.client.lock() == *client && connection.server.has_room();
        // Requests of one client come together: its connection is the first one after the first of them.
        if let Some(first) = connections.first().filter(|first| first.is_of_use() && is_own(first))
            && let Some(stream) = Stream::on(first)
        {
            return Some(stream);
        }
        loop {
            connections.retain(|connection| connection.is_of_use());
            if let Some(own) = connections.iter().position(is_own) {
                connections.swap(0, own);
            }
            let free = || connections.iter().filter(|connection| connection.is_free());
            let left = || free().find(|connection| connection.client.lock().is_gone());
            let own = connections.first().filter(|first| is_own(first));
            let joined = own.or_else(left).or_else(|| free().next());
            let joined = match joined {
                Some(joined) => joined,
                None if connections.len() < MOST => return None,
                None => connections.iter().min_by_key(|connection| connection.server.streams())?,
            };
            if joined.server.streams() == 0 && !joined.is_free() && *joined.client.lock() != *client {
                // Too much was cut on it for anybody to take it over: it makes room.
                joined.retire();
                continue;
            }
            // Under the lock, as everybody who looks at it.
            if joined.server.streams() == 0 {
                *joined.client.lock() = client.clone();
            }
            match Stream::on(joined) {
                Some(stream) => return Some(stream),
                None => joined.retire(),
            }
        }
    }

    /// A stream on the connection with the fewest, whosever it is: where there may be no more of them.
    pub(super) fn share(&self) -> Option<Stream> {
        let mut connections = self.0.lock();
        connections.retain(|connection| connection.is_of_use());
        connections.sort_by_key(|connection| connection.server.streams());
        connections.iter().find_map(Stream::on)
    }

    /// Closes a connection that carries nothing. Whether there was one.
    pub(super) fn close_idle(&self) -> bool {
        let mut connections = self.0.lock();
        let idle = connections.iter().position(|connection| connection.server.streams() == 0);
        idle.map(|index| connections.swap_remove(index)).is_some()
    }

    /// Closes connections that were idle for too long.
    pub(super) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.0.lock().retain(|connection| {
            let unused = now.saturating_duration_since(*connection.used.lock());
            connection.is_of_use() && (connection.server.streams() > 0 || unused < idle_timeout)
        });
    }
}

impl Connection {
    /// Whether another client may have it: the resets of those who left may still be under way on it.
    fn is_free(&self) -> bool {
        self.server.streams() == 0 && self.broken.load(Ordering::Relaxed) < MAX_BROKEN
    }

    /// Whether anybody may still ask on it.
    fn is_of_use(&self) -> bool {
        let over = self.retired.load(Ordering::Relaxed) || self.server.is_over();
        !over && (self.server.streams() > 0 || self.is_free() || !self.client.lock().is_gone())
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    /// None where the connection takes no further requests.
    fn on(connection: &Arc<Connection>) -> Option<Self> {
        let outgoing = connection.server.open()?;
        connection.broken.fetch_add(1, Ordering::Relaxed);
        Some(Self { outgoing, connection: Arc::clone(connection), ended: None })
    }

    /// The exchange on it came to its end.
    pub(super) fn whole(mut self, now: Instant) {
        self.ended = Some(now);
        self.connection.broken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn send(
        &mut self,
        head: Request<()>,
        body: Option<Lent>,
        aside: &Aside,
        interim: &mut Interim<'_>,
    ) -> Result<Response<Body>, Unheard> {
        self.outgoing.send(&self.connection.server, head, body, aside, interim).await
    }

    /// Who answers, where that has an identity.
    pub(super) fn identity(&self) -> Option<Arc<SpiffeId>> {
        self.connection.identity.clone()
    }

    pub(super) fn is_https(&self) -> bool {
        self.connection.https
    }

    /// The connection takes no further requests.
    pub(super) fn retire(&self) {
        self.connection.retire();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *self.connection.used.lock() = self.ended.unwrap_or_else(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Progress;

    /// Connections to a server that never says a word.
    struct Server(Vec<tokio::io::DuplexStream>);

    impl Server {
        async fn connection(&mut self) -> Http2 {
            let (own, others) = tokio::io::duplex(64 * 1024);
            self.0.push(others);
            let client = crate::http2::speak(own, 1024, &Arc::default()).await.unwrap();
            Http2 { client, identity: None }
        }
    }

    fn client() -> (Progress, Downstream) {
        let progress = Progress::new(Instant::now());
        let downstream = progress.moving().connection();
        (progress, downstream)
    }

    fn is_same(one: &Stream, other: &Stream) -> bool {
        Arc::ptr_eq(&one.connection, &other.connection)
    }

    #[tokio::test]
    async fn clients_that_are_there_share_no_connection_and_one_that_is_gone_leaves_it() {
        let (shared, mut server) = (Shared::default(), Server(Vec::new()));
        let ((first, one), (second, two)) = (client(), client());
        let stream = shared.add(server.connection().await, false, &one).unwrap();
        assert!(is_same(&stream, &shared.join(&one).unwrap()));
        shared.join(&one).unwrap().whole(Instant::now());
        assert!(shared.join(&two).is_none(), "it has its streams");
        let other = shared.add(server.connection().await, false, &two).unwrap();
        let theirs = Arc::clone(&other.connection);
        [stream, other].into_iter().for_each(|stream| stream.whole(Instant::now()));
        drop(second);
        let (_third, three) = client();
        let left = shared.join(&three).unwrap();
        assert!(Arc::ptr_eq(&left.connection, &theirs), "the first client may ask again any moment");
        assert!(shared.join(&client().1).is_some(), "and does not just now");
        assert_eq!(shared.room(), MOST - 2);
        drop(first);
    }

    #[tokio::test]
    async fn a_connection_on_which_much_was_cut_goes_with_its_client() {
        let (shared, mut server) = (Shared::default(), Server(Vec::new()));
        let ((first, one), (_second, two)) = (client(), client());
        drop(shared.add(server.connection().await, false, &one));
        (1..MAX_BROKEN).for_each(|_| drop(shared.join(&one).unwrap()));
        assert!(shared.join(&one).is_some(), "it cut them itself");
        drop(first);
        assert!(shared.join(&two).is_none());
        assert_eq!(shared.room(), MOST);
    }

    #[tokio::test]
    async fn beyond_the_most_connections_one_is_taken_that_is_idle_before_any_is_shared() {
        let (shared, mut server) = (Shared::default(), Server(Vec::new()));
        let (mut clients, mut streams) = (Vec::new(), Vec::new());
        for _ in 0..MOST {
            let (progress, client) = client();
            streams.push(shared.add(server.connection().await, false, &client).unwrap());
            clients.push((progress, client));
        }
        let (_late, late) = client();
        assert_eq!(shared.room(), 0);
        let with_one = shared.join(&late).unwrap();
        assert_eq!(with_one.connection.server.streams(), 2, "all of them carry something");
        drop(with_one);
        // One whose exchange is whole, and one on which too much was cut.
        let idle = streams.pop().unwrap();
        let kept = Arc::clone(&idle.connection);
        idle.whole(Instant::now());
        assert!(Arc::ptr_eq(&shared.join(&late).unwrap().connection, &kept));
        kept.broken.store(MAX_BROKEN, Ordering::Relaxed);
        let (_later, later) = client();
        assert!(shared.join(&later).is_none(), "it makes room for a new one");
        assert_eq!(shared.room(), 1);
    }
}
