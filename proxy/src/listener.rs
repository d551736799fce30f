//! Where connections enter: sockets are bound before anything else happens, accepted from until the proxy drains.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::connection::{self, Role};
use crate::drain::Watch;
use crate::sidecar::Worker;

/// Connections that the kernel may hold ready for us.
const BACKLOG: i32 = 1_024;
/// How long accepting rests after an error such as "too many open files": it will not be better at once.
const REST: Duration = Duration::from_millis(50);

/// Binds `address` once for every worker. The first socket finds out whether the port is free (and which, for port 0).
///
/// # Errors
/// Those of the operating system.
pub(crate) fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if workers == 1 {
        return Ok(vec![listen(address, false)?]);
    }
    // With SO_REUSEPORT a second proxy on the same port would go unnoticed and get half of the connections.
    let address = listen(address, false)?.local_addr()?;
    (0..workers).map(|_| listen(address, true)).collect()
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
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
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until those of this role end. No error of one connection, or of accepting, ends it earlier.
pub(crate) async fn accept(worker: Arc<Worker>, listener: tokio::net::TcpListener, role: Role, mut drain: Watch) {
    let metrics = Arc::clone(&worker.sidecar.metrics);
    let limit = worker.sidecar.config.limits.connections as u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(role.ends_at()) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                metrics.accept_errors.add(1);
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let open = Open(Arc::clone(&metrics));
        if metrics.connections.up() > limit {
            metrics.connections_refused.add(1);
            continue;
        }
        metrics.connections_accepted.add(1);
        let (worker, role, drain) = (Arc::clone(&worker), role.clone(), drain.clone());
        tokio::spawn(async move {
            let _open = open;
            connection::serve(worker, role, stream, peer, drain).await;
        });
    }
}

/// One connection that is open.
struct Open(Arc<crate::metrics::Metrics>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.down();
    }
}
