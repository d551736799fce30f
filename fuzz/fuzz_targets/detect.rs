//! What a client speaks, as its first bytes tell: a judgement on fewer bytes holds for more of them, and what others
//! read from the same bytes agrees with it.

#![no_main]

use couplet_proxy::fuzzing::{JUDGED_BYTES, judged, requests, settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = judged(bytes);
    assert!(whole.is_some() || bytes.len() < JUDGED_BYTES, "never left open with {JUDGED_BYTES} bytes");
    let first = (0..=bytes.len()).find_map(|length| judged(&bytes[..length]).map(|judgement| (length, judgement)));
    if let Some((length, judgement)) = first {
        assert!((1..=JUDGED_BYTES).contains(&length));
        for longer in length..=bytes.len() {
            assert_eq!(judged(&bytes[..longer]), Some(judgement), "more bytes change nothing");
        }
    }
    match whole {
        Some("http2") => assert!(bytes.starts_with(PREFACE)),
        Some("tls") => assert!(bytes.starts_with(&[0x16, 3]) && bytes[5] == 1),
        Some("http1") => assert!(bytes[0].is_ascii_uppercase()),
        _ => assert!(!bytes.starts_with(PREFACE)),
    }
    let server = (0..=bytes.len()).find_map(|length| settings(&bytes[..length]));
    assert_eq!(settings(bytes), server, "more bytes change nothing about a server either");
    assert!(server.is_some() || bytes.len() < JUDGED_BYTES);
    // A request that the gate lets pass as a whole, and whose method is in capitals, is one for whoever judges, too.
    let passed = requests(&[bytes], 512, 8, false);
    if passed.heads > 0 && passed.violation.is_none() && is_plain(bytes) {
        assert_eq!(whole, Some("http1"));
    }
});

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A method of capitals, shorter than what judging takes, and a target that is a path.
fn is_plain(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    (1..JUDGED_BYTES - 2).contains(&method) && bytes[method..].starts_with(b" /")
}
