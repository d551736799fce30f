//! Clients and services of which a test plays every byte.

use std::net::SocketAddr;

use couplet_proxy::Running;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

/// A connection on which a test writes and reads bytes.
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until what came ends with `end`.
    pub(crate) async fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(end.as_bytes()) {
            match self.0.read_u8().await {
                Ok(byte) => heard.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&heard)),
            }
        }
        String::from_utf8(heard).unwrap()
    }

    pub(crate) async fn head(&mut self) -> String {
        self.hear("\r\n\r\n").await
    }

    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await.unwrap();
        rest
    }
}

/// A service that is played by the test.
pub(crate) struct Played(TcpListener);

impl Played {
    pub(crate) async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) async fn meet(&self) -> Wire {
        Wire(self.0.accept().await.unwrap().0)
    }

    /// A sidecar in front of it, and one in front of that.
    pub(crate) fn behind_two(&self) -> (Running, Running) {
        let mut inner = config("stock");
        inner.app = Some(self.address());
        let inner = inner.start();
        let mut outer = config("shop").to("stock", inner.inbound().unwrap());
        outer.explicit = Some(free());
        (outer.start(), inner)
    }
}
