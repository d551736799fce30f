//! Why trace files could not be read. Each sentence names the file and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why trace files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("{}: cannot be opened: {source}", .file.display())]
    Open {
        /// Which file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Reading failed on the way.
    #[error("{}: cannot be read: {source}", .file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A gzip file that ends too early.
    #[error("{}: the gzip file is truncated: it ends before its data does; fetch it again", .file.display())]
    Truncated {
        /// Which file.
        file: PathBuf,
    },
    /// A gzip file with damaged contents.
    #[error("{}: the gzip file is damaged: {source}", .file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What the decoder found.
        source: io::Error,
    },
    /// More bytes than the limit, after decompression.
    #[error("{}: larger than the limit of {limit} bytes (uncompressed); split it by trace", .file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
        /// Bytes.
        limit: u64,
    },
    /// More spans than the limit, over all files.
    #[error("{}: more than the limit of {limit} spans in all files; read fewer at a time", .file.display())]
    TooManySpans {
        /// The file that went over the limit.
        file: PathBuf,
        /// Spans.
        limit: usize,
    },
    /// The contents are something else, or broken.
    #[error("{}: not Zipkin v2 or Jaeger JSON: {why}", .file.display())]
    NotTraces {
        /// Which file.
        file: PathBuf,
        /// What it looked like, what was expected, and line and column where there are any.
        why: String,
    },
}
