//! What the proxy accepts as HTTP/1, in both directions: a strict reading of RFC 9112 in front of every codec.
//!
//! Two parties that read one message differently can be played against one another. So only messages that every
//! party must read in the same way come past a [`Gate`]: it looks at each byte once, hands on what passed unchanged,
//! and stops for good at the first byte that does not. `head` reads one head, `framing` finds where a body ends,
//! `stream` strings them together for a connection, `gate` puts that between a socket and the codec; `trailers` and
//! `interim` write what the codec does not.

mod gate;
mod trailers;
mod stream;
mod interim;
mod framing;
mod authority;
mod head;
mod fields;

pub(crate) use fields::resembles_framing;
pub(crate) use gate::{Expected, Gate, Verdict};
pub(crate) use trailers::Trailers;
#[cfg(feature = "fuzzing")]
pub(crate) use {head::Asked, head::Method, stream::Stream};

/// What a head may be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// In bytes, from the first of the start line to the last of the empty line. For trailers as well.
    pub(crate) bytes: usize,
    /// Field lines. For trailers as well.
    pub(crate) fields: usize,
}

/// Why a message was not accepted: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    /// The request line or status line is none.
    StartLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// The request target has no form that the method may have, or characters that it must not have.
    Target,
    /// A line does not end in CR LF, or a CR or LF stands alone.
    LineEnd,
    /// A field line is none: its name, its value, space before the colon, a folded line.
    Field,
    /// `Host` is missing, there is more than one, or it is no host.
    Host,
    /// `Content-Length` is not one number, or must not be there.
    Length,
    /// `Transfer-Encoding` is not `chunked`, or must not be there.
    Coding,
    /// A transfer coding that nobody here knows.
    UnknownCoding,
    /// More bytes or fields than the limits allow.
    TooLarge,
    /// A chunk's size, its extensions, or the end of its content.
    Chunk,
    /// A trailer field that is none, or that must not stand in a trailer.
    Trailer,
    /// The upstream changed the protocol although nobody had asked for it.
    Switch,
    /// The upstream sent more interim answers than an exchange may have.
    Interim,
    /// Bytes from the upstream that answer nothing.
    Surplus,
}

impl Violation {
    pub(crate) const ALL: [Violation; 15] = [
        Violation::StartLine,
        Violation::Version,
        Violation::Target,
        Violation::LineEnd,
        Violation::Field,
        Violation::Host,
        Violation::Length,
        Violation::Coding,
        Violation::UnknownCoding,
        Violation::TooLarge,
        Violation::Chunk,
        Violation::Trailer,
        Violation::Switch,
        Violation::Interim,
        Violation::Surplus,
    ];

    /// The word in metrics and logs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Violation::StartLine => "start_line",
            Violation::Version => "version",
            Violation::Target => "target",
            Violation::LineEnd => "line_end",
            Violation::Field => "field",
            Violation::Host => "host",
            Violation::Length => "content_length",
            Violation::Coding => "transfer_encoding",
            Violation::UnknownCoding => "unknown_coding",
            Violation::TooLarge => "too_large",
            Violation::Chunk => "chunk",
            Violation::Trailer => "trailer",
            Violation::Switch => "switch",
            Violation::Interim => "interim",
            Violation::Surplus => "surplus",
        }
    }

    /// The status line of the answer to a request like that.
    fn status(self) -> &'static str {
        match self {
            Violation::Version => "505 HTTP Version Not Supported",
            Violation::UnknownCoding => "501 Not Implemented",
            Violation::TooLarge => "431 Request Header Fields Too Large",
            _ => "400 Bad Request",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_listed_once_and_has_a_word_of_its_own() {
        let words: std::collections::HashSet<_> = Violation::ALL.iter().map(|violation| violation.word()).collect();
        assert_eq!(words.len(), Violation::ALL.len());
        assert!(Violation::ALL.iter().enumerate().all(|(at, violation)| *violation as usize == at));
    }
}
