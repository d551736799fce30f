//! The bytes of a connection, whatever carries them. Those that were read ahead come first.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsStream, client, server};

/// Connects to `address`. Where rules of the kernel know the proxy by a mark, its packets carry it.
///
/// # Errors
/// Those of the operating system.
pub(crate) async fn connect(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    let Some(mark) = mark else { return TcpStream::connect(address).await };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    SockRef::from(&socket).set_mark(mark)?;
    socket.connect(address).await
}

/// A connection, from the first byte that nobody has used yet.
pub(crate) struct Stream {
    /// Read from the carrier, and not yet from here.
    ahead: BytesMut,
    carrier: Carrier,
    /// What is to last as long as the connection does.
    _kept: Option<Kept>,
}

/// Dropped when a connection is closed.
pub(crate) type Kept = Box<dyn Send + Sync>;

/// What brings the bytes.
enum Carrier {
    Tcp(TcpStream),
    /// Large, and seldom beside the other.
    Tls(Box<TlsStream<Stream>>),
}

/// Hands on to whatever the carrier is.
macro_rules! carried {
    ($stream:expr, $io:ident => $call:expr) => {
        match &mut $stream.carrier {
            Carrier::Tcp($io) => $call,
            Carrier::Tls($io) => $call,
        }
    };
}

impl From<TcpStream> for Stream {
    fn from(carrier: TcpStream) -> Self {
        Self { ahead: BytesMut::new(), carrier: Carrier::Tcp(carrier), _kept: None }
    }
}

impl Stream {
    /// What comes out of TLS with a client.
    pub(crate) fn server(tls: server::TlsStream<Stream>) -> Self {
        Self { ahead: BytesMut::new(), carrier: Carrier::Tls(Box::new(tls.into())), _kept: None }
    }

    /// What comes out of TLS with a server.
    pub(crate) fn client(tls: client::TlsStream<Stream>) -> Self {
        Self { ahead: BytesMut::new(), carrier: Carrier::Tls(Box::new(tls.into())), _kept: None }
    }

    /// Keeps something more for as long as the connection lasts.
    pub(crate) fn keep(&mut self, kept: impl Send + Sync + 'static) {
        self._kept = Some(match self._kept.take() {
            Some(before) => Box::new((before, kept)),
            None => Box::new(kept),
        });
    }

    /// The own end's address.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.tcp().local_addr().ok().map(|own| own.ip().to_canonical())
    }

    /// What carries all of it in the end.
    fn tcp(&self) -> &TcpStream {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp,
            Carrier::Tls(tls) => tls.get_ref().0.tcp(),
        }
    }

    /// Closes it so that the other side sees a reset: not an end, which would say that all went well.
    pub(crate) fn reset(self) {
        // Without a wait at the end, closing discards what is unsent. A socket that refuses ends all the same.
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }

    /// What was read ahead so far.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Waits for more bytes and reads them ahead, up to `most` in all: how many came. None where the other side has
    /// ended, or there are as many already. Nothing is lost when this is cancelled.
    ///
    /// # Errors
    /// Those of the connection.
    pub(crate) async fn read_ahead(&mut self, most: usize) -> io::Result<usize> {
        let room = most.saturating_sub(self.ahead.len());
        if room == 0 {
            return Ok(0);
        }
        self.ahead.reserve(room);
        carried!(self, io => io.take(room as u64).read_buf(&mut self.ahead).await)
    }

    /// Takes off what was read ahead and used: so many bytes.
    pub(crate) fn skip(&mut self, count: usize) {
        self.ahead.advance(count.min(self.ahead.len()));
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new(); // A connection lives long; its memory should not.
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return carried!(self, io => Pin::new(io).poll_read(cx, buf));
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..count).unwrap_or_default());
        self.skip(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        carried!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        carried!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.carrier {
            Carrier::Tcp(io) => io.is_write_vectored(),
            Carrier::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0.into())
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_bounded_and_comes_first() {
        let (mut client, mut stream) = pair().await;
        client.write_all(b"one two three").await.unwrap();
        client.shutdown().await.unwrap();
        while stream.ahead().len() < 5 {
            assert!(stream.read_ahead(5).await.unwrap() > 0);
        }
        assert_eq!(stream.read_ahead(5).await.unwrap(), 0);
        assert_eq!(stream.ahead(), b"one t");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"one two three");
        assert_eq!(stream.read_ahead(5).await.unwrap(), 0, "the other side has ended");
    }

    #[tokio::test]
    async fn reading_less_than_what_was_read_ahead_loses_nothing() {
        let (mut client, mut stream) = pair().await;
        client.write_all(b"abc").await.unwrap();
        while stream.ahead().len() < 3 {
            stream.read_ahead(24).await.unwrap();
        }
        let mut two = [0; 2];
        stream.read_exact(&mut two).await.unwrap();
        assert_eq!((&two, stream.ahead()), (b"ab", &b"c"[..]));
    }
}
