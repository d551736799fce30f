//! Where connections enter: sockets are bound before anything else happens, and accepted from until their place is
//! taken away or the proxy drains.

mod takeover;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::connection::{self, Role};
use crate::drain::{Phase, Watch};
use crate::metrics::Metrics;
use crate::sidecar::Worker;

/// Connections that the kernel may hold ready for us.
const BACKLOG: i32 = 1_024;
/// Connections accepted in one turn: others that the worker has want theirs.
const TURN: u32 = 16;
/// How long accepting rests after an error such as "too many open files": it will not be better at once.
const REST: Duration = Duration::from_millis(50);

/// The sockets of one address, one for every worker. They do not listen yet: nobody can connect, and be let down,
/// before everything else is there.
pub(crate) struct Reserved {
    pub(crate) address: SocketAddr,
    sockets: Vec<Socket>,
    shared: bool,
}

/// Binds `address` once for every worker; on port 0 all of them to the same free port.
///
/// With `shared`, sockets of another process of this user may be bound to it as well.
///
/// # Errors
/// Those of the operating system.
pub(crate) fn reserve(address: SocketAddr, workers: usize, shared: bool) -> io::Result<Reserved> {
    if workers == 1 || shared {
        let first = bind(address, shared)?;
        let address = address_of(&first)?;
        let others = (1..workers).map(|_| bind(address, true));
        return Ok(Reserved {
            address,
            sockets: [Ok(first)].into_iter().chain(others).collect::<io::Result<_>>()?,
            shared,
        });
    }
    // With SO_REUSEPORT a second proxy on the same port would go unnoticed and get half of the connections. This socket
    // without it finds out whether the port is free, and keeps it until the others have it.
    let first = bind(address, false)?;
    let address = address_of(&first)?;
    Ok(Reserved { address, sockets: (0..workers).map(|_| bind(address, true)).collect::<io::Result<_>>()?, shared })
}

impl Reserved {
    /// From here on the kernel takes connections. Those of a shared address all come here from now on.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn listen(self, metrics: &Metrics) -> io::Result<Vec<TcpListener>> {
        let others = if self.shared { takeover::listening_at(self.address) } else { Ok(0) };
        for socket in &self.sockets {
            socket.listen(BACKLOG)?;
        }
        let steered = match (self.sockets.first(), others) {
            (_, Err(error)) => Err(error),
            (Some(socket), Ok(others @ 1..)) => takeover::steer(socket, others, self.sockets.len()),
            _ => Ok(()),
        };
        if let Err(error) = steered {
            metrics.takeover_unsteered.add(1);
            let address = self.address;
            tracing::warn!(%address, %error, "new connections cannot be steered to this process: an older one takes some until it goes down, and may lose the last of them");
        }
        Ok(self.sockets.into_iter().map(TcpListener::from).collect())
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` takes IPv4 as well, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the address of a socket is none of IP"))
}

/// Who serves the connections of a listener. Replaced when another configuration comes into force.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) worker: Arc<Worker>,
    pub(crate) role: Role,
    pub(crate) drain: Watch,
}

/// The sockets of one address, one of each worker. They are closed together, when the last one is emptied: otherwise
/// the kernel would put the sockets of another process in the places of the first ones, and send connections to the last
/// one that it was told to send elsewhere.
#[derive(Clone, Default)]
pub(crate) struct Siblings(Arc<Mutex<Vec<TcpListener>>>);

/// Accepts connections until those of this role end, or the sender of posts is gone. No error of one connection, or of
/// accepting, ends it earlier; nor does it end before what the kernel has accepted is served.
pub(crate) async fn accept(listener: tokio::net::TcpListener, siblings: Siblings, posts: watch::Receiver<Post>) {
    let metrics = Arc::clone(&posts.borrow().worker.sidecar.metrics);
    let _open = Listening::new(&posts.borrow(), &metrics);
    let mut over = pin!(over(posts.clone()));
    let mut accepts = 0_u32;
    loop {
        accepts = accepts.wrapping_add(1);
        if accepts.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = over.as_mut() => break,
        };
        match accepted {
            Ok((stream, peer)) => serve(&posts.borrow(), &metrics, stream, peer),
            Err(error) => {
                metrics.accept_errors.add(1);
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
    let post = posts.borrow().clone();
    if post.worker.sidecar.config.takeover {
        if let Err(error) = takeover::turn_away(&listener) {
            metrics.takeover_unturned.add(1);
            tracing::warn!(%error, "new connections cannot be turned away to the newer process: one that comes at the last moment is lost");
        }
        let settled = Instant::now() + takeover::SETTLE;
        while let Ok(accepted) = timeout_at(settled, listener.accept()).await {
            if let Ok((stream, peer)) = accepted {
                serve(&post, &metrics, stream, peer);
            }
        }
    }
    // The kernel resets what is still in the queue when its socket closes. Asked directly, since the runtime may not
    // have heard of it yet.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, peer)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            serve(&post, &metrics, stream, peer);
        }
    }
    siblings.0.lock().push(listener);
}

/// Until nothing more is to be accepted.
async fn over(mut posts: watch::Receiver<Post>) {
    loop {
        let (mut drain, ends_at) = {
            let post = posts.borrow_and_update();
            (post.drain.clone(), post.role.ends_at())
        };
        tokio::select! {
            () = drain.reached(ends_at) => return,
            changed = posts.changed() => if changed.is_err() { return },
        }
    }
}

fn serve(post: &Post, metrics: &Arc<Metrics>, stream: TcpStream, peer: SocketAddr) {
    let open = Open::new(post, metrics);
    if metrics.connections.get() > post.worker.sidecar.config.limits.connections as u64 {
        return metrics.connections_refused.add(1);
    }
    metrics.connections_accepted.add(1);
    let Post { worker, role, drain } = post.clone();
    tokio::spawn(async move {
        let _open = open;
        connection::serve(worker, role, stream, peer, drain).await;
    });
}

/// One connection that is open.
struct Open {
    metrics: Arc<Metrics>,
    inbound: bool,
}

impl Open {
    fn new(post: &Post, metrics: &Arc<Metrics>) -> Self {
        let inbound = is_inbound(&post.role);
        metrics.connections.up();
        if inbound {
            metrics.inbound_connections.up();
        }
        Self { metrics: Arc::clone(metrics), inbound }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.down();
        if self.inbound {
            self.metrics.inbound_connections.down();
        }
    }
}

/// One listener that new inbound connections may come from.
struct Listening(Option<Arc<Metrics>>);

impl Listening {
    fn new(post: &Post, metrics: &Arc<Metrics>) -> Self {
        let counted = is_inbound(&post.role).then(|| Arc::clone(metrics));
        if let Some(metrics) = &counted {
            metrics.inbound_listeners.up();
        }
        Self(counted)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(metrics) = &self.0 {
            metrics.inbound_listeners.down();
        }
    }
}

/// Whether connections of this role end as soon as the proxy drains.
fn is_inbound(role: &Role) -> bool {
    role.ends_at() == Phase::Draining
}
