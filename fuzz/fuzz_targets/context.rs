//! `couplet-context` and `couplet-summary`, two values with a line between: what is read, is written and read as the
//! same.

#![no_main]

use couplet_proxy::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (one, other) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    for read in [fuzzing::calling, fuzzing::summary] {
        for value in [one, other] {
            let Some(written) = read(value) else { continue };
            assert!(written.len() <= LONGEST, "{written}");
            assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{written:?} is no header value");
            assert_eq!(read(written.as_bytes()), Some(written.clone()), "of {value:?}");
        }
    }
    if let Some([alone, together]) = fuzzing::services(one, other) {
        let [_, reverse] = fuzzing::services(other, one).expect("both were read");
        assert_eq!(together, reverse, "the order of merging changes nothing");
        assert!(alone <= MOST && together <= MOST);
    }
});

const LONGEST: usize = 160;
/// What the estimate says where every bit is set.
const MOST: u32 = 266;
