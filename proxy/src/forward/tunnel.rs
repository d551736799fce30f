//! Connections that have become something else: upgraded ones (WebSocket and others) and CONNECT. Bytes, both ways.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::Fault;
use crate::record::Observer;
use crate::upstream::{Connector, Upstream};

/// Passes bytes between two upgraded ends until both are done. What `observer` watches ends with them.
pub(crate) fn bridge<O: Observer + Send + 'static>(downstream: OnUpgrade, upstream: OnUpgrade, mut observer: O) {
    tokio::spawn(async move {
        let (downstream, upstream) = match (downstream.await, upstream.await) {
            (Ok(downstream), Ok(upstream)) => (downstream, upstream),
            _ => return observer.broken(),
        };
        let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(downstream), &mut TokioIo::new(upstream)).await;
        end(&mut observer, &copied);
    });
}

/// Opens the connection that a CONNECT asks for, before it is answered.
///
/// # Errors
/// Why there is none.
pub(crate) async fn connect_through(connector: &Connector, upstream: &Upstream) -> Result<TcpStream, Fault> {
    upstream.dial(connector).await
}

/// Passes bytes between a CONNECT's downstream end and `upstream`.
pub(crate) fn relay<O: Observer + Send + 'static>(downstream: OnUpgrade, mut upstream: TcpStream, mut observer: O) {
    tokio::spawn(async move {
        match downstream.await {
            Ok(downstream) => {
                let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(downstream), &mut upstream).await;
                end(&mut observer, &copied);
            }
            Err(_) => observer.broken(),
        }
    });
}

fn end<O: Observer>(observer: &mut O, copied: &std::io::Result<(u64, u64)>) {
    match copied {
        Ok((_, received)) => {
            observer.bytes(*received);
            observer.whole();
        }
        Err(_) => observer.broken(),
    }
}
