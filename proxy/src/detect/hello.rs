//! The name of the server that a TLS ClientHello asks for (RFC 8446, section 4.1.2; RFC 6066, section 3). Pure, and for
//! naming alone: nothing is decided by it but what an edge is called.

use std::borrow::Cow;

/// What the first bytes of a TLS connection say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peek {
    /// Not all of the ClientHello has come.
    More,
    /// It asks for this server.
    Name(String),
    /// It names none, or cannot be read.
    Nothing,
}

/// A ClientHello that takes more bytes, record headers included, is not waited for.
pub(crate) const MOST: usize = 16 * 1024;

/// Longest content of a record (RFC 8446, section 5.1).
const RECORD: usize = 1 << 14;
/// Longest name in DNS.
const LONGEST_NAME: usize = 253;

/// Reads the name from all bytes that came so far. Once it is not [`Peek::More`], later bytes change nothing; with
/// [`MOST`] of them it never is.
pub(crate) fn server_name(bytes: &[u8]) -> Peek {
    let whole = bytes.len() >= MOST;
    let bytes = bytes.get(..MOST).unwrap_or(bytes);
    match handshake(bytes) {
        Ok(hello) => name(&hello).map_or(Peek::Nothing, Peek::Name),
        Err(Short) if whole => Peek::Nothing,
        Err(Short) => Peek::More,
        Err(Wrong) => Peek::Nothing,
    }
}

/// Why there is no ClientHello to read.
use Trouble::{Short, Wrong};
enum Trouble {
    /// More bytes may make one.
    Short,
    /// None will.
    Wrong,
}

/// The body of the ClientHello, put together from the records that it is split over.
fn handshake(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Trouble> {
    let (first, mut rest) = record(bytes)?;
    let mut message = Cow::Borrowed(first);
    loop {
        if let [kind, a, b, c, body @ ..] = &*message {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if *kind != CLIENT_HELLO || length > MOST {
                return Err(Wrong);
            }
            if body.len() >= length {
                return Ok(match message {
                    Cow::Borrowed(all) => Cow::Borrowed(all.get(4..4 + length).unwrap_or_default()),
                    Cow::Owned(all) => Cow::Owned(all.get(4..4 + length).unwrap_or_default().to_vec()),
                });
            }
        } else if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Wrong);
        }
        let (next, after) = record(rest)?;
        message.to_mut().extend_from_slice(next);
        rest = after;
    }
}

const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;

/// The content of the record that `bytes` begin with, as far as it has come, and what follows it.
fn record(bytes: &[u8]) -> Result<(&[u8], &[u8]), Trouble> {
    // The version in a record's head "MUST be ignored for all purposes" (RFC 8446, section 5.1), and libraries do.
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE) {
        return Err(Wrong);
    }
    let [_, _, _, high, low, rest @ ..] = bytes else { return Err(Short) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 || length > RECORD {
        return Err(Wrong);
    }
    if rest.is_empty() { Err(Short) } else { Ok(rest.split_at(length.min(rest.len()))) }
}

/// Whether the client offers to speak `protocol` (RFC 7301) in a ClientHello that has come whole.
pub(crate) fn offers(bytes: &[u8], protocol: &[u8]) -> bool {
    let offered = || {
        let hello = handshake(bytes).ok()?;
        let mut content = Bytes(extension(&hello, PROTOCOLS)?);
        let length = content.u16()?;
        let mut list = Bytes(content.take(length)?);
        loop {
            let length = list.u8()?;
            if list.take(length)? == protocol {
                return Some(());
            }
        }
    };
    offered().is_some()
}

/// The server's name.
fn name(hello: &[u8]) -> Option<String> {
    host_name(extension(hello, SERVER_NAME)?)
}

/// The content of an extension. Those that nobody knows (GREASE, encrypted ClientHellos) are stepped over.
fn extension(hello: &[u8], wanted: usize) -> Option<&[u8]> {
    let mut hello = Bytes(hello);
    hello.take(2 + 32)?; // version and random
    let session = hello.u8()?;
    hello.take(session)?;
    let ciphers = hello.u16()?;
    hello.take(ciphers)?;
    let compressions = hello.u8()?;
    hello.take(compressions)?;
    let length = hello.u16()?;
    let mut extensions = Bytes(hello.take(length)?);
    loop {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let content = extensions.take(length)?;
        if kind == wanted {
            return Some(content);
        }
    }
}

const PROTOCOLS: usize = 16;
const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;

/// The first host name of the list, if it looks like one.
fn host_name(content: &[u8]) -> Option<String> {
    let mut content = Bytes(content);
    let length = content.u16()?;
    let mut list = Bytes(content.take(length)?);
    loop {
        let kind = list.u8()?;
        let length = list.u16()?;
        let name = list.take(length)?;
        if kind == HOST_NAME {
            let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            let right = (1..=LONGEST_NAME).contains(&name.len()) && name.iter().all(fits);
            return right.then(|| String::from_utf8_lossy(name).to_ascii_lowercase());
        }
    }
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<usize> {
        self.take(1)?.first().map(|byte| usize::from(*byte))
    }

    fn u16(&mut self) -> Option<usize> {
        match self.take(2)? {
            [high, low] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sized(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().to_vec(), sized(content)].concat()
    }

    fn sni(name: &str) -> Vec<u8> {
        extension(0, &sized(&[&[0], &*sized(name.as_bytes())].concat()))
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0]);
        body.extend(sized(&[0x0a, 0x0a, 0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(sized(&extensions.concat()));
        let mut message = vec![1, 0];
        message.extend(sized(&body));
        message
    }

    fn records(message: &[u8], length: usize) -> Vec<u8> {
        message.chunks(length).flat_map(|chunk| [&[0x16, 3, 1], &*sized(chunk)].concat()).collect()
    }

    /// What is read of the whole, having made sure that no part of it reads otherwise.
    fn read(bytes: &[u8]) -> Peek {
        let peek = server_name(bytes);
        for end in 0..bytes.len() {
            let before = server_name(&bytes[..end]);
            assert!(before == Peek::More || before == peek, "{end}");
        }
        peek
    }

    const GREASE: u16 = 0x2a2a;
    const ECH: u16 = 0xfe0d;

    #[test]
    fn the_name_is_found_among_extensions_that_nobody_knows() {
        let hello =
            hello(&[extension(GREASE, &[]), extension(ECH, &[9; 200]), sni("Shop.Example.org"), extension(43, b"x")]);
        for length in [1, 5, 40, 1_000] {
            assert_eq!(
                read(&records(&hello, length)),
                Peek::Name("shop.example.org".to_owned()),
                "records of {length}"
            );
        }
    }

    #[test]
    fn the_versions_of_the_records_are_nobodys_business() {
        let mut bytes = records(&hello(&[sni("shop.test")]), 30);
        let records = (0..bytes.len()).step_by(35);
        records.skip(1).for_each(|head| bytes[head + 1..head + 3].copy_from_slice(&[0xfe, 0xfd]));
        assert_eq!(read(&bytes), Peek::Name("shop.test".to_owned()));
    }

    #[test]
    fn a_protocol_that_is_offered_is_found() {
        let protocols = |names: &[&str]| {
            let list: Vec<u8> = names
                .iter()
                .flat_map(|name| [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat())
                .collect();
            records(&hello(&[sni("a.org"), extension(16, &sized(&list))]), 50)
        };
        assert!(offers(&protocols(&["h2", "couplet"]), b"couplet"));
        assert!(!offers(&protocols(&["h2", "couplets"]), b"couplet") && !offers(&protocols(&[]), b"couplet"));
        assert!(!offers(&records(&hello(&[sni("couplet")]), 50), b"couplet"));
    }

    #[test]
    fn a_hello_without_a_name_that_can_be_used_has_none() {
        for extensions in
            [vec![], vec![extension(GREASE, b"")], vec![sni("")], vec![sni("a\nb")], vec![sni(&"a".repeat(254))]]
        {
            assert_eq!(read(&records(&hello(&extensions), 1_000)), Peek::Nothing, "{extensions:?}");
        }
        let long = extension(21, &vec![0; MOST]);
        assert_eq!(
            server_name(&records(&hello(&[long, sni("late.org")]), RECORD)),
            Peek::Nothing,
            "too long to wait for"
        );
    }

    #[test]
    fn what_is_no_hello_is_not_waited_for() {
        for bytes in
            [&b"GET / HTTP/1.1"[..], &[0x16, 3, 1, 0, 5, 2], &[0x16, 3, 1, 0x50, 0], &[0x16, 3, 1, 0, 0], &[0x15, 3]]
        {
            assert_eq!(server_name(bytes), Peek::Nothing, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_read_the_same_however_many_follow(bytes in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            read(&bytes);
            let mut damaged = records(&hello(&[extension(GREASE, &bytes), sni("a.org")]), 30);
            let at = at.index(damaged.len());
            damaged[at] = byte;
            read(&damaged);
        }
    }
}
