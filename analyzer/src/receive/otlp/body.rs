//! Takes in a body within bounds: of its own size, unpacked or not, and of all bodies together.

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Problem, problem};
use crate::counters::Refusal;
use crate::gzip::{self, Unpack};

/// Bytes that are promised, and for which there is room before they come, at most.
const PROMISED: usize = 64 << 10;

/// A body, and the room that it takes while it is here.
pub(super) struct Taken<'a> {
    /// The body, unpacked.
    pub(super) bytes: Bytes,
    _room: SemaphorePermit<'a>,
}

/// Reads `body` to its end. Neither it nor what it unpacks to is larger than `limit` bytes; `room` counts the KiB that
/// all bodies together may still take, so that many large ones at once are put off and not paid for with memory.
pub(super) async fn read(mut body: Body, packed: bool, limit: usize, room: &Semaphore) -> Result<Taken<'_>, Problem> {
    let mut taken = take(room, 1)?;
    let mut bytes = Gathered::Nothing;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| problem(Refusal::Slow, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        let promised = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(PROMISED);
        let missing = kib(bytes.len() + data.len() + promised).saturating_sub(taken.num_permits());
        taken.merge(take(room, missing)?);
        bytes.add(data, promised);
    }
    let bytes = bytes.into_bytes();
    if !packed {
        return Ok(Taken { bytes, _room: taken });
    }
    // How much it unpacks to shows only when it is done; until then, one at a time is beyond what was taken.
    let unpacked = gzip::unpack(&bytes, limit).map_err(|error| match error {
        Unpack::TooLarge => too_large(limit),
        Unpack::Broken(error) => problem(Refusal::Malformed, format!("the body cannot be unpacked: {error}")),
    })?;
    taken.merge(take(room, kib(unpacked.len()))?);
    Ok(Taken { bytes: unpacked, _room: taken })
}

/// What has come of a body. Most come in one piece, which nobody copies then.
enum Gathered {
    Nothing,
    Piece(Bytes),
    Pieces(BytesMut),
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Gathered::Nothing => 0,
            Gathered::Piece(bytes) => bytes.len(),
            Gathered::Pieces(bytes) => bytes.len(),
        }
    }

    /// Adds what came; `promised` is how much is to come still, if that is known.
    fn add(&mut self, data: Bytes, promised: usize) {
        *self = match std::mem::replace(self, Gathered::Nothing) {
            Gathered::Nothing => Gathered::Piece(data),
            Gathered::Piece(first) => {
                let mut bytes = BytesMut::with_capacity(first.len() + data.len() + promised);
                bytes.extend_from_slice(&first);
                bytes.extend_from_slice(&data);
                Gathered::Pieces(bytes)
            }
            Gathered::Pieces(mut bytes) => {
                bytes.extend_from_slice(&data);
                Gathered::Pieces(bytes)
            }
        };
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Gathered::Nothing => Bytes::new(),
            Gathered::Piece(bytes) => bytes,
            Gathered::Pieces(bytes) => bytes.freeze(),
        }
    }
}

/// Bytes as KiB, rounded up.
pub(super) fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 10)
}

fn take(room: &Semaphore, kib: usize) -> Result<SemaphorePermit<'_>, Problem> {
    let kib = u32::try_from(kib).unwrap_or(u32::MAX);
    room.try_acquire_many(kib).map_err(|_| problem(Refusal::Busy, "too many large reports arrive at once"))
}

fn too_large(limit: usize) -> Problem {
    problem(Refusal::TooLarge, format!("larger than the {limit} bytes that limits.report_bytes allows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    const LIMIT: usize = 100_000;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn read_all(bytes: Vec<u8>, gzip: bool, room: &Semaphore) -> Result<usize, Refusal> {
        read(Body::from(bytes), gzip, LIMIT, room)
            .await
            .map(|taken| taken.bytes.len())
            .map_err(|problem| problem.refusal)
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_limit_packed_and_unpacked_and_no_larger() {
        let room = Semaphore::new(10_000);
        assert_eq!(read_all(vec![7; LIMIT], false, &room).await, Ok(LIMIT));
        assert_eq!(read_all(vec![7; LIMIT + 1], false, &room).await, Err(Refusal::TooLarge));
        assert_eq!(read_all(packed(&[7; LIMIT]), true, &room).await, Ok(LIMIT));
        assert_eq!(read_all(packed(&[7; LIMIT + 1]), true, &room).await, Err(Refusal::TooLarge));
        assert_eq!(read_all(packed(&vec![0; 50_000_000]), true, &room).await, Err(Refusal::TooLarge));
        assert_eq!(room.available_permits(), 10_000, "all room is given back");
    }

    #[tokio::test]
    async fn a_body_that_comes_in_pieces_is_put_together_in_their_order() {
        let room = Semaphore::new(10_000);
        let all: Vec<u8> = (0..=u8::MAX).cycle().take(LIMIT).collect();
        for pieces in [1, 2, 3, 7, 50] {
            let pieces: Vec<_> = all.chunks(LIMIT.div_ceil(pieces)).map(Bytes::copy_from_slice).collect();
            let stream = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
            let taken = read(Body::from_stream(stream), false, LIMIT, &room).await;
            assert!(taken.is_ok_and(|taken| taken.bytes == all));
        }
        assert_eq!(room.available_permits(), 10_000);
    }

    #[tokio::test]
    async fn a_broken_archive_is_malformed() {
        let room = Semaphore::new(10_000);
        assert_eq!(read_all(vec![7; 100], true, &room).await, Err(Refusal::Malformed));
        let mut cut = packed(&[7; 1_000]);
        cut.truncate(cut.len() - 4);
        assert_eq!(read_all(cut, true, &room).await, Err(Refusal::Malformed));
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_bound() {
        let room = Semaphore::new(150);
        let first = read(Body::from(vec![7; LIMIT]), false, LIMIT, &room).await;
        assert!(first.is_ok());
        assert_eq!(read_all(vec![7; LIMIT], false, &room).await, Err(Refusal::Busy));
        drop(first);
        assert_eq!(read_all(vec![7; LIMIT], false, &room).await, Ok(LIMIT));
    }
}
