//! W3C Trace Context (level 1): `traceparent`, and the one member of `tracestate` that is ours.

use couplet_telemetry::names::TRACESTATE_MEMBER;

use super::hex64;
use super::text::Text;

/// Advice of the specification: a tracestate of at least 512 characters must pass; longer ones may be cut.
const MAX_TRACESTATE: usize = 512;
/// Of a traceparent in the known version, in bytes.
const LENGTH: usize = 55;

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
        let (text, rest) = value.trim_ascii().split_at_checked(LENGTH)?;
        let (version, text) = text.split_at_checked(2)?;
        let ([b'-', trace @ ..], [b'-', span @ ..]) = text.split_at_checked(33)? else { return None };
        let (span, [b'-', flags @ ..]) = span.split_at_checked(16)? else { return None };
        let fits = match (version, rest) {
            (b"00", rest) => rest.is_empty(),
            (b"ff", _) => false,
            (_, [] | [b'-', ..]) => byte(version).is_some(),
            _ => false,
        };
        let (high, low) = trace.split_at_checked(16)?;
        let trace = u128::from(hex64(high)?) << 64 | u128::from(hex64(low)?);
        let span = hex64(span)?;
        (fits && trace != 0 && span != 0).then_some(Self { trace, span, flags: byte(flags)? })
    }

    /// As a header value.
    pub(crate) fn text(&self) -> Text<LENGTH> {
        let mut text = Text::new();
        text.push(b"00-");
        text.hex((self.trace >> 64) as u64);
        text.hex(self.trace as u64);
        text.push(b"-");
        text.hex(self.span);
        text.push(b"-");
        text.byte(self.flags);
        text
    }

    /// A new trace. A tracing library that follows its parent's decision falls silent behind one that is not sampled.
    pub(crate) fn fresh(sampled: bool) -> Self {
        // Of a trace in 64 bits, which some formats have, the lower half is all that is left.
        let trace = u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(1..));
        Self { trace, span: fastrand::u64(1..), flags: u8::from(sampled) }
    }
}

/// A byte in two lower-case hexadecimal digits.
fn byte(digits: &[u8]) -> Option<u8> {
    let mut padded = *b"00000000000000--";
    padded.get_mut(14..)?.copy_from_slice(digits.get(..2).filter(|all| all.len() == digits.len())?);
    hex64(padded).map(|byte| byte as u8)
}

/// The handler id in our member of a tracestate.
pub(crate) fn tracestate_handler(tracestate: &[u8]) -> Option<u64> {
    members(tracestate).find_map(|member| hex64(value_of_ours(member)??))
}

/// A tracestate with our member in front and without any older one of ours; members that no longer fit are cut from
/// the end, whole. The older one may stand in several fields.
pub(crate) fn tracestate_with<'a>(fields: impl IntoIterator<Item = &'a [u8]>, handler: u64) -> Text<MAX_TRACESTATE> {
    let mut text = Text::new();
    text.push(TRACESTATE_MEMBER.as_bytes());
    text.push(b"=");
    text.hex(handler);
    for member in fields.into_iter().flat_map(members).filter(|member| value_of_ours(member).is_none()) {
        if text.room() < 1 + member.len() {
            break;
        }
        text.push(b",");
        text.push(member);
    }
    text
}

/// A tracestate, in one field or several, without our member; nothing where that is not among its members.
pub(crate) fn tracestate_without<'a, F: Iterator<Item = &'a [u8]>>(fields: impl Fn() -> F) -> Option<Vec<u8>> {
    let all = || fields().flat_map(members);
    if !all().any(|member| value_of_ours(member).is_some()) {
        return None;
    }
    let mut rest = Vec::new();
    for member in all().filter(|member| value_of_ours(member).is_none()) {
        if !rest.is_empty() {
            rest.push(b',');
        }
        rest.extend_from_slice(member);
    }
    Some(rest)
}

/// Whether every member of a tracestate has a name and a value, and all of it may pass.
pub(crate) fn is_tracestate(tracestate: &[u8]) -> bool {
    if tracestate.len() > MAX_TRACESTATE {
        return false;
    }
    let mut all = tracestate.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    all.all(|member| is_printable(member) && memchr::memchr(b'=', member).is_some_and(|at| at > 0))
}

/// The whole text of each member. What is no text is none.
fn members(tracestate: &[u8]) -> impl Iterator<Item = &[u8]> {
    let members = tracestate.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|member| !member.is_empty() && is_printable(member))
}

fn is_printable(member: &[u8]) -> bool {
    member.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// What our member says, if this is ours; nothing inside where it says nothing.
fn value_of_ours(member: &[u8]) -> Option<Option<&[u8]>> {
    match member.strip_prefix(TRACESTATE_MEMBER.as_bytes())? {
        [] => Some(None),
        [b'=', value @ ..] => Some(Some(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_specification_reads_back() {
        assert_eq!(Traceparent::parse(EXAMPLE.as_bytes()).unwrap().text().to_string(), EXAMPLE);
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
        let without = |fields: &[&'static [u8]]| tracestate_without(|| fields.iter().copied());
        let fields: [&[u8]; 2] = [b"vendor=1, couplet=00000000000000ff ", b",other=2"];
        let with = tracestate_with(fields, 7);
        assert_eq!(with.to_string(), "couplet=0000000000000007,vendor=1,other=2");
        assert_eq!(tracestate_handler(with.as_bytes()), Some(7));
        assert_eq!(tracestate_without(|| std::iter::once(with.as_bytes())).as_deref(), Some(&b"vendor=1,other=2"[..]));
        assert_eq!(without(&[b"couplet"]).as_deref(), Some(&b""[..]));
        assert_eq!(without(&[b"vendor=1", b"other=2"]), None);
        assert_eq!(tracestate_handler(b"vendor=couplet,couplets=1,couplet=zz"), None);
    }

    proptest! {
        #[test]
        fn any_tracestate_is_bounded_and_still_carries_the_handler(text in ".{0,2000}", handler: u64) {
            let with = tracestate_with([text.as_bytes()], handler);
            prop_assert_eq!(tracestate_handler(with.as_bytes()), Some(handler));
        }

        #[test]
        fn any_traceparent_that_reads_writes_the_same(trace in 1u128.., span in 1u64.., flags: u8) {
            let traceparent = Traceparent { trace, span, flags };
            prop_assert_eq!(Traceparent::parse(traceparent.text().as_bytes()), Some(traceparent));
        }
    }
}
