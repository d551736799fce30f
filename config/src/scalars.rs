//! What the scalars of a configuration mean.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    log::LogFormat,
    overlay::Scalar,
    problem::quoted,
    secret::Secret,
    suggest::did_you_mean,
    units::{self, ByteSize, parse_size},
};

impl Scalar for String {
    const EXPECTED: &'static str = "a text";

    fn read(text: &str) -> Result<Self, String> {
        match text.chars().find(|c| c.is_control()) {
            Some(stranger) => Err(format!("a text cannot contain {stranger:?}")),
            None => Ok(text.to_owned()),
        }
    }
}

impl Scalar for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{} is not a path", quoted(text)));
        }
        Ok(Self::from(text))
    }
}

impl Scalar for Secret {
    const EXPECTED: &'static str = "a token";
    const SECRET: bool = true;

    /// A token travels in a header, so it is visible ASCII.
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 4096 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is 1 to 4096 visible ASCII characters without spaces".to_owned());
        }
        Ok(Self::new(text))
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("{} is neither true nor false", quoted(text))),
        }
    }
}

impl Scalar for u32 {
    const EXPECTED: &'static str = WHOLE;
    const CAN_BE_OFF: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        whole(text)
    }
}

impl Scalar for u64 {
    const EXPECTED: &'static str = WHOLE;

    fn read(text: &str) -> Result<Self, String> {
        whole(text)
    }
}

impl Scalar for usize {
    const EXPECTED: &'static str = WHOLE;

    fn read(text: &str) -> Result<Self, String> {
        whole(text)
    }
}

const WHOLE: &str = "a whole number";

/// A whole number in decimal digits, in which `_` may separate groups.
fn whole<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    let digits = text.replace('_', "");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{} is not a whole number", quoted(text)));
    }
    digits.parse().map_err(|_| format!("{} is too large", quoted(text)))
}

impl Scalar for f64 {
    const EXPECTED: &'static str = "a number";
    const CAN_BE_OFF: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| format!("{} is not a number", quoted(text)))
    }
}

impl Scalar for Duration {
    const EXPECTED: &'static str = "a duration such as 250ms, 5s or 1m30s";
    const CAN_BE_OFF: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        units::parse_duration(text).ok_or_else(|| {
            let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let hint = if bare { format!("a unit is missing, for example {text}s") } else { WRITE_DURATION.to_owned() };
            format!("{} is not a duration: {hint}", quoted(text))
        })
    }
}

/// Reads a duration such as `250ms`, `5s` or `1m30s`.
///
/// # Errors
/// A sentence that says what is wrong, and how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    Duration::read(text)
}

const WRITE_DURATION: &str = "write it like 250ms, 5s or 1m30s";

impl Scalar for ByteSize {
    const EXPECTED: &'static str = "a size such as 64KiB";

    fn read(text: &str) -> Result<Self, String> {
        parse_size(text).ok_or_else(|| format!("{} is not a size: write it like 64KiB, 4MiB or 1GiB", quoted(text)))
    }
}

impl Scalar for SocketAddr {
    const EXPECTED: &'static str = "an address such as 127.0.0.1:8080";
    const CAN_BE_OFF: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            let hint =
                address_hint(text).unwrap_or_else(|| "write an IP address and a port: 127.0.0.1:8080".to_owned());
            format!("{} is not an address: {hint}", quoted(text))
        })
    }
}

/// What to write instead of the usual almost-addresses.
fn address_hint(text: &str) -> Option<String> {
    if text.parse::<u16>().is_ok() {
        return Some(format!("write 127.0.0.1:{text}, or 0.0.0.0:{text} for every network"));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(format!("a port is missing, for example {}", SocketAddr::new(ip, 8080)));
    }
    let (host, port) = text.rsplit_once(':')?;
    if port.parse::<u16>().is_err() {
        return None;
    }
    match host {
        "" | "*" => Some(format!("write 0.0.0.0:{port} for every network, or 127.0.0.1:{port}")),
        "localhost" => Some(format!("write 127.0.0.1:{port}")),
        _ if host.contains(':') => Some(format!("an IPv6 address needs brackets: [::1]:{port}")),
        _ => Some("names are not resolved here; write an IP address and a port".to_owned()),
    }
}

impl Scalar for IpNet {
    const EXPECTED: &'static str = "a network such as 10.0.0.0/8";

    fn read(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::from(address));
        }
        let Ok(network) = text.parse::<Self>() else {
            return Err(format!("{} is not a network: write it like 10.0.0.0/8", quoted(text)));
        };
        if network.trunc() != network {
            return Err(format!(
                "{} is an address inside of a network; did you mean `{}`?",
                quoted(text),
                network.trunc()
            ));
        }
        Ok(network)
    }
}

impl Scalar for LogFormat {
    const EXPECTED: &'static str = "text or json";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(match did_you_mean(text, ["text", "json"]) {
                Some(meant) => format!("{} is not a log format; did you mean `{meant}`?", quoted(text)),
                None => format!("{} is not a log format: use text or json", quoted(text)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<S: Scalar + std::fmt::Debug>(text: &str) -> String {
        S::read(text).unwrap_err()
    }

    #[test]
    fn an_almost_address_is_told_what_it_should_be() {
        for (text, hint) in [
            ("8080", "127.0.0.1:8080"),
            (":8080", "0.0.0.0:8080"),
            ("localhost:8080", "write 127.0.0.1:8080"),
            ("10.0.0.1", "a port is missing, for example 10.0.0.1:8080"),
            ("::1:8080", "a port is missing"),
            ("orders:80", "names are not resolved"),
            ("1.2.3.4:99999", "write an IP address and a port"),
        ] {
            assert!(refused::<SocketAddr>(text).contains(hint), "{text}: {}", refused::<SocketAddr>(text));
        }
    }

    #[test]
    fn numbers_are_whole_decimal_and_fit() {
        assert_eq!(usize::read("10_000"), Ok(10_000));
        for text in ["-1", "1.5", "0x10", "1e3", "", "+1", "ten"] {
            assert!(refused::<u32>(text).contains("not a whole number"), "{text}");
        }
        assert!(refused::<u32>("4294967296").contains("too large"));
        for text in ["nan", "inf", "x", ""] {
            assert!(refused::<f64>(text).contains("not a number"), "{text}");
        }
    }

    #[test]
    fn a_network_is_one_as_a_whole() {
        assert_eq!(IpNet::read("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert!(refused::<IpNet>("10.1.2.3/8").contains("did you mean `10.0.0.0/8`"));
        assert!(refused::<IpNet>("10.0.0.0/33").contains("not a network"));
    }

    #[test]
    fn a_token_that_is_refused_is_not_repeated() {
        for text in ["", "hunter 2", "hünter2", "hunter2\n"] {
            assert!(!refused::<Secret>(text).contains("nter"), "{text}");
        }
    }
}
