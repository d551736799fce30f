//! W3C trace context: the first line is a `traceparent`, the second a `tracestate`.

#![no_main]

use couplet_proxy::fuzzing::{traceparent, tracestate_handler, tracestate_with, tracestate_without};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    if let Some(written) = lines.next().and_then(traceparent) {
        assert_eq!(written.len(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".len());
        assert_eq!(traceparent(written.as_bytes()), Some(written.clone()));
    }
    let Some(state) = lines.next().and_then(|line| std::str::from_utf8(line).ok()) else { return };

    let handler = bytes.len() as u64;
    let with = tracestate_with(state, handler);
    assert!(with.len() <= LONGEST, "{} bytes", with.len());
    assert_eq!(tracestate_handler(&with), Some(handler));
    assert_eq!(tracestate_with(&with, handler), with, "nothing is lost by passing twice");

    let (without, named) = tracestate_without(state);
    assert!(without.len() <= state.len());
    assert_eq!(tracestate_without(&without), (without.clone(), false), "nothing of ours is left over");
    assert!(named || tracestate_handler(state).is_none());
    let (kept, named) = tracestate_without(&with);
    assert!(named && without.starts_with(&kept), "{kept:?} is not the beginning of {without:?}");
});

const LONGEST: usize = 512;
