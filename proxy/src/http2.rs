//! HTTP/2 on both sides of the proxy, over the library that knows its frames: what it is told, and limits that it does
//! not have. A connection and its requests are one task, and share its turns.

mod server;
mod client;
mod streams;
mod heads;
mod aside;
mod pipe;
mod body;
mod guard;
mod keepalive;
mod frames;

use std::pin::pin;
use std::task::Context;
use std::time::Duration;

pub(crate) use aside::Aside;
pub(crate) use body::Body;
pub(crate) use client::{Client, Interim, Outgoing, Unheard, speak};
pub(crate) use frames::Frames;
pub(crate) use server::{Asked, Limits, Server, Serving};

/// Requests at the same time on one connection. More than most servers allow: an application may hold long streams open,
/// and one that it cannot open waits without a sign. Each costs some 16 KiB, so that a connection stays below 8 MiB.
pub(crate) const STREAMS: u32 = 512;
/// Bytes of one body that may be under way unread: covers 1 ms at 2 Gbit/s, and a slow reader holds back its sender
/// after so much.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// The same over all bodies of a connection, and so what a connection may cost in memory. The library lets half as
/// many bytes go into the bookkeeping of small data frames that nobody has read yet, 256 for each: with 4 MiB a stream
/// of small messages fills its own window before that.
pub(crate) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// The smallest that the protocol allows, and what every library uses.
pub(crate) const FRAME_BYTES: u32 = 16 * 1024;
/// What is written ahead of one stream's peer.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;
/// The header table: the protocol's own default.
pub(crate) const HEADER_TABLE: u32 = 4_096;
/// Streams that the peer reset before they were accepted, and streams that had to be reset for the peer's errors
/// (rapid reset, made-you-reset): more close the connection.
pub(crate) const PENDING_RESETS: usize = 64;
/// See [`PENDING_RESETS`].
pub(crate) const ERROR_RESETS: usize = 128;
/// A dead peer is noticed after this and [`PING_TIMEOUT`]; gRPC servers punish whoever asks more often than every
/// five minutes.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(330);
/// How long a ping's answer may take.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A turn is over: this task goes on when everybody else had theirs, those among them for whom the kernel has something.
/// A plain wake would have it go on before anybody looks for that, which the runtime does after some sixty turns.
fn others_first(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn who_ends_a_turn_goes_on_behind_those_for_whom_the_kernel_has_something() {
        let turns = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&turns);
        let endless = tokio::spawn(std::future::poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            others_first(cx);
            Poll::<()>::Pending
        }));
        let (mut near, mut far) = UnixStream::pair().unwrap();
        for _ in 0..100 {
            let seen = Arc::clone(&turns);
            let reader = tokio::spawn(async move {
                far.read_u8().await.unwrap();
                (far, seen.load(Ordering::Relaxed))
            });
            tokio::task::yield_now().await;
            let before = turns.load(Ordering::Relaxed);
            near.write_u8(1).await.unwrap();
            let after;
            (far, after) = reader.await.unwrap();
            assert!(after - before <= 3, "{} turns", after - before);
        }
        endless.abort();
    }
}
