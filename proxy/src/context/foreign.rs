//! Trace headers of others: what in a value names the trace, and which spans it names.
//!
//! Formats: B3 (openzipkin/b3-propagation), Jaeger's `uber-trace-id`, Datadog's decimal ids, Google Cloud
//! `x-cloud-trace-context`, AWS X-Ray `x-amzn-trace-id`, OpenCensus' `grpc-trace-bin`, SkyWalking's `sw8`. Libraries convert
//! between them: a trace of 128 bits is the same trace as its lower 64 bits in a format that has only those.

use super::{Traceparent, hex64};

/// What a trace header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign<'a> {
    /// Names the trace.
    pub(crate) trace: Trace<'a>,
    /// The span that sends, where it is named.
    pub(crate) span: Option<u64>,
    /// The span above that one, where it is named.
    pub(crate) parent: Option<u64>,
}

/// The name of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace<'a> {
    /// A number; never zero.
    Number(u128),
    /// A text, in a format that has no numbers.
    Text(&'a [u8]),
}

impl Trace<'_> {
    /// The part of the number that every format keeps: the lower 64 bits, unless they are empty.
    pub(crate) fn short(number: u128) -> u64 {
        match number as u64 {
            0 => (number >> 64) as u64,
            low => low,
        }
    }
}

/// `b3`: `trace-span`, `trace-span-sampled`, `trace-span-sampled-parent`. A lone sampling decision names no trace.
pub(crate) fn b3(value: &[u8]) -> Option<Foreign<'_>> {
    let mut fields = text(value)?.split('-');
    let (trace, span) = (fields.next()?, fields.next()?);
    let parent = fields.nth(1).and_then(hex);
    Some(Foreign { trace: number(trace)?, span: hex(span), parent })
}

/// The traceparent that says the same as B3 headers, for an application that reads either: it must not see two traces.
pub(crate) fn traceparent_of(b3: &Foreign<'_>, span: Option<u64>, sampled: bool) -> Option<Traceparent> {
    let Trace::Number(trace) = b3.trace else { return None };
    Some(Traceparent { trace, span: b3.span.or(span)?, flags: u8::from(sampled) })
}

/// A trace by itself in hexadecimal digits: `x-b3-traceid`.
pub(crate) fn hexadecimal(value: &[u8]) -> Option<Foreign<'_>> {
    Some(Foreign { trace: number(text(value)?)?, span: None, parent: None })
}

/// `uber-trace-id`: `trace:span:parent:flags`, leading zeros may be missing; colons may come as `%3A`.
pub(crate) fn uber(value: &[u8]) -> Option<Foreign<'_>> {
    let text = text(value)?;
    let escaped = text.contains('%');
    let mut fields = text.split(|c| if escaped { c == '%' } else { c == ':' });
    let mut next = || fields.next().map(|field| if escaped { field.trim_start_matches("3A") } else { field });
    let (trace, span, parent) = (next()?, next()?, next()?);
    Some(Foreign { trace: number(trace)?, span: hex(span), parent: hex(parent) })
}

/// `x-datadog-trace-id`, and other single decimal numbers.
pub(crate) fn decimal(value: &[u8]) -> Option<Foreign<'_>> {
    let trace: u128 = digits(text(value)?)?;
    Some(Foreign { trace: Trace::Number(trace), span: None, parent: None })
}

/// `x-cloud-trace-context`: `trace/span;o=options`, the span in decimal digits.
pub(crate) fn cloud(value: &[u8]) -> Option<Foreign<'_>> {
    let text = text(value)?;
    let (trace, rest) = text.split_once('/').unwrap_or((text, ""));
    let span = rest.split(';').next().and_then(digits).and_then(|span| u64::try_from(span).ok());
    Some(Foreign { trace: number(trace.split(';').next()?)?, span, parent: None })
}

/// `x-amzn-trace-id`: `Root=1-<8>-<24>;Parent=<16>;Sampled=1`, in any order. Root's digits together are the trace that
/// other formats name.
pub(crate) fn amzn(value: &[u8]) -> Option<Foreign<'_>> {
    let (mut trace, mut span) = (None, None);
    for field in text(value)?.split(';') {
        match field.trim().split_once('=') {
            Some(("Root", root)) => {
                let (seconds, random) = root.strip_prefix("1-")?.split_once('-')?;
                let (seconds, random) = (exactly(seconds, 8)?, exactly(random, 24)?);
                trace = Some(seconds << 96 | random).filter(|trace| *trace != 0);
            }
            Some(("Parent", parent)) => span = hex(parent),
            _ => {}
        }
    }
    Some(Foreign { trace: Trace::Number(trace?), span, parent: None })
}

/// `grpc-trace-bin`: base64 of a version 0, then fields: 0 and 16 bytes of trace, 1 and 8 bytes of span, 2 and flags.
pub(crate) fn grpc_bin(value: &[u8]) -> Option<Foreign<'_>> {
    let mut bytes = [0; 29];
    let value = value.strip_suffix(b"==").or_else(|| value.strip_suffix(b"=")).unwrap_or(value);
    let length = base64(value, &mut bytes)?;
    let [0, 0, rest @ ..] = bytes.get(..length)? else { return None };
    let trace = u128::from_be_bytes(rest.get(..16)?.try_into().ok()?);
    let span = match rest.get(16..25) {
        Some([1, span @ ..]) => span.try_into().ok().map(u64::from_be_bytes),
        _ => None,
    };
    (trace != 0).then_some(Foreign { trace: Trace::Number(trace), span, parent: None })
}

/// `sw8`: `sampled-trace-segment-span-…`, the first three of them base64 where they are no digits. Each hop has a segment of
/// its own, so only the trace is passed on.
pub(crate) fn sw8(value: &[u8]) -> Option<Foreign<'_>> {
    let mut fields = value.split(|b| *b == b'-');
    let (_, trace, _) = (fields.next()?, fields.next()?, fields.next()?);
    (trace.len() >= 8).then_some(Foreign { trace: Trace::Text(trace), span: None, parent: None })
}

/// A value that is an id as a whole: `x-request-id`. Shorter ones are words and flags.
pub(crate) fn whole(value: &[u8]) -> Option<Foreign<'_>> {
    let value = value.trim_ascii();
    (value.len() >= 4).then_some(Foreign { trace: Trace::Text(value), span: None, parent: None })
}

/// A span by itself, in hexadecimal digits: `x-b3-spanid`.
pub(crate) fn span(value: &[u8]) -> Option<u64> {
    hex(text(value)?)
}

/// A span by itself, in decimal digits: `x-datadog-parent-id`.
pub(crate) fn decimal_span(value: &[u8]) -> Option<u64> {
    digits(text(value)?).and_then(|span| u64::try_from(span).ok())
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().map(str::trim)
}

/// A trace in at most 32 hexadecimal digits.
fn number(text: &str) -> Option<Trace<'static>> {
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = fits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    number.filter(|number| *number != 0).map(Trace::Number)
}

/// A span in at most 16 hexadecimal digits.
fn hex(text: &str) -> Option<u64> {
    if let Some(span) = hex64(text) {
        return Some(span).filter(|span| *span != 0);
    }
    let fits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| u64::from_str_radix(text, 16).ok()).flatten().filter(|span| *span != 0)
}

/// So many hexadecimal digits.
fn exactly(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// A decimal number that is not zero.
fn digits(text: &str) -> Option<u128> {
    let fits = (1..=38).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten().filter(|number| *number != 0)
}

/// Decodes unpadded base64 of either alphabet; how many bytes there are.
fn base64(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let (mut held, mut bits, mut length) = (0u32, 0, 0);
    for letter in text {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        (held, bits) = (held << 6 | u32::from(six), bits + 6);
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(length)? = (held >> bits) as u8;
            length += 1;
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: u128 = 0x463a_c35c_9f64_13ad_4848_5a39_53bb_6124;
    const SPAN: u64 = 0xa2fb_4a1d_1a96_d312;

    fn said(read: Option<Foreign<'_>>) -> (Trace<'_>, Option<u64>, Option<u64>) {
        let foreign = read.unwrap();
        (foreign.trace, foreign.span, foreign.parent)
    }

    #[test]
    fn the_examples_of_the_specifications_name_their_trace_and_spans() {
        let number = Trace::Number;
        assert_eq!(
            said(b3(b"463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1-0020000000000001")),
            (number(TRACE), Some(SPAN), Some(0x0020_0000_0000_0001))
        );
        assert_eq!(
            said(b3(b"48485a3953bb6124-a2fb4a1d1a96d312")),
            (number(TRACE & u128::from(u64::MAX)), Some(SPAN), None)
        );
        assert_eq!(said(hexadecimal(b"463AC35C9F6413AD48485A3953BB6124")), (number(TRACE), None, None));
        assert_eq!(said(uber(b"48485a3953bb6124:a2fb4a1d1a96d312:0:1")).1, Some(SPAN));
        assert_eq!(
            said(uber(b"5a3953bb6124%3Aa2fb4a1d1a96d312%3A7%3A1")),
            (number(0x5a39_53bb_6124), Some(SPAN), Some(7))
        );
        assert_eq!(said(decimal(b"5208512171318403364")), (number(5_208_512_171_318_403_364), None, None));
        assert_eq!(
            said(cloud(b"105445aa7843bc8bf206b12000100000/11743943508410192658;o=1")),
            (number(0x1054_45aa_7843_bc8b_f206_b120_0010_0000), Some(11_743_943_508_410_192_658), None)
        );
        assert_eq!(
            said(amzn(b"Parent=53995c3f42cd8ad8;Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")),
            (number(0x5759_e988_bd86_2e3f_e1be_46a9_9427_2793), Some(0x5399_5c3f_42cd_8ad8), None)
        );
        assert_eq!(
            said(grpc_bin(b"AABkZWZnaGlqa2xtbm9wcXJzAWFiY2RlZmdoAgE")),
            (number(u128::from_be_bytes(*b"defghijklmnopqrs")), Some(u64::from_be_bytes(*b"abcdefgh")), None)
        );
        let sw = b"1-TRACEIDTRACEID-SEGMENT-3-c2VydmljZQ==-aW5zdGFuY2U=-L2FwaQ==-MTI3LjAuMC4xOjgw";
        assert_eq!(said(sw8(sw)).0, Trace::Text(b"TRACEIDTRACEID"));
    }

    #[test]
    fn a_trace_of_128_bits_is_the_same_trace_in_64() {
        assert_eq!(Trace::short(TRACE), TRACE as u64);
        assert_eq!(Trace::short(7 << 64), 7);
    }

    #[test]
    fn what_names_no_trace_is_none() {
        for wrong in ["", "0", "1", "d", "0000000000000000-a2fb4a1d1a96d312", "xyz-1", &"a".repeat(33)] {
            assert_eq!(b3(wrong.as_bytes()), None, "{wrong}");
            assert_eq!(uber(wrong.as_bytes()), None, "{wrong}");
        }
        for wrong in [
            "Root=2-5759e988-bd862e3fe1be46a994272793",
            "Root=1-57-bd",
            "Self=1",
            "Root=1-+759e988-bd862e3fe1be46a994272793",
        ] {
            assert_eq!(amzn(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(decimal(b"0"), None);
        assert_eq!(grpc_bin(b"AQBkZWZnaGlqa2xtbm9wcXJz"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for read in [b3, hexadecimal, uber, decimal, cloud, amzn, grpc_bin, sw8, whole] {
                let _ = read(&bytes);
            }
            let _ = (span(&bytes), decimal_span(&bytes));
        }
    }
}
