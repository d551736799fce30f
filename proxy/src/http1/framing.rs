//! Where a message's content ends. Every byte is looked at once, wherever the bytes are cut; content itself not at all.

use super::fields::{is_token_byte, is_value};
use super::{Bounds, Violation};

/// The longest content or chunk: more than this, and an implementation may count in signed numbers.
pub(crate) const MAX_LENGTH: u64 = i64::MAX as u64;
/// Hexadecimal digits of a chunk's size, leading zeros included.
const SIZE_DIGITS: u8 = 16;
/// Bytes of one chunk's extensions. Signed uploads need about 90.
const EXTENSION_BYTES: u16 = 1024;

/// How content is framed, and how far it has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// So many more bytes.
    Length(u64),
    /// Chunks, then trailers.
    Chunked(Chunked),
    /// All until the connection closes; responses only.
    UntilClose,
}

/// How a piece of a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All of it, and there is more to come.
    All,
    /// The message ends after so many bytes of it.
    Ended(usize),
    /// So many bytes of it are in order, the next is not.
    Refused(usize, Violation),
}

impl Framing {
    pub(crate) fn length(length: u64) -> Self {
        if length == 0 { Framing::Empty } else { Framing::Length(length) }
    }

    pub(crate) fn chunked() -> Self {
        Framing::Chunked(Chunked { step: Step::Size { digits: 0, size: 0 }, trailers: Trailers::default() })
    }

    /// Takes the next bytes of the message.
    pub(crate) fn take(&mut self, bytes: &[u8], bounds: Bounds) -> Taken {
        match self {
            Framing::Empty => Taken::Ended(0),
            Framing::UntilClose => Taken::All,
            Framing::Length(left) => match usize::try_from(*left) {
                Ok(length) if length <= bytes.len() => {
                    *self = Framing::Empty;
                    Taken::Ended(length)
                }
                _ => {
                    *left -= bytes.len() as u64;
                    Taken::All
                }
            },
            Framing::Chunked(chunked) => chunked.take(bytes, bounds),
        }
    }
}

/// Chunked content: RFC 9112, section 7.1, without the white space that it tolerates around extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunked {
    step: Step,
    trailers: Trailers,
}

/// What the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Size {
        digits: u8,
        size: u64,
    },
    Extension {
        part: Part,
        size: u64,
        bytes: u16,
    },
    SizeLf {
        size: u64,
    },
    Content(u64),
    ContentCr,
    ContentLf,
    /// The first of a trailer line, or of the last line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    End,
}

/// A part of a chunk's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    Escaped,
    QuoteEnd,
}

impl Chunked {
    fn take(&mut self, bytes: &[u8], bounds: Bounds) -> Taken {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Step::Content(left) = self.step {
                let here = left.min((bytes.len() - at) as u64);
                self.step = if here == left { Step::ContentCr } else { Step::Content(left - here) };
                // No more than the bytes that are there.
                at += usize::try_from(here).unwrap_or(usize::MAX);
                continue;
            }
            match self.next(*byte, bounds) {
                Ok(Step::End) => return Taken::Ended(at + 1),
                Ok(step) => self.step = step,
                Err(violation) => return Taken::Refused(at, violation),
            }
            at += 1;
        }
        Taken::All
    }

    fn next(&mut self, byte: u8, bounds: Bounds) -> Result<Step, Violation> {
        let step = match (self.step, byte) {
            (Step::Size { digits, size }, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                if digits == SIZE_DIGITS || size > MAX_LENGTH >> 4 {
                    return Err(Violation::Chunk);
                }
                Step::Size { digits: digits + 1, size: size << 4 | digit }
            }
            (Step::Size { digits: 1.., size }, b'\r') => Step::SizeLf { size },
            (Step::Size { digits: 1.., size }, b';') => Step::Extension { part: Part::NameStart, size, bytes: 1 },
            (Step::Extension { part, size, bytes }, byte) => match extension(part, byte)? {
                None => Step::SizeLf { size },
                Some(_) if bytes == EXTENSION_BYTES => return Err(Violation::Chunk),
                Some(part) => Step::Extension { part, size, bytes: bytes + 1 },
            },
            (Step::SizeLf { size: 0 }, b'\n') => Step::Trailer,
            (Step::SizeLf { size }, b'\n') => Step::Content(size),
            (Step::ContentCr, b'\r') => Step::ContentLf,
            (Step::ContentLf, b'\n') => Step::Size { digits: 0, size: 0 },
            (Step::Trailer, b'\r') => Step::LastLf,
            (Step::LastLf, b'\n') => Step::End,
            (Step::Trailer | Step::TrailerName | Step::TrailerValue | Step::TrailerLf, byte) => {
                self.trailers.next(self.step, byte, bounds)?
            }
            _ => return Err(Violation::Chunk),
        };
        Ok(step)
    }
}

/// The part after `byte`, or nothing where it is the CR at the end.
fn extension(part: Part, byte: u8) -> Result<Option<Part>, Violation> {
    let part = match (part, byte) {
        (Part::NameStart | Part::Name, byte) if is_token_byte(byte) => Part::Name,
        (Part::Name, b'=') => Part::ValueStart,
        (Part::ValueStart, b'"') => Part::Quoted,
        (Part::ValueStart | Part::Value, byte) if is_token_byte(byte) => Part::Value,
        (Part::Quoted, b'"') => Part::QuoteEnd,
        (Part::Quoted, b'\\') => Part::Escaped,
        (Part::Quoted | Part::Escaped, byte) if is_value(byte) => Part::Quoted,
        (Part::Name | Part::Value | Part::QuoteEnd, b';') => Part::NameStart,
        (Part::Name | Part::Value | Part::QuoteEnd, b'\r') => return Ok(None),
        _ => return Err(Violation::Chunk),
    };
    Ok(Some(part))
}

/// The longest name in [`FORBIDDEN`]; of a longer one no more need be kept.
const NAME_BYTES: usize = 20;

/// Fields that frame, route, authenticate or condition a message. Whoever merges trailers into the head would take
/// them for the sender's word about a message that is already under way (RFC 9110, section 6.5.1).
const FORBIDDEN: [&str; 37] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "couplet-context",
    "couplet-error",
    "couplet-summary",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
];

/// The trailer section as far as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Trailers {
    bytes: usize,
    fields: usize,
    name: [u8; NAME_BYTES],
    length: usize,
}

impl Trailers {
    fn next(&mut self, step: Step, byte: u8, bounds: Bounds) -> Result<Step, Violation> {
        self.bytes += 1;
        if self.bytes > bounds.bytes {
            return Err(Violation::TooLarge);
        }
        match (step, byte) {
            (Step::Trailer, byte) if is_token_byte(byte) => {
                self.fields += 1;
                if self.fields > bounds.fields {
                    return Err(Violation::TooLarge);
                }
                self.length = 0;
                self.keep(byte);
                Ok(Step::TrailerName)
            }
            (Step::TrailerName, b':') if self.is_forbidden() => Err(Violation::Trailer),
            (Step::TrailerName, b':') => Ok(Step::TrailerValue),
            (Step::TrailerName, byte) if is_token_byte(byte) => {
                self.keep(byte);
                Ok(Step::TrailerName)
            }
            (Step::TrailerValue, b'\r') => Ok(Step::TrailerLf),
            (Step::TrailerValue, byte) if is_value(byte) => Ok(Step::TrailerValue),
            (Step::TrailerLf, b'\n') => Ok(Step::Trailer),
            _ => Err(Violation::Trailer),
        }
    }

    fn keep(&mut self, byte: u8) {
        if let Some(place) = self.name.get_mut(self.length) {
            *place = byte.to_ascii_lowercase();
        }
        self.length += 1;
    }

    fn is_forbidden(&self) -> bool {
        self.name.get(..self.length).is_some_and(|name| FORBIDDEN.iter().any(|forbidden| forbidden.as_bytes() == name))
    }
}

#[cfg(test)]
mod tests;
