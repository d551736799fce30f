//! Whether a connection begins with HTTP/2's preface. Only that is taken off the socket which has to be read to know.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::upstream::Protocol;

/// What a client that speaks HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the client speaks, and the stream, from its first byte on. Reads on for as long as the bytes may still become
/// the preface: a segment may end anywhere.
///
/// # Errors
/// Those of the socket.
pub(super) async fn detect(mut stream: TcpStream) -> io::Result<(Protocol, Started)> {
    let mut start = [0; PREFACE.len()];
    let peeked = stream.peek(&mut start).await?;
    let mut held = 0;
    let protocol = loop {
        let seen = if held == 0 { peeked } else { held };
        let bytes = start.get(..seen).unwrap_or_default();
        if bytes == PREFACE {
            break Protocol::Http2;
        }
        if bytes.is_empty() || !PREFACE.starts_with(bytes) {
            break Protocol::Http1;
        }
        // Nearly never: waiting at the socket for more than a peek has shown would spin.
        let read = stream.read(start.get_mut(held..).unwrap_or_default()).await?;
        if read == 0 {
            break Protocol::Http1;
        }
        held += read;
    };
    Ok((protocol, Started { start, held, given: 0, stream }))
}

/// A stream of which the first bytes were read already.
pub(super) struct Started {
    start: [u8; PREFACE.len()],
    /// How many bytes were read ahead, and how many of them were handed on.
    held: usize,
    given: usize,
    stream: TcpStream,
}

impl AsyncRead for Started {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.given < this.held {
            let rest = this.start.get(this.given..this.held).unwrap_or_default();
            let now = rest.get(..buf.remaining().min(rest.len())).unwrap_or_default();
            buf.put_slice(now);
            this.given += now.len();
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Started {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// What is detected, and what is read afterwards, of bytes that come in two segments.
    async fn seen(first: &[u8], second: &[u8]) -> (Protocol, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(first).await.unwrap();
        let detecting = tokio::spawn(detect(stream));
        tokio::task::yield_now().await;
        client.write_all(second).await.unwrap();
        client.shutdown().await.unwrap();
        let (protocol, mut stream) = detecting.await.unwrap().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        (protocol, all)
    }

    #[tokio::test]
    async fn a_preface_is_recognised_however_it_is_split_and_no_byte_is_lost() {
        for cut in [1, 2, 3, 14, 18, 23, 24] {
            let all = [PREFACE.as_slice(), b"frames"].concat();
            assert_eq!(seen(&all[..cut], &all[cut..]).await, (Protocol::Http2, all.clone()));
        }
    }

    #[tokio::test]
    async fn everything_else_is_left_to_http1() {
        for all in ["GET / HTTP/1.1\r\n\r\n", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "PRI * HTTP/1.1\r\n\r\n", "\r\n"] {
            let (first, second) = all.as_bytes().split_at(1);
            assert_eq!(seen(first, second).await, (Protocol::Http1, all.as_bytes().to_vec()));
        }
    }
}
