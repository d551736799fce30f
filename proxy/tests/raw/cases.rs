//! Messages made here: tables of what must be refused, and of what must pass.

use crate::corpus::{Expect, Message};

fn case(name: impl Into<String>, expect: Expect, bytes: impl Into<Vec<u8>>) -> Message {
    Message { name: name.into(), expect, bytes: bytes.into() }
}

/// Control characters that stand nowhere.
fn controls() -> impl Iterator<Item = u8> {
    (0..=0x1f_u8).filter(|byte| *byte != b'\t').chain([0x7f])
}

/// Requests.
pub(crate) fn requests() -> Vec<Message> {
    let mut all = Vec::new();
    for byte in controls() {
        for (place, before, after) in [
            ("value", "GET / HTTP/1.1\r\nHost: a\r\nX: b", "c\r\n\r\n"),
            ("name", "GET / HTTP/1.1\r\nHost: a\r\nX", "Y: b\r\n\r\n"),
            ("target", "GET /a", "b HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("method", "GE", "T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("host", "GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n"),
            ("chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1", "\r\nx\r\n0\r\n\r\n"),
        ] {
            // A bare LF after a value is the start of another field line to the lenient; still wrong.
            all.push(case(
                format!("control {byte:#x} in {place}"),
                Expect::Reject,
                [before.as_bytes(), &[byte], after.as_bytes()].concat(),
            ));
        }
    }
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET /",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / http/1.1",
        "GET / HTTP/1.1.1",
        "GET / HTTP/+1.1",
        "GET * HTTP/1.1",
        "GET a HTTP/1.1",
        "GET #a HTTP/1.1",
        "GET /#a HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http://u:p@a/ HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT a HTTP/1.1",
        "G(T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "/ HTTP/1.1",
        "",
    ] {
        all.push(case(format!("line {line:?}"), Expect::Reject, format!("{line}\r\nHost: a\r\n\r\n")));
    }
    for fields in [
        "",
        "Host:",
        "Host: a\r\nHost: a",
        "Host: a\r\nhost: b",
        "Host: a,b",
        "Host: a b",
        "Host: a/b",
        "Host: u@a",
        "Host: a:b",
        "Host: a:99999",
        "Host: [::1",
        "Host: a?b",
        "Host : a",
        " Host: a",
        "Host: a\r\n X: folded",
        "Host: a\r\nX: b\r\n\tfolded",
        "Host: a\r\nno colon",
        "Host: a\r\n: empty",
        "Host: a\r\nX(: b",
        "Host: a\r\nContent-Length : 0",
        "Host: a\r\nTransfer-Encoding\t: chunked",
        "Host: a\r\n\u{e9}: b",
    ] {
        all.push(case(format!("fields {fields:?}"), Expect::Reject, format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")));
    }
    for value in [
        "",
        "+1",
        "-1",
        "-0",
        "0x1",
        "1 1",
        "1,1",
        "1, 1",
        "1;1",
        "1.0",
        "1e0",
        "\u{661}",
        "9223372036854775808",
        "18446744073709551617",
        "99999999999999999999999",
        "one",
        "\"1\"",
        "1_0",
        "0o1",
    ] {
        all.push(case(
            format!("length {value:?}"),
            Expect::Reject,
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {value}\r\n\r\nx"),
        ));
    }
    for fields in [
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked;a=b",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer-Encoding: c\u{68}unked\u{a0}",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    ] {
        all.push(case(
            format!("framing {fields:?}"),
            Expect::Reject,
            format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        ));
    }
    all.push(case(
        "chunked in 1.0",
        Expect::Reject,
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ));
    for body in [
        "0x1\r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "1 \r\nx\r\n0\r\n\r\n",
        "1\nx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "1\r\nx0\r\n\r\n",
        "1;\r\nx\r\n0\r\n\r\n",
        "1;a=\r\nx\r\n0\r\n\r\n",
        "1;a=\"b\r\nx\r\n0\r\n\r\n",
        "1 ;a\r\nx\r\n0\r\n\r\n",
        "1;a\rb\r\nx\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\nx",
        "10000000000000001\r\nx",
        "1_0\r\nx\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "g\r\n\r\n",
        "0\r\nContent-Length: 1\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: b\r\n\r\n",
        "0\r\nAuthorization: b\r\n\r\n",
        "0\r\ncouplet-context: b\r\n\r\n",
        "0\r\n X: b\r\n\r\n",
        "0\r\nX : b\r\n\r\n",
        "0\r\nX: b\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
        "0\r\nX: \0\r\n\r\n",
    ] {
        all.push(case(
            format!("chunks {body:?}"),
            Expect::Reject,
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        ));
    }
    all.push(case(
        "head too long",
        Expect::Reject,
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(70_000)),
    ));
    all.push(case(
        "too many fields",
        Expect::Reject,
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(200)),
    ));
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET /?q=[a]|b HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "get-it! /a/../b//c HTTP/1.1\r\nhOsT:\ta.b:80\t\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://A:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        // Goes on with the Host that the target names (RFC 9112, section 3.2.2).
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\n03\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a;b=c;d=\"e;f\"\r\nabc\r\n0;x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Bytes: \u{e9}\r\nX!#$%&'*+-.^_`|~: tab\tand  spaces\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: b",
    ] {
        all.push(case(format!("valid {request:?}"), Expect::Accept, request));
    }
    all
}

/// Responses to a GET.
pub(crate) fn responses() -> Vec<Message> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut all = Vec::new();
    for byte in controls() {
        for (place, before, after) in [
            ("value", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: b", "c\r\n\r\nok"),
            ("name", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX", "Y: b\r\n\r\nok"),
            ("reason", "HTTP/1.1 200 O", "K\r\nContent-Length: 2\r\n\r\nok"),
        ] {
            all.push(case(
                format!("control {byte:#x} in {place}"),
                Expect::Reject,
                [before.as_bytes(), &[byte], after.as_bytes()].concat(),
            ));
        }
    }
    for response in [
        "HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 20 X\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nok\r\n0\r\n\r\n",
    ] {
        all.push(case(format!("malformed {response:?}"), Expect::Reject, response));
    }
    for response in [
        ok,
        "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
    ] {
        all.push(case(format!("valid {response:?}"), Expect::Accept, response));
    }
    all
}

/// Responses that end before they are whole.
pub(crate) fn truncated() -> Vec<Message> {
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ]
    .map(|response| case(format!("truncated {response:?}"), Expect::Either, response))
    .into()
}
