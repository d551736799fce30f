//! Trace files in all formats: whatever the bytes are, what they say is counted once.

#![no_main]

use std::io::{Seek, Write};
use std::sync::{LazyLock, Mutex};

use couplet_analyzer::receive::traces::{TraceLimits, read_within};
use couplet_telemetry::otlp::{Bounds, decode, encode};
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

static FILE: LazyLock<Mutex<NamedTempFile>> = LazyLock::new(|| Mutex::new(NamedTempFile::new().expect("a file")));

fuzz_target!(|bytes: &[u8]| {
    let mut file = FILE.lock().expect("one thread");
    file.as_file().set_len(0).expect("an empty file");
    file.rewind().expect("its beginning");
    file.write_all(bytes).expect("room for it");
    let (reports, summary) = match read_within(&[file.path()], LIMITS) {
        Ok(read) => read,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let handled: u64 = reports.iter().flat_map(|report| &report.paths).map(|path| path.stats.outcomes.total()).sum();
    let called: u64 = reports.iter().flat_map(|report| &report.calls).map(|call| call.stats.outcomes.total()).sum();
    assert_eq!((handled, called), (summary.handlings, summary.calls));
    for report in &reports {
        assert!(report.start <= report.end, "{} to {}", report.start, report.end);
        // Names with control characters are refused from the network; files may have them.
        let _ = decode(&encode(report), &Bounds { paths: 10_000, calls: 10_000 });
    }
});

const LIMITS: TraceLimits = TraceLimits { bytes: 1 << 20, spans: 2_000 };
