//! `couplet-summary`: everything below a call, on its way back up. `1;<depth>;<calls>;<blocked µs>;<services>`, and where
//! there is more to say `;<variable segments>;<evidence>;<origin>`.

use std::fmt;

use couplet_telemetry::names::is_service_name;
use couplet_telemetry::outcome::Evidence;

use super::{MAX_BYTES, Services};

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
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= MAX_BYTES)?;
        let mut fields = text.split(';');
        let mut next = || fields.next();
        if next()? != "1" {
            return None;
        }
        Some(Self {
            depth: number(next()?)?.try_into().ok().filter(|depth| *depth <= 255)?,
            calls: number(next()?)?.try_into().ok()?,
            blocked: number(next()?)?,
            services: Services::parse(next()?)?,
            variable: next().map_or(Some(0), bits)?,
            evidence: match next() {
                None | Some("" | "e") => Below::Exact,
                Some("i") => Below::Inferred,
                Some(_) => return None,
            },
            origin: match next() {
                None | Some("") => None,
                Some(name) => Some(is_service_name(name).then(|| name.to_owned())?),
            },
        })
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// One to four lower-case hexadecimal digits; none are no bits.
fn bits(text: &str) -> Option<u16> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    digits.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1;{};{};{};{}", self.depth, self.calls, self.blocked, self.services)?;
        let more = self.evidence != Below::Exact || self.origin.is_some();
        match self.variable {
            0 if more => f.write_str(";")?,
            0 => {}
            variable => write!(f, ";{variable:x}")?,
        }
        if more {
            f.write_str(if self.evidence == Below::Exact { ";" } else { ";i" })?;
        }
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, ";{origin}"))
    }
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
            let text = summary.to_string();
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
