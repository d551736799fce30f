//! W3C Trace Context (level 1): `traceparent`, and the one member of `tracestate` that is ours.

use std::fmt;

use couplet_telemetry::names::TRACESTATE_MEMBER;

use super::hex64;

/// Advice of the specification: a tracestate of at least 512 characters must pass; longer ones may be cut.
const MAX_TRACESTATE: usize = 512;

/// A `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traceparent {
    /// The trace; never zero.
    pub(crate) trace: u128,
    /// The parent span; never zero.
    pub(crate) span: u64,
    /// The flags; bit 0 says "sampled".
    pub(crate) flags: u8,
}

impl Traceparent {
    /// Reads a header value. Later versions may be longer; their first four fields mean the same.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let mut fields = text.split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let known = version == "00" && fields.next().is_none();
        let later = version != "00" && version != "ff" && is_hex(version, 2);
        if !(known || later) || !is_hex(trace, 32) || !is_hex(flags, 2) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = hex64(span).filter(|span| *span != 0)?;
        Some(Self { trace, span, flags: u8::from_str_radix(flags, 16).ok()? })
    }

    /// A new trace. A tracing library that follows its parent's decision falls silent behind one that is not sampled.
    pub(crate) fn fresh(random: &mut fastrand::Rng, sampled: bool) -> Self {
        Self { trace: random.u128(1..), span: random.u64(1..), flags: u8::from(sampled) }
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The handler id in our member of a tracestate.
pub(crate) fn tracestate_handler(tracestate: &str) -> Option<u64> {
    members(tracestate).find_map(
        |(name, member)| {
            if name == TRACESTATE_MEMBER { hex64(member.get(name.len() + 1..)?) } else { None }
        },
    )
}

/// A tracestate with our member in front and without any older one of ours; members that no longer fit are cut from
/// the end, whole.
pub(crate) fn tracestate_with(tracestate: &str, handler: u64) -> String {
    let mut text = format!("{TRACESTATE_MEMBER}={handler:016x}");
    for (_, member) in members(tracestate).filter(|(name, _)| *name != TRACESTATE_MEMBER) {
        if text.len() + 1 + member.len() > MAX_TRACESTATE {
            break;
        }
        text.push(',');
        text.push_str(member);
    }
    text
}

/// A tracestate without our member, and whether there was one.
pub(crate) fn tracestate_without(tracestate: &str) -> (String, bool) {
    let ours = members(tracestate).any(|(name, _)| name == TRACESTATE_MEMBER);
    let rest: Vec<_> =
        members(tracestate).filter(|(name, _)| *name != TRACESTATE_MEMBER).map(|(_, member)| member).collect();
    (rest.join(","), ours)
}

/// Name and whole text of each member.
fn members(tracestate: &str) -> impl Iterator<Item = (&str, &str)> {
    let members = tracestate.split(',').map(str::trim).filter(|member| !member.is_empty());
    members.map(|member| (member.split_once('=').map_or(member, |(name, _)| name), member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_specification_reads_back() {
        assert_eq!(Traceparent::parse(EXAMPLE.as_bytes()).unwrap().to_string(), EXAMPLE);
    }

    #[test]
    fn a_later_version_may_be_longer_and_the_known_one_may_not() {
        let later = EXAMPLE.replace("00-0af", "cc-0af") + "-more";
        assert!(Traceparent::parse(later.as_bytes()).is_some());
        assert_eq!(Traceparent::parse(format!("{EXAMPLE}-more").as_bytes()), None);
    }

    #[test]
    fn what_the_specification_forbids_is_no_traceparent() {
        for wrong in [
            "",
            "00",
            &EXAMPLE.replace("00-0af", "ff-0af"),
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &EXAMPLE.replace("b7ad6b7169203331", &"0".repeat(16)),
            &EXAMPLE.replace("b7ad", "b7a"),
        ] {
            assert_eq!(Traceparent::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn our_member_is_put_in_front_and_taken_off_and_others_stay() {
        let with = tracestate_with("vendor=1, couplet=00000000000000ff ,other=2", 7);
        assert_eq!(with, "couplet=0000000000000007,vendor=1,other=2");
        assert_eq!(tracestate_handler(&with), Some(7));
        assert_eq!(tracestate_without(&with), ("vendor=1,other=2".to_owned(), true));
        assert_eq!(tracestate_without("vendor=1"), ("vendor=1".to_owned(), false));
        assert_eq!(tracestate_handler("vendor=couplet,couplets=1,couplet=zz"), None);
    }

    proptest! {
        #[test]
        fn any_tracestate_is_bounded_and_still_carries_the_handler(text in ".{0,2000}", handler: u64) {
            let with = tracestate_with(&text, handler);
            prop_assert!(with.len() <= MAX_TRACESTATE);
            prop_assert_eq!(tracestate_handler(&with), Some(handler));
        }

        #[test]
        fn any_traceparent_that_reads_writes_the_same(trace in 1u128.., span in 1u64.., flags: u8) {
            let traceparent = Traceparent { trace, span, flags };
            prop_assert_eq!(Traceparent::parse(traceparent.to_string().as_bytes()), Some(traceparent));
        }
    }
}
