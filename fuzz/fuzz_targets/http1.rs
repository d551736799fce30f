//! The gate in front of HTTP/1: a message is judged the same however it is cut into pieces, and what passed has the
//! same boundaries for a reader that knows nothing of the gate.
//!
//! Three bytes choose the direction, the answer and the pieces; the rest is what comes in.

#![no_main]

use couplet_proxy::fuzzing::{Passed, requests, response};
use httparse::{EMPTY_HEADER, Header, Status};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([kind, at, size], bytes)) = input.split_first_chunk() else { return };
    let agreed = kind & 2 != 0;
    let method = ["GET", "HEAD", "CONNECT", "POST"][usize::from(kind >> 2 & 3)];
    let judge = |pieces: &[&[u8]]| match kind & 1 {
        0 => requests(pieces, HEAD_BYTES, FIELDS, agreed),
        _ => response(pieces, HEAD_BYTES, FIELDS, method, agreed),
    };
    let whole = judge(&[bytes]);
    let at = usize::from(*at) % (bytes.len() + 1);
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*size).max(1)).collect();
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    for judged in [judge(&[&bytes[..at], &bytes[at..]]), judge(&pieces), judge(&single)] {
        assert_eq!(judged.violation, whole.violation);
        match whole.violation {
            None => assert_eq!(judged, whole),
            // A head may pass before it shows that its content is wrong; seen together, nothing of both passes.
            Some(_) => assert!(judged.bytes >= whole.bytes),
        }
    }
    assert!(whole.bytes <= bytes.len());
    match kind & 1 {
        0 => compare_requests(&whole, bytes),
        _ => compare_response(&whole, bytes, method, agreed),
    }
});

/// Small, so that inputs reach them.
const HEAD_BYTES: usize = 512;
const FIELDS: usize = 8;

fn compare_requests(whole: &Passed, bytes: &[u8]) {
    if whole.violation.is_some() {
        return;
    }
    let mut rest = &bytes[..whole.bytes];
    let mut heads = 0;
    loop {
        let mut fields = [EMPTY_HEADER; 2 * FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let head = match request.parse(rest) {
            Ok(Status::Complete(head)) => head,
            // Nothing but an empty line before the next head, or something that the codec will refuse.
            Ok(Status::Partial) => break assert!(rest.is_empty() || rest == b"\r\n", "half a head passed: {rest:?}"),
            Err(_) => return,
        };
        heads += 1;
        let switches = request.method == Some("CONNECT") || request.headers.iter().any(|field| is(field, "upgrade"));
        let Some(content) = content(request.headers, &rest[head..], Some(0)) else { break };
        rest = &rest[head + content..];
        if switches {
            return; // what follows is another protocol's, or not; other readers cannot know
        }
    }
    assert_eq!(heads, whole.heads, "both find as many requests");
}

fn compare_response(whole: &Passed, bytes: &[u8], method: &str, agreed: bool) {
    let mut at = 0;
    loop {
        let mut fields = [EMPTY_HEADER; 2 * FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let Ok(Status::Complete(head)) = response.parse(&bytes[at..]) else { return };
        let status = response.code.unwrap_or_default();
        let end = match status {
            101 if agreed => return,
            200..=299 if method == "CONNECT" => return,
            100..=199 => {
                at += head;
                continue;
            }
            204 | 304 => Some(0),
            _ if method == "HEAD" => Some(0),
            _ => content(response.headers, &bytes[at + head..], None),
        };
        let Some(end) = end else { return };
        let surplus = bytes.len() - (at + head + end);
        assert!(surplus == 0 || whole.violation.is_some(), "{surplus} bytes answer nothing");
        return;
    }
}

/// Where content ends that is there as a whole: read as plainly as one can.
fn content(fields: &[Header<'_>], rest: &[u8], without: Option<usize>) -> Option<usize> {
    if fields.iter().any(|field| is(field, "transfer-encoding")) {
        return chunks(rest);
    }
    match fields.iter().find(|field| is(field, "content-length")) {
        Some(field) => {
            let length = std::str::from_utf8(field.value).ok()?.trim().parse().ok()?;
            (length <= rest.len()).then_some(length)
        }
        None => without,
    }
}

fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let Ok(Status::Complete((line, size))) = httparse::parse_chunk_size(&bytes[at..]) else { return None };
        at += line;
        if size == 0 {
            let mut fields = [EMPTY_HEADER; 2 * FIELDS];
            let Ok(Status::Complete((trailers, _))) = httparse::parse_headers(&bytes[at..], &mut fields) else {
                return None;
            };
            return Some(at + trailers);
        }
        at = at.checked_add(usize::try_from(size).ok()?)?.checked_add(2)?;
        if bytes.get(at - 2..at)? != b"\r\n" {
            return None;
        }
    }
}

fn is(field: &Header<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}
