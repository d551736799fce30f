//! One file: opened, decompressed within a limit, parsed; every way in which that fails is named.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::error::TraceError;
use super::format;
use super::span::Spans;
use super::summary::SetAside;

/// Reads all spans of `path`; at most `limit` bytes after decompression.
pub(super) fn read(path: &Path, limit: u64, spans: &mut Spans) -> Result<(), TraceError> {
    let file = File::open(path).map_err(|source| TraceError::Open { file: path.to_owned(), source })?;
    let mut raw = BufReader::with_capacity(BUFFER, file);
    let unreadable = |source| TraceError::Read { file: path.to_owned(), source };
    let compressed = raw.fill_buf().map_err(unreadable)?.starts_with(&GZIP);
    let result = if compressed {
        document(BufReader::with_capacity(BUFFER, Limited { inner: MultiGzDecoder::new(raw), left: limit }), spans)
    } else {
        document(BufReader::with_capacity(BUFFER, Limited { inner: raw, left: limit }), spans)
    };
    result.map_err(|failure| explain(failure, path, compressed, limit, spans))?;
    spans.summary.files += 1;
    Ok(())
}

fn document(mut reader: impl BufRead, spans: &mut Spans) -> Result<(), Failure> {
    let head = reader.fill_buf().map_err(Failure::Io)?;
    if head.starts_with(&BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    let head = reader.fill_buf().map_err(Failure::Io)?;
    if let Some(why) = something_else(head) {
        return Err(Failure::Shape(why));
    }
    let unusable = |spans: &Spans| spans.summary.set_aside.get(&SetAside::NoId).copied().unwrap_or(0);
    let before = (spans.len(), unusable(spans));
    format::parse(reader, spans).map_err(|error| match error.is_io() {
        true => Failure::Io(error.into()),
        false => Failure::Json(error),
    })?;
    if spans.len() == before.0 && unusable(spans) > before.1 {
        return Err(Failure::Shape("no entry has a trace id and a span id".to_owned()));
    }
    Ok(())
}

enum Failure {
    Io(io::Error),
    Json(serde_json::Error),
    Shape(String),
}

/// What the first bytes show where they cannot be JSON of spans.
fn something_else(head: &[u8]) -> Option<String> {
    let expected = "expected a JSON list or object";
    let text = head.trim_ascii_start();
    match text.first() {
        None if head.is_empty() => Some(format!("it is empty; {expected}")),
        None | Some(b'[' | b'{') => None,
        Some(b'<') => Some(format!("it looks like XML or HTML; {expected}")),
        _ if head.starts_with(b"PK\x03\x04") => Some(format!("it looks like a zip archive; {expected}, plain or gzip")),
        _ if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => {
            Some(format!("it is compressed with zstd; {expected}, plain or gzip"))
        }
        Some(first) if first.is_ascii_graphic() => None,
        _ => Some(format!("it looks like binary contents; {expected}, plain or gzip")),
    }
}

fn explain(failure: Failure, path: &Path, compressed: bool, limit: u64, spans: &Spans) -> TraceError {
    let file = path.to_owned();
    match failure {
        Failure::Io(source) if is_over_limit(&source) => TraceError::TooLarge { file, limit },
        Failure::Io(source) if compressed => match source.kind() {
            io::ErrorKind::UnexpectedEof => TraceError::Truncated { file },
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => TraceError::Damaged { file, source },
            _ => TraceError::Read { file, source },
        },
        Failure::Io(source) => TraceError::Read { file, source },
        Failure::Json(_) if spans.is_full() => TraceError::TooManySpans { file, limit: spans.len() },
        Failure::Json(error) => TraceError::NotTraces { file, why: error.to_string() },
        Failure::Shape(why) => TraceError::NotTraces { file, why },
    }
}

fn is_over_limit(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<OverLimit>()).is_some()
}

/// Passes on at most so many bytes; one more is an error, not an end.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(OverLimit))?;
        Ok(count)
    }
}

#[derive(Debug)]
struct OverLimit;

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("over the limit")
    }
}

impl std::error::Error for OverLimit {}

const GZIP: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
const BUFFER: usize = 64 * 1024;
