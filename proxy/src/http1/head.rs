//! One head, whole: is it one that everybody reads alike, and what comes after it?

use super::authority::Authority;
use super::fields::{Field, Lines, are_values, fields, is_token, listed, resembles_framing};
use super::framing::{Framing, MAX_LENGTH};
use super::{Bounds, Violation};

/// What a request's head says about the bytes after it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) framing: Framing,
    /// Whether something else than HTTP/1 may come after the answer: the request is a CONNECT or asks for an upgrade.
    pub(crate) switches: bool,
}

/// What a response's head says about the bytes after it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ResponseHead {
    /// Another head answers the same request.
    Interim,
    /// The answer, with its content.
    Final(Framing),
    /// Something else than HTTP/1.
    Switched,
}

/// What must be known of a request to read its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Whether it asked for an upgrade.
    pub(crate) upgrade: bool,
}

/// The methods that change what follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Connect,
    Head,
    Options,
    Other,
}

impl Method {
    /// From its name, which is case-sensitive.
    pub(crate) fn of(name: &[u8]) -> Self {
        match name {
            b"CONNECT" => Method::Connect,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Reads a request's head, from the first byte of the request line to the empty line.
///
/// # Errors
/// Why not everybody would read it alike.
pub(crate) fn request(head: &[u8], bounds: Bounds) -> Result<RequestHead, Violation> {
    let mut lines = Lines::new(head);
    let line = lines.next().ok_or(Violation::StartLine)??;
    let (method, target, version) = request_line(line)?;
    let named = target_authority(method, target)?;
    let (mut host, mut upgrade) = (None, false);
    let mut content = Content::default();
    for field in fields(lines, bounds) {
        let field = field?;
        content.note(&field)?;
        if resembles_framing(field.name) {
            return Err(Violation::Field);
        }
        if field.is("host") {
            let valid = Authority::parse(field.value).ok_or(Violation::Host)?;
            if host.replace(valid).is_some() {
                return Err(Violation::Host);
            }
        }
        upgrade |= field.is("upgrade");
    }
    check_host(method, version, named, host)?;
    let framing = match content.framing(version)? {
        _ if method == Method::Connect && content.is_any() => return Err(content.unwanted()),
        framing => framing.unwrap_or(Framing::Empty),
    };
    Ok(RequestHead { framing, switches: upgrade || method == Method::Connect })
}

fn request_line(line: &[u8]) -> Result<(Method, &[u8], Version), Violation> {
    if line.contains(&b'\r') {
        return Err(Violation::LineEnd);
    }
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Violation::StartLine);
    };
    if !is_token(method) {
        return Err(Violation::StartLine);
    }
    Ok((Method::of(method), target, read_version(version)?))
}

fn read_version(text: &[u8]) -> Result<Version, Violation> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Violation::Version),
        _ => Err(Violation::StartLine),
    }
}

/// The authority that a target names. A target has exactly one form for each method
/// (RFC 9112, section 3.2).
fn target_authority(method: Method, target: &[u8]) -> Result<Option<Authority<'_>>, Violation> {
    // A fragment has no place in a target; some parsers would cut it off, others not.
    if !target.iter().fold(true, |all, byte| all & (matches!(byte, 0x21..=0x7e) & (*byte != b'#'))) {
        return Err(Violation::Target);
    }
    match (method, target) {
        (Method::Connect, authority) => {
            let authority = Authority::parse(authority).ok_or(Violation::Target)?;
            if authority.has_port() { Ok(Some(authority)) } else { Err(Violation::Target) }
        }
        (_, [b'/', ..]) | (Method::Options, b"*") => Ok(None),
        (_, target) => absolute(target).ok_or(Violation::Target).map(Some),
    }
}

fn absolute(target: &[u8]) -> Option<Authority<'_>> {
    let colon = memchr::memchr(b':', target)?;
    let (scheme, rest) = target.split_at_checked(colon)?;
    let rest = rest.strip_prefix(b"://")?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Authority::parse(rest.get(..end)?)
}

/// `Host` once in HTTP/1.1, at most once in HTTP/1.0. Beside an absolute target it may say what it will: the target
/// counts, and goes on as `Host` (RFC 9112, section 3.2.2). Nothing takes its place behind a CONNECT.
fn check_host(
    method: Method,
    version: Version,
    named: Option<Authority<'_>>,
    host: Option<Authority<'_>>,
) -> Result<(), Violation> {
    match (named, host) {
        (_, None) if version == Version::Http11 => Err(Violation::Host),
        // Clients leave the port of a CONNECT out of its Host.
        (Some(named), Some(host)) if method == Method::Connect && !named.is_host(&host) => Err(Violation::Host),
        _ => Ok(()),
    }
}

/// What the fields say about a message's content.
#[derive(Debug, Default)]
struct Content {
    length: Option<u64>,
    chunked: bool,
}

impl Content {
    fn note(&mut self, field: &Field<'_>) -> Result<(), Violation> {
        if field.is("content-length") {
            let length = content_length(field.value).ok_or(Violation::Length)?;
            if self.length.replace(length).is_some() {
                return Err(Violation::Length);
            }
        } else if field.is("transfer-encoding") {
            if !field.value.eq_ignore_ascii_case(b"chunked") {
                let unknown = is_token(field.value);
                return Err(if unknown { Violation::UnknownCoding } else { Violation::Coding });
            }
            if self.chunked {
                return Err(Violation::Coding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// How the content is framed; nothing where no field says so.
    fn framing(&self, version: Version) -> Result<Option<Framing>, Violation> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Violation::Length),
            (_, true) if version == Version::Http10 => Err(Violation::Coding),
            (_, true) => Ok(Some(Framing::chunked())),
            (length, false) => Ok(length.map(Framing::length)),
        }
    }

    /// Whether there is content, even of no length, where none may be.
    fn is_any(&self) -> bool {
        self.chunked || self.length.is_some_and(|length| length > 0)
    }

    fn unwanted(&self) -> Violation {
        if self.chunked { Violation::Coding } else { Violation::Length }
    }
}

/// Digits and nothing else: a list of equal numbers is a list all the same.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = std::str::from_utf8(value).ok()?.parse().ok()?;
    (length <= MAX_LENGTH).then_some(length)
}

/// Reads a response's head, from the first byte of the status line to the empty line.
///
/// # Errors
/// Why not everybody would read it alike.
pub(crate) fn response(head: &[u8], asked: Asked, bounds: Bounds) -> Result<ResponseHead, Violation> {
    let mut lines = Lines::new(head);
    let line = lines.next().ok_or(Violation::StartLine)??;
    let (status, version) = status_line(line)?;
    let mut content = Content::default();
    let mut upgrade = false;
    for field in fields(lines, bounds) {
        let field = field?;
        content.note(&field)?;
        upgrade |= field.is("connection") && listed(field.value).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    }
    let framing = content.framing(version)?;
    let bare = content.length.is_none() && !content.chunked;
    match status {
        // RFC 9110, section 8.6, and RFC 9112, section 6.1: neither has a place there.
        100..=199 | 204 if content.chunked => Err(Violation::Coding),
        100..=199 if !bare => Err(Violation::Length),
        101 if asked.upgrade && upgrade && version == Version::Http11 => Ok(ResponseHead::Switched),
        101 => Err(Violation::Switch),
        100..=199 => Ok(ResponseHead::Interim),
        200..=299 if asked.method == Method::Connect => {
            if bare {
                Ok(ResponseHead::Switched)
            } else {
                Err(content.unwanted())
            }
        }
        // A length of nothing is a mistake that changes nothing, and common.
        204 if content.is_any() => Err(Violation::Length),
        204 | 304 => Ok(ResponseHead::Final(Framing::Empty)),
        _ if asked.method == Method::Head => Ok(ResponseHead::Final(Framing::Empty)),
        _ => Ok(ResponseHead::Final(framing.unwrap_or(Framing::UntilClose))),
    }
}

fn status_line(line: &[u8]) -> Result<(u16, Version), Violation> {
    if line.contains(&b'\r') {
        return Err(Violation::LineEnd);
    }
    let (version, rest) = line.split_at_checked(8).ok_or(Violation::StartLine)?;
    let version = read_version(version)?;
    // The space before an empty reason is often forgotten: RFC 9112, section 4, wants it, and nothing depends on it.
    let ([b' ', hundreds @ b'1'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9']
    | [b' ', hundreds @ b'1'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', ..]) = rest
    else {
        return Err(Violation::StartLine);
    };
    if !are_values(rest) {
        return Err(Violation::StartLine);
    }
    let digit = |byte: &u8| u16::from(byte - b'0');
    Ok((digit(hundreds) * 100 + digit(tens) * 10 + digit(ones), version))
}

#[cfg(test)]
mod tests;
