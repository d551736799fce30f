//! Sidecars with identities, what they count, and wires between them.

use std::net::SocketAddr;
use std::sync::Arc;

use couplet_config::{ProxyConfig, UpstreamTls};
use couplet_proxy::Running;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;
use crate::pki::*;

/// A sidecar in the mesh, with an admin listener.
pub(crate) fn meshed(service: &str, authority: &Authority) -> ProxyConfig {
    let mut config = config(service);
    config.tls.identity = authority.identity(service);
    config.admin = Some(free());
    config
}

pub(crate) trait Secured {
    /// Calls go to `target` like this.
    fn over(self, tls: Option<UpstreamTls>, name: &str, target: SocketAddr) -> Self;
}

impl Secured for ProxyConfig {
    fn over(self, tls: Option<UpstreamTls>, name: &str, target: SocketAddr) -> Self {
        let mut config = self.to(name, target);
        config.outbound.last_mut().unwrap().tls = tls;
        config
    }
}

/// Waits until a counter has come so far; asking for it is all that is done meanwhile.
pub(crate) async fn reached(proxy: &Running, name: &str, count: u64) {
    while metric(proxy, name).await < count {}
}

/// Claims that so many connections were refused for this reason. They are counted about when the peer learns it.
pub(crate) async fn refused(proxy: &Running, side: &str, reason: &str, count: u64) {
    let name = format!("couplet_tls_refused_total{{side=\"{side}\",reason=\"{reason}\"}}");
    reached(proxy, &name, count).await;
    assert_eq!(metric(proxy, &name).await, count, "{reason}");
}

/// A wire to `target` on which everything that passes is kept.
pub(crate) async fn tapped(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, kept) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
    let tap = Arc::clone(&kept);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let upstream = TcpStream::connect(target).await.unwrap();
            let kept = Arc::clone(&tap);
            tokio::spawn(async move {
                let (down_read, down_write) = stream.into_split();
                let (up_read, up_write) = upstream.into_split();
                tokio::join!(pass(down_read, up_write, &kept), pass(up_read, down_write, &kept));
            });
        }
    });
    (address, kept)
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, kept: &Mutex<Vec<u8>>) {
    let mut piece = Vec::with_capacity(4096);
    while let Ok(1..) = from.read_buf(&mut piece).await {
        kept.lock().extend_from_slice(&piece);
        let _ = to.write_all(&piece).await;
        piece.clear();
    }
}
