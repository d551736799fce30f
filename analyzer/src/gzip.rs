//! Unpacks gzip within bounds.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

/// Why something is not unpacked.
#[derive(Debug)]
pub(crate) enum Unpack {
    /// It holds more than it may.
    TooLarge,
    /// It is no gzip, or not all of it.
    Broken(io::Error),
}

/// Unpacks at most `limit` bytes; stops one byte beyond, whatever the archive promises.
pub(crate) fn unpack(packed: &[u8], limit: usize) -> Result<Bytes, Unpack> {
    let mut unpacked = Vec::new();
    let mut bounded = MultiGzDecoder::new(packed).take((limit as u64).saturating_add(1));
    bounded.read_to_end(&mut unpacked).map_err(Unpack::Broken)?;
    if unpacked.len() > limit { Err(Unpack::TooLarge) } else { Ok(Bytes::from(unpacked)) }
}

/// Whether these bytes are gzip. No OTLP message begins like that: 0x1f would be a field of a wire type that does not exist.
pub(crate) fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}
