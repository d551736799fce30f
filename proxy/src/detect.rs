//! What a client speaks, as its first bytes tell. Pure: who reads the bytes, and for how long, is decided elsewhere.

pub(crate) mod hello;

/// What a client that speaks HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// With so many bytes a judgement is always possible.
pub(crate) const ENOUGH: usize = PREFACE.len();

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Not enough to tell.
    More,
    /// A method and the start of a target.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// The start of a ClientHello.
    Tls,
    /// None of these.
    Opaque,
}

/// Judges all bytes that came so far. With [`ENOUGH`] of them the judgement is never [`Judgement::More`], and bytes that
/// follow never change one that was made.
pub(crate) fn judge(bytes: &[u8]) -> Judgement {
    let bytes = bytes.get(..ENOUGH).unwrap_or(bytes);
    match bytes.first() {
        None => Judgement::More,
        Some(&HANDSHAKE) => hello(bytes),
        Some(_) if bytes.starts_with(PREFACE) => Judgement::Http2,
        Some(_) if PREFACE.starts_with(bytes) => Judgement::More,
        Some(_) => request(bytes),
    }
}

/// Whether a server that speaks first speaks HTTP/2: it begins with its settings (RFC 9113, sections 3.4 and 6.5).
/// Nothing while that cannot be told; with [`ENOUGH`] bytes it can.
pub(crate) fn begins_with_settings(bytes: &[u8]) -> Option<bool> {
    let frame = [|_| true, |_| true, |_| true, |kind| kind == 4, |flags| flags == 0, zero, zero, zero, zero];
    let right = bytes.iter().zip(frame).all(|(byte, right): (&u8, fn(u8) -> bool)| right(*byte));
    match bytes {
        _ if !right => Some(false),
        [a, b, c, _, _, _, _, _, _, ..] => {
            let length = u32::from_be_bytes([0, *a, *b, *c]);
            Some(length.is_multiple_of(6) && length <= 16_384)
        }
        _ => None,
    }
}

fn zero(byte: u8) -> bool {
    byte == 0
}

/// The type of a TLS record that carries a handshake, and of the handshake's message that a client begins with.
const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;

/// A record (RFC 8446, section 5.1) that is not empty, and the first byte of what it carries.
fn hello(bytes: &[u8]) -> Judgement {
    let expected = |at: usize, right: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| right(*byte));
    let empty = bytes.get(3..5) == Some(&[0, 0]);
    if !expected(1, |major| major == 3) || empty || !expected(5, |message| message == CLIENT_HELLO) {
        Judgement::Opaque
    } else if bytes.len() > 5 {
        Judgement::Tls
    } else {
        Judgement::More
    }
}

/// A method in capitals, as all that are registered, a space, and a target in one of its forms (RFC 9112, section 3).
/// Stricter than the grammar: other protocols of lines, such as memcached's, begin with a word and a space as well.
fn request(bytes: &[u8]) -> Judgement {
    let in_method = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let (method, rest) = bytes.split_at(bytes.iter().take_while(|byte| in_method(byte)).count());
    match rest {
        _ if !method.first().is_some_and(u8::is_ascii_uppercase) => Judgement::Opaque,
        [] | [b' '] if bytes.len() < ENOUGH => Judgement::More,
        // A request to a proxy names a host, behind a scheme or alone.
        [b' ', target, ..] if is_target(method, *target) => Judgement::Http1,
        _ => Judgement::Opaque,
    }
}

fn is_target(method: &[u8], first: u8) -> bool {
    matches!(first, b'/' | b'*' | b'h' | b'H')
        || method == b"CONNECT" && (first.is_ascii_alphanumeric() || matches!(first, b'[' | b'_'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is judged of the whole, having made sure that no part of it was judged otherwise.
    fn judged(bytes: &[u8]) -> Judgement {
        let judgement = judge(bytes);
        for end in 0..bytes.len() {
            let before = judge(&bytes[..end]);
            assert!(before == Judgement::More || before == judgement, "{:?}", &bytes[..end]);
        }
        judgement
    }

    #[test]
    fn a_preface_is_recognised_however_it_is_split() {
        assert_eq!(judged(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0"), Judgement::Http2);
        assert_eq!(judged(&PREFACE[..23]), Judgement::More);
    }

    #[test]
    fn a_request_is_recognised_by_method_and_target() {
        for start in [
            "GET / HTTP/1.1\r\n",
            "OPTIONS * HTTP/1.1",
            "POST http://a/ HTTP/1.1",
            "CONNECT a:443 HTTP/1.1",
            "CONNECT [::1]:443",
            "VERSION-CONTROL /a",
            "M-SEARCH * HTTP/1.1",
            "UPDATEREDIRECTREF /a",
        ] {
            assert_eq!(judged(start.as_bytes()), Judgement::Http1, "{start}");
        }
        for start in ["G", "GET", "GET ", "CONNECT "] {
            assert_eq!(judged(start.as_bytes()), Judgement::More, "{start}");
        }
    }

    #[test]
    fn a_client_hello_is_recognised_by_its_sixth_byte() {
        assert_eq!(judged(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]), Judgement::Tls);
        assert_eq!(judged(&[0x16, 3, 1, 0, 1, 1]), Judgement::Tls, "in a record of one byte");
        assert_eq!(judged(&[0x16, 3, 1, 2, 0]), Judgement::More);
        for other in [&[0x16, 2][..], &[0x16, 3, 1, 0, 0], &[0x16, 3, 1, 2, 0, 2], &[0x15, 3, 1, 0, 2]] {
            assert_eq!(judged(other), Judgement::Opaque, "{other:?}");
        }
    }

    #[test]
    fn a_server_that_begins_with_its_settings_speaks_http2() {
        assert_eq!(begins_with_settings(&[0, 0, 0, 4, 0, 0, 0, 0, 0]), Some(true));
        assert_eq!(begins_with_settings(&[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3]), Some(true));
        assert_eq!(begins_with_settings(&[0, 0, 18, 4, 0, 0, 0, 0]), None);
        let greetings =
            [&b"220 mail.example.org ESMTP"[..], b"SSH-2.0-x", b"+OK ready", b"J\0\0\0\x0a8.0.36", b"HTTP/1.1 408"];
        for greeting in greetings {
            assert_eq!(begins_with_settings(greeting), Some(false), "{greeting:?}");
        }
    }

    #[test]
    fn what_other_protocols_begin_with_is_opaque() {
        for start in [
            "SSH-2.0-OpenSSH_9.2p1 Debian",
            "*1\r\n$4\r\nPING\r\n",
            "PING\r\n",
            "get key\r\n",
            "set key 0 0 3\r\n",
            "INVITE sip:bob@example.org SIP/2.0",
            "AMQP\0\0\x09\x01",
            "\0\0\0\x08\x04",
            "CONNECT\naccept-version:1.2",
            "\r\nGET / HTTP/1.1",
            " GET /",
            "LONGERTHANAMETHODMAYBEE /",
        ] {
            assert_eq!(judged(start.as_bytes()), Judgement::Opaque, "{start:?}");
        }
    }

    proptest! {
        #[test]
        fn enough_bytes_are_enough_and_later_ones_change_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let judgement = judged(&bytes);
            prop_assert!(bytes.len() < ENOUGH || judgement != Judgement::More);
        }

        #[test]
        fn so_they_are_for_what_resembles_a_request(text in "[A-Z]{0,26} ?[/*a-z ]{0,30}") {
            let judgement = judged(text.as_bytes());
            prop_assert!(text.len() < ENOUGH || judgement != Judgement::More);
        }
    }
}
