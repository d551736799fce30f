//! What an HTTP/2 client sends behind its preface: judged the same however it is cut into pieces. Two bytes choose the
//! pieces.

#![no_main]

use couplet_proxy::fuzzing::frames;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([at, size], rest)) = input.split_first_chunk() else { return };
    let bytes = [PREFACE.as_slice(), rest].concat();
    let whole = frames(&[&bytes]);
    let at = usize::from(*at) % (bytes.len() + 1);
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*size).max(1)).collect();
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    for cut in [&[&bytes[..at], &bytes[at..]][..], &pieces, &single] {
        assert_eq!(frames(cut), whole);
    }
});

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
