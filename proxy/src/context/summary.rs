//! `couplet-summary`: everything below a call, on its way back up. `1;<depth>;<calls>;<blocked µs>;<services>`, and where
//! there is more to say `;<variable segments>;<evidence>;<origin>`.

use couplet_telemetry::names::is_service_name;
use couplet_telemetry::outcome::Evidence;

use super::text::Text;
use super::{MAX_BYTES, Services, decimal, fields};

/// What a callee's proxy says of everything below one call, as far as it had ended when the answer's head left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Longest chain of service changes below the callee; 0 for a leaf.
    pub(crate) depth: u32,
    /// Blocking calls anywhere below the callee.
    pub(crate) calls: u32,
    /// Microseconds in which the callee itself was blocked.
    pub(crate) blocked: u64,
    /// The services anywhere below the callee.
    pub(crate) services: Services,
    /// Which segments of the endpoint stand for many values, as the callee names it; the first is bit 0.
    pub(crate) variable: u16,
    /// The weakest link on which all this is known.
    pub(crate) evidence: Below,
    /// Where a failure below began, if a call failed and was not made good: should the callee have failed as well, then
    /// because of it.
    pub(crate) origin: Option<String>,
}

/// How surely what is below is known; exactly where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Below {
    #[default]
    Exact,
    Inferred,
}

impl Below {
    pub(crate) fn of(evidence: Evidence) -> Self {
        if evidence == Evidence::Exact { Below::Exact } else { Below::Inferred }
    }

    pub(crate) fn evidence(self) -> Evidence {
        if self == Below::Exact { Evidence::Exact } else { Evidence::Inferred }
    }
}

/// The largest numbers that fit the header beside names of any length.
pub(crate) const MAX_CALLS: u32 = 9_999_999;
pub(crate) const MAX_BLOCKED: u64 = 9_999_999_999;

impl Summary {
    /// Reads a header value. Fields behind the known ones are a later release's and are passed over.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = fields(Some(value).filter(|value| value.len() <= MAX_BYTES)?);
        let mut next = || fields.next();
        if next()? != b"1" {
            return None;
        }
        Some(Self {
            depth: decimal(next()?)?.try_into().ok().filter(|depth| *depth <= 255)?,
            calls: decimal(next()?)?.try_into().ok()?,
            blocked: decimal(next()?)?,
            services: Services::parse(next()?)?,
            variable: next().map_or(Some(0), bits)?,
            evidence: match next() {
                None | Some(b"" | b"e") => Below::Exact,
                Some(b"i") => Below::Inferred,
                Some(_) => return None,
            },
            origin: match next() {
                None | Some(b"") => None,
                Some(name) => {
                    Some(std::str::from_utf8(name).ok().filter(|name| is_service_name(name)).map(str::to_owned)?)
                }
            },
        })
    }

    /// As a header value.
    pub(crate) fn text(&self) -> Text<MAX_BYTES> {
        let mut text = Text::new();
        text.push(b"1;");
        for number in [u64::from(self.depth), u64::from(self.calls), self.blocked] {
            text.decimal(number);
            text.push(b";");
        }
        self.services.write(&mut text);
        let more = self.evidence != Below::Exact || self.origin.is_some();
        if self.variable != 0 || more {
            text.push(b";");
        }
        if self.variable != 0 {
            text.push(short_hex(self.variable, &mut [0; 4]));
        }
        if more {
            text.push(if self.evidence == Below::Exact { b";" } else { b";i" });
        }
        if let Some(origin) = &self.origin {
            text.push(b";");
            text.push(origin.as_bytes());
        }
        text
    }
}

/// One to four lower-case hexadecimal digits; none are no bits.
fn bits(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |bits, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        bits.checked_mul(16)?.checked_add(u16::from(value))
    })
}

/// As many hexadecimal digits as it has.
fn short_hex(number: u16, room: &mut [u8; 4]) -> &[u8] {
    let length = number.checked_ilog2().map_or(1, |log| log as usize / 4 + 1);
    let digits = room.get_mut(..length).unwrap_or_default();
    for (at, digit) in digits.iter_mut().rev().enumerate() {
        let value = (number >> (4 * at) & 0xf) as u8;
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_summary_reads_back_as_what_it_was_within_160_bytes(
            depth in 0u32..=255, calls in 0..=MAX_CALLS, blocked in 0..=MAX_BLOCKED, variable: u16, inferred: bool,
            names in prop::collection::vec("[a-z]{1,9}", 0..30), origin in prop::option::of("[a-z]{1,63}"),
        ) {
            let mut services = Services::default();
            names.iter().for_each(|name| services.insert(Services::hash(name)));
            let evidence = if inferred { Below::Inferred } else { Below::Exact };
            let summary = Summary { depth, calls, blocked, services, variable, evidence, origin };
            let text = summary.text().to_string();
            prop_assert!(text.len() <= MAX_BYTES);
            prop_assert_eq!(Summary::parse(text.as_bytes()), Some(summary));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Summary::parse(&bytes);
        }
    }

    #[test]
    fn what_is_not_well_formed_is_no_summary() {
        for wrong in [
            "",
            "1;",
            "1;256;0;0;",
            "1;+1;0;0;",
            "1;0;4294967296;0;",
            "1;0;0;0;abc",
            "2;0;0;0;",
            "1;0;0;0;;+1",
            "1;0;0;0;;10000",
            "1;0;0;0;;A",
            "1;0;0;0;;;x",
            "1;0;0;0;;;;not a name",
        ] {
            assert_eq!(Summary::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_older_or_newer_proxy_is_understood() {
        for (text, variable) in [("1;2;3;4;", 0), ("1;2;3;4;;", 0), ("1;2;3;4;;2a", 0x2a), ("1;2;3;4;;2a;;;new", 0x2a)]
        {
            let summary = Summary::parse(text.as_bytes()).unwrap();
            assert_eq!((summary.depth, summary.variable), (2, variable), "{text}");
        }
    }
}
