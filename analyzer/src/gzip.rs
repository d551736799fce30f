//! Packs gzip, and unpacks it within bounds.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

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

/// Packs with little effort.
pub(crate) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.add(bytes);
    packer.finish()
}

/// Packs what comes piece by piece.
#[derive(Debug)]
pub(crate) struct Packer(GzEncoder<Vec<u8>>);

impl Default for Packer {
    fn default() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }
}

impl Packer {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes); // writing to memory cannot fail
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().unwrap_or_default()
    }
}

/// Whether these bytes are gzip. No OTLP message begins like that: 0x1f would be a field of a wire type that does not exist.
pub(crate) fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}
