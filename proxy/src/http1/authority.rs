//! Host and port, as `Host` and request targets name them (RFC 3986, section 3.2).

/// A host and, where it is given, a port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authority<'a> {
    host: &'a [u8],
    has_port: bool,
}

impl<'a> Authority<'a> {
    /// Reads `host`, `host:port`, or `[IPv6]:port`. No user information, no comma (it would look like two), no empty
    /// host.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let (host, port) = match text {
            [b'[', rest @ ..] => {
                let end = memchr::memchr(b']', rest)?;
                let (inside, after) = rest.split_at_checked(end)?;
                let inside = std::str::from_utf8(inside).ok()?;
                inside.parse::<std::net::Ipv6Addr>().ok()?;
                (text.get(..end + 2)?, after.get(1..)?)
            }
            _ => text.split_at_checked(memchr::memchr(b':', text).unwrap_or(text.len()))?,
        };
        let has_port = match port {
            [] | [b':'] => false,
            [b':', digits @ ..] if is_port(digits) => true,
            _ => return None,
        };
        (host.first() == Some(&b'[') || is_name(host)).then_some(Self { host, has_port })
    }

    /// Whether it names a port.
    pub(crate) fn has_port(&self) -> bool {
        self.has_port
    }

    /// Whether both name the same host.
    pub(crate) fn is_host(&self, other: &Authority<'_>) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
    }
}

fn is_port(digits: &[u8]) -> bool {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.is_some_and(|digits| digits.parse::<u16>().is_ok())
}

fn is_name(host: &[u8]) -> bool {
    let mut rest = host;
    while let [byte, after @ ..] = rest {
        rest = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => after,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => after,
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
                _ => return false,
            },
            _ => return false,
        };
    }
    !host.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_an_optional_port() {
        for host in ["a", "a.b:80", "10.0.0.1:1", "[::1]", "[::1]:8080", "x_y", "a%20b", "0.0.0.0=5000", "a:"] {
            assert!(Authority::parse(host.as_bytes()).is_some(), "{host}");
        }
        for host in [
            "", ":80", "a:b", "a:80:80", "a:99999", "a:+80", "u@a", "a/b", "a,b", "a b", "a?b", "a#b", "[::1", "[x]",
            "[::1]x", "[::1]:x", "::1", "a%2", "a\\b", "ä", "a\t", "a:808080",
        ] {
            assert!(Authority::parse(host.as_bytes()).is_none(), "{host}");
        }
    }

    #[test]
    fn hosts_are_compared_without_case_and_port() {
        let parse = |text: &'static str| Authority::parse(text.as_bytes()).unwrap();
        assert!(parse("Shop.test").is_host(&parse("shop.test:80")));
        assert!(!parse("shop.test").is_host(&parse("stock.test")));
        assert!(parse("a:80").has_port() && !parse("a").has_port() && !parse("a:").has_port());
    }
}
